import dataclasses
import hashlib

import numpy as np
from absl.testing import absltest

from tests import made
from tfpipe import Examples
from tfpipe.data import scaling
from tfpipe.data.fingerprint import Part, fingerprint


class FingerprintTest(absltest.TestCase):
    def test_it_is_the_hash_of_facts_shapes_types_and_values(self):
        array = np.arange(6, dtype=">i2").reshape(2, 3)
        content = b"facts\n>i2 (2, 3)\n" + array.tobytes() + b"\n|u1 (1,)\n\x07"
        self.assertEqual(
            fingerprint("facts", [Part(array), Part(np.array([7], np.uint8))]), hashlib.sha256(content).hexdigest()
        )

    def test_layout_does_not_matter(self):
        array = np.random.default_rng(0).normal(size=(300, 5000))
        expected = fingerprint("", [Part(array)])
        self.assertEqual(fingerprint("", [Part(np.asfortranarray(array))]), expected)
        doubled = np.repeat(array, 2, axis=0)
        self.assertEqual(fingerprint("", [Part(doubled[::2])]), expected)
        self.assertEqual(fingerprint("", [Part(doubled, np.arange(0, 600, 2))]), expected)
        self.assertEqual(fingerprint("", [Part(array, np.arange(10, 20))]), fingerprint("", [Part(array[10:20])]))
        self.assertNotEqual(fingerprint("", [Part(doubled, np.arange(0, 598, 2))]), expected)

    def test_every_change_of_a_data_set_shows(self):
        first = made.splits()
        self.assertEqual(made.splits().fingerprint, first.fingerprint)
        changed = [
            dataclasses.replace(first, class_names=("0", "1", "x")),
            dataclasses.replace(first, pixel_max=256.0),
            dataclasses.replace(first, standardization=scaling.standardization(first.train.blocks())),
            dataclasses.replace(first, train=first.train.take(np.arange(99))),
            dataclasses.replace(first, train=Examples(first.train.images[::-1], first.train.labels[::-1])),
            dataclasses.replace(first, validation=first.test, test=first.validation),
        ]
        for split in ("train", "validation", "test"):
            for field in ("images", "labels"):
                examples = getattr(first, split)
                arrays = {"images": examples.images, "labels": examples.labels}
                arrays[field] = arrays[field].copy()
                arrays[field].flat[-1] = (arrays[field].flat[-1] + 1) % 3
                part = Examples(**arrays)
                changed.append(dataclasses.replace(first, **{split: part}))
        self.assertLen({splits.fingerprint for splits in (first, *changed)}, 1 + len(changed))

    def test_weights_and_groups_show_where_they_are(self):
        first = made.splits()
        of_splits = []
        for split in ("train", "validation", "test"):
            examples = getattr(first, split)
            for values in (np.arange(len(examples)), np.arange(len(examples)) // 2):
                for field in ("weights", "groups"):
                    part = Examples(examples.images, examples.labels, **{field: values})
                    of_splits.append(dataclasses.replace(first, **{split: part}))
        self.assertLen({splits.fingerprint for splits in (first, *of_splits)}, 1 + len(of_splits))

    def test_it_is_the_one_of_before_where_there_are_none(self):
        parts = []
        splits = made.splits()
        for split in (splits.train, splits.validation, splits.test):
            parts += [Part(split.images), Part(split.labels)]
        parts += [Part(np.zeros(24)), Part(np.array([1 / 255]))]
        self.assertEqual(splits.fingerprint, fingerprint("0\n1\n2", parts))

    def test_of_large_arrays_blocks_from_the_beginning_to_the_end_stand_for_all(self):
        array = np.zeros((400 << 10, 1 << 10), np.uint8)  # 400 MiB, of which the pages are never written.
        expected = fingerprint("", [Part(array)])
        for row in (0, len(array) - 1):
            array[row, -1] = 1
            self.assertNotEqual(fingerprint("", [Part(array)]), expected)
            array[row, -1] = 0
        self.assertEqual(fingerprint("", [Part(array)]), expected)


if __name__ == "__main__":
    absltest.main()

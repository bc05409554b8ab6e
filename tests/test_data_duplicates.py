import pathlib
import tracemalloc

import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import made
from tests.command import result, tfpipe
from tfpipe import Examples, Splits, load
from tfpipe.config import DataConfig
from tfpipe.data import description, duplicates
from tfpipe.data.contents import contents
from tfpipe.data.duplicates import Duplicates
from tfpipe.data.fingerprint import Part
from tfpipe.data.readers.source import Source
from tfpipe.data.splitting import divide
from tfpipe.exceptions import DataError
from tfpipe.log import log


def rows(*numbers):
    """Rows of 30 float32, one for each number, which fill more than the middle that is hashed first."""
    return np.repeat(np.array(numbers, np.float32)[:, np.newaxis], 30, axis=1)


class ContentsTest(parameterized.TestCase):
    @settings(deadline=None)
    @given(data=st.data())
    def test_equal_rows_and_no_others_have_one_number(self, data):
        shape = data.draw(st.sampled_from([(1,), (3,), (5, 5), (20, 4, 3), (130,)]))
        dtype = data.draw(st.sampled_from(["u1", "<f4", ">f8", "<f2"]))
        sizes = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=3))
        random = np.random.default_rng(data.draw(st.integers(0, 1000)))
        parts = []
        for size in sizes:
            array = np.zeros((size + 2, *shape), dtype)
            # Different in one place at most, at the beginning, in the middle or at the end.
            array.reshape(size + 2, -1)[np.arange(size + 2), random.choice([0, -1, array[0].size // 2])] = (
                random.integers(0, 3, size + 2)
            )
            parts.append(Part(array, np.sort(random.permutation(size + 2)[:size])))
        found = np.concatenate(contents(parts))
        keys = [array[row].tobytes() for array, numbers in parts for row in numbers]
        for i, key in enumerate(keys):
            equal = [j for j, other in enumerate(keys) if other == key]
            self.assertEqual(found[i] >= 0, len(equal) > 1)
            if len(equal) > 1:
                self.assertEqual(np.flatnonzero(found == found[i]).tolist(), equal)

    def test_layout_does_not_matter(self):
        array = np.random.default_rng(0).integers(0, 2, (40, 70)).astype(np.float32)
        array[20:] = array[:20]
        (expected,) = contents([Part(array)])
        np.testing.assert_array_equal(expected[:20], expected[20:])
        self.assertLen(np.unique(expected), 20)
        for other in (np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2]):
            np.testing.assert_array_equal(contents([Part(other)])[0], expected)

    def test_signs_and_halves_of_words_are_told_apart(self):
        # Sums of products modulo a power of two are weak where values differ in the highest bits alone.
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 12)).reshape(12, -1).T.astype(np.float32)
        self.assertEqual(np.concatenate(contents([Part(signs)])).tolist(), [-1] * len(signs))

    def test_a_mapped_file_stays_on_the_disk(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "images.npy"
        array = np.random.default_rng(0).integers(0, 256, (20_000, 40, 40), np.uint8)
        array[-1] = array[7]
        np.save(path, array)
        mapped = np.load(path, mmap_mode="r")
        tracemalloc.start()
        (found,) = contents([Part(mapped, np.arange(1, 20_000))])
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertEqual(np.flatnonzero(found >= 0).tolist(), [6, 19_998])
        self.assertLess(held, mapped.nbytes)  # 32 MB of pixels.


class CountedTest(absltest.TestCase):
    def splits(self):
        train = Examples(rows(1, 2, 2, 3, 3, 4), [0, 0, 0, 1, 0, 1])
        validation = Examples(rows(5, 2, 5), [0, 1, 1])
        test = Examples(rows(4, 5, 6, 3, 7), [1, 0, 0, 0, 1])
        return Splits(train, validation, test, ("cat", "dog"))

    def test_by_hand(self):
        self.assertEqual(
            duplicates.search(self.splits()).counts,
            {
                "train": Duplicates(repeated=2, seen=None, label_differs=1),
                "validation": Duplicates(repeated=1, seen=1, label_differs=1),
                "test": Duplicates(repeated=0, seen=3, label_differs=0),
            },
        )

    def test_splits_of_one_array(self):
        examples = Examples(rows(1, 2, 1, 2, 1, 3), [0, 1, 0, 1, 1, 1])
        splits = Splits(examples.take([0, 1]), examples.take([2, 5]), examples.take([3, 4]), ("cat", "dog"))
        none = {"repeated": 0}
        self.assertEqual(
            {name: found._asdict() for name, found in duplicates.search(splits).counts.items()},
            {
                "train": none | {"seen": None, "label_differs": 0},
                "validation": none | {"seen": 1, "label_differs": 0},
                "test": none | {"seen": 2, "label_differs": 1},
            },
        )

    def test_the_description(self):
        found = description.describe(self.splits())
        self.assertEqual(
            [part["duplicates"] for part in found["splits"].values()],
            [
                {"repeated": 2, "seen": None, "label_differs": 1},
                {"repeated": 1, "seen": 1, "label_differs": 1},
                {"repeated": 0, "seen": 3, "label_differs": 0},
            ],
        )
        lines = [line.split() for line in description.table(found).splitlines()]
        self.assertIn(["repeated", "2", "1", "0"], lines)
        self.assertIn(["in", "splits", "before", "-", "1", "3"], lines)
        self.assertIn(["label", "differs", "1", "1", "0"], lines)


class WarningTest(parameterized.TestCase):
    def test_examples_in_two_splits(self):
        train = Examples(rows(1, 2, 3, 4), [0, 1, 0, 1], "data")
        source = Source(train, Examples(rows(1, 9), [0, 1]), Examples(rows(2, 9, 8, 4), [0, 1, 1, 1]), 1.0)
        with self.assertLogs(log, "WARNING") as logged:
            divide(source, DataConfig())
        self.assertEqual(
            [record.getMessage() for record in logged.records],
            [
                "data: 1 of 2 validation examples are in training too and 3 of 4 test examples are in training or "
                "validation too (1 with another label), so figures on these tell little of new examples; "
                "drop_duplicates leaves out what is in the data twice"
            ],
        )

    def test_splits_that_are_drawn(self):
        train = Examples(np.repeat(rows(*range(20)), 2, axis=0), np.arange(40) % 2, "data")
        with self.assertLogs(log, "WARNING") as logged:
            splits = divide(Source(train, None, None, 1.0), DataConfig())
        found = duplicates.search(splits).counts
        self.assertIn(f"{found['test'].seen} of 8 test examples", logged.output[0])

    @parameterized.parameters(0, 1)
    def test_rows_of_few_combinations_are_not_warned_of(self, n_continuous):
        random = np.random.default_rng(0)
        combinations = np.repeat(np.arange(9), np.where(np.arange(9) < 3, 34, 33))
        features = np.stack([combinations // 3, combinations % 3], axis=1).astype(np.float32)
        if n_continuous:  # No two rows are equal by chance.
            features = np.column_stack([features, random.normal(size=300)]).astype(np.float32)
            features[1::2] = features[::2]
        train = Examples(features, np.arange(300) % 2, "data")
        with self.assertLogs(log, "INFO") as logged:
            divide(Source(train, None, None, 1.0), DataConfig())
        (record,) = logged.records
        if n_continuous:
            self.assertEqual(record.levelname, "WARNING")
            self.assertIn("drop_duplicates leaves out", record.getMessage())
            return
        self.assertEqual(record.levelname, "INFO")
        self.assertEqual(
            record.getMessage(),
            "data: 60 of 60 validation examples are in training too and 60 of 60 test examples are in training or "
            "validation too; in tables with categories, or of few different rows, that is normal",
        )

    def test_a_table_with_categories_is_not_warned_of(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "data.csv"
        # Three rows are there twice.
        ages = [*range(57), 0, 1, 2]
        lines = [f"{age},{'abc'[age % 3]},{age % 2}" for age in ages]
        path.write_text("\n".join(["age,ward,label", *lines]))
        options = {"validation_split": 20, "test_split": 3, "split_order": "end"}
        with self.assertLogs(log, "INFO") as logged:
            load(path, categorical="ward", **options)
        said = [(record.levelname, record.getMessage()) for record in logged.records]
        line = f"{path}: 3 of 3 test examples are in training or validation too"
        normal = "; in tables with categories, or of few different rows, that is normal"
        self.assertIn(("INFO", line + normal), said)
        path.write_text("\n".join(["age,label", *(f"{age},{age % 2}" for age in ages)]))
        with self.assertLogs(log, "WARNING") as logged:
            load(path, **options)
        self.assertIn(line, logged.output[0])
        self.assertIn("drop_duplicates leaves out", logged.output[0])

    def test_pictures_are_warned_of_however_many_are_equal(self):
        images = np.repeat(np.arange(4, dtype=np.uint8), 25)[:, np.newaxis, np.newaxis] * np.ones((5, 5), np.uint8)
        train = Examples(images, np.arange(100) % 2, "data")
        with self.assertLogs(log, "WARNING") as logged:
            divide(Source(train, None, None, 255.0), DataConfig())
        self.assertIn("20 of 20 test examples are in training", logged.output[0])
        self.assertIn("drop_duplicates leaves out", logged.output[0])

    def test_a_large_mapped_file_is_left_to_describe(self):
        path = pathlib.Path(self.create_tempdir().full_path)
        # A sparse file: on the disk it takes next to nothing.
        images = np.lib.format.open_memmap(path / "images.npy", "w+", np.uint8, (300, 1 << 20))
        images[:290, -1 << 19] = np.arange(290) % 250
        images[:290, 0] = np.arange(290) // 250
        images[290:, -1 << 19] = 7
        images.flush()
        np.save(path / "labels.npy", np.arange(300) % 2)
        options = {"labels": path / "labels.npy", "validation_split": 10, "test_split": 10, "split_order": "end"}
        with self.assertLogs(log, "INFO") as logged:
            splits = load(path / "images.npy", **options)
        line = f"{path / 'images.npy'}: a large file, not searched for duplicates; `tfpipe describe` searches it"
        self.assertEqual([record.getMessage() for record in logged.records], [line])
        self.assertEqual(duplicates.search(splits).counts["test"], Duplicates(repeated=9, seen=10, label_differs=5))
        with self.assertLogs(log, "INFO"):
            dropped = load(path / "images.npy", **options, drop_duplicates=True)
        self.assertEqual(sum(map(len, (dropped.train, dropped.validation, dropped.test))), 290)

    def test_nothing_is_said_where_there_are_none(self):
        pixels, labels = made.images(60)
        with self.assertNoLogs(log, "WARNING"):
            divide(Source(Examples(pixels, labels), None, None, 255.0), DataConfig())
        with self.assertNoLogs(log, "WARNING"):  # Within training alone.
            pixels[1], labels[1] = pixels[0], labels[0]
            others = Examples(*made.images(9, seed=5))
            divide(Source(Examples(pixels, labels), others, Examples(*made.images(9, seed=6)), 255.0), DataConfig())


class DropTest(parameterized.TestCase):
    def divided(self, source, **options):
        with self.assertLogs(log, "INFO") as logged:
            splits = divide(source, DataConfig(drop_duplicates=True, **options))
        return splits, [record.getMessage() for record in logged.records]

    def test_the_first_of_equal_examples_stays(self):
        weights, groups = np.arange(1.0, 11), np.arange(10)
        train = Examples(rows(0, 1, 0, 2, 3, 4, 2, 5, 6, 7), np.arange(10) % 2, "data", weights=weights, groups=groups)
        splits, said = self.divided(Source(train, None, None, 1.0), validation_split=2, test_split=2)
        parts = (splits.train, splits.validation, splits.test)
        kept = np.sort(np.concatenate([part.rows for part in parts]))
        self.assertEqual(kept.tolist(), [0, 1, 3, 4, 5, 7, 8, 9])
        for part in parts:
            np.testing.assert_array_equal(part.weights, part.rows + 1.0)
            np.testing.assert_array_equal(part.groups, part.rows)
            np.testing.assert_array_equal(part.labels, part.rows % 2)
        line = "data: 2 of 10 training examples are left out as duplicates: 2 of other training examples; "
        self.assertEqual(said, [line + "1 of all these have another label than what stays"])
        self.assertEqual(splits.notes, tuple(said))

    def test_splits_that_the_data_brings_stay_whole(self):
        train = Examples(rows(0, 1, 1, 2, 3, 4), [0, 1, 1, 0, 1, 0], "data")
        validation = Examples(rows(2, 9, 9), [0, 1, 1])
        test = Examples(rows(2, 3), [0, 0])
        splits, said = self.divided(Source(train, validation, test, 1.0))
        self.assertEqual(splits.train.images[:, 0].tolist(), [0, 1, 4])
        self.assertEqual([len(splits.validation), len(splits.test)], [3, 2])
        self.assertEqual(
            said,
            [
                "data: 3 of 6 training examples are left out as duplicates: 1 of other training examples; 2 of "
                "validation or test examples; 1 of all these have another label than what stays",
                "data: 1 of 2 test examples are in training or validation too, so figures on these tell little of new "
                "examples",
            ],
        )

    def test_without_duplicates_nothing_is_said(self):
        with self.assertNoLogs(log, "INFO"):
            splits = divide(Source(Examples(rows(*range(9)), np.arange(9) % 2), None, None, 1.0), DataConfig())
            same = divide(
                Source(Examples(rows(*range(9)), np.arange(9) % 2), None, None, 1.0), DataConfig(drop_duplicates=True)
            )
        self.assertEqual(splits.fingerprint, same.fingerprint)

    def test_what_leaves_nothing_is_an_error(self):
        train = Examples(rows(0, 1), [0, 1], "data")
        with self.assertRaisesRegex(DataError, "^data: each training example is in test too; none is left$"):
            divide(Source(train, None, Examples(rows(1, 0), [0, 1]), 1.0), DataConfig(drop_duplicates=True))

    def test_a_class_of_which_nothing_is_left_is_an_error(self):
        train = Examples(rows(0, 1, 2, 3, 4, 5), [0, 1, 2, 0, 1, 0], "data")
        source = Source(train, None, Examples(rows(2), [2]), 1.0)
        said = "data: drop_duplicates leaves no training example of the classes {}: each equals one of {}; expected"
        with self.assertRaisesRegex(DataError, said.format("'2'", "another class or test")):
            divide(source, DataConfig(drop_duplicates=True))
        with self.assertRaisesRegex(DataError, said.format("'dog'", "another class or test")):
            divide(source._replace(class_names=("cat", "cow", "dog")), DataConfig(drop_duplicates=True))
        # Within training: the first has another label.
        train = Examples(rows(0, 1, 2, 3, 0, 1), [0, 1, 0, 1, 2, 3], "data")
        with self.assertRaisesRegex(DataError, said.format("'2', '3'", "another class")):
            divide(Source(train, None, None, 1.0), DataConfig(drop_duplicates=True))
        # A model is measured on what is left, by the numbers that its classes had.
        splits = divide(source, DataConfig(drop_duplicates=True, validation_split=1), ("0", "1", "2"))
        self.assertEqual(splits.class_names, ("0", "1", "2"))
        self.assertEqual(len(splits.train) + len(splits.validation), 5)

    def test_what_has_weight_stays(self):
        weights = np.array([0, 1, 2, 0, 3, 0, 0, 4, 1, 1.0])
        train = Examples(rows(0, 1, 0, 2, 0, 3, 3, 4, 5, 6), np.arange(10) % 2, "data", weights=weights)
        splits, said = self.divided(Source(train, None, None, 1.0), validation_split=2, test_split=2)
        kept = np.sort(np.concatenate([part.rows for part in (splits.train, splits.validation, splits.test)]))
        # Of rows 0, 2 and 4 the first with weight; of 5 and 6, which have none, the first.
        self.assertEqual(kept.tolist(), [1, 2, 3, 5, 7, 8, 9])
        self.assertStartsWith(said[0], "data: 3 of 10 training examples are left out as duplicates")

    def test_more_than_half_is_warned_of(self):
        for n, level in ((9, "INFO"), (10, "WARNING")):
            train = Examples(rows(*range(9), *[0] * n), np.arange(9 + n) % 2, "data")
            with self.assertLogs(log, "INFO") as logged:
                splits = divide(Source(train, None, None, 1.0), DataConfig(drop_duplicates=True))
            (record,) = logged.records
            self.assertEqual(record.levelname, level)
            self.assertIn(f"data: {n} of {9 + n} training examples are left out", record.getMessage())
            self.assertEqual(
                "; that is more than half: if equal rows are how the data is, leave" in record.getMessage(),
                level == "WARNING",
            )
            self.assertEqual(splits.notes, (record.getMessage(),))

    def test_a_folder_of_pictures(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        random = np.random.default_rng(0)
        for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
            (folder / place).mkdir(parents=True)
            for number in range(4):
                Image.fromarray(random.integers(0, 256, (6, 5), np.uint8)).save(folder / place / f"{number}.png")
        # The same pixels in another format and class.
        with Image.open(folder / "test/cat/2.png") as picture:
            picture.save(folder / "train/dog/again.bmp")
        with self.assertLogs(log, "WARNING") as logged:
            splits = load(folder, validation_split=2)
        self.assertEqual(len(splits.train) + len(splits.validation), 9)
        self.assertIn("1 of 8 test examples are in training or validation too (1 with another label)", logged.output[0])
        with self.assertNoLogs(log, "WARNING"):
            dropped = load(folder, validation_split=2, drop_duplicates=True)
        self.assertEqual(len(dropped.train) + len(dropped.validation), 8)
        self.assertEqual(len(dropped.test), 8)
        self.assertNotEqual(splits.fingerprint, dropped.fingerprint)

    def test_the_command(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "data.npz"
        pixels, labels = made.images(60)
        np.savez(path, images=np.concatenate([pixels, pixels[:6]]), labels=np.concatenate([labels, labels[:6]]))
        process = tfpipe("describe", f"--dataset={path}", "--drop_duplicates")
        content = result(process)
        self.assertEqual(sum(part["examples"] for part in content["splits"].values()), 60)
        self.assertEqual([part["duplicates"]["repeated"] for part in content["splits"].values()], [0, 0, 0])
        note = f"{path} (images): 6 of 66 training examples are left out as duplicates: 6 of other training examples"
        self.assertEqual(content["notes"], [note])
        self.assertIn(note, process.stderr)


if __name__ == "__main__":
    absltest.main()

import dataclasses
import mmap
import os
import pathlib
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tfpipe import Examples, TrainConfig, load, memory, train
from tfpipe.compute.programs import padded
from tfpipe.pipeline import inputs, residency
from tfpipe.pipeline.sampler import Sampler


def machine(size):
    """One with so many bytes of memory."""
    return mock.patch.object(os, "sysconf", side_effect=lambda name: {"SC_PHYS_PAGES": size}.get(name, 1))


LARGE, TINY = 1 << 40, 100


def rows_of(part):
    """The images of a split as the programs see them: [N, D]."""
    (split,) = residency.place([part])
    span = next(inputs.evaluation_spans(split, Sampler(len(part), 5, drop_remainder=False), length=20))
    return tf.gather(span.images, tf.reshape(span.rows, [-1]))[: len(part)]


class PlaceTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)  # 12 bytes a row.
        self.labels = (np.arange(60) % 2).astype(np.int32)

    def in_one_piece(self, shape=(60, 3)):
        array = memory.empty(shape, np.float32)
        array.reshape(len(array), -1)[:60, :3] = self.features
        return array

    def large(self):
        """Of which 19 rows are more than the 4 MiB up to which arrays are copied."""
        return self.in_one_piece((60, 60_000))

    def test_what_is_loaded_is_held_once(self):
        array = self.large()
        whole = Examples(array, self.labels)
        parts = [whole.take(np.arange(41)), whole.take(np.arange(41, 60, 2)), whole.take(np.arange(42, 60, 2))]
        splits = residency.place(parts)
        for split, part in zip(splits, parts, strict=True):
            self.assertIs(split.images, splits[0].images)
            self.assertAllEqual(split.rows, part.rows)
            self.assertAllEqual(split.labels, part.labels)
            self.assertTrue(split.is_resident)
            self.assertEqual(split.bytes_per_image, 0)
        array[50] = 7.0  # The tensor is the array itself.
        self.assertAllEqual(splits[0].images[50], [7.0] * 60_000)

    def test_what_is_small_is_copied_with_room_for_more_rows(self):
        array = self.in_one_piece()
        whole = Examples(array, self.labels)
        first, second = residency.place([whole.take(np.arange(41)), whole.take(np.arange(41, 60))])
        self.assertIs(first.images, second.images)
        self.assertEqual(first.images.shape, (padded(60), 3))
        self.assertAllEqual(first.images[:60], array)
        self.assertAllEqual(first.images[60:], np.zeros((4, 3)))
        array[50] = 7.0
        self.assertNotAllEqual(first.images[50], array[50])

    def test_a_part_of_a_large_array_is_found_in_it(self):
        array = self.large()
        train, test = residency.place([Examples(array[:41], self.labels[:41]), Examples(array[41:], self.labels[41:])])
        self.assertIs(train.images, test.images)
        self.assertAllEqual(test.rows, np.arange(41, 60))

    def test_what_begins_anywhere_is_copied(self):
        array = self.large().reshape(-1)[1:-59_999].reshape(59, 60_000)
        (split,) = residency.place([Examples(array, self.labels[:59])])
        self.assertEqual((split.images.shape[0], split.rows[0], split.is_resident), (59, 0, True))
        self.assertAllEqual(split.images, array)
        array[0] = 7.0
        self.assertNotAllEqual(split.images[0], array[0])

    @parameterized.parameters(
        (slice(10), slice(60)), (slice(0, 60, 2), slice(30)), (slice(0, 60, 3), slice(0, 60, 2)), (slice(60), slice(10))
    )
    def test_views_that_begin_at_one_place(self, *slices):
        array = self.in_one_piece()
        views = [array[part] for part in slices]
        splits = residency.place([Examples(view, self.labels[: len(view)]) for view in views])
        for view, split in zip(views, splits, strict=True):
            self.assertAllEqual(tf.gather(split.images, split.rows), view)

    @parameterized.parameters("rows", "steps", "columns", "read-only", "transposed")
    def test_views(self, kind):
        for array in (self.in_one_piece(), self.large()):
            view = {
                "rows": array[7:], "steps": array[::2], "columns": array[:, :2],
                "read-only": array[:], "transposed": array[:, :60].T,
            }[kind]  # fmt: skip
            view.flags.writeable = kind != "read-only"
            labels = np.arange(len(view)) % 2
            self.assertAllEqual(rows_of(Examples(view, labels)), view)
            some = np.arange(1, len(view), 2)
            self.assertAllEqual(rows_of(Examples(view, labels).take(some)), view[some])

    @parameterized.parameters("steps", "fortran")
    def test_of_what_is_copied_no_more_is_than_there_is_between_rows(self, kind):
        large = self.large()
        array = large[::2] if kind == "steps" else np.asfortranarray(large)
        whole = Examples(array, np.arange(len(array)) % 2)
        first, second = residency.place([whole.take(np.array([5, 9])), whole.take(np.array([7, 21, 23]))])
        self.assertIs(first.images, second.images)
        self.assertAllEqual(first.images, array[5:24])
        self.assertEqual((first.rows.tolist(), second.rows.tolist()), ([0, 4], [2, 16, 18]))

    def test_what_is_larger_than_the_memory_of_the_device_stays_on_the_host(self):
        part = Examples(self.large(), self.labels)
        error = tf.errors.ResourceExhaustedError(None, None, "no more")
        with mock.patch.object(tf, "identity", side_effect=error), self.assertLogs(level="INFO") as log:
            (split,) = residency.place([part])
            self.assertAllEqual(rows_of(part.take(np.arange(11, 60)))[:, :3], self.features[11:])
        self.assertFalse(split.is_resident)
        self.assertEqual(split.bytes_per_image, 4 * 60_000)
        self.assertIn("stay on the host", log.output[0])

    def test_splits_of_a_mapped_file_have_any_rows(self):
        images, labels = self.pair(self.features)
        splits = load(images, labels=labels, validation_split=7, test_split=11)
        parts = [splits.train, splits.validation, splits.test, splits.train.take(np.array([0, 3, 4, 40]))]
        self.assertAllEqual(np.sort(np.concatenate([part.rows for part in parts[:3]])), np.arange(60))
        for size in (LARGE, TINY):
            with machine(size):
                for part in parts:
                    self.assertAllEqual(rows_of(part), self.features[part.rows])

    @parameterized.product(
        kind=["r", "c", "unaligned", "steps", "big-endian", "fortran", "view", "f16", "f64"],
        size=[LARGE, TINY],
    )
    def test_memory_maps_that_a_program_made(self, kind, size):
        features = self.features.astype({"big-endian": ">f4", "f64": "f8"}.get(kind, "f4"))
        np.save(self.folder / "a.npy", np.asfortranarray(features) if kind == "fortran" else features)
        mapped = np.load(self.folder / "a.npy", mmap_mode="r" if kind == "r" else "c")
        if kind == "unaligned":
            (self.folder / "raw").write_bytes(b"1234" + features.tobytes())
            mapped = np.memmap(self.folder / "raw", "f4", "c", offset=4, shape=(60, 3))
        if kind == "view":
            np.save(self.folder / "a.npy", features.view(np.uint32))
            mapped = np.load(self.folder / "a.npy", mmap_mode="c").view(np.float32)
        if kind == "f16":
            np.save(self.folder / "a.npy", features.astype(np.longdouble))
            mapped = np.load(self.folder / "a.npy", mmap_mode="c")
        if kind == "steps":
            mapped, features = mapped[::2], features[::2]
        part = Examples(mapped, np.arange(len(mapped)) % 2)
        with machine(size):
            self.assertAllEqual(rows_of(part), features)
            self.assertAllEqual(rows_of(part.take(np.array([2, 3, 17]))), features[[2, 3, 17]])

    @pytest.mark.exhaustive
    def test_float64_trains_to_the_same_bits_wherever_it_lies(self):
        # Far from 0, so that what is rounded before the mean is taken off is not what is rounded after it.
        images, labels = self.pair(np.random.default_rng(0).normal(1000, 1, (60, 24)))
        models = []
        for size in (LARGE, 4000):
            with machine(size):
                splits = load(images, labels=labels, standardize=True)
                result = train(TrainConfig(learning_rate=0.1, batch_size=7, epochs=3, device="cpu"), splits)
            models.append(result.model.W.numpy().tobytes())
        self.assertEqual(*models)

    @pytest.mark.exhaustive
    def test_a_search_finds_the_same_bits_in_a_file_that_memory_cannot_hold(self):
        self.assert_a_search_finds_the_same_bits(0)

    @pytest.mark.exhaustive
    def test_so_does_one_with_folds(self):
        self.assert_a_search_finds_the_same_bits(5)

    def assert_a_search_finds_the_same_bits(self, n_folds):
        random = np.random.default_rng(0)
        images, labels = self.pair((random.normal(size=(3000, 20)) * np.geomspace(0.1, 10, 20)).astype(np.float32))
        models = []
        for size in (LARGE, 200_000):  # The file has 240,128 bytes.
            with machine(size):
                splits = load(images, labels=labels)
                result = train(TrainConfig(l2=1e-3, folds=n_folds, device="cpu"), splits)
            self.assertTrue(result.report["converged"])
            models.append(result.model.W.numpy().tobytes())
        self.assertEqual(*models)

    @pytest.mark.exhaustive
    def test_a_file_that_the_cache_cannot_hold_trains_to_the_same_bits(self):
        # A page a row: what is said of the training examples is not overwritten by what is said of those beside them.
        images, labels = self.pair(np.random.default_rng(0).integers(0, 256, (60, 64, 64)).astype(np.uint8))
        models = []
        for size in (LARGE, 200_000):
            splits = load(images, labels=labels)
            with machine(size):
                config = TrainConfig(batch_size=7, epochs=3, seed=3, device="cpu")
                result = train(config, splits)
                rows = splits.train.rows
                pages = 1 + len(range(rows[0], rows[-1] + 1)) if size < LARGE else 0  # Rows begin after the header.
                self.assertEqual(self.read_in_random_order(images), pages * mmap.PAGESIZE)
                train(dataclasses.replace(config, shuffle=False), splits)
                self.assertEqual(self.read_in_random_order(images), 0)
            models.append(result.model.W.numpy().tobytes())
            del splits, result
        self.assertEqual(models[0], models[1])

    def read_in_random_order(self, path):
        """Of how many bytes of the mapping of a file the kernel was told so: its flag rr."""
        maps = pathlib.Path("/proc/self/smaps").read_text().split(str(path))[1:]
        self.assertNotEmpty(maps)
        return sum(
            1024 * int(re.search(r"Size: +(\d+) kB", part)[1]) for part in maps if re.search(r"VmFlags:.* rr ", part)
        )

    def test_rows_outside_of_the_file_are_not_announced(self):
        images, _ = self.pair(self.features)
        mapped = np.load(images, mmap_mode="c")
        with machine(100):
            for array in (mapped[::-1], np.asarray(mapped), mapped + 0):
                (split,) = residency.place([Examples(array, self.labels)])
                self.assertIsNone(split.read_ahead(shuffle=True))
            (split,) = residency.place([Examples(mapped, self.labels).take(np.arange(7, 60))])
            self.assertIsNone(split.read_ahead(shuffle=False))
            for step, is_told in ((2, False), (3, True)):  # Of few rows the kernel would read those between as well.
                (some,) = residency.place([Examples(mapped, self.labels).take(np.arange(0, 60, step))])
                self.assertEqual(some.read_ahead(shuffle=False) is not None, is_told)
            announce = split.read_ahead(shuffle=True)
            announce(np.array([[0, 59]]))  # The first and the last row of the file.
            with self.assertRaises(ValueError):
                announce(np.array([[1 << 20]]))

    def test_few_rows_to_be_measured_on_are_announced(self):
        images, _ = self.pair(self.features)
        part = Examples(np.load(images, mmap_mode="c"), self.labels).take(np.arange(2, 60, 5))
        announced = []
        with machine(TINY), mock.patch.object(residency.Resident, "read_ahead", return_value=announced.append):
            self.assertAllEqual(rows_of(part), self.features[2::5])
        self.assertAllEqual(announced[0].ravel()[:12], np.arange(2, 60, 5))

    def test_a_file_that_memory_cannot_hold(self):
        images, _ = self.pair(self.features)
        mapped = Examples(np.load(images, mmap_mode="c"), self.labels)
        for size, expected in ((LARGE, False), (721, False), (720, True), (100, True)):
            with machine(size):
                self.assertEqual(residency.is_too_large(mapped), expected)
                self.assertFalse(residency.is_too_large(Examples(self.features, self.labels)))

    def pair(self, images):
        np.save(self.folder / "images.npy", images)
        np.save(self.folder / "labels.npy", np.arange(len(images)) % 2)
        return str(self.folder / "images.npy"), str(self.folder / "labels.npy")


if __name__ == "__main__":
    tf.test.main()

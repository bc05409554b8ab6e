"""Splits as rows by number over a file that stays mapped: the same as copies of these rows, without their memory."""

import dataclasses
import pathlib
import tracemalloc

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import made
from tfpipe import Examples, Splits, load
from tfpipe.data import description, scaling
from tfpipe.data.readers import arrays

MIB = 1 << 20
# Every fold of five: rows that lie apart from each other.
SCATTERED = {"train": (0, 2, 3), "validation": (1,), "test": (4,)}


def scattered(whole):
    """Splits over one array, of which none is a slice."""
    fold = np.arange(len(whole)) % 5
    parts = {name: whole.take(np.flatnonzero(np.isin(fold, folds))) for name, folds in SCATTERED.items()}
    return Splits(**parts, class_names=("0", "1", "2"))


def standardized(splits):
    return dataclasses.replace(splits, standardization=scaling.standardization(splits.train.blocks(4096, 8)))


class MappedRowsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.create_tempdir().full_path) / "images.npy"

    @parameterized.parameters("u1", "f2", "f4", "f8")
    def test_the_same_as_the_same_rows_copied(self, dtype):
        pixels, labels = made.images(1003, (5, 7))
        images = (pixels / (1 if dtype == "u1" else 256)).astype(dtype)
        np.save(self.path, images)
        mapped = scattered(Examples(arrays.mapped(self.path), labels))
        parts = {}
        for name in SCATTERED:
            part = getattr(mapped, name)
            self.assertIsInstance(part.stored, np.memmap)
            self.assertIs(part.stored, mapped.train.stored)
            np.testing.assert_array_equal(part.images, images[part.rows])
            np.testing.assert_array_equal(part.labels, labels[part.rows])
            # float64 stays so in a map alone.
            copy = part.images if dtype == "f8" else Examples(part.images, part.labels).stored
            self.assertEqual(copy.tobytes(), part.images.tobytes())
            parts[name] = Examples(images[part.rows].astype(np.float32 if dtype == "f8" else dtype), part.labels)
        copied = dataclasses.replace(mapped, **parts)
        if dtype != "f8":
            self.assertEqual(mapped.fingerprint, copied.fingerprint)
            self.assertEqual(standardized(mapped).fingerprint, standardized(copied).fingerprint)
            np.testing.assert_equal(description.describe(mapped), description.describe(copied))

        x = images[mapped.train.rows].reshape(-1, 35).astype(np.float64)
        shift, factor = standardized(mapped).standardization
        np.testing.assert_allclose(shift, x.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(factor, 1 / x.std(axis=0), rtol=1e-13)

    @pytest.mark.exhaustive
    def test_200_mb_take_little_memory(self):
        rows, columns = 250_000, 200
        labels_path = self.path.with_name("labels.npy")
        images = np.lib.format.open_memmap(self.path, "w+", np.float32, (rows, columns))
        images[::1000] = np.arange(columns)
        del images
        np.save(labels_path, np.arange(rows) % 3)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        splits = load(self.path, labels=labels_path, standardize=True)
        apart = scattered(Examples(splits.train.stored, np.arange(rows) % 3))
        apart = dataclasses.replace(
            apart, standardization=scaling.standardization(apart.train.blocks(8 * MIB, 8)), class_names=tuple("abc")
        )
        for of_load in (splits, apart):
            self.assertEqual(description.describe(of_load)["splits"]["train"]["range"], [0, columns - 1])
            self.assertLen(of_load.fingerprint, 64)
            self.assertIsInstance(of_load.train.stored, np.memmap)
        _, peak = tracemalloc.get_traced_memory()
        self.assertLess(peak, 90 * MIB)
        np.testing.assert_allclose(apart.standardization.shift, np.arange(columns) * 250 / 150_000, rtol=1e-13)


if __name__ == "__main__":
    absltest.main()

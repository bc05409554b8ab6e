import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tfpipe import Examples, TrainConfig, load, memory
from tfpipe.pipeline import inputs, residency
from tfpipe.pipeline.inputs import MinibatchRows
from tfpipe.training import loop

LARGER_THAN_MEMORY = mock.patch.object(residency, "available_memory", return_value=1)


def rows_of(part):
    """The images of a split as the programs see them: [N, D]."""
    (stored,) = residency.store([part])
    chunk = next(inputs.evaluation_chunks(stored, MinibatchRows(len(part), 5, drop_remainder=False), chunk=20))
    return tf.gather(chunk.images, tf.reshape(chunk.rows, [-1]))[: len(part)]


class StorageTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)  # 12 bytes a row.
        self.labels = (np.arange(60) % 2).astype(np.int32)

    def in_one_piece(self, dtype=np.float32):
        array = memory.empty((60, 3), dtype)
        array[:] = self.features
        return array

    def test_what_is_loaded_is_held_once(self):
        array = self.in_one_piece()
        whole = Examples(array, self.labels)
        train, validation, test = residency.store([whole[:41], whole[41:50], whole[50:]])
        self.assertIs(train.images, test.images)
        self.assertEqual((train.first, validation.first, test.first), (0, 41, 50))
        self.assertTrue(train.at_hand)
        array[50] = 7.0  # The tensor is the array itself.
        self.assertAllEqual(train.images[50], [7.0] * 3)

    def test_what_begins_anywhere_is_copied(self):
        array = self.in_one_piece().reshape(-1)[1:-2].reshape(59, 3)
        (stored,) = residency.store([Examples(array, self.labels[:59])])
        self.assertEqual((stored.images.shape[0], stored.first, stored.at_hand), (59, 0, True))
        self.assertAllEqual(stored.images, array)
        array[0] = 7.0
        self.assertNotAllEqual(stored.images[0], array[0])

    @parameterized.parameters("rows", "steps", "columns", "read-only", "transposed")
    def test_views(self, kind):
        array = self.in_one_piece()
        view = {
            "rows": array[7:], "steps": array[::2], "columns": array[:, :2],
            "read-only": array[:], "transposed": array.T,
        }[kind]  # fmt: skip
        view.flags.writeable = kind != "read-only"
        self.assertAllEqual(rows_of(Examples(view, self.labels[: len(view)])), view)

    def test_what_is_larger_than_the_memory_of_the_device_stays_on_the_host(self):
        part = Examples(self.in_one_piece(), self.labels)
        error = tf.errors.ResourceExhaustedError(None, None, "no more")
        with mock.patch.object(tf, "identity", side_effect=error), self.assertLogs(level="INFO") as log:
            (stored,) = residency.store([part])
            self.assertAllEqual(rows_of(part[11:]), self.features[11:])
        self.assertFalse(stored.at_hand)
        self.assertIn("stay on the host", log.output[0])

    def test_splits_of_a_mapped_file_begin_at_any_row(self):
        images, labels = self.pair(self.features)
        for available in (1 << 40, 1):
            with mock.patch.object(residency, "available_memory", return_value=available):
                splits = load(images, labels=labels, validation_split=7, test_split=11)
                self.assertAllEqual(rows_of(splits.train), self.features[:42])
                self.assertAllEqual(rows_of(splits.validation), self.features[42:49])
                self.assertAllEqual(rows_of(splits.test), self.features[49:])

    @parameterized.product(
        kind=["r", "c", "unaligned", "steps", "big-endian", "fortran", "view", "f16", "f64"],
        available=[1 << 40, 1],
    )
    def test_memory_maps_that_a_program_made(self, kind, available):
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
        with mock.patch.object(residency, "available_memory", return_value=available):
            self.assertAllEqual(rows_of(Examples(mapped, np.arange(len(mapped)) % 2)), features)

    def test_a_file_that_the_cache_cannot_hold_trains_to_the_same_bits(self):
        # A page a row: what is said of the training examples is not overwritten by what is said of those beside them.
        images, labels = self.pair(np.random.default_rng(0).integers(0, 256, (60, 64, 64)).astype(np.uint8))
        models = []
        for available in (1 << 40, 1):
            with mock.patch.object(residency, "available_memory", return_value=available):
                splits = load(images, labels=labels)
                result = loop.train(TrainConfig(batch_size=7, epochs=3, seed=3, device="cpu"), splits)
                self.assertEqual(self.will_be_read_in_random_order(images), available == 1)
                loop.train(TrainConfig(epochs=1, shuffle=False, device="cpu"), splits)
                self.assertFalse(self.will_be_read_in_random_order(images))
            models.append(result.model.W.numpy().tobytes())
            del splits, result
        self.assertEqual(models[0], models[1])

    def will_be_read_in_random_order(self, path):
        """What the kernel was told of the mapping of a file: its flag rr."""
        maps = pathlib.Path("/proc/self/smaps").read_text().split(str(path))
        self.assertGreater(len(maps), 1)
        return any(" rr " in part.split("VmFlags:")[1].split("\n")[0] for part in maps[1:])

    def test_rows_outside_of_the_file_are_not_announced(self):
        images, _ = self.pair(self.features)
        mapped = np.load(images, mmap_mode="c")
        with LARGER_THAN_MEMORY:
            for array in (mapped[::-1], np.asarray(mapped), mapped + 0):
                (stored,) = residency.store([Examples(array, self.labels)])
                self.assertIsNone(stored.announcer(shuffle=True))
            (stored,) = residency.store([Examples(mapped, self.labels)[7:]])
            self.assertIsNone(stored.announcer(shuffle=False))
            announce = stored.announcer(shuffle=True)
            announce(np.array([[0, 52]]))  # The first and the last row: within the file.
            with self.assertRaises(ValueError):
                announce(np.array([[1 << 20]]))

    def pair(self, images):
        np.save(self.folder / "images.npy", images)
        np.save(self.folder / "labels.npy", np.arange(len(images)) % 2)
        return str(self.folder / "images.npy"), str(self.folder / "labels.npy")


if __name__ == "__main__":
    tf.test.main()

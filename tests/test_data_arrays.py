import dataclasses
import io
import itertools
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import made
from tfpipe import TrainConfig, load, train
from tfpipe.data.readers import arrays
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.model import artifact


class Hostile:
    """Its pickle would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class ArraysTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.pixels, self.labels = made.images(60)

    def npz(self, name="data.npz", save=np.savez, **arrays):
        save(self.folder / name, **arrays)
        return self.folder / name

    def pair(self, images, labels=None):
        np.save(self.folder / "images.npy", images)
        np.save(self.folder / "labels.npy", self.labels if labels is None else labels)
        return self.folder / "images.npy", self.folder / "labels.npy"

    @parameterized.parameters((np.savez,), (np.savez_compressed,))
    def test_npz_with_images_and_labels(self, save):
        path = self.npz(save=save, images=self.pixels, labels=self.labels)
        splits = load(path, validation_split=10, test_split=5, split_order="end")
        self.assertAllEqual(splits.train.images, self.pixels[:45])
        self.assertAllEqual(splits.test.labels, self.labels[55:])
        self.assertEqual((splits.pixel_max, splits.image_shape), (255.0, (4, 6)))

    def test_npz_as_keras_writes_it(self):
        path = self.npz(x_train=self.pixels[:40], y_train=self.labels[:40, np.newaxis], x_test=self.pixels[40:],
                        y_test=self.labels[40:])  # fmt: skip
        splits = load(path, validation_split=10, split_order="end")
        self.assertAllEqual(splits.validation.images, self.pixels[30:40])
        self.assertAllEqual(splits.test.labels, self.labels[40:])

    def test_strings_as_labels_give_the_class_names(self):
        names = np.array(["eel", "cat", "dog"])[self.labels]
        splits = load(self.npz(images=self.pixels, labels=names))
        self.assertEqual(splits.class_names, ("cat", "dog", "eel"))
        self.assertAllEqual(np.array(splits.class_names)[splits.train.labels], names[splits.train.rows])

    def both(self, dtype, shape, order):
        """The same images in memory and, if they lie as they are needed, in a mapped file."""
        images = np.array(self.pixels.reshape(60, *shape) / (1 if dtype == "u1" else 255.0), dtype, order=order)
        in_memory = load(self.npz(images=images, labels=self.labels))
        images_path, labels_path = self.pair(images)
        return in_memory, load(images_path, labels=labels_path)

    @parameterized.product(
        dtype=["u1", "f2", "f4", "f8", ">f4", ">f8"], shape=[(24,), (4, 6), (2, 4, 3)], order=["C", "F"]
    )
    def test_npy_is_like_the_same_array_in_memory(self, dtype, shape, order):
        in_memory, mapped = self.both(dtype, shape, order)
        as_needed = np.dtype(dtype).isnative and order == "C"
        self.assertEqual(isinstance(mapped.train.stored, np.memmap), as_needed)
        self.assertNotIsInstance(in_memory.train.stored, np.memmap)
        for ours, others in ((mapped.train, in_memory.train), (mapped.test, in_memory.test)):
            # float64 is converted as it is fetched.
            self.assertTrue(ours.stored.dtype == others.stored.dtype or (as_needed and dtype == "f8"))
            self.assertAllEqual(ours.images.astype(others.stored.dtype), others.images)
            self.assertAllEqual(ours.labels, others.labels)

    def assert_trains_alike(self, dtype, shape, order):
        models = []
        in_memory, mapped = self.both(dtype, shape, order)
        for splits in (in_memory, mapped):
            result = train(TrainConfig(batch_size=7, epochs=3, seed=3, device="cpu"), splits)
            models.append((result.model.W.numpy().tobytes(), result.report["validation_error"]))
        self.assertEqual(models[0], models[1])

    @pytest.mark.exhaustive
    def test_every_npy_trains_like_the_same_array_in_memory(self):
        for form in itertools.product(("u1", "f2", "f4", "f8", ">f4"), ((24,), (2, 4, 3)), "CF"):
            with self.subTest(form=form):
                self.assert_trains_alike(*form)

    def test_npy_whose_values_begin_anywhere(self):
        images_path, labels_path = self.pair(self.pixels)
        data = images_path.read_bytes()
        start = len(data) - self.pixels.nbytes
        header = data[10:start].rstrip(b"\n") + b" " * 7 + b"\n"
        images_path.write_bytes(data[:8] + struct.pack("<H", len(header)) + header + data[start:])
        splits = load(images_path, labels=labels_path)
        self.assertAllEqual(splits.train.images, self.pixels[splits.train.rows])
        # In memory, where an array begins at a place that TensorFlow can use.
        self.assertNotIsInstance(splits.train.stored, np.memmap)

    def test_standardized_features(self):
        features = np.random.default_rng(0).normal(50, 20, (60, 5)).clip(0, 255).astype(np.float32)
        features[:, 3] = 7
        features[:, 0] += self.labels * 20
        images_path, labels_path = self.pair(features)
        splits = load(images_path, labels=labels_path, standardize=True)
        columns = splits.train.images.astype(np.float64)
        self.assertAllClose(splits.standardization.shift, columns.mean(axis=0))  # Of the training split alone.
        workdir = self.folder / "run"
        result = train(TrainConfig(epochs=20, device="cpu"), splits, workdir)
        model = artifact.load(workdir / "model.npz")
        wrong = (splits.test.images @ model.W + model.b).argmax(axis=1) != splits.test.labels
        self.assertEqual(wrong.mean(), result.report["test_error"])
        self.assertTrue(result.report["standardized"])
        self.assertLess(result.report["test_error"], 0.6)

    def test_the_scales_to_choose_among(self):
        features, labels_path = self.pair(np.random.default_rng(0).uniform(0, 9, (60, 5)).astype(np.float32))
        for standardize, of_rows, of_pictures in (
            (None, ("none", "columns"), ("none",)),
            (True, ("columns",), ("columns",)),
            (False, ("none",), ("none",)),
            (("columns", "none"), ("columns", "none"), ("columns", "none")),
        ):
            rows = load(features, labels=labels_path, standardize=standardize)
            pictures = load("digits", standardize=standardize)
            self.assertEqual((rows.scales, pictures.scales), (of_rows, of_pictures))
            for splits in (rows, pictures):
                self.assertEqual(splits.standardization is not None, standardize is True)
        of_a_program = dataclasses.replace(load(features, labels=labels_path, standardize=False), config=None)
        self.assertEqual(of_a_program.scales, ("none", "columns"))
        both = load(features, labels=labels_path, standardize=["none", "columns"], pixel_max=3)
        self.assertEqual(both.pixel_max, 3)
        with self.assertRaisesRegex(
            ConfigError, "^standardize=none,columns: are scales for solver=lbfgs; sgd takes one"
        ):
            train(TrainConfig(solver="sgd", device="cpu"), both)

    def test_the_pair_of_flags(self):
        images_path, labels_path = self.pair(self.pixels)
        with self.assertRaisesRegex(ConfigError, "labels=: .*images.npy holds images alone"):
            load(images_path)
        with self.assertRaisesRegex(ConfigError, "labels=.*: goes with images in an .npy file, and digits is none"):
            load("digits", labels=labels_path)
        with self.assertRaisesRegex(ConfigError, "pixel_max=3: does not go with standardize"):
            load(images_path, labels=labels_path, standardize=True, pixel_max=3)

    @parameterized.parameters(
        ({"a": 1}, "holds a; expected images and labels, or x_train and y_train"),
        ({"images": np.zeros((2, 3), np.uint8)}, "holds images; expected images and labels"),
        ({"images": np.zeros((2, 3), np.uint8), "labels": [0, 1], "test_images": np.zeros((2, 3))},
         "holds test_images alone; expected test_images and test_labels"),
        ({"images": np.zeros((2, 3), complex), "labels": [0, 1]}, "an array of type complex128"),
        ({"images": np.zeros((0, 3)), "labels": [0, 1]}, r"an array of shape \(0, 3\) holds nothing"),
        ({"images": np.zeros((2, 3), np.int32), "labels": [0, 1]}, "images of type int32"),
        ({"images": np.zeros((3, 3)), "labels": [0, 1]}, "3 images but 2 labels"),
        ({"images": np.full((2, 3), np.nan), "labels": [0, 1]}, "image 0 holds a value that is not finite"),
    )  # fmt: skip
    def test_archives_of_other_content(self, content, message):
        with self.assertRaisesRegex(DataError, f"data.npz.*{message}"):
            load(self.npz(**content))

    def test_objects_are_refused_before_they_are_read(self):
        trace = self.folder / "ran"
        objects = np.array([[Hostile(trace)]], object)
        np.save(self.folder / "images.npy", objects, allow_pickle=True)
        for path, labels in ((self.npz(images=objects, labels=[0]), None), (self.folder / "images.npy", "x")):
            with self.assertRaisesRegex(DataError, "refused: an array of type object"):
                load(path, labels=labels)
        with zipfile.ZipFile(self.folder / "data.npz", "w") as archive:
            for name in ("images.npy", "labels.npy"):
                archive.writestr(name, pickle.dumps(Hostile(trace)))
        with self.assertRaisesRegex(DataError, "not an .npy array"):
            load(self.folder / "data.npz")
        self.assertFalse(trace.exists())

    def test_sizes_that_are_not_there_take_no_memory(self):
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 8)})
        header = buffer.getvalue()
        (self.folder / "images.npy").write_bytes(header + b"x" * 100)
        with self.assertRaisesRegex(
            DataError, "images.npy: truncated or damaged: its header promises 1099511627776 x 8"
        ):
            load(self.folder / "images.npy", labels="x")
        with zipfile.ZipFile(self.folder / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.npy", b"")
            archive.writestr("images.npy", header + b"x" * 100)
        with self.assertRaisesRegex(DataError, "truncated or damaged"):
            load(self.folder / "data.npz")
        # A directory entry that promises more than deflate can give.
        data = bytearray((self.folder / "data.npz").read_bytes())
        at = data.rindex(b"PK\x01\x02")
        data[at + 24 : at + 28] = struct.pack("<I", 0xF0000000)
        (self.folder / "data.npz").write_bytes(bytes(data))
        with self.assertRaisesRegex(DataError, "cannot expand to the promised 4026531840"):
            load(self.folder / "data.npz")

    def test_a_header_of_a_length_that_is_not_there_takes_no_memory(self):
        (self.folder / "images.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xF0000000) + b"x" * 100)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with self.assertRaisesRegex(
            DataError, "images.npy: not an .npy array, or damaged: .*expected 4026531840 bytes"
        ):
            load(self.folder / "images.npy", labels="x")
        self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 20)

    def test_two_members_of_one_name(self):
        path = self.npz(images=self.pixels, labels=self.labels)
        with zipfile.ZipFile(path, "a") as archive, self.assertWarns(UserWarning):
            archive.writestr("labels.npy", b"")
        with self.assertRaisesRegex(DataError, "two arrays have the same name"):
            load(path)

    def assert_error_or_the_same(self, path, data, read, expected, step):
        """Truncations are errors; flipped bytes too, or they change values at most. Tries one in `step`."""
        for size in range(0, len(data), step):
            path.write_bytes(data[:size])
            with self.assertRaises(DataError, msg=size):
                read()
        for place in range(0, len(data), step):
            damaged = bytearray(data)
            damaged[place] ^= 0xFF
            path.write_bytes(bytes(damaged))
            try:
                source = read()
            except DataError as error:
                self.assertIn(self.folder.name, str(error))
            else:
                self.assertEqual(len(source.train), expected)
                self.assertTrue(np.isfinite(source.train.images).all())

    def damage_npz(self, step):
        for save in (np.savez, np.savez_compressed):
            path = self.npz(save=save, images=self.pixels[:3], labels=self.labels[:3])
            self.assert_error_or_the_same(path, path.read_bytes(), lambda path=path: arrays.read_npz(path), 3, step)

    def damage_npy(self, step):
        images, labels = self.pair(self.pixels[:3].astype(np.float32), self.labels[:3])
        for path in (images, labels):
            data = path.read_bytes()
            self.assert_error_or_the_same(path, data, lambda: arrays.read_npy(images, str(labels)), 3, step)
            path.write_bytes(data)

    def test_damaged_files(self):
        self.damage_npz(step=19)
        self.damage_npy(step=19)

    @pytest.mark.exhaustive
    def test_every_damaged_byte(self):
        self.damage_npz(step=1)
        self.damage_npy(step=1)

    def test_a_file_that_cannot_be_read(self):
        images, labels = self.pair(self.pixels)
        os.unlink(labels)
        with self.assertRaisesRegex(DataError, "labels.npy: cannot be read: No such file"):
            load(images, labels=labels)


if __name__ == "__main__":
    tf.test.main()

import dataclasses
import io
import itertools
import os
import pathlib
import pickle
import shutil
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

    @parameterized.parameters(
        ("X", "y"), ("data", "target"), ("features", "labels"), ("embeddings", "labels"), ("X_train", "y_train"),
        ("train_images", "train_labels"), ("arr_0", "arr_1"), ("x", "targets"), ("photos", "kinds"), ("arr_1", "arr_0"),
    )  # fmt: skip
    def test_npz_of_names_that_leave_no_doubt(self, images, labels):
        for of_labels in (self.labels, self.labels[:, np.newaxis], self.labels.astype(float)):
            splits = load(self.npz(**{images: self.pixels, labels: of_labels, "version": 3}), split_order="end")
            self.assertAllEqual(splits.train.images, self.pixels[:36])
            self.assertAllEqual(splits.test.labels, self.labels[48:])

    @parameterized.parameters(
        ("X_train", "y_train", "X_valid", "y_valid", "X_test", "y_test"),
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("images", "labels", "validation_images", "validation_labels", "test_images", "test_labels"),
        ("features", "labels", "features_dev", "labels_dev", "features_testing", "labels_testing"),
        ("X", "y", "x_validation", "y_validation", "X_test", "y_test"),
    )
    def test_npz_that_brings_splits(self, *names):
        of_each = [(self.pixels[a:b], self.labels[a:b]) for a, b in ((0, 30), (30, 50), (50, 60))]
        splits = load(self.npz(**dict(zip(names, itertools.chain(*of_each), strict=True))))
        for split, (images, labels) in zip((splits.train, splits.validation, splits.test), of_each, strict=True):
            self.assertAllEqual(split.images, images)
            self.assertAllEqual(split.labels, labels)

    def test_keys_settle_a_doubt(self):
        others = self.labels[::-1]
        path = self.npz(left=self.pixels, right=255 - self.pixels, fine=self.labels, coarse=others)
        with self.assertRaisesRegex(
            DataError, "data.npz: left with fine or left with coarse or right with fine may be images with labels; --im"
        ):
            load(path)
        for images, pixels in (("left", self.pixels), ("right", 255 - self.pixels)):
            for key, labels in (("fine", self.labels), ("coarse", others)):
                splits = load(path, images_key=images, labels_key=key, split_order="end")
                self.assertAllEqual(splits.train.images, pixels[:36])
                self.assertAllEqual(splits.train.labels, labels[:36])
        with self.assertRaisesRegex(
            ConfigError, r"^images_key=up: .*data.npz holds coarse \[60\], fine \[60\], left \[60,"
        ):
            load(path, images_key="up")
        with self.assertRaisesRegex(
            ConfigError, "^labels_key=up: is for files of named arrays, such as .npz or HDF5, and digits is none"
        ):
            load("digits", labels_key="up")
        with self.assertRaisesRegex(
            DataError, "holds X and features, each of which may be the images; --images_key says"
        ):
            load(self.npz(X=self.pixels, features=self.pixels, y=self.labels))
        # Of what was read before there was a choice it is the same.
        of_test = {
            "test_images": self.pixels,
            "test_labels": self.labels,
            "x_test": 255 - self.pixels,
            "y_test": others,
        }
        splits = load(self.npz(X=self.pixels, images=self.pixels, labels=self.labels, y=others, **of_test))
        self.assertAllEqual(splits.test.images, self.pixels)
        splits = load(
            self.npz(X=255 - self.pixels, images=self.pixels, labels=self.labels, y=others), split_order="end"
        )
        self.assertAllEqual(splits.train.images, self.pixels[:36])
        self.assertAllEqual(splits.train.labels, self.labels[:36])

    def test_what_is_not_used_is_named(self):
        path = self.npz(
            images=self.pixels, labels=self.labels, when=np.arange(60), DESCR="of cats", class_names=[1, 2, 3]
        )
        with self.assertLogs("absl", "INFO") as logged:
            load(path)
        self.assertIn("data.npz: does not use DESCR, class_names, when", "\n".join(logged.output))
        with self.assertNoLogs("absl", "INFO"):
            load(self.npz(images=self.pixels, labels=self.labels, class_names=list("abc"), sample_weight=np.ones(60)))

    def test_an_array_called_split_divides_nothing(self):
        with self.assertLogs("absl", "INFO") as logged:
            splits = load(self.npz(images=self.pixels, labels=self.labels, Split=["test"] * 60), split_order="end")
        self.assertEqual((len(splits.train), splits.brought), (36, ()))
        self.assertIn("data.npz: does not use Split", logged.output[0])
        self.assertIn("the array 'Split' does not divide the rows; --split_file=FILE says the split", logged.output[1])

    def test_names_of_the_classes_in_an_npz(self):
        names = ("cat", "dog", "eel")
        for key, values, begin in (
            ("class_names", names, 0), ("target_names", np.array(names, "S"), 0), ("label_names", names, 1),
            ("class_names", np.array(names, object), 0),
        ):  # fmt: skip
            path = self.npz(images=self.pixels, labels=self.labels + begin, **{key: values})
            splits = load(path)
            self.assertEqual(splits.class_names, names)
            self.assertAllEqual(splits.train.labels, self.labels[splits.train.rows])
            of_numbers = load(path, numbered_classes=True)
            self.assertEqual(of_numbers.class_names, tuple(map(str, range(3 + begin))))
            self.assertAllEqual(of_numbers.train.labels, self.labels[of_numbers.train.rows] + begin)
        with self.assertRaisesRegex(DataError, "label 2, and 2 class names; expected one for each class from 0 on"):
            load(self.npz(images=self.pixels, labels=self.labels, class_names=["a", "b"]))

    def test_labels_below_0_and_from_1_on(self):
        images, labels = self.pair(self.pixels, np.where(self.labels == 0, -1, 1))
        for splits in (load(images, labels=labels), load(self.npz(X=self.pixels, y=np.load(labels)))):
            self.assertEqual(splits.class_names, ("-1", "1"))
            self.assertAllEqual(splits.train.labels, (self.labels != 0)[splits.train.rows])
        images, labels = self.pair(self.pixels, self.labels + 1)
        self.assertEqual(load(images, labels=labels).class_names, ("1", "2", "3"))
        self.assertEqual(load(images, labels=labels, numbered_classes=True).class_names, ("0", "1", "2", "3"))

    def test_text_in_objects_is_read_and_nothing_is_executed(self):
        names = np.array(["eel", "cat", "dögs"])[self.labels].astype(object)
        np.save(self.folder / "labels.npy", names, allow_pickle=True)
        np.save(self.folder / "images.npy", self.pixels)
        for splits in (
            load(self.npz(X=self.pixels, y=names)),
            load(self.npz(X=self.pixels, y=names[:, np.newaxis], save=np.savez_compressed)),
            load(self.folder / "images.npy", labels=self.folder / "labels.npy"),
        ):
            self.assertEqual(splits.class_names, ("cat", "dögs", "eel"))
            self.assertAllEqual(np.array(splits.class_names)[splits.train.labels], names[splits.train.rows].astype(str))
        trace = self.folder / "ran"
        for wrong in (Hostile(trace), None, 3, b"cat"):
            names[7] = wrong
            np.save(self.folder / "labels.npy", names, allow_pickle=True)
            for path, labels in (
                (self.npz(X=self.pixels, y=names), None), (self.folder / "images.npy", self.folder / "labels.npy"),
            ):  # fmt: skip
                with self.assertRaisesRegex(
                    DataError, r"refused: an array of type object, .*; where you trust it, .* save that as ARRAY.astype"
                ):
                    load(path, labels=labels)
        self.assertFalse(trace.exists())

    @parameterized.parameters(
        ((3, 8, 12), "u1", "images of 3 x 8 x 12 look channel-first, and are taken as pictures of 3 rows; numpy.move"),
        ((7, 16), "f4", r"7 x 16 with values below 0 are taken as pictures; if they are tokens, images.reshape"),
        ((8, 12), "u2", "pictures of values up to 40000; give --pixel_max the value of white"),
        ((8, 12, 3), "u1", None), ((3, 8, 3), "u1", None), ((8, 12), "u1", None),
        ((8, 12), "f4+", "WARNING.*pictures of values up to 199; give --pixel_max the value of white"),
        ((8, 12, 3), "f8", "pictures of values up to 199; give"), ((8, 12, 7), "f4+", None), ((7,), "f4", None),
    )  # fmt: skip
    def test_forms_that_may_mean_something_else_are_told(self, shape, kind, message):
        images = np.random.default_rng(0).integers(0, 200, (60, *shape)).astype(kind[:2])
        images = {"f4": images - 100, "u2": images * 200 + 200}.get(kind, images)
        with self.assertLogs("absl", "INFO") as logged:
            splits = load(self.npz(images=images, labels=self.labels, other=1))
        self.assertEqual(splits.image_shape, shape)
        self.assertLen(logged.output, 1 + bool(message))
        self.assertRegex("\n".join(logged.output), message or "does not use other")

    def test_pictures_of_another_white_in_a_mapped_file_are_told(self):
        path, labels = self.pair(self.pixels.astype(np.float32))
        line = f"WARNING:absl:{path}: pictures of values up to {self.pixels.max()}; give --pixel_max the value of white"
        with self.assertLogs("absl", "INFO") as logged:
            self.assertEqual(load(path, labels=labels).pixel_max, 1)
        self.assertEqual(logged.output, [line])
        with self.assertNoLogs("absl", "INFO"):
            self.assertEqual(load(path, labels=labels, pixel_max=255).pixel_max, 255)
        np.save(path, (self.pixels / 255).astype(np.float32))
        with self.assertNoLogs("absl", "INFO"):
            load(path, labels=labels)

    def test_suffixes_in_capitals(self):
        expected = load(self.npz(images=self.pixels, labels=self.labels)).fingerprint
        shutil.move(self.folder / "data.npz", self.folder / "DATA.NPZ")
        self.assertEqual(load(self.folder / "DATA.NPZ").fingerprint, expected)
        path, labels = self.pair(self.pixels)
        for name in (path, labels):
            name.rename(name.with_suffix(".NPY"))
        groups = self.folder / "groups.NPY"
        with open(groups, "wb") as file:
            np.save(file, np.arange(60) // 2)
        splits = load(path.with_suffix(".NPY"), labels=labels.with_suffix(".NPY"), groups=groups)
        self.assertEqual(len(np.unique(splits.train.groups)), len(splits.train) / 2)
        self.assertEqual(load(self.folder).train.stored.shape, (60, 4, 6))

    @parameterized.parameters("labels", "sample_weight", "groups", "split_file")
    def test_what_is_no_regular_file_is_refused_at_once(self, option):
        path, labels = self.pair(self.pixels)
        pipe = self.folder / "pipe.npy"
        os.mkfifo(pipe)
        with self.assertRaisesRegex(DataError, f"^{pipe}: is no regular file; expected an .npy file$"):
            load(path, **{"labels": labels, option: pipe})

    @parameterized.parameters("i4", "u4", "f8")
    def test_columns_that_float32_cannot_tell_apart_of_every_type(self, dtype):
        rows = np.stack([np.arange(60), 1_700_000_000 + np.arange(60)], axis=1).astype(dtype)
        with self.assertRaisesRegex(DataError, "column 1 lies at 1700000030 .* drop the column$"):
            load(self.npz(X=rows, y=self.labels))
        rows[:, 1] = np.arange(60) * 1_000_000 + 1_700_000_000  # Days: float32 steps by 128.
        self.assertEqual(load(self.npz(X=rows, y=self.labels)).image_shape, (2,))

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

    def test_npy_larger_than_memory(self):
        path, rows, last = self.folder / "images.npy", 1 << 32, np.arange(256, dtype=np.uint8)
        self.addCleanup(path.unlink)
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 256)})
            file.seek((rows - 1) * 256, os.SEEK_CUR)  # A terabyte that is not there.
            file.write(last.tobytes())
        images = arrays.mapped(path)
        self.assertIsInstance(images, np.memmap)
        self.assertEqual((images.shape, images.dtype), ((rows, 256), np.uint8))
        np.testing.assert_array_equal(images[[0, -1]], [np.zeros(256), last])
        images[0] = 1  # Of the process alone.
        np.testing.assert_array_equal(arrays.mapped(path)[0], np.zeros(256))

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
        ({"a": 1}, r"holds a \[\]; expected images \[N, ...\] and labels \[N\], by names such as images and labels, X"),
        ({"images": np.zeros((2, 3), np.uint8)}, r"holds images \[2, 3\]; expected .* --images_key and --labels_key"),
        ({"images": np.zeros((2, 3), np.uint8), "labels": [0, 1], "test_images": np.zeros((2, 3))},
         "holds test_images alone; expected test_images and test_labels"),
        ({"images": np.zeros((2, 3), complex), "labels": [0, 1]}, "an array of type complex128"),
        ({"images": np.zeros((0, 3)), "labels": [0, 1]}, r"an array of shape \(0, 3\) holds nothing"),
        ({"images": np.array([["a", "b"]]), "labels": [0]}, "rows of type <U1; expected numbers"),
        ({"images": np.zeros((3, 3)), "labels": [0, 1]}, "3 rows but 2 labels"),
        ({"images": np.zeros((3, 3, 2)), "labels": [0, 1]}, "3 images but 2 labels"),
        ({"images": np.full((2, 3), np.nan), "labels": [0, 1]}, "row 0, column 0 is NaN; expected finite numbers"),
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

"""Files of named arrays other than `.npz`: HDF5, MATLAB's, safetensors, those of torch.save, folders of `.npy`."""

import io
import json
import pathlib
import pickle
import struct
import sys
import zipfile
import zlib
from unittest import mock

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import scipy.io
import scipy.sparse
from absl.testing import absltest, parameterized
from PIL import Image

from tests import made, torch_save
from tests.command import python
from tfpipe import load
from tfpipe.exceptions import ConfigError, DataError

CLASSES = np.array(["cat", "dögs", "eel"])


class NamedTest(parameterized.TestCase):
    """What the tests of all formats need."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.pixels, self.labels = made.images(60)
        self.texts = CLASSES[self.labels]

    def assert_reads(self, path, images=None, class_names=("0", "1", "2"), **options):
        """The first 36 images train, with their labels; returns all splits."""
        images = self.pixels if images is None else images
        splits = load(path, split_order="end", **options)
        np.testing.assert_array_equal(splits.train.images, images[:36])
        np.testing.assert_array_equal(splits.train.labels, self.labels[:36])
        self.assertEqual(splits.class_names, class_names)
        self.assertTrue(splits.train.images.dtype.isnative)
        self.assertTrue(splits.train.stored.flags.c_contiguous)
        return splits

    def assert_refused(self, path, message, error=DataError, **options):
        with self.assertRaisesRegex(error, message) as caught:
            load(path, **options)
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn(str(self.folder), str(caught.exception))

    def damage(self, path, step):
        """Cuts a sound file off and changes its bytes, each `step`-th: errors, or sound loads of finite values."""
        data = path.read_bytes()
        errors = 0
        for place in range(0, len(data), step):
            changed = bytearray(data)
            changed[place] ^= 0xFF
            for content in (data[:place], bytes(changed)):
                path.write_bytes(content)
                try:
                    splits = load(path, validation_split=1, test_split=1)
                except (DataError, ConfigError) as error:
                    errors += 1
                    self.assertNotIn("\n", str(error))
                    self.assertNotIn("asks for more memory", str(error))
                else:
                    self.assertTrue(np.isfinite(splits.train.images).all())
        self.assertGreater(errors, len(data) // step // 2)


class Hdf5Test(NamedTest):
    def test_the_content_tells_it_whatever_the_name_is(self):
        with h5py.File(self.folder / "data.npz", "w") as file:
            file["images"], file["labels"] = self.pixels, self.labels
        self.assert_reads(self.folder / "data.npz")

    def hdf5(self, name="data.h5", _options=None, **datasets):
        with h5py.File(self.folder / name, "w", **(_options or {})) as file:
            for dataset, values in datasets.items():
                file[dataset.replace("__", "/")] = values
        return self.folder / name

    @parameterized.parameters(
        ("images", "labels"), ("X", "y"), ("train__images", "train__labels"), ("train__x", "train__y"),
        ("one__photos", "two__kinds"),
    )  # fmt: skip
    def test_names(self, images, labels):
        for of_labels in (self.labels, self.labels[:, np.newaxis], self.texts.astype(object), self.texts):
            if of_labels.dtype.kind == "U":
                of_labels = np.char.encode(of_labels, "utf-8")
            named = tuple(CLASSES) if of_labels.dtype.kind in "OS" else ("0", "1", "2")
            path = self.hdf5(**{images: self.pixels, labels: of_labels, "version": 3})
            self.assert_reads(path, class_names=named)

    def test_splits_of_groups_and_what_goes_with_them(self):
        path = self.hdf5(
            train__x=self.pixels[:40], train__y=self.labels[:40], test__x=self.pixels[40:], test__y=self.labels[40:],
            train__sample_weight=np.arange(40.0), class_names=CLASSES.astype(object), more__of__it=np.zeros(3),
        )  # fmt: skip
        with self.assertLogs("absl", "INFO") as logged:
            splits = load(path)
        np.testing.assert_array_equal(splits.test.images, self.pixels[40:])
        np.testing.assert_array_equal(splits.train.weights, splits.train.rows)
        self.assertEqual(splits.class_names, tuple(CLASSES))
        self.assertIn("data.h5: does not use more/of/it", logged.output[0])

    def test_keys(self):
        path = self.hdf5(
            a__left=self.pixels, a__right=255 - self.pixels, b__fine=self.labels, b__coarse=self.labels[::-1]
        )
        self.assert_refused(path, "data.h5: a/left with b/coarse or .* may be images with labels; --images_key and")
        self.assert_reads(path, 255 - self.pixels, images_key="a/right", labels_key="/b/fine")
        self.assert_refused(path, "^images_key=up: .*data.h5 holds a/left ", ConfigError, images_key="up")

    @parameterized.parameters(
        ("u1", {"compression": "gzip", "shuffle": True, "fletcher32": True}), ("f4", {"compression": "lzf"}),
        ("f2", {"chunks": (7, 3, 5)}), (">f4", {}), ("f8", {"chunks": (60, 4, 6), "maxshape": (None, 4, 6)}), ("?", {}),
    )  # fmt: skip
    def test_types_and_ways_of_storing(self, dtype, options):
        images = (self.pixels // 128 * 128 if dtype == "?" else self.pixels / (1 if dtype == "u1" else 256)).astype(
            dtype
        )
        path = self.hdf5(y=self.labels)
        with h5py.File(path, "a") as file:
            file.create_dataset("X", data=images, **options)
        self.assert_reads(path, images.astype(np.float32) if dtype in (">f4", "f8", "?") else images)

    def test_by_its_content(self):
        for options in ({}, {"userblock_size": 512}, {"userblock_size": 2048}, {"libver": "latest"}):
            self.assert_reads(self.hdf5("features", options, X=self.pixels, y=self.labels))

    def test_what_cannot_be_used(self):
        path = self.hdf5(y=self.labels)
        layout = h5py.VirtualLayout(shape=(60, 24), dtype="u1")
        layout[:] = h5py.VirtualSource(self.folder / "other.h5", "X", shape=(60, 24))
        (self.folder / "secret").write_bytes(b"s" * 60 * 24)
        kind = np.dtype([("a", "f4"), ("b", "f4")])
        for make, message in (
            (lambda f: f.create_dataset("X", (60, 24), "f4"), "X.: 0 of 5760 bytes were written; expected all"),
            (lambda f: f.create_dataset("X", (60, 24), "f4", chunks=(7, 24)), "X.: 0 of 9 chunks were written"),
            (lambda f: f.create_dataset("X", (1 << 40, 24), "f4", chunks=(1 << 20, 24)), "0 of 1048576 chunks were"),
            (lambda f: f.create_virtual_dataset("X", layout), "X.: its values lie in other files; expected them in th"),
            (lambda f: f.create_dataset("X", (60, 24), "u1", external=str(self.folder / "secret")), "lie in other fil"),
            (lambda f: f.create_dataset("X", data=np.zeros((60, 24), kind)), "X.: of type .*; expected numbers"),
            (lambda f: f.create_dataset("X", data=[["a"] * 3] * 60), "X.: an array of type object; expected numbers"),
            (lambda f: f.create_dataset("X", (0, 24)), r"X.: an array of shape \(0, 24\) holds nothing"),
            (lambda f: f.create_dataset("X", data=h5py.Empty("f4")), "X.: of type float32; expected numbers or text"),
            (lambda f: f.create_dataset("X", (60, 24), chunks=(9, 24), compression=32001, allow_unknown_filter=True),
             "X.: packed by filter 32001 .*, not here; save it with compression='gzip', or as .npz"),
            (lambda f: f.create_dataset("X", data=np.zeros((60, 24), complex)), "X.: of type complex128; expected"),
            (lambda f: f.create_group("X").attrs.__setitem__("pandas_type", "frame"),
             r": X is a table as pandas writes it; pandas.read_hdf\('data.h5', 'X'\).to_parquet\("),
            (lambda f: f.__setitem__("X", h5py.ExternalLink("other.h5", "X")), r"holds y \[60\]; expected images"),
        ):  # fmt: skip
            with h5py.File(path, "a") as file:
                file.pop("X", None)
                make(file)
            self.assert_refused(path, f"data.h5.*{message}")
        (self.folder / "data.h5").write_bytes(b"no HDF5")
        self.assert_refused(path, "data.h5: cannot be read: OSError: Unable to .*open file")

    def test_chunks_that_expand_to_more_than_there_can_be(self):
        path = self.hdf5(y=self.labels)
        with h5py.File(path, "a") as file:
            images = file.create_dataset("X", (60, 1 << 16), "u1", chunks=(60, 1 << 16), compression="gzip")
            images.id.write_direct_chunk((0, 0), zlib.compress(b""))
        self.assert_refused(path, "X.: 8 bytes cannot expand to the promised 3932160")

    def test_without_the_package(self):
        path = self.hdf5(X=self.pixels, y=self.labels)
        with mock.patch.dict(sys.modules, {"h5py": None}):
            self.assert_refused(path, r"data.h5: is read by a package that is not there: pip install 'tfpipe\[hdf5\]'$")

    def test_damaged_files(self):
        self.damage(self.hdf5(X=self.pixels[:6], y=self.texts[:6].astype(object)), step=97)

    @pytest.mark.exhaustive
    def test_every_damaged_byte(self):
        path = self.hdf5(_options={"libver": "latest"}, X=self.pixels[:6], y=np.char.encode(self.texts[:6], "utf-8"))
        self.damage(path, step=1)


class MatlabTest(NamedTest):
    def mat(self, _compressed=False, _format="5", **variables):
        scipy.io.savemat(self.folder / "data.mat", variables, do_compression=_compressed, format=_format)
        return self.folder / "data.mat"

    def mat73(self, **variables):
        """As `save -v7.3` writes them: HDF5 with the axes the other way round."""
        path = self.folder / "data.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, (of_class, values) in variables.items():
                file[name] = np.asarray(values).T
                file[name].attrs["MATLAB_class"] = np.bytes_(of_class)
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
        return path

    def assert_moved(self, path, moved, images=None, class_names=("1", "2", "3")):
        with self.assertLogs("absl", "INFO") as logged:
            splits = self.assert_reads(path, images, class_names)
        self.assertRegex(logged.output[0], moved)
        self.assertIn(splits.notes[0], logged.output[0])

    @parameterized.parameters(False, True)
    def test_svhn(self, compressed):
        images, labels = made.images(60, (4, 6, 3))
        message = r"data.mat \(X\): \[4, 6, 3, 60\] with 60 labels: the last axis is .* taken first, \[60, 4, 6, 3\]"
        of_labels = (labels + 1)[:, np.newaxis].astype(float)
        last = np.moveaxis(images, 0, -1)
        self.labels = labels
        self.assert_moved(self.mat(compressed, X=last, y=of_labels.astype("u1")), message, images)
        self.assert_moved(self.mat73(X=("uint8", last), y=("double", of_labels)), message, images)

    @parameterized.parameters(False, True)
    def test_forms_of_labels(self, compressed):
        for labels, named in (
            (self.labels[np.newaxis], ("0", "1", "2")), (self.labels[:, np.newaxis].astype(float), ("0", "1", "2")),
            (np.array(["a", "bc", "d"])[self.labels], ("a", "bc", "d")), (self.texts, tuple(CLASSES)),
            (np.eye(3)[self.labels], ("0", "1", "2")),
        ):  # fmt: skip
            self.assert_reads(self.mat(compressed, images=self.pixels, labels=labels, more={"a": 1}), None, named)
        rows = self.pixels.reshape(60, -1).T
        path = self.mat(compressed, data=rows, other=self.labels[np.newaxis] + 1, class_names=["ab", "c", "d"])
        self.assert_refused(path, r"holds .*data \[24, 60\]")  # The shape of the first axis tells labels otherwise.
        splits = load(path, labels_key="other", split_order="end")
        self.assertEqual((splits.class_names, splits.image_shape), (("ab", "c", "d"), (24,)))

    def test_weights(self):
        splits = load(self.mat(X=self.pixels, y=self.labels, sample_weight=np.arange(60.0)))
        np.testing.assert_array_equal(splits.train.weights, splits.train.rows)

    def test_the_class_says_the_type(self):
        whole = self.pixels.astype(float)
        for path in (self.mat(X=whole, y=self.labels), self.mat73(X=("double", whole), y=("int32", self.labels))):
            splits = self.assert_reads(path, whole)
            self.assertEqual((splits.train.images.dtype, splits.pixel_max), (np.float32, 1.0))
        is_light = self.pixels > 100
        for path in (self.mat(X=is_light, y=self.labels),
                     self.mat73(X=("logical", is_light.astype("u1")), y=("int8", self.labels))):  # fmt: skip
            self.assertEqual(self.assert_reads(path, is_light).train.images.dtype, np.float32)
        self.assert_reads(self.mat(X=self.pixels.astype("i2"), y=self.labels))

    def test_axes_that_leave_a_doubt_stay(self):
        square = np.arange(60 * 60, dtype=np.float32).reshape(60, 60)
        (note,) = self.assert_reads(self.mat(X=square, y=self.labels), square).notes
        self.assertIn("the first axis is taken as the one of the examples; if it is the last, move it", note)
        square = square[..., np.newaxis]
        self.assertEqual(self.assert_reads(self.mat(X=square, y=self.labels), square).notes, ())
        self.assert_refused(self.mat(X=self.pixels[:50], y=self.labels), "50 images but 60 labels")

    def test_all_splits_have_their_axes_alike(self):
        images, labels = made.images(64, (4, 6, 3))
        last = {
            f"{name}_{split}": values
            for split, part in (("train", slice(0, 60)), ("test", slice(60, 64)))
            for name, values in (("X", np.moveaxis(images[part], 0, -1)), ("y", labels[part]))
        }
        splits = load(self.mat(**last))
        np.testing.assert_array_equal(splits.test.images, images[60:])  # `[4, 6, 3, 4]`.

    def test_what_cannot_be_used(self):
        texts = np.array(self.texts, object)
        for variables, message in (
            ({"X": scipy.sparse.csc_array(self.pixels[:, 0].astype(float)), "y": self.labels},
             r"X.: of MATLAB's class sparse; expected numbers, which full\(VARIABLE\)"),
            ({"X": self.pixels, "y": texts}, r"y.: of MATLAB's class cell; expected numbers, or text .* char\(VARIAB"),
            ({"X": self.pixels, "y": {"a": 1}}, "y.: of MATLAB's class struct; expected numbers"),
            (
                {"s": {"X": self.pixels, "y": self.labels}},
                r"s.: of MATLAB's class struct; expected numbers: save\(FILE, '-struct', 'VARIABLE'\) makes variables",
            ),
            ({"X": self.pixels * 1j, "y": self.labels}, "X.: of MATLAB's class complex double; expected numbers"),
            ({"X": self.texts, "y": self.labels}, "X.: of MATLAB's class char; expected numbers"),
            ({"X": np.zeros((0, 3)), "y": self.labels}, "X.: of MATLAB's class empty double; expected numbers"),
            ({"a": 1}, r"holds a \[1\]; expected images"),
        ):  # fmt: skip
            for compressed in (False, True):
                self.assert_refused(self.mat(compressed, **variables), f"data.mat.*{message}")
        self.assert_refused(
            self.mat73(X=("cell", self.pixels), y=("int8", self.labels)), "of MATLAB's class cell; expec"
        )
        path = self.mat(_format="4", X=self.pixels[:, 0].astype(float), y=self.labels)
        self.assert_refused(
            path, r"data.mat: not a MAT-file of version 5; MATLAB's save\(FILE, ..., '-v7'\) and scipy."
        )

    def test_by_its_content(self):
        self.assert_reads(self.mat(X=self.pixels, y=self.labels).rename(self.folder / "data"))

    @parameterized.parameters("<", ">")
    def test_promises_that_are_not_kept_take_no_memory(self, order):
        def element(kind, data, count=None):
            padded = data + b"\0" * (-len(data) % 8)
            return struct.pack(f"{order}II", kind, len(data) if count is None else count) + padded

        def file(kind=2, promised=None, shape=(1 << 16, 1 << 16), of_class=9):
            content = element(6, struct.pack(f"{order}II", of_class, 0)) + element(5, struct.pack(f"{order}2i", *shape))
            content += element(1, b"X") + element(kind, b"\1" * 64, promised)
            packed = zlib.compress(element(14, content))
            head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49)
            tag = struct.pack(f"{order}II", 15, len(packed))
            path = self.folder / "data.mat"
            path.write_bytes(head + tag + packed)
            return path

        most = "damaged: .* bytes of type"
        for path in (
            file(promised=2**32 - 1),
            file(),
            file(kind=200),
            file(shape=(8, 8), kind=9),
            file(shape=(-8, -8)),
        ):
            self.assert_refused(path, f"{most}|its shape is")
        self.assert_refused(file(shape=(8, 8)), r"holds X \[8, 8\]; expected images")
        self.assert_refused(file(shape=(8, 8), of_class=77), "no variable stands where one should")

    @parameterized.parameters(False, True)
    def test_damaged_files(self, compressed):
        content = {"X": np.moveaxis(self.pixels[:6], 0, -1), "labels": self.texts[:6], "more": {"a": 1}}
        self.damage(self.mat(compressed, **content), step=23)

    @pytest.mark.exhaustive
    def test_every_damaged_byte(self):
        for compressed in (False, True):
            content = {"X": np.moveaxis(self.pixels[:6], 0, -1), "labels": self.texts[:6], "more": {"a": 1}}
            self.damage(self.mat(compressed, **content), step=1)


class SafetensorsTest(NamedTest):
    def save(self, name="data.safetensors", **tensors):
        safetensors.numpy.save_file(
            {key: np.ascontiguousarray(value) for key, value in tensors.items()}, self.folder / name
        )
        return self.folder / name

    @parameterized.parameters("uint8", "float16", "float32", "float64", "bfloat16", "int16", "bool")
    def test_types(self, dtype):
        images = self.pixels if dtype in ("uint8", "int16") else self.pixels / 256
        images = images.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        as_read = images if dtype in ("uint8", "float16") else images.astype(np.float32)
        path = self.save(embeddings=images, labels=self.labels.astype("i8"))
        self.assertEqual(self.assert_reads(path, as_read).train.images.dtype, as_read.dtype)

    def test_names_and_splits(self):
        path = self.save(**{"train.images": self.pixels[:40], "train.labels": self.labels[:40],
                            "test.images": self.pixels[40:], "test.labels": self.labels[40:]})  # fmt: skip
        np.testing.assert_array_equal(load(path).test.images, self.pixels[40:])
        path = self.save(a=self.pixels, b=255 - self.pixels, c=self.labels)
        self.assert_refused(path, "a with c or b with c may be images with labels; --images_key")
        self.assert_reads(path, 255 - self.pixels, images_key="b")

    def test_more_than_is_read_at_once(self):
        images = np.random.default_rng(0).normal(size=(60, 300, 200)).astype(np.float32)
        self.assert_reads(self.save("by its content", images=images, labels=self.labels), images)

    def test_what_cannot_be_used(self):
        header = {
            "X": {"dtype": "F8_E4M3", "shape": [2, 3], "data_offsets": [0, 6]},
            "y": {"dtype": "U8", "shape": [2], "data_offsets": [6, 8]},
        }
        text = json.dumps(header).encode()
        path = self.folder / "data.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
        self.assert_refused(path, r"data.safetensors \(X\): of type F8_E4M3; expected F64, F32, F16, BF16")
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(7))
        self.assert_refused(path, "data.safetensors: not a safetensors file, or damaged: SafetensorError")
        path = self.save(X=np.zeros((0, 3)), y=self.labels)
        self.assert_refused(path, r"X.: an array of shape \(0, 3\) holds nothing")

    def test_without_the_package(self):
        path = self.save(X=self.pixels, y=self.labels)
        with mock.patch.dict(sys.modules, {"safetensors": None}):
            self.assert_refused(path, r"a package that is not there: pip install 'tfpipe\[safetensors\]'$")

    def test_damaged_files(self):
        self.damage(self.save(X=self.pixels[:6], y=self.labels[:6]), step=3)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class TorchTest(NamedTest):
    def save(self, value, name="data.pt", **options):
        (self.folder / name).write_bytes(torch_save.save(value, **options))
        return self.folder / name

    @parameterized.parameters("uint8", "float16", "float32", "float64", "bfloat16", "int16", "bool")
    def test_types(self, dtype):
        images = self.pixels if dtype in ("uint8", "int16") else self.pixels / 256
        images = images.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        as_read = images if dtype in ("uint8", "float16") else images.astype(np.float32)
        for options in ({}, {"byte_order": "big"}, {"byte_order": None, "root": "data"}):
            path = self.save({"images": images, "labels": self.labels}, **options)
            self.assertEqual(self.assert_reads(path, as_read).train.images.dtype, as_read.dtype)

    def test_forms(self):
        named = {"X": self.pixels, "y": self.texts.tolist(), "version": 3, "epochs": [1, 2.5]}
        self.assert_reads(self.save(named), class_names=tuple(CLASSES))
        for value in (
            (self.pixels, self.labels), [self.labels.tolist(), self.pixels],
            {"X": torch_save.Parameter(torch_save.Tensor(self.pixels)), 1: self.labels},
            {"data": (self.pixels, self.labels)},
        ):  # fmt: skip
            self.assert_reads(self.save(value, "by its content"))
        parts = {"train": (0, 40), "test": (40, 60)}
        nested = {name: {"x": self.pixels[a:b], "y": self.labels[a:b]} for name, (a, b) in parts.items()}
        np.testing.assert_array_equal(load(self.save(nested)).test.images, self.pixels[40:])
        named = {"x": self.pixels, "y": self.labels, "class_names": CLASSES.tolist()}
        self.assert_reads(self.save(named, compression=zipfile.ZIP_DEFLATED), class_names=tuple(CLASSES))

    def test_windows_on_storages(self):
        storage = torch_save.Storage(np.concatenate([self.pixels, 255 - self.pixels]))
        second = torch_save.Tensor(self.pixels, storage, offset=60 * 24)
        self.assert_reads(self.save({"X": second, "y": self.labels}), 255 - self.pixels)
        turned = torch_save.Tensor(self.pixels, torch_save.Storage(self.pixels.T), stride=(1, 60, 240))
        self.assert_reads(self.save({"X": turned, "y": self.labels}))
        one = torch_save.Storage(self.pixels[0])
        repeated = torch_save.Tensor(self.pixels, one, stride=(0, 6, 1))
        self.assert_reads(self.save({"X": repeated, "y": self.labels}), np.repeat(self.pixels[:1], 60, axis=0))
        for wrong in (
            torch_save.Tensor(self.pixels, one), torch_save.Tensor(self.pixels, storage, offset=60 * 24 + 1),
            torch_save.Tensor(self.pixels, one, stride=(0, 6, -1)), torch_save.Tensor(self.pixels, one, stride=(0, 6)),
        ):  # fmt: skip
            self.assert_refused(
                self.save({"X": wrong, "y": self.labels}), "data.pt: not a readable pickle: ValueError: a t"
            )
        huge = torch_save.Tensor(np.broadcast_to(self.pixels[:1], (1 << 40, 4, 6)), one, stride=(0, 6, 1))
        self.assert_refused(self.save({"X": huge, "y": self.labels}), "would take .* GiB of memory")

    def test_nothing_is_executed(self):
        trace = self.folder / "ran"
        sparse = torch_save.Tensor(self.pixels, rebuild="_rebuild_sparse_tensor")
        for value, named in (
            ({"X": self.pixels, "y": Hostile(trace)}, "it names _?io.open"),
            ({"X": self.pixels, "y": slice(3)}, "it names __builtin__.slice"),
            ({"X": sparse, "y": self.labels}, "it names torch._utils._rebuild_sparse_tensor"),
            ({(1, 2): self.pixels}, "it has a dictionary by something else than text or integers"),
        ):
            path = self.save(value)
            message = rf"data.pt: refused: {named}; .* weights_only=False\) reads it, and numpy.savez\(FILE, images=..."
            self.assert_refused(path, message)
        self.assertFalse(trace.exists())

    def test_other_files_of_pytorch(self):
        path = self.folder / "old.pth"
        path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps({"X": 1}, 2))
        self.assert_refused(
            path, r"old.pth: not of torch.save, or of an older one; .* python -c \"import numpy, torch; numpy.savez\('o"
            r"ld.npz', \*\*torch.load\('.*old.pth', weights_only=True\)\)\" \(with one \* for a tuple\)$",
        )  # fmt: skip
        self.assert_refused(
            self.save(torch_save.Tensor(self.pixels)), r"holds tensor \[60, 4, 6\]; expected images \[N"
        )
        self.assert_refused(self.save([self.pixels[0]] * 10_001), "holds more than 10000 tensors; expected one of all")
        self.assert_refused(self.save({"X": self.pixels, "y": None}), "y.: neither a tensor nor a list of numbers or")
        program = {"constants.pkl": pickle.dumps(())}
        self.assert_refused(self.save({"X": self.pixels}, **program), "holds a TorchScript program; expected tensors")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"")
        self.assert_refused(path, "holds no data.pkl; expected tensors")

    def test_storages_that_are_not_as_promised(self):
        sound = self.save({"X": self.pixels, "y": self.labels})
        members = zipfile.ZipFile(io.BytesIO(sound.read_bytes()))
        for content in (None, b"", bytes(60 * 24 - 1), bytes(60 * 24 + 1)):
            with zipfile.ZipFile(sound, "w") as archive:
                for info in members.infolist():
                    if not info.filename.endswith("/data/0"):
                        archive.writestr(info.filename, members.read(info))
                if content is not None:
                    archive.writestr("archive/data/0", content)
            self.assert_refused(sound, r"data.pt \(X\): damaged: 1440 values are promised, and the file has others")

    def test_damaged_files(self):
        self.damage(self.save({"X": self.pixels[:6], "y": self.labels[:6]}), step=17)

    @pytest.mark.exhaustive
    def test_every_damaged_byte(self):
        self.damage(self.save({"X": self.pixels[:6], "y": self.labels[:6]}), step=1)


class ShardsTest(NamedTest):
    def write(self, **arrays):
        for path in self.folder.glob("*.npy"):
            path.unlink()
        for name, values in arrays.items():
            np.save(self.folder / f"{name.replace('__', '-')}.npy", values)
        return self.folder

    def parts(self, name, values, numbers):
        """`values` in as many files, of different lengths."""
        bounds = np.linspace(0, len(values), len(numbers) + 1, dtype=int)
        bounds[1:-1] += 1
        names = (name.format(number) for number in numbers)
        return dict(zip(names, map(lambda a, b: values[a:b], bounds, bounds[1:]), strict=False))

    @parameterized.parameters(
        ("images_{:03}", "labels_{:03}", range(3)), ("x_{}", "y_{}", range(8, 13)), ("X{}", "y{}", range(9, 12)),
        ("features__{:05}-of-00002", "labels__{:05}-of-00002", range(1, 3)), ("x_train_{}", "y_train_{}", [3, 1, 2]),
        ("part_{}", "kind_{}", range(2)), ("images_{}", "labels_{}", [7]),
    )  # fmt: skip
    def test_pairs_of_files(self, images, labels, numbers):
        numbers = sorted(numbers)
        for of_labels, named in ((self.labels, ("0", "1", "2")), (self.texts, tuple(CLASSES)),
                                 (self.texts.astype(object), tuple(CLASSES))):  # fmt: skip
            folder = self.write(**self.parts(images, self.pixels, numbers), **self.parts(labels, of_labels, numbers))
            splits = self.assert_reads(folder, class_names=named)
            self.assertEqual(splits.config.dataset, str(folder))

    def test_one_file_of_labels(self):
        features = self.pixels.reshape(60, -1).astype(">f4", order="F")
        for name in ("features__{}", "features__a{}"):
            folder = self.write(**self.parts(name, features, range(11)), labels=self.labels)
            self.assertNotIsInstance(self.assert_reads(folder, features).train.stored, np.memmap)

    def test_numbers_of_first_rows_and_a_line_that_tells_the_files(self):
        folder = self.write(x_0=self.pixels[:40], x_40=self.pixels[40:], y=self.labels)
        splits = self.assert_reads(folder)
        self.assertEqual(splits.notes, (f"{folder}: x is in 2 files, x_0.npy to x_40.npy",))

    def test_one_file_of_images_is_mapped(self):
        folder = self.write(**self.parts("labels_{}", self.labels, range(3)), images=self.pixels, ids=np.arange(60))
        self.assertIsInstance(self.assert_reads(folder).train.stored, np.memmap)

    def test_splits_and_keys(self):
        folder = self.write(
            **self.parts("x_train_{}", self.pixels[:40], range(2)),
            **self.parts("y_train_{}", self.labels[:40], range(2)),
            x_test=self.pixels[40:], y_test=self.labels[40:], size_28x28=np.zeros(2),
        )  # fmt: skip
        with self.assertLogs("absl", "INFO") as logged:
            np.testing.assert_array_equal(load(folder).test.images, self.pixels[40:])
        self.assertIn("does not use size_28x28", logged.output[0])
        folder = self.write(left=self.pixels, right=255 - self.pixels, y=self.labels)
        self.assert_refused(folder, "left with y or right with y may be images with labels; --images_key")
        self.assert_reads(folder, 255 - self.pixels, images_key="right")

    def test_what_cannot_be_used(self):
        pixels, labels = self.pixels[:20], self.labels[:20]
        pair = {"images_0": pixels, "labels_0": labels, "images_1": pixels}
        for arrays, message in (
            (pair, "images_1.npy: there is no file of labels with its number; expected one"),
            ({**pair, "labels_2": labels}, "images_1.npy: there is no file of labels with its number"),
            ({**pair, "labels_1": labels, "labels_2": labels}, "labels_2.npy: there is no file of images with its num"),
            ({**pair, "labels_1": labels[:7]}, "labels_1.npy: holds 7 examples, but images_1.npy 20; expected as many"),
            ({**pair, "images_1": pixels[:, 1:], "labels_1": labels},
             r"images_1.npy: of shape \(20, 3, 6\), but images_0.npy of \(20, 4, 6\); expected files that differ in "),
            ({**pair, "images_1": pixels / 2, "labels_1": labels}, "images_1.npy: of type float64, but images_0.npy o"),
            ({**pair, "labels_1": labels.astype(str)}, "labels_1.npy: of type <U.*, but labels_0.npy of int32"),
            ({**pair, "labels_1": labels, "images": pixels}, "images.npy: lies beside images_0.npy; expected one of"),
            ({**pair, "labels_1": labels, "images_01": pixels}, "images_1.npy: has the same number as images_01.npy"),
            ({"x_1-of-3": pixels, "x_2-of-3": pixels, "y": self.labels[:40]}, "x_1-of-3.npy: is of 3 files, and th"),
            ({"x_0": pixels, "x_2": pixels, "y": self.labels[:40]}, "x_2.npy: follows x_0.npy; expected all files"),
            ({"images_0": pixels, "images_1": pixels}, r"holds images \[40, 4, 6\]; expected images"),
        ):  # fmt: skip
            self.assert_refused(self.write(**arrays), message)
        folder = self.write(**pair, labels_1=labels)
        path = folder / "images_1.npy"
        path.write_bytes(path.read_bytes()[:-1])
        self.assert_refused(folder, "images_1.npy: truncated or damaged: its header promises 20 x 4 x 6")
        np.save(path, np.array([Hostile(folder / "ran")] * 20, object))
        self.assert_refused(folder, "images_1.npy: of shape")

    def test_other_folders_are_as_they_were(self):
        made.write_idx_folder(self.folder)
        np.save(self.folder / "images_0.npy", self.pixels)
        self.assertEqual(len(load(self.folder).test), 30)

    def test_folders_beside_the_files(self):
        folder = self.write(images=self.pixels, labels=self.labels)
        (folder / "plots").mkdir()
        (folder / "plots" / "notes.txt").write_text("no picture")
        self.assert_reads(folder)
        for of_class in ("cat", "dog"):
            (folder / of_class).mkdir()
            for number in range(5):
                Image.fromarray(self.pixels[number]).save(folder / of_class / f"{number}.png")
        (folder / "plots" / "notes.txt").unlink()
        (folder / "plots").rmdir()
        with self.assertLogs("absl", "WARNING") as logged:
            self.assertEqual(load(folder).class_names, ("cat", "dog"))
        self.assertIn("left out 2 files that are no pictures: images.npy, labels.npy", logged.output[0])

    def test_damaged_files(self):
        folder = self.write(images_0=self.pixels[:6], images_1=self.pixels[:6], labels=self.labels[:12])
        data = (folder / "images_1.npy").read_bytes()
        for place in range(0, len(data), 7):
            changed = bytearray(data)
            changed[place] ^= 0xFF
            for content in (data[:place], bytes(changed)):
                (folder / "images_1.npy").write_bytes(content)
                try:
                    load(folder, validation_split=1, test_split=1)
                except DataError as error:
                    self.assertNotIn("\n", str(error))


class ImportsTest(NamedTest):
    def test_no_format_imports_the_packages_of_another(self):
        made.write_idx_folder(self.folder / "idx")
        np.save(self.folder / "images.npy", self.pixels)
        np.save(self.folder / "labels.npy", self.labels)
        np.savez(self.folder / "data.npz", X=self.pixels, y=self.labels)
        (self.folder / "data.pt").write_bytes(torch_save.save({"X": self.pixels, "y": self.labels}))
        (self.folder / "shards").mkdir()
        for number in range(2):
            np.save(self.folder / "shards" / f"x_{number}.npy", self.pixels)
            np.save(self.folder / "shards" / f"y_{number}.npy", self.labels)
        process = python(
            f"""
import pathlib, sys
import tfpipe
folder = pathlib.Path({str(self.folder)!r})
for name in ("idx", "data.npz", "data.pt", "shards"):
    tfpipe.load(folder / name)
tfpipe.load(folder / "images.npy", labels=folder / "labels.npy")
print(sorted({{"h5py", "ml_dtypes", "pyarrow", "safetensors", "scipy", "torch"}} & set(sys.modules)))
"""
        )
        self.assertEqual((process.returncode, process.stdout), (0, "[]\n"), process.stderr)


if __name__ == "__main__":
    absltest.main()

import gzip
import pathlib
import struct

import numpy as np
from absl.testing import absltest, parameterized

from tests import made
from tfpipe import load
from tfpipe.data.readers import idx
from tfpipe.exceptions import DataError


class IdxTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def file(self, data, name="train-images-idx3-ubyte"):
        path = self.folder / name
        path.write_bytes(data)
        return path

    @parameterized.parameters(False, True)
    def test_a_folder_of_four_files(self, compress):
        made.write_idx_folder(self.folder, n_train=20, n_test=5, shape=(4, 6), compress=compress)
        splits = load(str(self.folder), validation_split=4, split_order="end")
        pixels, labels = made.images(20, (4, 6), seed=1)
        np.testing.assert_array_equal(splits.train.images, pixels[:16])
        np.testing.assert_array_equal(splits.validation.labels, labels[16:])
        np.testing.assert_array_equal(splits.test.images, made.images(5, (4, 6), seed=2)[0])
        self.assertEqual((splits.image_shape, splits.n_in, splits.n_out), ((4, 6), 24, 3))
        self.assertEqual(splits.pixel_max, 255.0)
        self.assertEqual(splits.class_names, ("0", "1", "2"))

    def test_names_with_a_dot_are_known_too(self):
        made.write_idx_folder(self.folder)
        for path in list(self.folder.iterdir()):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
        self.assertLen(load(str(self.folder)).test, 30)

    def rename(self, **prefixes):
        made.write_idx_folder(self.folder)
        for old, new in prefixes.items():
            for path in list(self.folder.glob(f"{old}-*")):
                path.rename(path.with_name(path.name.replace(old, new)))

    def test_names_as_emnist_has_them(self):
        self.rename(train="emnist-letters-train", t10k="emnist-letters-test")
        splits = load(str(self.folder), validation_split=20)
        self.assertEqual((len(splits.train), len(splits.test)), (70, 30))

    def test_a_single_pair_of_any_name(self):
        self.rename(train="digits")
        for path in list(self.folder.glob("t10k-*")):
            path.unlink()
        splits = load(str(self.folder), validation_split=20, test_split=10, split_order="end")
        self.assertEqual((len(splits.train), len(splits.validation), len(splits.test)), (60, 20, 10))
        self.assertEqual(splits.test.labels.tolist(), made.images(90, seed=1)[1][-10:].tolist())

    def test_several_sets_in_one_folder(self):
        self.rename(train="letters-train", t10k="digits-train")
        with self.assertRaisesRegex(DataError, "holds digits-train, letters-train; expected one pair"):
            load(str(self.folder))

    def test_images_alone_are_no_split_that_may_be_left_out(self):
        made.write_idx_folder(self.folder)
        (self.folder / "t10k-images-idx3-ubyte").unlink()
        with self.assertRaisesRegex(DataError, "no file t10k-images-idx3-ubyte"):
            load(str(self.folder))

    def test_a_missing_file_is_named(self):
        made.write_idx_folder(self.folder)
        (self.folder / "train-images-idx3-ubyte").unlink()
        with self.assertRaisesRegex(DataError, "no file train-images-idx3-ubyte"):
            load(str(self.folder))
        made.write_idx_folder(self.folder)
        (self.folder / "t10k-labels-idx1-ubyte").unlink()
        with self.assertRaisesRegex(DataError, "no file t10k-labels-idx1-ubyte"):
            load(str(self.folder))

    @parameterized.parameters(0, 3, 4, 15)
    def test_too_short_for_a_header(self, size):
        data = made.idx_bytes(np.ones((2, 3, 4)))
        with self.assertRaisesRegex(DataError, f"ubyte: {size} bytes, too few for the header"):
            idx.read_idx(self.file(data[:size]), rank=3)

    @parameterized.parameters(1, 23)
    def test_truncated(self, missing):
        data = made.idx_bytes(np.ones((2, 3, 4)))
        with self.assertRaisesRegex(DataError, "2 x 3 x 4 = 24 bytes"):
            idx.read_idx(self.file(data[:-missing]), rank=3)

    def test_longer_than_its_header_says(self):
        with self.assertRaisesRegex(DataError, "more follow"):
            idx.read_idx(self.file(made.idx_bytes(np.ones((2, 3, 4))) + b"x"), rank=3)

    def test_a_header_larger_than_the_file_takes_no_memory(self):
        for name in ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"):
            data = struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**15, 2**15) + b"\0" * 100
            path = self.file(gzip.compress(data) if name.endswith("gz") else data, name)
            with self.assertRaisesRegex(DataError, "truncated or not an IDX file"):
                idx.read_idx(path, rank=3)

    @parameterized.parameters("00000801", "00000d03", "ffffffff")
    def test_wrong_magic_number(self, magic):
        data = bytes.fromhex(magic) + made.idx_bytes(np.ones((2, 3, 4)))[4:]
        with self.assertRaisesRegex(DataError, f"starts with {magic}, expected 00000803"):
            idx.read_idx(self.file(data), rank=3)

    def test_no_examples(self):
        with self.assertRaisesRegex(DataError, "holds no examples"):
            idx.read_idx(self.file(made.idx_bytes(np.ones((0, 3, 4)))), rank=3)

    def test_every_truncation_and_flipped_byte_of_a_gzip_file_is_an_error_or_the_same_data(self):
        array = np.random.default_rng(0).integers(0, 256, (2, 3, 4))
        data = gzip.compress(made.idx_bytes(array), mtime=0)
        for size in range(len(data)):
            with self.assertRaisesRegex(DataError, "ubyte.gz: "):
                idx.read_idx(self.file(data[:size], "a-ubyte.gz"), rank=3)
        unharmed = 0
        for place in range(len(data)):
            damaged = bytearray(data)
            damaged[place] ^= 0xFF
            try:
                read = idx.read_idx(self.file(bytes(damaged), "a-ubyte.gz"), rank=3)
            except DataError as error:
                self.assertIn("a-ubyte.gz: ", str(error))
            else:
                np.testing.assert_array_equal(read, array)
                unharmed += 1
        self.assertLess(unharmed, 10)  # Fields of gzip's header that say nothing of the data.

    def test_counts_that_differ(self):
        made.write_idx_folder(self.folder)
        (self.folder / "t10k-labels-idx1-ubyte").write_bytes(made.idx_bytes(np.arange(29) % 3))
        with self.assertRaisesRegex(DataError, "t10k-labels-idx1-ubyte: 29 labels, but t10k-images.* holds 30 images"):
            load(str(self.folder))

    def test_a_test_label_that_no_training_example_has(self):
        made.write_idx_folder(self.folder)
        (self.folder / "t10k-labels-idx1-ubyte").write_bytes(made.idx_bytes(np.arange(30) % 4))
        with self.assertRaisesRegex(DataError, "t10k-labels-idx1-ubyte: label 3 of example 3 is out of range"):
            load(str(self.folder))

    def test_labels_that_do_not_begin_at_0(self):
        made.write_idx_folder(self.folder)  # Such as EMNIST's letters, from 1 on.
        for prefix, n, seed in (("train", 90, 1), ("t10k", 30, 2)):
            content = made.idx_bytes(made.images(n, seed=seed)[1] + 1)
            (self.folder / f"{prefix}-labels-idx1-ubyte").write_bytes(content)
        splits = load(self.folder)
        self.assertEqual(splits.class_names, ("1", "2", "3"))
        np.testing.assert_array_equal(splits.test.labels, made.images(30, seed=2)[1])
        splits = load(self.folder, numbered_classes=True)
        self.assertEqual(splits.class_names, ("0", "1", "2", "3"))
        np.testing.assert_array_equal(splits.test.labels, made.images(30, seed=2)[1] + 1)

    def test_one_class_alone(self):
        made.write_idx_folder(self.folder)
        (self.folder / "train-labels-idx1-ubyte").write_bytes(made.idx_bytes(np.full(90, 2)))
        with self.assertRaisesRegex(DataError, "every label is 2; expected at least two classes"):
            load(str(self.folder))


if __name__ == "__main__":
    absltest.main()

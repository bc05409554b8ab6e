import contextlib
import gzip
import importlib.machinery
import importlib.util
import os
import pathlib
import pickle
from unittest import mock

import numpy as np
from absl.testing import absltest

from tests import made
from tfpipe import Examples, load
from tfpipe.config import DataConfig, flag_lines
from tfpipe.data.readers import registry
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError


class DigitsTest(absltest.TestCase):
    def test_the_digits_of_scikit_learn(self):
        from sklearn.datasets import load_digits

        splits, expected = load("digits"), load_digits()
        for part, size in ((splits.train, 1079), (splits.validation, 359), (splits.test, 359)):
            self.assertLen(part, size)
            np.testing.assert_array_equal(part.images, expected.images[part.rows])
            np.testing.assert_array_equal(part.labels, expected.target[part.rows])
            shares = np.bincount(expected.target) * size / 1797  # 174 to 183 of each class.
            self.assertLessEqual(np.abs(np.bincount(part.labels) - shares).max(), 1)
        images = splits.train.stored
        self.assertEqual((images.dtype, images.max(), splits.pixel_max, splits.n_out), (np.uint8, 16, 16.0, 10))

    def test_the_split_order_and_the_seed(self):
        of_seeds = [load("digits", split_seed=seed) for seed in (0, 0, 1)]
        from_the_end = load("digits", split_order="end")
        self.assertEqual(from_the_end.test.rows.tolist(), list(range(1438, 1797)))
        fingerprints = [splits.fingerprint for splits in (*of_seeds, from_the_end)]
        self.assertEqual([fingerprints.index(one) for one in fingerprints], [0, 0, 2, 3])
        self.assertEqual(of_seeds[2].config, DataConfig("digits", split_seed=1))
        # The test stays the same whatever is taken for validation.
        self.assertEqual(load("digits", validation_split=10).test.rows.tolist(), of_seeds[0].test.rows.tolist())
        with self.assertRaisesRegex(ConfigError, "^split_seed=1: goes with split_order=stratified"):
            load("digits", split_order="end", split_seed=1)

    def test_digits_that_are_damaged_or_not_there(self):
        package = pathlib.Path(self.create_tempdir("sklearn").full_path)
        path = package / "datasets" / "data" / "digits.csv.gz"
        path.parent.mkdir(parents=True)
        there = pathlib.Path(importlib.util.find_spec("sklearn").submodule_search_locations[0])
        whole = (there / "datasets" / "data" / "digits.csv.gz").read_bytes()
        spec = importlib.machinery.ModuleSpec("sklearn", None, is_package=True)
        spec.submodule_search_locations = [str(package)]
        self.enter_context(mock.patch.object(importlib.util, "find_spec", return_value=spec))
        with self.assertRaisesRegex(DataError, f"^{path}: cannot be read: No such file or directory; expected an inst"):
            load("digits")
        text = gzip.decompress(whole)
        for damaged in (
            b"no gzip",
            whole[:-1000],
            whole[:2000] + bytes(20) + whole[2020:],
            gzip.compress(text.replace(b",", b";", 1)),
            gzip.compress(text[: text.index(b"\n", 1000)]),
            gzip.compress(text.replace(b"0", b"\xff", 1)),
        ):
            path.write_bytes(damaged)
            with self.assertRaisesRegex(
                DataError, f"^{path}: damaged: [^\n]*; expected an installation of scikit-learn 1$"
            ):
                load("digits")
        path.write_bytes(whole)
        self.assertEqual(load("digits").n_in, 64)
        spec.submodule_search_locations = None
        with self.assertRaisesRegex(DataError, "^digits: there is no scikit-learn, which has them; expected"):
            load("digits")


class LoadTest(absltest.TestCase):
    def test_what_is_neither_a_name_nor_a_path(self):
        with self.assertRaisesRegex(DataError, "^/no/such: no such data; expected 'digits', a folder"):
            load("/no/such")
        with self.assertRaisesRegex(DataError, "^a{3000}: cannot be found: File name too long$"):
            load("a" * 3000)

    def test_a_file_of_an_unknown_format(self):
        path = self.create_tempfile("data.xyz").full_path
        with self.assertRaisesRegex(DataError, "data.xyz: not a known format"):
            load(path)

    def test_images_that_are_scaled_already_are_not_scaled_again(self):
        images = np.linspace(0, 0.996, 12, dtype=np.float32).reshape(6, 2)
        path = pathlib.Path(self.create_tempdir().full_path) / "mnist.pkl"
        path.write_bytes(pickle.dumps(((images, np.arange(6) % 2),) * 3))
        with self.assertLogs("absl", "WARNING") as log:
            self.assertEqual(load(path, pixel_max=256).pixel_max, 1.0)
        self.assertRegex(
            log.output[0], r"mnist.pkl \(train\): the largest value is 0.996, .*pixel_max=256 is not applied"
        )
        self.assertEqual(load(path, pixel_max=0.5).pixel_max, 0.5)
        self.assertEqual(load(path).pixel_max, 1.0)

    def test_pixel_max_replaces_what_the_data_is(self):
        folder = made.write_idx_folder(pathlib.Path(self.create_tempdir().full_path))
        self.assertEqual(load(str(folder), pixel_max=100).pixel_max, 100)
        self.assertEqual(load(str(folder), pixel_max=100).config, DataConfig(str(folder), pixel_max=100))


class FormatsTest(absltest.TestCase):
    def test_the_name_of_the_digits_is_no_path(self):
        with contextlib.chdir(self.create_tempdir().full_path):
            os.makedirs("digits/cat")
            splits = load("digits")
            self.assertEqual((splits.n_in, splits.config.dataset), (64, "digits"))
            with self.assertRaisesRegex(
                ConfigError, "skip_bad_images=True: is for folders of pictures and lists of them, and digits is"
            ):
                load("digits", skip_bad_images=True)

    def test_a_new_format_is_an_entry_of_the_table(self):
        def recognise(dataset, path):
            return path if path.suffix == ".txt" else None

        def read(path, pixel_max):
            rows = np.loadtxt(path)
            return Source(Examples(rows[:, :-1], rows[:, -1].astype(int), str(path)), None, None, pixel_max or 7.0)

        path = pathlib.Path(self.create_tempdir().full_path) / "rows.txt"
        rows = np.column_stack([np.arange(20).reshape(10, 2), np.arange(10) % 2])
        np.savetxt(path, rows)
        entry = registry.Format(recognise, read, ("pixel_max",))
        with mock.patch.object(registry, "FORMATS", (*registry.FORMATS, entry)):
            splits = load(path)
        np.testing.assert_array_equal(splits.train.stored, rows[:, :2])
        self.assertEqual((splits.pixel_max, splits.config.dataset), (7.0, str(path)))
        with self.assertRaisesRegex(DataError, "rows.txt: not a known format"):
            load(path)

    def test_options_are_looked_at_before_the_data(self):
        with self.assertRaisesRegex(
            ConfigError, "download=False: is for data sets of TensorFlow Datasets, and /no/such"
        ):
            load("/no/such", download=False)
        with self.assertRaisesRegex(ConfigError, "labels=x: goes with images in an .npy file, and /no/such is none"):
            load("/no/such", labels="x", download=False)

    def test_the_folder_of_somebody_who_is_not_there(self):
        with self.assertRaisesRegex(DataError, "^~nobody-of-this-name/x: cannot be found: [^\n]*home directory"):
            load("~nobody-of-this-name/x")


class AbsolutePathsTest(absltest.TestCase):
    """`Splits.config` means the same from any folder."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.enter_context(contextlib.chdir(self.folder))

    def test_paths_that_are_there(self):
        images, labels = made.images(30)
        np.savez("some.npz", images=images, labels=labels)
        np.save("images.npy", images)
        np.save("labels.npy", labels)
        made.write_idx_folder("idx")
        os.symlink("idx", "link")
        for options, expected in (
            ({"dataset": "some.npz"}, {"dataset": self.folder / "some.npz"}),
            ({"dataset": "./idx/../idx"}, {"dataset": self.folder / "idx/../idx"}),
            ({"dataset": "link"}, {"dataset": self.folder / "link"}),
            ({"dataset": self.folder / "idx"}, {"dataset": self.folder / "idx"}),
            (
                {"dataset": "images.npy", "labels": "labels.npy"},
                {"dataset": self.folder / "images.npy", "labels": self.folder / "labels.npy"},
            ),
        ):
            config = load(**options).config
            self.assertEqual(config, DataConfig(**{name: str(path) for name, path in expected.items()}))
        with contextlib.chdir("/"):  # The same again from elsewhere.
            self.assertEqual(load(config.dataset, labels=config.labels).config, config)
        self.assertIn(f"--labels={self.folder}/labels.npy", flag_lines(config))

    def test_the_home_folder(self):
        made.write_idx_folder("idx")
        with mock.patch.dict(os.environ, HOME=str(self.folder)):
            self.assertEqual(load("~/idx").config.dataset, str(self.folder / "idx"))

    def test_a_current_folder_that_was_removed(self):
        images, labels = made.images(30)
        np.savez("some.npz", images=images, labels=labels)
        os.mkdir("removed")
        os.chdir("removed")
        os.rmdir(self.folder / "removed")
        self.assertEqual(load("digits").config, DataConfig("digits"))
        path = str(self.folder / "some.npz")
        self.assertEqual(load(path).config, DataConfig(path))
        with self.assertRaisesRegex(DataError, "^some.npz: no such data"):
            load("some.npz")
        self.assertEqual(load("../some.npz").config, DataConfig("../some.npz"))  # Linux still knows the way up.

    def test_messages_name_what_was_given(self):
        os.mkdir("empty")
        with self.assertRaisesRegex(DataError, "^empty: an empty folder; expected"):
            load("empty")
        made.write_idx_folder("idx")
        (self.folder / "idx" / "t10k-labels-idx1-ubyte").write_bytes(b"")
        with self.assertRaisesRegex(DataError, "^idx/t10k-labels-idx1-ubyte: 0 bytes"):
            load("idx")

    def test_what_a_flagfile_cannot_hold_stays(self):
        os.mkdir("a\nb")
        os.chdir("a\nb")
        made.write_idx_folder("idx")
        self.assertEqual(load("idx").config.dataset, "idx")


if __name__ == "__main__":
    absltest.main()

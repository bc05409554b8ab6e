"""Data in stores is the same as in files; people read the addresses, and no secret."""

import io
import os
import pathlib
from unittest import mock

import fsspec
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from PIL import Image

from tests import made, object_store, web
from tests.command import python, result, tfpipe
from tfpipe import load
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.log import log
from tfpipe.model import artifact
from tfpipe.model.inference import predict
from tfpipe.stores import cache
from tfpipe.stores.home import VARIABLE


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def save_pictures(folder, images, labels):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"class {label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def make_data(folder):
    """A file or a folder of each kind below `folder`."""
    images, labels = made.images(60)
    np.savez(folder / "x.npz", images=images, labels=labels)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    table = [",".join(map(str, [*row, label])) for row, label in zip(images.reshape(60, -1), labels, strict=True)]
    (folder / "table.csv").write_text("\n".join([",".join([*(f"x{i}" for i in range(24)), "label"]), *table]))
    made.write_idx_folder(folder / "mnist", compress=True)
    save_pictures(folder / "pictures", images[:18], labels[:18])
    (folder / "pictures" / "notes.txt").write_text("no picture")
    (folder / "shards").mkdir()
    for number, rows in enumerate((slice(0, 30), slice(30, 60))):
        np.save(folder / "shards" / f"images_{number}.npy", images[rows])
        np.save(folder / "shards" / f"labels_{number}.npy", labels[rows])
    names = sorted(str(path.relative_to(folder / "pictures")) for path in (folder / "pictures").rglob("*.png"))
    (folder / "list.csv").write_text("\n".join(["filename,label", *(f"{name},{name[6]}" for name in names)]))
    np.save(folder / "weights.npy", np.arange(60.0))
    (folder / "groups.txt").write_text("\n".join(str(number // 2) for number in range(60)))
    (folder / "splits.txt").write_text("\n".join(["train"] * 40 + ["validation"] * 10 + ["test"] * 10))


class BucketTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.store = cls.enterClassContext(object_store.ObjectStore())

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.here = str(self.folder / "data")
        (self.folder / "data").mkdir()
        make_data(self.folder / "data")
        cache = {VARIABLE: str(self.folder / "cache")}
        self.enter_context(mock.patch.dict(os.environ, self.store.env | cache))
        self.bucket = web.Bucket(self.store, self.id())
        self.there = self.bucket.address

    def put(self, *names):
        """Brings files and folders of the data into the bucket."""
        for name in names:
            path = self.folder / "data" / name
            for file in [path] if path.is_file() else path.rglob("*.*"):
                self.bucket.put(file.relative_to(self.here), file.read_bytes())
        self.bucket.fetched()

    @parameterized.parameters(
        ({"dataset": "x.npz"}, 1),
        ({"dataset": "images.npy", "labels": "labels.npy"}, 2),
        ({"dataset": "table.csv"}, 1),
        ({"dataset": "mnist"}, 4),
        ({"dataset": "pictures"}, 19),  # A file beside the pictures, too.
        ({"dataset": "shards"}, 4),
        ({"dataset": "list.csv", "images_dir": "pictures"}, 20),
        ({"dataset": "x.npz", "sample_weight": "weights.npy", "groups": "groups.txt"}, 3),
        ({"dataset": "x.npz", "split_file": "splits.txt"}, 2),
    )
    def test_the_same_data(self, options, objects):
        self.put(*options.values())
        here, there = ({name: f"{of}/{value}" for name, value in options.items()} for of in (self.here, self.there))
        of_files, of_store = load(**here), load(**there)
        self.assertEqual(of_store.fingerprint, of_files.fingerprint)
        self.assertLen(self.bucket.fetched(), objects)
        np.testing.assert_array_equal(of_store.train.images, of_files.train.images)
        np.testing.assert_array_equal(of_store.train.files, of_files.train.files)
        self.assertEqual({name: getattr(of_store.config, name) for name in there}, there)
        here_as_there = [note.replace(self.here, self.there) for note in of_files.notes]
        self.assertEqual(list(of_store.notes), here_as_there)
        name = of_files.train.name.replace(self.here, self.there)
        self.assertEqual(of_store.train.name, name)
        self.assertEqual(load(**there).fingerprint, of_files.fingerprint)
        self.assertEqual(self.bucket.fetched(), [])

    def test_pictures_elsewhere_than_the_list_of_them(self):
        self.put("pictures", "list.csv")
        here, there = self.here, self.there
        of_files = load(f"{here}/list.csv", images_dir=f"{here}/pictures")
        for of_list, of_pictures in ((here, there), (there, here)):
            splits = load(f"{of_list}/list.csv", images_dir=f"{of_pictures}/pictures")
            self.assertEqual(splits.fingerprint, of_files.fingerprint)
            expected = [f"{of_pictures}/{name}" for name in of_files.train.files]
            self.assertEqual(splits.train.files.tolist(), expected)

    def test_rows_of_an_npy_stay_in_the_file(self):
        self.put("images.npy", "labels.npy")
        splits = load(f"{self.there}/images.npy", labels=f"{self.there}/labels.npy")
        self.assertIsInstance(splits.train.stored, np.memmap)

    def test_lines_of_the_log_name_the_address(self):
        self.put("pictures")
        with self.assertLogs(log) as told:
            load(f"{self.there}/pictures/")
        lines = "\n".join(told.output)
        self.assertIn(f"{self.there}/pictures: left out 1 file that is no picture: notes.txt", lines)
        self.assertNotIn("tree", lines)

    @parameterized.parameters(
        ({"dataset": "x.npz"}, "x.npz", b"no archive", "x.npz: not an .npz archive, or damaged: "),
        ({"dataset": "mnist"}, "mnist/train-labels-idx1-ubyte.gz", b"PK", "mnist/train-labels-idx1-ubyte.gz: damaged"),
        ({"dataset": "pictures"}, "pictures/class 0/x.png", b"PNG", "pictures/class 0/x.png: does not decode: "),
        ({"dataset": "x.npz", "groups": "groups.txt"}, "groups.txt", b"a\nb", "groups.txt: "),
        (
            {"dataset": "x.npz", "labels": "labels.npy"},
            "x",
            b"",
            "/labels.npy: goes with images in an .npy file, and s3://bucket/",
        ),
        ({"dataset": "nothing"}, "x", b"", "nothing: cannot be read: there is no such object.*; check the address"),
    )
    def test_errors_name_the_address(self, options, key, content, words):
        self.put(*(value for value in options.values() if value != "nothing"))
        self.bucket.put(key, content)
        with self.assertRaises((DataError, ConfigError)) as error:
            load(**{name: f"{self.there}/{value}" for name, value in options.items()})
        line = str(error.exception)
        self.assertRegex(line, words)
        self.assertIn(self.there, line)
        self.assertNotIn("tree", line)

    def test_predictions(self):
        W = np.random.default_rng(0).normal(size=(24, 3))
        trained = artifact.TrainedModel(W, np.zeros(3), ("a", "b", "c"), (4, 6), 255.0, {})
        self.put("pictures", "images.npy")
        names = ("pictures/class 0", "images.npy", "nothing.png")
        here, there = (
            list(predict(trained, [f"{of}/{name}" for name in names], at_once=2)) for of in (self.here, self.there)
        )
        self.assertEqual([one.path.replace(self.there, self.here) for one in there], [one.path for one in here])
        for one, other in zip(here[:-1], there[:-1], strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
        self.assertRegex(there[-1].problem, "^cannot be read: there is no such object")


class SecretsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.create_tempdir().full_path)
        self.workdir, self.env = folder / "run", {VARIABLE: str(folder / "cache")}
        images, labels = made.images(60)
        server = self.enter_context(web.Web())
        server.objects |= {"/images.npy": npy(images), "/labels.npy": npy(labels), "/bad.npy": b"no array"}
        self.place = server.place

    def secret(self, name):
        return f"http://user:hush@{self.place}/{name}.npy?sig=hush"

    def train(self):
        data = [f"--dataset={self.secret('images')}", f"--labels={self.secret('labels')}"]
        return tfpipe("train", *data, "--l2=0.01", "--folds=0", f"--workdir={self.workdir}", env=self.env)

    def assert_tells_none(self, process):
        for words in (process.stdout, process.stderr):
            self.assertNotIn("hush", words)
            self.assertNotIn(".tree", words)

    def test_a_run_keeps_none(self):
        process = self.train()
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assert_tells_none(process)
        lines = (self.workdir / "flags.txt").read_text().splitlines()
        self.assertIn(f"--dataset=http://{self.place}/images.npy", lines)
        self.assertIn(f"--labels=http://{self.place}/labels.npy", lines)
        kept = {path.name: path.read_bytes() for path in self.workdir.rglob("*") if path.is_file()}
        self.assertContainsSubset({"report.json", "report.html", "model.npz"}, kept)
        self.assertEqual([name for name, data in kept.items() if b"hush" in data or b".tree" in data], [])

    @pytest.mark.exhaustive
    def test_commands_after_a_run(self):
        found = result(self.train())
        flagfile = f"--flagfile={self.workdir / 'flags.txt'}"  # This server takes it without the secrets.
        again = tfpipe("train", flagfile, f"--workdir={self.workdir}", env=self.env)
        self.assertEqual(result(again), found)
        own = tfpipe("evaluate", f"--workdir={self.workdir}", env=self.env)
        self.assertEqual(result(own)["error"], found["test_error"])
        data = [f"--dataset={self.secret('images')}", f"--labels={self.secret('labels')}"]
        named = tfpipe("evaluate", f"--workdir={self.workdir}", *data, env=self.env)
        self.assertEqual(result(named), result(own) | {"dataset": f"http://{self.place}/images.npy"})
        described = tfpipe("describe", *data, env=self.env)
        self.assertEqual(result(described)["dataset"], f"http://{self.place}/images.npy")
        bad = tfpipe("evaluate", f"--workdir={self.workdir}", f"--dataset={self.secret('bad')}", data[1], env=self.env)
        self.assertEqual(bad.returncode, 1)
        self.assertRegex(bad.stderr.splitlines()[-1], f"^tfpipe evaluate: http://{self.place}/bad.npy: ")
        for process in (again, own, named, described, bad):
            self.assert_tells_none(process)


class AddressesTest(parameterized.TestCase):
    def test_nothing_is_imported_without_an_address(self):
        program = (
            "import sys, tfpipe; from tfpipe.cli import main, describe, evaluate, predict; tfpipe.load('digits');"
            "print(sorted({'fsspec', 's3fs', 'gcsfs', 'aiohttp', 'tfpipe.stores.access', 'tfpipe.stores.cache'} "
            "& set(sys.modules)))"
        )
        process = python(program)
        self.assertEqual((process.returncode, process.stdout), (0, "[]\n"), process.stderr)

    def test_an_object_in_memory(self):
        self.enter_context(mock.patch.dict(os.environ, {VARIABLE: self.create_tempdir().full_path}))
        images, labels = made.images(60)
        files = fsspec.filesystem("memory")
        self.addCleanup(files.store.clear)
        files.pipe_file("/data/images.npy", npy(images))
        files.pipe_file("/data/labels.npy", npy(labels))
        splits = load("memory://data/images.npy", labels="memory://data/labels.npy")
        np.testing.assert_array_equal(splits.train.stored, images)

    @parameterized.parameters(
        ("ftp://host/x.npz", "no such kind of store; known are gs://, s3://, "),
        ("file:///data/x.npz", "give the path as it is: /data/x.npz"),
        ("s3://bucket", "names no object"),
        ("s3://key:hush@bucket/x.npz", "holds a user or a password"),
    )
    def test_what_is_no_address_of_a_store(self, dataset, words):
        with self.assertRaises(ConfigError) as error:
            load(dataset)
        self.assertIn(words, str(error.exception))
        self.assertNotIn("hush", str(error.exception))

    @parameterized.parameters(
        {"dataset": "digits", "labels": "https://u:hush@host/y.npy?hush"},
        {"dataset": "mnist", "images_dir": "s3://bucket/x"},
    )
    def test_what_does_not_go_together_is_said_before_anything_is_fetched(self, **options):
        with (
            mock.patch.object(cache, "local", side_effect=AssertionError("fetched")),
            self.assertRaisesRegex(ConfigError, f"goes with .*, and {options['dataset']} is none") as error,
        ):
            load(**options)
        self.assertNotIn("hush", str(error.exception))

    def test_all_addresses_are_checked_before_anything_is_fetched(self):
        with (
            mock.patch.object(cache, "local", side_effect=AssertionError("fetched")),
            self.assertRaisesRegex(ConfigError, "^labels=ftp://host/y.npy: no such kind of store"),
        ):
            load("s3://bucket/x.npy", labels="ftp://host/y.npy")


class LostSlashTest(parameterized.TestCase):
    @parameterized.parameters("s3:/bucket/images.npz", "https:/host/images.npz")
    def test_an_address_that_lost_a_slash_is_no_path(self, path):
        with self.assertRaisesRegex(ConfigError, "dataset=.* has one slash where an address has two"):
            load(path)


if __name__ == "__main__":
    absltest.main()

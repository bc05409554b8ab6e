import collections
import contextlib
import dataclasses
import functools
import hashlib
import http.server
import json
import pathlib
import shutil
import socket
import sys
import tempfile
import threading
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets
from absl.testing import parameterized
from tensorflow_datasets.core.download import checksums

from tests import tiny_builders
from tests.command import result, tfpipe
from tfpipe import load, memory
from tfpipe.config import AS_STORED
from tfpipe.data.readers import tfds
from tfpipe.exceptions import ConfigError, DataError

PREPARED = "tiny_pictures/labelled/1.2.0"


class TfdsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Prepared once; each test that damages something has a copy.
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        load("tiny_pictures", data_dir=cls.folder)

    def damaged(self, name, damage):
        """The folder of a copy in which something has happened to a file of `tiny_pictures`."""
        copy = pathlib.Path(self.create_tempdir().full_path) / "copy"
        shutil.copytree(self.folder, copy)
        path = copy / PREPARED / name
        path.write_bytes(damage(path.read_bytes()))
        return copy

    def load(self, name, **options):
        return load(name, data_dir=options.pop("data_dir", self.folder), **options)

    def assert_same_set(self, images, labels, split):
        """The pairs of image and label that the builder generated, in whatever order."""
        found = collections.Counter((int(y), x.tobytes()) for x, y in zip(images, labels, strict=True))
        made = collections.Counter((int(y), x.tobytes()) for x, y in zip(*tiny_builders.pictures(split), strict=True))
        self.assertEqual(found, made)

    def test_a_builder_of_ones_own_is_prepared_and_read(self):
        splits = self.load("tiny_pictures")  # Its default configuration.
        self.assertTrue((pathlib.Path(self.folder) / PREPARED / "features.json").is_file())
        self.assertEqual(splits.class_names, ("cat", "dog", "eel"))
        self.assertEqual((splits.image_shape, splits.train.images.dtype, splits.pixel_max), ((4, 6), np.uint8, 255.0))
        for split in ("train", "validation", "test"):
            part = getattr(splits, split)
            self.assert_same_set(part.images, part.labels, split)
        # The second time it is read from its files, to the same order.
        again = self.load("tiny_pictures/labelled:1.*.*", download=False)
        self.assertAllEqual(again.train.images, splits.train.images)
        self.assertEqual(again.fingerprint, splits.fingerprint)

    @pytest.mark.exhaustive
    def test_prepared_data_needs_no_builder_and_the_command_says_no_more_than_for_other_data(self):
        expected = self.load("tiny_pictures:train[:100]")
        # The process of the command does not know the builder.
        process = tfpipe("describe", "--dataset=tiny_pictures/labelled:train[:100]", f"--data_dir={self.folder}")
        figures = result(process)
        self.assertEqual(figures["splits"]["train"]["examples"], 100)
        self.assertEqual(
            (figures["fingerprint"], figures["class_names"]), (expected.fingerprint, ["cat", "dog", "eel"])
        )
        self.assertEqual(len(process.stdout.splitlines()), 1)
        self.assertEqual(
            process.stderr.splitlines()[0], "tiny_pictures/labelled:train[:100]: 4 x 6 uint8, divided by 255"
        )

    def test_weights_in_the_order_of_the_files(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "weights.npy"
        np.save(path, np.arange(130))
        both = self.load("tiny_pictures:train[-100:]+test", sample_weight=path, test_split=10)
        for part in (both.train, both.test):
            self.assertAllEqual(part.weights, part.rows)

    def test_split_expressions(self):
        whole = self.load("tiny_pictures")
        tenth = self.load("tiny_pictures:train[:10%]")
        self.assertAllEqual(tenth.train.images, whole.train.images[:200])
        self.assertAllEqual(tenth.test.images, whole.test.images)
        self.assertAllEqual(tenth.validation.labels, whole.validation.labels)
        # A split that is trained on is no test set any more: some of the training examples take its place.
        both = self.load("tiny_pictures/labelled:1.2.0:train[-100:]+test", test_split=10)
        self.assertAllEqual(both.train.stored, np.concatenate([whole.train.images[-100:], whole.test.images]))
        self.assertAllEqual(np.sort(np.concatenate([both.train.rows, both.test.rows])), np.arange(130))
        self.assertLen(both.test, 10)
        shares = np.bincount(np.concatenate([both.train.labels, both.test.labels])) / 13
        self.assertAllLessEqual(np.abs(np.bincount(both.test.labels, minlength=3) - shares), 1)
        self.assertAllEqual(both.validation.images, whole.validation.images)
        rest = self.load("tiny_pictures:all", validation_split=0.5)
        self.assertEqual((len(rest.train), len(rest.validation), len(rest.test)), (615, 1025, 410))

    @parameterized.parameters(
        ("train[:60%]+train[50%:]", "takes example 1000 of train twice"),
        ("train+train[-1:]", "takes example 1999 of train twice"),
        ("train[:10]+train", "takes example 0 of train twice"),
        ("trian", "no split 'trian'; there are test, train, validation"),
        ("train[:10", "no split"),
        ("train[:0]", "holds no examples"),
    )
    def test_splits_that_cannot_be(self, split, problem):
        with self.assertRaisesRegex(DataError, problem.replace("[", r"\[")):
            self.load(f"tiny_pictures:{split}")

    @parameterized.parameters(("test", "validation"), ("validation", "test"))
    def test_what_is_trained_on_is_never_a_split_of_its_own(self, trained, other):
        whole = self.load("tiny_pictures")
        splits = self.load(f"tiny_pictures:{trained}", validation_split=5, test_split=5)
        self.assertEqual(splits.taken, (trained,))
        self.assertAllEqual(splits.train.stored, getattr(whole, trained).images)
        rows = [getattr(splits, s).rows for s in ("train", trained)]
        self.assertAllEqual(np.sort(np.concatenate(rows)), np.arange(len(getattr(whole, trained))))
        self.assertAllEqual(getattr(splits, other).images, getattr(whole, other).images)

    def test_a_split_without_labels_is_not_used(self):
        with self.assertLogs(level="WARNING") as log:
            splits = self.load("tiny_pictures/unlabelled", test_split=100)
        self.assertIn("tiny_pictures/unlabelled:test: has no labels (all are -1), and is not used", log.output[0])
        self.assertEqual((len(splits.train), len(splits.test)), (1900, 100))
        with self.assertRaisesRegex(DataError, "the split test has no labels"):
            self.load("tiny_pictures/unlabelled:test")

    def test_pictures_of_several_sizes(self):
        with self.assertRaisesRegex(DataError, r"tiny_sizes:train: picture \d+ is . x 7, .* image_size=HEIGHT,WIDTH"):
            self.load("tiny_sizes")
        splits = self.load("tiny_sizes", image_size=(3, 2), color_mode="grayscale", validation_split=4, test_split=4)
        self.assertEqual(splits.image_shape, (3, 2))
        values = np.concatenate([p.images for p in (splits.train, splits.validation, splits.test)])
        self.assertAllEqual(np.sort(values[:, 0, 0]), 10 * np.arange(20))
        self.assertEqual(self.load("tiny_sizes", image_size=(3, 2)).image_shape, (3, 2, 3))
        padded = self.load("tiny_sizes", image_size=(30, 9), fit="pad")
        self.assertEqual(padded.reading, AS_STORED._replace(fit="pad"))
        self.assertAllEqual(padded.train.images[:, [0, -1]], np.full((len(padded.train), 2, 9, 3), 255))
        self.assertAllLess(padded.train.images[:, 15], 200)

    def test_rows_of_numbers(self):
        splits = self.load("tiny_rows")
        self.assertEqual((splits.image_shape, splits.train.images.dtype, splits.pixel_max), ((3,), np.float32, 1.0))
        self.assertEqual((splits.class_names, len(splits.test)), (("0", "1", "2", "3"), 12))
        rows = splits.test.images
        self.assertAllEqual(rows, np.arange(3) + rows[:, :1])
        self.assertAllEqual(splits.test.labels, (rows[:, 0] * 4).astype(int) % 4)
        for option, value in (("image_size", (3, 2)), ("color_mode", "rgb"), ("fit", "crop")):
            with self.assertRaisesRegex(
                ConfigError, f"^{option}=.* is for pictures, and tiny_rows holds rows of numbers"
            ):
                self.load("tiny_rows", **{option: value})

    def test_more_than_memory_holds_in_all_splits_together(self):
        with (
            mock.patch.object(memory, "total_memory", return_value=24 * 2001),  # The training examples alone would fit.
            self.assertRaisesRegex(DataError, "tiny_pictures: would take 0.0 GiB of memory"),
        ):
            self.load("tiny_pictures")
        with (
            mock.patch.object(memory, "empty", side_effect=MemoryError),
            self.assertRaisesRegex(DataError, "tiny_pictures: asks for more memory than is free"),
        ):
            self.load("tiny_pictures")

    def test_the_same_data_as_the_same_arrays(self):
        splits = self.load("tiny_pictures")
        path = pathlib.Path(self.create_tempdir().full_path) / "same.npz"
        np.savez(
            path,
            images=splits.train.images, labels=splits.train.labels,
            validation_images=splits.validation.images, validation_labels=splits.validation.labels,
            test_images=splits.test.images, test_labels=splits.test.labels,
        )  # fmt: skip
        same = dataclasses.replace(load(path), class_names=splits.class_names)
        self.assertEqual(same.fingerprint, splits.fingerprint)

    @parameterized.parameters(
        ("tiny_sentences", "the input 'text' is a Text"),
        ("tiny_pictrues", "no such file or folder, and no data set of TFDS with this name"),
        ("tiny_pictures/labeled", "no configuration labeled; expected labelled, unlabelled"),
        ("tiny_rows/x", "no configuration x; expected tiny_rows alone"),
        ("tiny_rows:7.0.0", "TFDS cannot build it"),
    )
    def test_names_that_cannot_be(self, name, problem):
        with self.assertRaisesRegex(DataError, problem):
            self.load(name)

    def test_options_that_do_not_belong(self):
        for options in (
            {"dataset": "digits", "data_dir": "x"},
            {"dataset": "digits", "download": False},
            {"dataset": "tiny_rows", "skip_bad_images": True},
        ):
            with self.assertRaises(ConfigError):
                load(**options)

    def test_without_downloads_or_without_a_way_it_says_how_to_prepare(self):
        how = r"`tfpipe describe --dataset=tiny_download --data_dir=DIR` .* copy DIR/tiny_download to .*/tiny_download"
        with self.assertRaisesRegex(DataError, f"not prepared in .*1.0.0, and downloads are off; .*{how}"):
            self.load("tiny_download", download=False)
        with self.assertRaisesRegex(DataError, f"there is no way to 127.0.0.1: Connection refused; .*{how}"):
            self.load("tiny_download")
        self.assertFalse((pathlib.Path(self.folder) / "tiny_download").exists())

    def test_a_network_that_swallows_everything(self):
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
            for _ in range(3):  # Fill the queue, which nobody empties: what comes then is dropped.
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            url = f"http://127.0.0.1:{server.getsockname()[1]}/rows.txt"
            self.assertEqual(tfds.no_way_to([url], seconds=0.2), "there is no way to 127.0.0.1: timed out")

    def test_a_name_server_that_does_not_answer(self):
        answer = threading.Event()
        self.addCleanup(answer.set)
        with mock.patch.object(socket, "getaddrinfo", side_effect=lambda *_, **__: answer.wait() and []):
            problem = tfds.no_way_to(["http://nowhere.invalid/x"], seconds=0.2)
        self.assertEqual(problem, "nowhere.invalid did not answer in 0.2 s")

    def test_what_was_downloaded_before_needs_no_way(self):
        rows = np.column_stack([np.arange(30).reshape(10, 3), np.arange(10) % 2])
        site, folder = (pathlib.Path(self.create_tempdir().full_path) for _ in range(2))
        np.savetxt(site / "rows.txt", rows)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            content = (site / "rows.txt").read_bytes()
            known = checksums.UrlInfo(
                size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename="rows.txt"
            )
            url_infos = {f"http://127.0.0.1:{server.server_port}/rows.txt": known}
            with mock.patch.object(tiny_builders.TinyDownload, "url_infos", url_infos):
                first = self.load("tiny_download", data_dir=folder)
            server.shutdown()
        self.assertLen(first.train, 6)
        everything = np.concatenate([part.images for part in (first.train, first.validation, first.test)])
        self.assertAllEqual(np.sort(everything, axis=0), rows[:, :3])

        shutil.rmtree(folder / "tiny_download")
        with mock.patch.object(tiny_builders.TinyDownload, "url_infos", url_infos):
            self.assertEqual(self.load("tiny_download", data_dir=folder).fingerprint, first.fingerprint)
            shutil.rmtree(folder / "tiny_download")
            for path in (folder / "downloads").rglob("*.INFO"):  # Without it TFDS downloads anew.
                path.unlink()
            with self.assertRaisesRegex(DataError, "there is no way to 127.0.0.1: Connection refused"):
                self.load("tiny_download", data_dir=folder)

    def test_what_was_put_into_the_folder_for_manual_downloads_needs_no_way(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        builder = tensorflow_datasets.builder("mnist", data_dir=folder)
        self.assertSameElements(tfds.missing_downloads(builder), builder.url_infos)
        (folder / "downloads" / "manual").mkdir(parents=True)
        for info in builder.url_infos.values():
            (folder / "downloads" / "manual" / info.filename).touch()
        self.assertEqual(tfds.missing_downloads(builder), [])
        self.assertEqual(tfds.no_way_to([]), "")

    def test_the_way_leads_through_a_proxy_where_there_is_one(self):
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            way = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            environment = {"http_proxy": way, "https_proxy": way, "no_proxy": ""}
            with mock.patch.dict("os.environ", environment):
                self.assertEqual(tfds.no_way_to(["http://nowhere.invalid/x"]), "")
        with mock.patch.dict("os.environ", environment):
            self.assertIn("no way to 127.0.0.1", tfds.no_way_to(["https://nowhere.invalid/x"]))

    def test_damaged_files(self):
        records = "tiny_pictures-train.tfrecord-00000-of-00001"
        for name, damage, problem in (
            (records, lambda d: d[:5000] + b"?" + d[5001:], "damaged, near example"),
            (records, lambda d: d[:-7], "damaged, near example"),
            (records, lambda d: b"", "expected to contain 2000 elements but contained only 0"),
            ("dataset_info.json", lambda d: d[:-20], "not a prepared data set, or damaged"),
            ("features.json", lambda d: d[:-20], "features.json: damaged"),
            ("features.json", lambda d: b"[" * 100000, "features.json: damaged"),
        ):  # fmt: skip
            with self.assertRaisesRegex(DataError, problem):
                self.load("tiny_pictures", data_dir=self.damaged(name, damage))

    @parameterized.parameters(
        ({"pythonClassName": "antigravity.Feature"},),
        ({"python_class_name": "antigravity.Feature"},),
        ({"type": "antigravity.Feature"},),  # As older versions of TFDS wrote it.
        ({"type": "antigravity.Feature", "content": "{}"},),
    )
    def test_a_feature_of_another_package_is_never_imported(self, feature):
        folder = self.damaged("features.json", lambda data: data)
        path = folder / PREPARED / "features.json"
        content = json.loads(path.read_text())
        for damaged in (feature, content | {"featuresDict": {"features": {"image": feature}}}):
            path.write_text(json.dumps(damaged))
            with self.assertRaisesRegex(DataError, "features.json: refused: it names antigravity.Feature"):
                self.load("tiny_pictures", data_dir=folder)
        self.assertNotIn("antigravity", sys.modules)


if __name__ == "__main__":
    tf.test.main()

import collections
import functools
import hashlib
import http.server
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets.core.utils.tqdm_utils as tfds_bars
from absl.testing import parameterized
from tensorflow_datasets.core.download import checksums

from tests import tiny_builders
from tests.command import result, tfpipe
from tfpipe import TrainConfig, load, memory
from tfpipe.data.readers import tfds
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.training import loop

PREPARED = "tiny_pictures/labelled/1.2.0"


class TfdsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Prepared once; each test that damages something has a folder of its own.
        cls.folder = cls.enterClassContext(cls.create_tempdir_of_class())

    @classmethod
    def create_tempdir_of_class(cls):
        import tempfile

        return tempfile.TemporaryDirectory()

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

    def test_prepared_data_needs_no_builder(self):
        self.load("tiny_pictures")
        program = f"import tfpipe; s = tfpipe.load('tiny_pictures/labelled', data_dir='{self.folder}', download=False)"
        process = subprocess.run(
            [sys.executable, "-c", f"{program}; print(len(s.train), s.class_names, s.train.labels[:8].tolist())"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        labels = self.load("tiny_pictures").train.labels[:8].tolist()
        self.assertEqual(process.stdout, f"2000 ('cat', 'dog', 'eel') {labels}\n")
        self.assertEqual(process.stderr, "")

    def test_the_command_says_no_more_than_for_other_data(self):
        self.load("tiny_pictures")
        process = tfpipe("describe", "--dataset=tiny_pictures/labelled:train[:100]", f"--data_dir={self.folder}")
        self.assertEqual(result(process)["splits"]["train"]["examples"], 100)
        self.assertEqual(len(process.stdout.splitlines()), 1)
        self.assertEqual(
            process.stderr.splitlines()[0], "tiny_pictures/labelled:train[:100]: 4 x 6 uint8, divided by 255"
        )

    def test_split_expressions(self):
        whole = self.load("tiny_pictures")
        tenth = self.load("tiny_pictures:train[:10%]")
        self.assertAllEqual(tenth.train.images, whole.train.images[:200])
        self.assertAllEqual(tenth.test.images, whole.test.images)
        self.assertAllEqual(tenth.validation.labels, whole.validation.labels)
        # A split that is trained on is no test set any more: the end of the training examples takes its place.
        both = self.load("tiny_pictures/labelled:1.2.0:train[-100:]+test", test_split=10)
        everything = np.concatenate([both.train.images, both.test.images])
        self.assertAllEqual(everything, np.concatenate([whole.train.images[-100:], whole.test.images]))
        self.assertLen(both.test, 10)
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
        everything = [getattr(splits, s).images for s in ("train", trained)]
        self.assertAllEqual(np.concatenate(everything), getattr(whole, trained).images)
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

    def test_rows_of_numbers(self):
        splits = self.load("tiny_rows")
        self.assertEqual((splits.image_shape, splits.train.images.dtype, splits.pixel_max), ((3,), np.float32, 1.0))
        self.assertEqual((splits.class_names, len(splits.test)), (("0", "1", "2", "3"), 12))
        rows = splits.test.images
        self.assertAllEqual(rows, np.arange(3) + rows[:, :1])
        self.assertAllEqual(splits.test.labels, (rows[:, 0] * 4).astype(int) % 4)
        for option, value in (("image_size", (3, 2)), ("color_mode", "rgb")):
            with self.assertRaisesRegex(
                ConfigError, f"^{option}=.* is for pictures, and tiny_rows holds rows of numbers"
            ):
                self.load("tiny_rows", **{option: value})

    def test_nothing_of_the_program_around_it_is_changed(self):
        with mock.patch.object(tfds_bars, "_active", True):
            self.load("tiny_rows")
            self.assertTrue(tfds_bars._active)
        with mock.patch.object(tfds_bars, "_active", False):
            self.load("tiny_rows")
            self.assertFalse(tfds_bars._active)

    def test_more_than_memory_holds_in_all_splits_together(self):
        self.load("tiny_pictures")
        with (
            mock.patch.object(memory, "memory", return_value=24 * 2001),  # The training examples alone would fit.
            self.assertRaisesRegex(DataError, "tiny_pictures: would take 0.0 GiB of memory"),
        ):
            self.load("tiny_pictures")
        with (
            mock.patch.object(tfds, "_batches", side_effect=MemoryError),
            self.assertRaisesRegex(DataError, "tiny_pictures: asks for more memory than is free"),
        ):
            self.load("tiny_pictures")

    def test_it_trains_to_the_bits_of_the_same_arrays(self):
        splits = self.load("tiny_pictures")
        path = pathlib.Path(self.create_tempdir().full_path) / "same.npz"
        np.savez(
            path,
            images=splits.train.images, labels=splits.train.labels,
            validation_images=splits.validation.images, validation_labels=splits.validation.labels,
            test_images=splits.test.images, test_labels=splits.test.labels,
        )  # fmt: skip
        config = TrainConfig(epochs=3, batch_size=100, device="cpu")
        models = [loop.train(config, s).model for s in (splits, load(path))]
        self.assertAllEqual(models[0].W, models[1].W)
        self.assertGreater(np.abs(models[0].W).max(), 0)

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
        begin = time.monotonic()
        with self.assertRaisesRegex(DataError, f"there is no way to 127.0.0.1: Connection refused; .*{how}"):
            self.load("tiny_download")
        self.assertLess(time.monotonic() - begin, 5)
        # A network that swallows everything, the answers of its name server included.
        answer = threading.Event()
        self.addCleanup(answer.set)
        with (
            mock.patch.object(socket, "create_connection", side_effect=lambda *_: answer.wait() and mock.MagicMock()),
            mock.patch.object(tfds, "_SECONDS_TO_CONNECT", 0.1),
            self.assertRaisesRegex(DataError, f"127.0.0.1 did not answer in 0.1 s; .*{how}"),
        ):
            self.load("tiny_download")
        self.assertFalse((pathlib.Path(self.folder) / "tiny_download").exists())

    def test_a_name_server_that_does_not_answer_takes_no_longer(self):
        answer = threading.Event()
        self.addCleanup(answer.set)
        begin = time.monotonic()
        with (
            mock.patch.object(socket, "getaddrinfo", side_effect=lambda *_, **__: answer.wait() and []),
            self.assertRaisesRegex(
                DataError, "mnist: not prepared in .*, and .* did not answer in 5 s; with a network"
            ),
        ):
            self.load("mnist", data_dir=self.create_tempdir().full_path)
        self.assertLess(time.monotonic() - begin, 10)

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
        builder = tfds._builder(tfds.parse("mnist"), str(folder))
        self.assertSameElements(tfds._missing_downloads(builder), builder.url_infos)
        (folder / "downloads" / "manual").mkdir(parents=True)
        for info in builder.url_infos.values():
            (folder / "downloads" / "manual" / info.filename).touch()
        self.assertEqual(tfds._missing_downloads(builder), [])
        self.assertEqual(tfds._no_route([]), "")

    def test_the_way_leads_through_a_proxy_where_there_is_one(self):
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            way = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            environment = {"http_proxy": way, "https_proxy": way, "no_proxy": ""}
            with mock.patch.dict("os.environ", environment):
                self.assertEqual(tfds._no_route(["http://nowhere.invalid/x"]), "")
        with mock.patch.dict("os.environ", environment):
            self.assertIn("no way to 127.0.0.1", tfds._no_route(["https://nowhere.invalid/x"]))

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
            folder = self.create_tempdir().full_path
            self.load("tiny_pictures", data_dir=folder)
            path = pathlib.Path(folder) / PREPARED / name
            path.write_bytes(damage(path.read_bytes()))
            with self.assertRaisesRegex(DataError, problem):
                self.load("tiny_pictures", data_dir=folder)

    @parameterized.parameters(
        ({"pythonClassName": "antigravity.Feature"},),
        ({"python_class_name": "antigravity.Feature"},),
        ({"type": "antigravity.Feature"},),  # As older versions of TFDS wrote it.
        ({"type": "antigravity.Feature", "content": "{}"},),
    )
    def test_a_feature_of_another_package_is_never_imported(self, feature):
        folder = pathlib.Path(self.create_tempdir().full_path)
        self.load("tiny_pictures", data_dir=folder)
        path = folder / PREPARED / "features.json"
        content = json.loads(path.read_text())
        for damaged in (feature, content | {"featuresDict": {"features": {"image": feature}}}):
            path.write_text(json.dumps(damaged))
            with self.assertRaisesRegex(DataError, "features.json: refused: it names antigravity.Feature"):
                self.load("tiny_pictures", data_dir=folder)
        self.assertNotIn("antigravity", sys.modules)


if __name__ == "__main__":
    tf.test.main()

"""The process in which data is loaded is somebody else's: afterwards it is as it was before."""

import contextlib
import logging
import os
import pathlib
import pickle
import signal
import socket
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from absl.testing import absltest
from PIL import Image

from tests import made

ROOT = pathlib.Path(__file__).parent.parent


def state():
    """What a library could change in its process, by name."""
    loggers = {name: logging.getLogger(name) for name in ("root", "absl", *logging.root.manager.loggerDict)}
    descriptors = {}
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # The one that lists them.
            descriptors[descriptor] = os.readlink(f"/proc/self/fd/{descriptor}")
    return {
        "file descriptors": descriptors,
        "environment": dict(os.environ),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "levels of logs": {name: logger.level for name, logger in loggers.items()},
        "filters of logs": {name: list(logger.filters) for name, logger in loggers.items()},
        "handlers of logs": {name: list(logger.handlers) for name, logger in loggers.items()},
        "filters of warnings": list(warnings.filters),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, warnings.showwarning),
        "folder": os.getcwd(),
        "limits": (sys.getrecursionlimit(), Image.MAX_IMAGE_PIXELS, socket.getdefaulttimeout(), np.geterr()),
        "bars": bars_are_shown(),
    }


def bars_are_shown():
    """Whether TFDS shows bars of its progress; it has not begun to where it is not imported."""
    tqdm_utils = sys.modules.get("tensorflow_datasets.core.utils.tqdm_utils")
    return tqdm_utils is None or not isinstance(tqdm_utils.tqdm(disable=True), tqdm_utils.EmptyTqdm)


def differences(before, after):
    """What is another than before; what a dictionary of loggers has besides is of modules that were imported."""
    found = []
    for what, old in before.items():
        new = after[what]
        if what.endswith("of logs"):
            new = {name: new.get(name) for name in old}
        if isinstance(old, dict):
            names = [name for name in old | new if old.get(name) != new.get(name)]
            found += [f"{what}: {name}: {old.get(name)} became {new.get(name)}" for name in names]
        elif new != old:
            found.append(f"{what}: {old} became {new}")
    return found


def check(fails=False, **options):
    """Loads data, of which the process must keep no trace once it is dropped."""
    import tfpipe
    from tfpipe.exceptions import TfpipeError

    load = tfpipe.load  # Which imports NumPy.
    before = state()
    failed = False
    try:
        load(**options)
    except TfpipeError:
        failed = True
    assert failed == fails, options
    found = differences(before, state())
    assert not found, (options, found)


def run(program):
    """The finished process of a Python program that imports this module."""
    program = f"from tests import test_data_host as host\n{program}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)


class HostTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def write_pictures(self, images, labels):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = self.folder / "pictures" / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)

    def test_files(self):
        # Here, so that the process below imports them where it reads a file.
        import h5py
        import safetensors.numpy
        import scipy.io

        from tests import torch_save

        images, labels = made.images(30)
        made.write_idx_folder(self.folder / "idx", compress=True)
        np.savez(self.folder / "some.npz", images=images, labels=labels)
        np.save(self.folder / "images.npy", images)
        np.save(self.folder / "labels.npy", labels)
        (self.folder / "shards").mkdir()
        for number, rows in enumerate((slice(0, 20), slice(20, 30))):
            np.save(self.folder / "shards" / f"x_{number}.npy", images[rows])
            np.save(self.folder / "shards" / f"y_{number}.npy", labels[rows])
        with h5py.File(self.folder / "some.h5", "w") as file:
            file["X"], file["y"] = images, labels
        scipy.io.savemat(self.folder / "some.mat", {"X": images, "y": labels})
        safetensors.numpy.save_file({"X": images, "y": labels}, self.folder / "some.safetensors")
        (self.folder / "some.pt").write_bytes(torch_save.save({"X": images, "y": labels}))
        parts = [(images[begin::3].reshape(10, -1), labels[begin::3]) for begin in range(3)]
        (self.folder / "some.pkl").write_bytes(pickle.dumps(parts))
        (self.folder / "hostile.pkl").write_bytes(pickle.dumps(os.system))
        (self.folder / "damaged.npz").write_bytes((self.folder / "some.npz").read_bytes()[:-100])
        (self.folder / "unknown").write_bytes(b"")
        self.write_pictures(images, labels)
        process = run(f"""
import concurrent.futures, pathlib, sys
import tfpipe
folder = pathlib.Path({str(self.folder)!r})
host.check()
host.check(standardize=True)
for name in ("idx", "some.npz", "some.pkl", "pictures", "shards", "some.h5", "some.safetensors", "some.pt", "some.mat"):
    host.check(dataset=folder / name)
host.check(dataset=folder / "images.npy", labels=folder / "labels.npy", standardize=True)
for name in ("hostile.pkl", "damaged.npz", "unknown", "not-there", "images.npy"):
    host.check(fails=True, dataset=folder / name)
(folder / "pictures" / "0" / "damaged.png").write_bytes(b"no picture")
host.check(fails=True, dataset=folder / "pictures")
host.check(dataset=folder / "pictures", skip_bad_images=True)
before = host.state()
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for splits in pool.map(lambda _: tfpipe.load(folder / "pictures", skip_bad_images=True), range(20)):
        assert len(splits.train) == 18
assert not host.differences(before, host.state())
host.Image.MAX_IMAGE_PIXELS = 20  # An image has 24: a decompression bomb.
host.check(fails=True, dataset=folder / "pictures")
assert "joblib" in sys.modules  # Which counts the cores, and sets a variable.
assert not sys.modules.keys() & {{"sklearn", "tensorflow", "tensorflow_datasets"}}
""")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout, "")
        # Of the loads that left a picture out, as Python says it where logging is not configured.
        said = f"{self.folder}/pictures: left out 1 picture that does not decode: 0/damaged.png\n"
        self.assertEqual(process.stderr, said * 21)

    @pytest.mark.exhaustive
    def test_tensorflow_datasets(self):
        process = run(f"""
import logging, pathlib, sys
folder = pathlib.Path({str(self.folder)!r})
options = {{"data_dir": folder}}
host.check(fails=True, dataset="mnist", download=False, **options)
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
logging.getLogger("absl").setLevel(logging.ERROR)  # The way of those who do not know absl.
from tests import tiny_builders
import tensorflow_datasets as tfds
host.check(dataset="tiny_rows", **options)  # Prepares them, and imports TensorFlow.
assert "tensorflow" in sys.modules
tfds.disable_progress_bar()
host.check(dataset="tiny_rows", download=False, **options)
host.check(dataset="tiny_sizes", image_size=(3, 2), **options)
host.check(fails=True, dataset="tiny_sizes", **options)
host.check(fails=True, dataset="tiny_sentences", **options)
host.check(fails=True, dataset="tiny_rows:trian", **options)
host.check(fails=True, dataset="tiny_download", **options)
records = next((folder / "tiny_rows").rglob("*train.tfrecord*"))
records.write_bytes(records.read_bytes()[:-5])
host.check(fails=True, dataset="tiny_rows", **options)
""")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout, "")


if __name__ == "__main__":
    absltest.main()

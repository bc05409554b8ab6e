"""Data made for tests."""

import contextlib
import gzip
import pathlib
import struct
from unittest import mock

import numpy as np

from tfpipe import Examples, Splits


def images(n, shape=(4, 6), n_classes=3, seed=0):
    """Bytes in which a class is visible but not obvious: uint8 [n, *shape], labels int32 [n]."""
    random = np.random.default_rng(seed)
    templates = np.random.default_rng(99).uniform(0, 120, (n_classes, *shape))
    labels = random.integers(0, n_classes, n).astype(np.int32)
    noise = random.uniform(0, 135, (n, *shape))
    return (templates[labels] + noise).astype(np.uint8), labels


def splits(n_train=100, n_validation=40, n_test=30, shape=(4, 6), n_classes=3, pixel_max=255.0):
    parts = (
        Examples(*images(n, shape, n_classes, seed)) for seed, n in enumerate((n_train, n_validation, n_test), start=1)
    )
    return Splits(*parts, class_names=tuple(map(str, range(n_classes))), pixel_max=pixel_max)


def rare_classes(of_class=(200, 40, 10)):
    """Rows of features `[n, 6]` float32 around one mean for each class, so many of it in each split."""
    means = np.random.default_rng(77).normal(0, 1, (len(of_class), 6))
    parts = []
    for seed in (11, 12, 13):
        random = np.random.default_rng(seed)
        labels = random.permutation(np.repeat(np.arange(len(of_class)), of_class)).astype(np.int32)
        x = means[labels] + random.normal(0, 1.6, (len(labels), 6))
        parts.append(Examples(x.astype(np.float32), labels))
    return Splits(*parts, class_names=tuple(map(str, range(len(of_class)))))


def as_float64(examples, pixel_max):
    """What the oracle takes: x [N, D] float64, y [N]."""
    return examples.images.reshape(len(examples), -1).astype(np.float64) / pixel_max, examples.labels


def idx_bytes(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx_folder(folder, *, n_train=90, n_test=30, shape=(4, 6), compress=False):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, n, seed in (("train", n_train, 1), ("t10k", n_test, 2)):
        pixels, labels = images(n, shape, seed=seed)
        for name, array in ((f"{prefix}-images-idx3-ubyte", pixels), (f"{prefix}-labels-idx1-ubyte", labels)):
            data = idx_bytes(array)
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
            else:
                (folder / name).write_bytes(data)
    return folder


@contextlib.contextmanager
def told_of_validations():
    """A list of whether each stretch that is measured inside was so beside the training."""
    from tfpipe.training.validation import Validation  # And TensorFlow, which others that make data do without.

    are_beside, start = [], Validation.start

    def told(validation, stretch, *arguments):
        are_beside.append(stretch.findings is None and bool(validation.due(stretch)))
        start(validation, stretch, *arguments)

    with mock.patch.object(Validation, "start", told):
        yield are_beside

"""A folder with IDX files: MNIST, or a set in its form, plain or gzip'd.

Format: http://yann.lecun.com/exdb/mnist/, "THE IDX FILE FORMAT": magic number 0x00 0x00 type rank, then the
dimensions as big-endian 32-bit integers, then the values.
"""

import contextlib
import gzip
import math
import os
import pathlib
import re
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np

from tfpipe import memory
from tfpipe.config import DataConfig
from tfpipe.data import labels as labels_
from tfpipe.data.examples import Examples
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError
from tfpipe.memory import DEFLATE_MOST, check_fits_memory

_UNSIGNED_BYTE = 0x08


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a folder with such files, or with one of a pair."""
    return path if path.is_dir() and (is_there(path) or _prefixes(path, "labels", rank=1)) else None


def read(folder: pathlib.Path, numbered_classes: bool = DataConfig.numbered_classes) -> Source:
    """Reads the pairs `PREFIX-images-idx3-ubyte`, `PREFIX-labels-idx1-ubyte` of `folder`: images `[N, H, W]` uint8.

    The prefix that ends in `train` has the training examples, the one that ends in `t10k` or `test` the test
    examples: so MNIST, Fashion-MNIST and KMNIST name them, and EMNIST (`emnist-letters-train-images-idx3-ubyte.gz`).
    A single pair of any name is a data set without a test split.

    Args:
      folder: where they lie.
      numbered_classes: labels of which the least is not 0, as EMNIST's letters have, are the numbers of their classes;
        else they name them.

    Raises:
      DataError: a file is missing, damaged, or does not fit the others; there are several data sets in the folder.
    """
    prefixes = sorted(_prefixes(folder, "images", rank=3) | _prefixes(folder, "labels", rank=1))
    train = [prefix for prefix in prefixes if prefix.endswith("train")]
    test = [prefix for prefix in prefixes if prefix.endswith(("t10k", "test"))]
    if len(prefixes) <= 1 and not test:
        train = prefixes or ["train"]
    if len(train) != 1 or len(test) > 1 or len(train + test) < len(prefixes):
        raise DataError(f"{folder}: holds {', '.join(prefixes)}; expected one pair of files for train and one for test")
    pairs = [_read_pair(folder, prefix) for prefix in (*train, *test)]
    labels, class_names = labels_.encode([(pair.labels, pair.name) for pair in pairs], numbered=numbered_classes)
    parts = [Examples(pair.images, of_pair, pair.name) for pair, of_pair in zip(pairs, labels, strict=True)]
    return Source(parts[0], None, parts[1] if test else None, pixel_max=255.0, class_names=class_names)


def is_there(folder: pathlib.Path) -> bool:
    """Whether `folder` holds such files."""
    return bool(_prefixes(folder, "images", rank=3))


def _prefixes(folder: pathlib.Path, kind: str, rank: int) -> set[str]:
    pattern = re.compile(rf"(.*?)-{kind}[-.]idx{rank}-ubyte(\.gz)?")
    return {match[1] for path in folder.iterdir() if (match := pattern.fullmatch(path.name))}


class _Pair(NamedTuple):
    """Images and labels; `name` is for errors."""

    images: np.ndarray
    labels: np.ndarray
    name: str


def _read_pair(folder: pathlib.Path, prefix: str) -> _Pair:
    images_path = _find(folder, f"{prefix}-images", rank=3)
    labels_path = _find(folder, f"{prefix}-labels", rank=1)
    images = read_idx(images_path, rank=3)
    labels = read_idx(labels_path, rank=1)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: {len(labels)} labels, but {images_path.name} holds {len(images)} images; expected as many"
        )
    return _Pair(images, labels, str(labels_path))


def _find(folder: pathlib.Path, stem: str, rank: int) -> pathlib.Path:
    names = [f"{stem}{mark}idx{rank}-ubyte{suffix}" for mark in "-." for suffix in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    expected = "expected the IDX files of MNIST, class folders, or .npy files"
    raise DataError(f"{folder}: no file {names[0]} (or {names[1]}); {expected}")


def read_idx(path: pathlib.Path, rank: int) -> np.ndarray:
    """Reads one IDX file of unsigned bytes with `rank` dimensions.

    Raises:
      DataError: the file is not exactly such an array: wrong magic number, truncated, or longer than its header says.
    """
    header_size = 4 + 4 * rank
    try:
        with contextlib.ExitStack() as stack:
            file: BinaryIO = stack.enter_context(open(path, "rb"))
            most = os.fstat(file.fileno()).st_size
            if path.suffix == ".gz":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))  # type: ignore[assignment]
                most *= DEFLATE_MOST
            header = file.read(header_size)
            if len(header) < header_size:
                raise DataError(f"{path}: {len(header)} bytes, too few for the header of an IDX file ({header_size})")
            zero, kind, dimensions, *shape = struct.unpack(f">HBB{rank}I", header)
            if (zero, kind, dimensions) != (0, _UNSIGNED_BYTE, rank):
                raise DataError(
                    f"{path}: starts with {header[:4].hex()}, expected {_UNSIGNED_BYTE << 8 | rank:08x}: "
                    f"an IDX file of unsigned bytes with {rank} dimension{'s' * (rank > 1)}"
                )
            size = math.prod(shape)
            claim = f"its header promises {' x '.join(map(str, shape))} = {size} bytes"
            if size == 0:
                raise DataError(f"{path}: holds no examples: {claim}")
            if header_size + size > most:
                raise DataError(f"{path}: truncated or not an IDX file: {claim}, the file can hold {most} at most")
            check_fits_memory(str(path), size)
            data = memory.read(file, size)
            more = file.read(1)  # The end: this also verifies the checksum.
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or truncated gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) != size or more:
        found = "more follow" if more else f"{len(data)} follow"
        raise DataError(f"{path}: {claim}, but {found}; expected exactly as many")
    return data.reshape(shape)

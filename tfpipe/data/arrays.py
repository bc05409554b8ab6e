"""NumPy's own files: an `.npz` with images and labels, or a pair of `.npy`, whose images may be larger than memory.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. The files are read as data: arrays of
objects, which hold pickles, are refused before anything of them is read.
"""

import math
import os
import pathlib
import zipfile
import zlib
from typing import IO, NamedTuple

import numpy as np
from absl import logging

from tfpipe.data import buffers
from tfpipe.data import labels as labels_
from tfpipe.data.examples import Examples
from tfpipe.data.limits import DEFLATE_MOST, check_fits_memory
from tfpipe.data.source import Source
from tfpipe.exceptions import DataError, brief

# Where an archive may hold its splits: (images, labels) of train, validation, test. The second is Keras' way.
_NAMES = (
    (("images", "labels"), ("validation_images", "validation_labels"), ("test_images", "test_labels")),
    (("x_train", "y_train"), ("x_val", "y_val"), ("x_test", "y_test")),
)


def read_npz(path: pathlib.Path) -> Source:
    """Reads an archive with `images` and `labels` (also `test_images`, ...), or `x_train`, `y_train`, `x_test`, ...

    Raises:
      DataError: the archive is damaged, holds objects, or holds no such arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(members) != len(archive.infolist()):
                raise DataError(f"{path}: two arrays have the same name")
            splits = [_read_split(path, archive, members, pair) for pair in _known_names(path, members)]
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # A damaged directory can fail in any way: in names that are no text, for one.
        raise DataError(f"{path}: not an .npz archive, or damaged: {brief(error)}") from error
    return _source(splits)


def read_npy(path: pathlib.Path, labels_path: pathlib.Path) -> Source:
    """Images of one `.npy` file, memory-mapped, with the labels of another.

    Raises:
      DataError: a file is missing, damaged, or holds objects.
    """
    images = _mapped(path)
    labels = np.array(_mapped(labels_path))
    return _source([(images, labels, str(path), str(labels_path)), None, None])


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    size: int  # Bytes of the header itself.

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


_Split = tuple[np.ndarray, np.ndarray, str, str]


def _source(splits: list[_Split | None]) -> Source:
    numbers, class_names = labels_.encode([(split[1], split[3]) for split in splits if split])
    encoded = iter(numbers)
    train, validation, test = (Examples(s[0], next(encoded), s[2]) if s else None for s in splits)
    assert train
    pixel_max = 255.0 if train.images.dtype == np.uint8 else 1.0
    return Source(train, validation, test, pixel_max, class_names)


def _known_names(path: pathlib.Path, members: dict[str, zipfile.ZipInfo]) -> tuple[tuple[str, str], ...]:
    for names in _NAMES:
        if set(names[0]) <= set(members):
            return names
    found = ", ".join(sorted(members)[:8]) or "nothing"
    raise DataError(f"{path}: holds {found}; expected images and labels, or x_train and y_train (and x_test, y_test)")


def _read_split(
    path: pathlib.Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], pair: tuple[str, str]
) -> _Split | None:
    there = [name for name in pair if name in members]
    if not there:
        return None
    if len(there) == 1:
        raise DataError(f"{path}: holds {there[0]} alone; expected {pair[0]} and {pair[1]}")
    images, labels = (_read_member(f"{path} ({name})", archive, members[name]) for name in pair)
    return images, labels, f"{path} ({pair[0]})", f"{path} ({pair[1]})"


def _read_member(where: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.file_size > max(info.compress_size, 1) * DEFLATE_MOST:
        raise DataError(f"{where}: {info.compress_size} bytes cannot expand to the promised {info.file_size}")
    try:
        with archive.open(info) as file:
            header = _read_header(where, file, info.file_size)
            check_fits_memory(where, header.nbytes)
            data = buffers.read(file, header.nbytes)
            file.read(1)  # The end: this verifies the checksum.
    except zlib.error as error:
        raise DataError(f"{where}: damaged: {brief(error)}") from error
    if len(data) != header.nbytes:
        raise DataError(f"{where}: truncated: {len(data)} of {header.nbytes} bytes")
    return data.view(header.dtype).reshape(header.shape, order="F" if header.fortran_order else "C")


def _mapped(path: pathlib.Path) -> np.ndarray:
    """The array in `path`, memory-mapped if it lies there as it is needed: row by row, in the machine's byte order.

    The mapping is private: what a program writes to it never reaches the file.
    """
    try:
        with open(path, "rb") as file:
            header = _read_header(str(path), file, os.fstat(file.fileno()).st_size)
        order = "F" if header.fortran_order else "C"
        mapped = np.memmap(path, header.dtype, mode="c", offset=header.size, shape=header.shape, order=order)  # type: ignore[call-overload]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if header.fortran_order or not header.dtype.isnative or header.size % buffers.ALIGNMENT:
        check_fits_memory(str(path), header.nbytes)
        logging.info("%s: is brought into memory; what numpy.save writes of a C-ordered array need not be", path)
        return np.array(mapped, header.dtype.newbyteorder("="), order="C")
    return mapped


def _read_header(where: str, file: IO[bytes], size: int) -> _Header:
    """Reads the header of an array that fills `size` bytes with it, and leaves `file` behind it."""
    counting = _Counting(file)
    try:
        version = np.lib.format.read_magic(counting)  # type: ignore[arg-type]
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(counting)  # type: ignore[arg-type]
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(counting)  # type: ignore[arg-type]
        else:
            raise ValueError(f"version {version} of the format holds no plain arrays")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # A damaged header can fail in any way: it is the text of a Python literal.
        raise DataError(f"{where}: not an .npy array, or damaged: {brief(error)}") from error
    header = _Header(shape, fortran_order, dtype, counting.count)
    if dtype.hasobject or dtype.kind not in "biufUS":
        raise DataError(f"{where}: refused: an array of type {dtype}; expected numbers or text")
    if any(length <= 0 for length in shape) or dtype.itemsize == 0:
        raise DataError(f"{where}: an array of shape {shape} holds nothing")
    if header.size + header.nbytes != size:
        promised = f"its header promises {' x '.join(map(str, shape))} of {dtype} = {header.nbytes} bytes"
        raise DataError(f"{where}: truncated or damaged: {promised}, and {size - header.size} follow")
    return header


class _Counting:
    """A file that counts what is read, for files that cannot tell where they stand."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data

"""NumPy's own files: an `.npz` with images and labels, or a pair of `.npy`, whose images may be larger than memory."""

import os
import pathlib
import zipfile

import numpy as np

from tfpipe import memory
from tfpipe.data import labels as labels_
from tfpipe.data.examples import Examples
from tfpipe.data.readers.source import Source
from tfpipe.disk import npz
from tfpipe.exceptions import ConfigError, DataError, brief
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

# Where an archive may hold its splits: (images, labels) of train, validation, test. The second is Keras' way.
_NAMES = (
    (("images", "labels"), ("validation_images", "validation_labels"), ("test_images", "test_labels")),
    (("x_train", "y_train"), ("x_val", "y_val"), ("x_test", "y_test")),
)


def recognise_npz(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npz` file."""
    return path if path.suffix == ".npz" and path.is_file() else None


def recognise_npy(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npy` file."""
    return path if path.suffix == ".npy" and path.is_file() else None


def read_npz(path: pathlib.Path) -> Source:
    """Reads an archive with `images` and `labels` (also `test_images`, ...), or `x_train`, `y_train`, `x_test`, ...

    Raises:
      DataError: the archive is damaged, holds objects, or holds no such arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = npz.members(str(path), archive)
            splits = [_read_split(path, archive, members, pair) for pair in _known_names(path, members)]
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # A damaged directory can fail in any way: in names that are no text, for one.
        raise DataError(f"{path}: not an .npz archive, or damaged: {brief(error)}") from error
    return _source(splits)


def read_npy(path: pathlib.Path, labels: str | None) -> Source:
    """Images of one `.npy` file, memory-mapped, with the labels of another, whose path is `labels`.

    Raises:
      DataError: a file is missing, damaged, or holds objects.
      ConfigError: there are no labels.
    """
    if labels is None:
        raise ConfigError("labels", "", f"{path} holds images alone; give the .npy file with their labels")
    labels_path = pathlib.Path(labels).expanduser()
    images = mapped(path)
    return _source([(images, np.array(mapped(labels_path)), str(path), str(labels_path)), None, None])


_Split = tuple[np.ndarray, np.ndarray, str, str]


def _source(splits: list[_Split | None]) -> Source:
    numbers, class_names = labels_.encode([(split[1], split[3]) for split in splits if split])
    encoded = iter(numbers)
    train, validation, test = (Examples(s[0], next(encoded), s[2]) if s else None for s in splits)
    assert train
    pixel_max = 255.0 if train.stored.dtype == np.uint8 else 1.0
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
    images, labels = (npz.read_member(f"{path} ({name})", archive, members[name]) for name in pair)
    return images, labels, f"{path} ({pair[0]})", f"{path} ({pair[1]})"


def mapped(path: pathlib.Path) -> np.ndarray:
    """The array in `path`, memory-mapped if it lies there as it is needed: row by row, in the machine's byte order.

    The mapping is private: what a program writes to it never reaches the file.
    """
    try:
        with open(path, "rb") as file:
            header = npz.read_header(str(path), file, os.fstat(file.fileno()).st_size)
        order = "F" if header.fortran_order else "C"
        array = np.memmap(path, header.dtype, mode="c", offset=header.size, shape=header.shape, order=order)  # type: ignore[call-overload]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if header.fortran_order or not header.dtype.isnative or header.size % memory.ALIGNMENT:
        check_fits_memory(str(path), header.nbytes)
        log.info("%s: is brought into memory; what numpy.save writes of a C-ordered array need not be", path)
        return np.array(array, header.dtype.newbyteorder("="), order="C")
    return array

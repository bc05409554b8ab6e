"""NumPy's own files: an `.npz` with images and labels, or a pair of `.npy`, whose images may be larger than memory."""

import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfpipe import memory
from tfpipe.data import labels as labels_
from tfpipe.data.examples import Examples, checked_groups, checked_weights
from tfpipe.data.groups import numbered
from tfpipe.data.readers.source import Source
from tfpipe.disk import npz
from tfpipe.exceptions import ConfigError, DataError, brief
from tfpipe.log import log
from tfpipe.memory import check_fits_memory


class _Names(NamedTuple):
    """What the arrays of a split are called, in an archive or in errors."""

    images: str
    labels: str
    weights: str
    groups: str


# Of train, validation and test. The second is Keras' way.
_NAMES = (
    (
        _Names("images", "labels", "sample_weight", "groups"),
        _Names("validation_images", "validation_labels", "validation_sample_weight", "validation_groups"),
        _Names("test_images", "test_labels", "test_sample_weight", "test_groups"),
    ),
    (
        _Names("x_train", "y_train", "sample_weight_train", "groups_train"),
        _Names("x_val", "y_val", "sample_weight_val", "groups_val"),
        _Names("x_test", "y_test", "sample_weight_test", "groups_test"),
    ),
)


def recognise_npz(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npz` file."""
    return path if path.suffix == ".npz" and path.is_file() else None


def recognise_npy(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npy` file."""
    return path if path.suffix == ".npy" and path.is_file() else None


def read_npz(path: pathlib.Path) -> Source:
    """Reads an archive with `images` and `labels` (also `test_images`, ...), or `x_train`, `y_train`, `x_test`, ...

    Beside them there may be weights and groups of a split: `sample_weight`, `groups` and `test_sample_weight`, ..., or
    `sample_weight_train`, `groups_train`, ...

    Raises:
      DataError: the archive is damaged, holds objects, or holds no such arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = npz.members(str(path), archive)
            names = _known_names(path, members)
            splits = [_read_split(path, archive, members, of_split) for of_split in names]
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
    names = _Names(str(path), str(labels_path), "", "")
    return _source([_Split(names, images, np.array(mapped(labels_path))), None, None])


class _Split(NamedTuple):
    """The arrays of a split; `names` are for errors."""

    names: _Names
    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None


def _source(splits: list[_Split | None]) -> Source:
    there = [split for split in splits if split]
    labels, class_names = labels_.encode([(split.labels, split.names.labels) for split in there])
    groups = numbered([(split.groups, split.names.groups) for split in there if split.groups is not None])
    of_labels, of_groups = iter(labels), iter(groups)
    train, validation, test = (_examples(s, next(of_labels), of_groups) if s else None for s in splits)
    assert train
    pixel_max = 255.0 if train.stored.dtype == np.uint8 else 1.0
    return Source(train, validation, test, pixel_max, class_names)


def _examples(split: _Split, labels: np.ndarray, groups: Iterator[np.ndarray]) -> Examples:
    """The examples of a split, with the next of `groups` if it has any."""
    examples = Examples(split.images, labels, split.names.images)
    return examples.annotated(
        None if split.weights is None else checked_weights(split.weights, len(examples), split.names.weights),
        None if split.groups is None else checked_groups(next(groups), len(examples), split.names.groups),
    )


def _known_names(path: pathlib.Path, members: dict[str, zipfile.ZipInfo]) -> tuple[_Names, ...]:
    for names in _NAMES:
        if {names[0].images, names[0].labels} <= set(members):
            _check_annotations(path, members, names)
            return names
    found = ", ".join(sorted(members)[:8]) or "nothing"
    raise DataError(f"{path}: holds {found}; expected images and labels, or x_train and y_train (and x_test, y_test)")


def _check_annotations(path: pathlib.Path, members: dict[str, zipfile.ZipInfo], names: tuple[_Names, ...]) -> None:
    """Raises DataError for weights or groups that would not be read."""
    known = [name for splits in _NAMES for split in splits for name in (split.weights, split.groups)]
    used = [name for split in names if split.images in members for name in (split.weights, split.groups)]
    for name in known:
        if name in members and name not in used:
            raise DataError(f"{path}: holds {name}, which goes with no images there; expected {', '.join(used)}")


def _read_split(
    path: pathlib.Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], names: _Names
) -> _Split | None:
    there = [name for name in names[:2] if name in members]
    if not there:
        return None
    if len(there) == 1:
        raise DataError(f"{path}: holds {there[0]} alone; expected {names.images} and {names.labels}")

    in_errors = _Names(*(f"{path} ({name})" for name in names))
    arrays = {
        field: npz.read_member(getattr(in_errors, field), archive, members[name])
        for field, name in names._asdict().items()
        if name in members
    }
    return _Split(in_errors, **arrays)


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

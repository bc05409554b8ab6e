"""NumPy's own files: an `.npz` with images and labels, or a pair of `.npy`, whose images may be larger than memory."""

import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfpipe import memory
from tfpipe.config import DataConfig
from tfpipe.data import labels as labels_
from tfpipe.data.checked import checked_groups, checked_weights
from tfpipe.data.examples import Examples
from tfpipe.data.groups import numbered as numbered_groups
from tfpipe.data.readers import theano_pickle
from tfpipe.data.readers.npz_names import Form, Names, roles
from tfpipe.data.readers.source import Source
from tfpipe.disk import npz
from tfpipe.exceptions import ConfigError, DataError, brief, enumeration
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

_NO_ARRAY = Form((), np.dtype("V"))
_CHANNELS = (1, 3, 4)
# Examples in which values below 0 are looked for.
_ENOUGH = 256


def recognise_npz(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npz` file."""
    return path if path.suffix == ".npz" and path.is_file() else None


def recognise_npy(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npy` file."""
    return path if path.suffix == ".npy" and path.is_file() else None


def read_npz(
    path: pathlib.Path,
    images_key: str | None = None,
    labels_key: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
) -> Source:
    """Reads an archive with `images` and `labels`, or arrays of other names, as `npz_names.roles` tells them apart.

    Beside them there may be other splits, weights and groups of each split, and the names of the classes.

    Args:
      path: the archive.
      images_key: the name of the training images; None: the one that is plain.
      labels_key: the same for their labels.
      numbered_classes: integer labels are the numbers of the classes, which have no other names; see `labels.encode`.

    Raises:
      DataError: the archive is damaged, holds objects, or holds no such arrays.
      ConfigError: a key names no array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = npz.members(str(path), archive)
            headers = {name: npz.claimed(archive, info) for name, info in members.items()}
            forms = {name: Form(h.shape, h.dtype) if h else _NO_ARRAY for name, h in headers.items()}
            found = roles(str(path), forms, images_key, labels_key)
            splits = [_read_split(path, archive, members, names) for names in found.splits]
            class_names = None if numbered_classes else _class_names(path, archive, members, found.class_names)
    except (DataError, ConfigError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # A damaged directory can fail in any way: in names that are no text, for one.
        raise DataError(f"{path}: not an .npz archive, or damaged: {brief(error)}") from error
    source = _source(splits, numbered=numbered_classes, class_names=class_names)
    unused = found.unused
    if found.class_names and (class_names is None or source.class_names != class_names):
        unused = sorted([*unused, found.class_names])
    if unused:
        log.info("%s: does not use %s", path, enumeration(unused))
    return source


def read_npy(path: pathlib.Path, labels: str | None, numbered_classes: bool = DataConfig.numbered_classes) -> Source:
    """Images of one `.npy` file, memory-mapped, with the labels of another, whose path is `labels`.

    Args:
      path: the images.
      labels: the path of the labels.
      numbered_classes: as for `read_npz`.

    Raises:
      DataError: a file is missing, damaged, or holds objects.
      ConfigError: there are no labels.
    """
    if labels is None:
        raise ConfigError("labels", "", f"{path} holds images alone; give the .npy file with their labels")
    labels_path = pathlib.Path(labels).expanduser()
    images = mapped(path)
    split = _Split(Names(str(path), str(labels_path)), images, _labels_of_npy(labels_path))
    return _source([split, None, None], numbered=numbered_classes)


class _Split(NamedTuple):
    """The arrays of a split; `names` are for errors."""

    names: Names
    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None


def _source(splits: list[_Split | None], *, numbered: bool, class_names: tuple[str, ...] | None = None) -> Source:
    there = [split for split in splits if split]
    of_labels = [(split.labels, split.names.labels) for split in there]
    labels, names = labels_.encode(of_labels, numbered=numbered, names=class_names)
    with_groups = [(split.groups, str(split.names.groups)) for split in there if split.groups is not None]
    encoded, groups = iter(labels), iter(numbered_groups(with_groups))
    train, validation, test = (_examples(s, next(encoded), groups) if s else None for s in splits)
    assert train
    _tell_form(train, there[0].images.dtype)
    pixel_max = 255.0 if train.stored.dtype == np.uint8 else 1.0
    return Source(train, validation, test, pixel_max, names)


def _examples(split: _Split, labels: np.ndarray, groups: Iterator[np.ndarray]) -> Examples:
    """The examples of a split, with the next of `groups` if it has any."""
    examples = Examples(split.images, labels, split.names.images)
    return examples.annotated(
        None if split.weights is None else checked_weights(split.weights, len(examples), str(split.names.weights)),
        None if split.groups is None else checked_groups(next(groups), len(examples), str(split.names.groups)),
    )


def _tell_form(train: Examples, dtype: np.dtype) -> None:
    """Says what the examples are taken for, where people may mean something else."""
    shape = train.stored.shape[1:]
    sizes = " x ".join(map(str, shape))
    if len(shape) == 3 and shape[0] in _CHANNELS and shape[2] not in _CHANNELS:
        remedy = "numpy.moveaxis(images, 1, -1) puts the channels last, where pictures have them"
        found = f"images of {sizes} look channel-first, and are taken as pictures of {shape[0]} rows"
        log.warning("%s: %s; %s", train.name, found, remedy)
    elif len(shape) == 2 and train.stored.dtype != np.uint8 and (train.stored[:_ENOUGH] < 0).any():
        remedy = "images.reshape(len(images), -1), or their mean over axis 1, gives rows of features"
        log.info("%s: %s with values below 0 are taken as pictures; if they are tokens, %s", train.name, sizes, remedy)
    elif len(shape) > 1 and dtype.kind in "iu" and dtype != np.uint8:
        _, largest = train.value_range()
        if largest > 1:
            log.warning("%s: pictures of %s up to %g; give --pixel_max the value of white", train.name, dtype, largest)


def _read_split(
    path: pathlib.Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], names: Names | None
) -> _Split | None:
    if names is None:
        return None
    in_errors = names._replace(**{kind: f"{path} ({name})" for kind, name in names._asdict().items() if name})
    arrays = {
        kind: _read_text(path, archive, members, name)
        if kind in ("labels", "groups")
        else npz.read_member(f"{path} ({name})", archive, members[name])
        for kind, name in names._asdict().items()
        if name
    }
    return _Split(in_errors, **arrays)


def _class_names(
    path: pathlib.Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str | None
) -> tuple[str, ...] | None:
    """The names of the classes, if the array is one of text."""
    if name is None:
        return None
    names = _read_text(path, archive, members, name)
    if names.ndim != 1 or names.dtype.kind not in "US":
        return None
    return tuple(map(str, labels_.decoded(names, f"{path} ({name})")))


def _read_text(
    path: pathlib.Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str
) -> np.ndarray:
    """An array of an archive that may be text in objects, as pandas has it."""
    where, info = f"{path} ({name})", members[name]
    with archive.open(info) as file:
        objects = npz.read_objects(where, file, info.file_size, theano_pickle.MOST_BYTES)
    return npz.read_member(where, archive, info) if objects is None else _text(where, *objects)


def _labels_of_npy(path: pathlib.Path) -> np.ndarray:
    """Labels in a file of their own; text in objects too."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            objects = npz.read_objects(str(path), file, size, theano_pickle.MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return np.array(mapped(path)) if objects is None else _text(str(path), *objects)


def _text(where: str, header: npz.Header, data: bytes) -> np.ndarray:
    return theano_pickle.texts(where, data, header.shape)


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

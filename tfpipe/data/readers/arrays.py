"""NumPy's own files: an `.npz` with images and labels, or a pair of `.npy`, whose images may be larger than memory."""

import functools
import mmap
import os
import pathlib
import sys
import zipfile
from typing import Literal

import numpy as np

from tfpipe import memory
from tfpipe.config import DataConfig
from tfpipe.data.checked import WHOLE, Share
from tfpipe.data.readers import named, theano_pickle
from tfpipe.data.readers.named import Content, Split, Stored
from tfpipe.data.readers.npz_names import Form, Names
from tfpipe.data.readers.source import Source
from tfpipe.disk import npz
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

# Linux's; Python has a name for it from 3.13 on.
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0


def recognise_npz(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npz` file."""
    return path if path.suffix.lower() == ".npz" and path.is_file() else None


def recognise_npy(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of an `.npy` file."""
    return path if path.suffix.lower() == ".npy" and path.is_file() else None


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
    with named.reading(path, "an .npz archive"), zipfile.ZipFile(path) as archive:
        stored = {}
        for name, info in npz.members(str(path), archive).items():
            header = npz.claimed(archive, info)
            form = Form(header.shape, header.dtype) if header else named.NO_ARRAY
            stored[name] = Stored(form, functools.partial(_read_member, path, archive, info, name))
        content = named.content(path, stored, images_key, labels_key)
    return named.source(content, numbered=numbered_classes)


def read_npy(
    path: pathlib.Path,
    labels: str | None,
    numbered_classes: bool = DataConfig.numbered_classes,
    share: Share = WHOLE,
) -> Source:
    """Images of one `.npy` file, memory-mapped, with the labels of another, whose path is `labels`.

    Args:
      path: the images.
      labels: the path of the labels.
      numbered_classes: as for `read_npz`.
      share: of the values of the images, at which this process looks.

    Raises:
      DataError: a file is missing, damaged, or holds objects.
      ConfigError: there are no labels.
    """
    if labels is None:
        raise ConfigError("labels", "", f"{path} holds images alone; give the .npy file with their labels")
    labels_path = pathlib.Path(labels).expanduser()
    images = mapped(path)
    split = Split(Names(str(path), str(labels_path)), images, read_labels(labels_path))
    return named.source(Content(str(path), [split, None, None]), numbered=numbered_classes, share=share)


def _read_member(
    path: pathlib.Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, kind: str
) -> np.ndarray:
    if kind in named.MAY_BE_TEXT:
        return _read_text(path, archive, info, name)
    return npz.read_member(f"{path} ({name})", archive, info)


def _read_text(path: pathlib.Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    """An array of an archive that may be text in objects, as pandas has it."""
    where = f"{path} ({name})"
    with archive.open(info) as file:
        objects = npz.read_objects(where, file, info.file_size, theano_pickle.MOST_BYTES)
    return npz.read_member(where, archive, info) if objects is None else _text(where, *objects)


def read_labels(path: pathlib.Path) -> np.ndarray:
    """Labels in an `.npy` file of their own; text in objects too.

    Raises:
      DataError: the file is missing, damaged, or holds other objects.
    """
    _check_is_file(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            objects = npz.read_objects(str(path), file, size, theano_pickle.MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return np.array(mapped(path)) if objects is None else _text(str(path), *objects)


def _check_is_file(path: pathlib.Path) -> None:
    """Raises DataError for a pipe or a device, which might never end, or never begin."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no regular file; expected an .npy file")


def _text(where: str, header: npz.Header, data: bytes) -> np.ndarray:
    return theano_pickle.texts(where, data, header.shape)


def mapped(path: pathlib.Path) -> np.ndarray:
    """The array in `path`, memory-mapped if it lies there as it is needed: row by row, in the machine's byte order.

    The mapping is private: what a program writes to it never reaches the file.

    Raises:
      DataError: the file is missing, damaged, or holds objects.
    """
    _check_is_file(path)
    try:
        with open(path, "rb") as file:
            header = npz.read_header(str(path), file, os.fstat(file.fileno()).st_size)
            # np.memmap's own private mapping reserves memory: of a file larger than that Linux refuses it.
            kept = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | _MAP_NORESERVE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    order: Literal["F", "C"] = "F" if header.fortran_order else "C"
    array = np.ndarray.__new__(np.memmap, header.shape, header.dtype, kept, header.size, order=order)
    array._mmap = kept  # type: ignore[attr-defined]  # As np.memmap has it: by it the kernel is told of rows.
    if header.fortran_order or not header.dtype.isnative or header.size % memory.ALIGNMENT:
        check_fits_memory(str(path), header.nbytes)
        log.info("%s: is brought into memory; what numpy.save writes of a C-ordered array need not be", path)
        return np.array(array, header.dtype.newbyteorder("="), order="C")
    return array

"""A folder of `.npy` files: arrays by the names of the files, each in one file or in numbered ones."""

import functools
import itertools
import math
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfpipe import memory
from tfpipe.config import DataConfig
from tfpipe.data import picture_files
from tfpipe.data.checked import WHOLE, Share
from tfpipe.data.readers import arrays, class_folders, idx, named
from tfpipe.data.readers.named import Stored
from tfpipe.data.readers.npz_names import Form, is_known, roles
from tfpipe.data.readers.source import Source
from tfpipe.disk import npz
from tfpipe.exceptions import DataError
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

_SUFFIX = ".npy"
# `images_000`, `x1`, `features-00001-of-00010`.
_NUMBERED = re.compile(r"(.+?)[-_.]?([0-9]+)(?:-of-([0-9]+))?", re.DOTALL)
_ALIKE = "expected files that differ in their first length alone"


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a folder with `.npy` files in it, no IDX files, and no pictures in its folders."""
    if not path.is_dir() or idx.is_there(path) or not _files(path):
        return None
    return None if class_folders.is_there(path) and picture_files.below(str(path)).pictures else path


def read(
    folder: pathlib.Path,
    images_key: str | None = None,
    labels_key: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
    share: Share = WHOLE,
) -> Source:
    """Reads the arrays of a folder as `arrays.read_npz` reads those of an archive; the arguments are the same.

    But for `share`: of the values of images in one file, at which this process looks.

    The name of an array is that of its file, `images.npy`; or what numbered files have in common: `images_000.npy`,
    `images_001.npy`, ... These are joined, in the order of their numbers, and those of the labels have the same numbers
    and as many examples each, unless the labels lie in one file. Images in one file are memory-mapped.

    Raises:
      DataError: a file is damaged; files of one array differ in shape or type; one has no partner.
      ConfigError: a key names no array.
    """
    with named.reading(folder, "a folder of .npy files"):
        found = _arrays(folder)
        forms = {name: _form(shards) for name, shards in found.items()}
        for names in roles(str(folder), forms, images_key, labels_key).splits:
            if names is not None:
                for name in filter(None, names[1:]):
                    _check_partners(found[names.images], found[name], name)
                _check_all_there(found[names.images])
        stored = {name: Stored(forms[name], functools.partial(_read, found[name], forms[name])) for name in found}
        content = named.content(folder, stored, images_key, labels_key)
    source = named.source(content, numbered=numbered_classes, share=share)
    joined = [
        f"{folder}: {name} is in {len(of_name)} files, {of_name[0].path.name} to {of_name[-1].path.name}"
        for name, of_name in found.items()
        if len(of_name) > 1
    ]
    for line in joined:
        log.info("%s", line)
    return source._replace(notes=(*source.notes, *joined))


class _Shard(NamedTuple):
    """A file; its number, and how many there are, where its name says that; and what its header says."""

    path: pathlib.Path
    number: int | None
    of_all: int | None
    header: npz.Header


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == _SUFFIX and not picture_files.is_hidden(path.name) and path.is_file()
    )


def _arrays(folder: pathlib.Path) -> dict[str, list[_Shard]]:
    """The files of each array, in the order of their numbers."""
    groups: dict[str, list[_Shard]] = {}
    for path in _files(folder):
        match = _NUMBERED.fullmatch(path.stem)
        name = match[1] if match else path.stem
        number, of_all = (int(match[i]) if match and match[i] else None for i in (2, 3))
        groups.setdefault(name, []).append(_Shard(path, number, of_all, _header(path)))
    found = {}
    for name, shards in groups.items():
        if len(shards) == 1 and not is_known(name):  # The number is part of the name.
            found[shards[0].path.stem] = [shards[0]._replace(number=None, of_all=None)]
        else:
            found[name] = _in_order(shards)
    return found


def _header(path: pathlib.Path) -> npz.Header:
    with open(path, "rb") as file:
        return npz.parsed(str(path), file, os.fstat(file.fileno()).st_size)


def _in_order(shards: Sequence[_Shard]) -> list[_Shard]:
    """By their numbers. Raises DataError if there is no order, or one is missing where they say how many there are."""
    for shard in shards:
        if shard.number is None and len(shards) > 1:
            other = next(other for other in shards if other is not shard)
            raise DataError(f"{shard.path}: lies beside {other.path.name}; expected one of them, or a number in both")
    shards = sorted(shards, key=lambda shard: shard.number or 0)
    for one, other in itertools.pairwise(shards):
        if one.number == other.number:
            raise DataError(f"{other.path}: has the same number as {one.path.name}; expected one of its own")
    if shards[0].of_all is not None and len(shards) != shards[0].of_all:
        raise DataError(f"{shards[0].path}: is of {shards[0].of_all} files, and there are {len(shards)}; expected all")
    return shards


def _form(shards: list[_Shard]) -> Form:
    """The form of the joined array. Raises DataError if a file has another shape or type than the first."""
    first = shards[0].header
    for shard in shards[1:]:
        shape, dtype = shard.header.shape, shard.header.dtype
        if shape[1:] != first.shape[1:] or not shape or not first.shape:
            raise DataError(f"{shard.path}: of shape {shape}, but {shards[0].path.name} of {first.shape}; {_ALIKE}")
        if dtype != first.dtype and not (dtype.kind == first.dtype.kind and dtype.kind in "US"):
            raise DataError(f"{shard.path}: of type {dtype}, but {shards[0].path.name} of {first.dtype}; {_ALIKE}")
    if len(shards) == 1:
        return Form(first.shape, first.dtype)
    return Form((sum(shard.header.shape[0] for shard in shards), *first.shape[1:]), first.dtype)


def _check_all_there(shards: list[_Shard]) -> None:
    """Raises DataError unless their numbers are one after the other, or those of their first rows."""
    for one, other in itertools.pairwise(shards):
        if (other.number or 0) - (one.number or 0) not in (1, *one.header.shape[:1]):
            raise DataError(f"{other.path}: follows {one.path.name}; expected all files between them")


def _check_partners(images: list[_Shard], others: list[_Shard], name: str) -> None:
    """Raises DataError unless each file of images has one of the other array, `name`; or one has a single file."""
    if images[0].number is None or others[0].number is None:
        return
    by_number = {shard.number: shard for shard in others}
    for shard in images:
        other = by_number.pop(shard.number, None)
        if other is None:
            raise DataError(f"{shard.path}: there is no file of {name} with its number; expected one")
        if other.header.shape[:1] != shard.header.shape[:1]:
            n_images, n_others = (of.header.shape[0] for of in (shard, other))
            raise DataError(
                f"{other.path}: holds {n_others} examples, but {shard.path.name} {n_images}; expected as many"
            )
    for shard in by_number.values():
        raise DataError(f"{shard.path}: there is no file of images with its number; expected one")


def _read(shards: list[_Shard], form: Form, kind: str) -> np.ndarray:
    if kind in named.MAY_BE_TEXT:
        parts = [arrays.read_labels(shard.path) for shard in shards]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(shards) == 1:
        return arrays.mapped(shards[0].path)
    check_fits_memory(str(shards[0].path.parent), math.prod(form.shape) * form.dtype.itemsize)
    values = memory.empty(form.shape, form.dtype.newbyteorder("="))
    start = 0
    for shard in shards:
        part = arrays.mapped(shard.path)
        values[start : start + len(part)] = part
        start += len(part)
    return values

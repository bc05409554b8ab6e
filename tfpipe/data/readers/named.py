"""Files of named arrays: images and labels are found among them by `npz_names`, read, and become a Source."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tfpipe import memory
from tfpipe.data import labels as labels_
from tfpipe.data import split_names
from tfpipe.data.checked import WHOLE, Share, checked_groups, checked_weights
from tfpipe.data.examples import Examples
from tfpipe.data.groups import numbered as numbered_groups
from tfpipe.data.readers.npz_names import Form, Names, roles
from tfpipe.data.readers.source import Source, damage_told
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log
from tfpipe.text import is_one_line

# What stands in a file under a name and is no array of numbers or text.
NO_ARRAY = Form((), np.dtype("V"))
# Kinds of arrays in which text means something.
MAY_BE_TEXT = ("labels", "groups", "class_names")
_CHANNELS = (1, 3, 4)
# Examples in which values below 0 are looked for.
_ENOUGH = 256


class Stored(NamedTuple):
    """An array in a file, of which no value was read yet.

    Attributes:
      form: its shape and the type of its values.
      read: gives it; takes what it is: `images`, `labels`, `weights`, `groups` or `class_names`. Raises DataError for
        what such an array cannot be, and whatever a damaged file makes a library raise.
    """

    form: Form
    read: Callable[[str], np.ndarray]


class Split(NamedTuple):
    """The arrays of a split; `names` are for errors."""

    names: Names
    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None


class Content(NamedTuple):
    """What was read from a file.

    Attributes:
      where: the file, in errors.
      splits: train, validation and test; None where there is no such split.
      class_names: the name of the array of text that has them, and its values; None: there is none.
      unused: the names of other arrays.
    """

    where: str
    splits: list[Split | None]
    class_names: tuple[str, tuple[str, ...]] | None = None
    unused: tuple[str, ...] = ()


def reading(path: pathlib.Path, what: str) -> contextlib.AbstractContextManager[None]:
    """Raises DataError, with the file in it, for any error of a library that reads `path` as `what`."""
    return damage_told(path, f"not {what}, or damaged")


def content(
    path: pathlib.Path, arrays: Mapping[str, Stored], images_key: str | None, labels_key: str | None
) -> Content:
    """Reads those of `arrays` that are images, labels, weights, groups, or names of classes, as `roles` tells.

    Raises:
      DataError: there are no images with labels; an array is not what it should be.
      ConfigError: a key names no array.
    """
    for name in arrays:
        if not is_one_line(name):
            raise DataError(f"{path}: holds an array {name!r:.80}; expected names of characters that can be shown")
    found = roles(str(path), {name: array.form for name, array in arrays.items()}, images_key, labels_key)
    splits = [None if names is None else _read_split(path, arrays, names) for names in found.splits]
    unused = found.unused
    class_names = None
    if found.class_names is not None:
        texts = _texts(path, found.class_names, arrays[found.class_names])
        if texts is None:
            unused = [*unused, found.class_names]
        else:
            class_names = found.class_names, texts
    return Content(str(path), splits, class_names, tuple(unused))


def source(of: Content, *, numbered: bool, share: Share = WHOLE) -> Source:
    """The examples of all splits.

    Args:
      of: what was read.
      numbered: integer labels are the numbers of the classes, which have no other names; see `labels.encode`.
      share: of the values of mapped files, at which this process looks.

    Raises:
      DataError: the arrays do not fit together, or hold values that cannot be used.
    """
    there = [split for split in of.splits if split]
    of_labels = [(split.labels, split.names.labels) for split in there]
    named = None if numbered or of.class_names is None else of.class_names[1]
    labels, names = labels_.encode(of_labels, numbered=numbered, names=named)
    with_groups = [(split.groups, str(split.names.groups)) for split in there if split.groups is not None]
    encoded, groups = iter(labels), iter(numbered_groups(with_groups))
    train, validation, test = (_examples(s, next(encoded), groups, share) if s else None for s in of.splits)
    assert train
    _tell_form(train)
    unused = list(of.unused)
    if of.class_names is not None and (named is None or names != named):
        unused.append(of.class_names[0])
    if unused:
        log.info("%s: does not use %s", of.where, enumeration(sorted(unused)))
    for name in unused:
        if name.lower() in split_names.COLUMNS:
            remedy = "--split_file=FILE says the split of each row"
            log.warning("%s: the array %r does not divide the rows; %s", of.where, name, remedy)
    return Source(train, validation, test, 255.0 if train.stored.dtype == np.uint8 else 1.0, names)


def laid_out(array: np.ndarray) -> np.ndarray:
    """The same numbers, row by row and in the machine's byte order, where TensorFlow can use them in place."""
    copy = memory.empty(array.shape, array.dtype.newbyteorder("="))
    copy[...] = array
    return copy


def _read_split(path: pathlib.Path, arrays: Mapping[str, Stored], names: Names) -> Split:
    of_kinds = {kind: name for kind, name in names._asdict().items() if name}
    in_errors = names._replace(**{kind: f"{path} ({name})" for kind, name in of_kinds.items()})
    return Split(in_errors, **{kind: arrays[name].read(kind) for kind, name in of_kinds.items()})


def _texts(path: pathlib.Path, name: str, array: Stored) -> tuple[str, ...] | None:
    """The names of the classes, if the array is one of text."""
    if array.form.dtype.kind not in "USO" or len(array.form.shape) != 1:
        return None
    return tuple(map(str, labels_.decoded(array.read("class_names"), f"{path} ({name})")))


def _examples(split: Split, labels: np.ndarray, groups: Iterator[np.ndarray], share: Share) -> Examples:
    """The examples of a split, with the next of `groups` if it has any."""
    examples = Examples(split.images, labels, split.names.images, share=share)
    return examples.annotated(
        None if split.weights is None else checked_weights(split.weights, len(examples), str(split.names.weights)),
        None if split.groups is None else checked_groups(next(groups), len(examples), str(split.names.groups)),
    )


def _tell_form(train: Examples) -> None:
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

"""MATLAB's `.mat` files as `-v7` and `-v6` write them: numbers and text alone. `-v7.3` is HDF5, see `hdf5`.

SciPy reads the values, where `matlab_variables` found what stands before them to be sound: it trusts types and lengths.
"""

import functools
import math
import os
import pathlib
from typing import IO

import numpy as np

from tfpipe.compute import host
from tfpipe.config import DataConfig
from tfpipe.data.readers import named
from tfpipe.data.readers.matlab_variables import MAGIC, Variable, variables
from tfpipe.data.readers.named import NO_ARRAY, Content, Split, Stored
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

_REMEDIES = {
    "char": "expected numbers",
    "cell": "expected numbers, or text of equal length, which char(VARIABLE) makes of a cell array",
    "object": "expected numbers, or text of equal length, which char(VARIABLE) makes of a string array",
    "struct": "expected numbers: save(FILE, '-struct', 'VARIABLE') makes variables of its fields",
    "sparse": "expected numbers, which full(VARIABLE) makes of it",
}


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file that begins as MATLAB's do, or else has their suffix."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return path if file.read(len(MAGIC)) == MAGIC or path.suffix.lower() == ".mat" else None


def read(
    path: pathlib.Path,
    images_key: str | None = None,
    labels_key: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
) -> Source:
    """Reads the variables of a file as `arrays.read_npz` reads the arrays of an archive; the arguments are the same.

    A variable has the type of its class: `double` is float64, whatever fewer bytes the file keeps it in. The examples
    may lie along the last axis; see `examples_first`.

    Raises:
      DataError: the file is damaged, or of another version; there are no such variables of numbers.
      ConfigError: a key names no variable.
    """
    with named.reading(path, "a MAT-file"), open(path, "rb") as file:
        stored: dict[str, Stored] = {}
        unread: list[Variable] = []
        for variable in variables(path, file, os.fstat(file.fileno()).st_size):
            if not variable.name:  # What MATLAB keeps of functions and objects.
                continue
            if variable.name in stored:
                raise DataError(
                    f"{path}: two variables are called {variable.name}; expected a name of its own for each"
                )
            if variable.form == NO_ARRAY:
                unread.append(variable)
            stored[variable.name] = Stored(variable.form, functools.partial(_read, path, file, variable))
        if unread and len(unread) == len(stored):
            raise DataError(f"{path} ({unread[0].name}): {unusable(unread[0].of_class)}")
        content, note = examples_first(named.content(path, stored, images_key, labels_key))
    return noted(named.source(content, numbered=numbered_classes), note)


def as_kind(values: np.ndarray, kind: str) -> np.ndarray:
    """The values of a variable as those of `kind` of an array: `[N]`, where MATLAB has `[1, N]` or `[N, 1]`."""
    return values.reshape(-1) if kind != "images" and values.ndim == 2 and 1 in values.shape else values


def unusable(of_class: str) -> str:
    """What is wrong with a variable of a class that is not of numbers, and what would be right."""
    return f"of MATLAB's class {of_class}; {_REMEDIES.get(of_class, 'expected numbers')}"


def examples_first(content: Content) -> tuple[Content, str]:
    """The same content with the examples along the first axis of the images, and a line where that was another.

    They are along the last one where this has as many places as there are training labels, and no other has: as in
    SVHN, whose `X` is `[32, 32, 3, N]`.
    """
    train = content.splits[0]
    assert train
    shape, n_labels = train.images.shape, len(train.labels)
    if shape.count(n_labels) == 1 and shape[-1] == n_labels and len(shape) > 1:
        moved = shape[-1:] + shape[:-1]
        note = (
            f"{train.names.images}: {_shown(shape)} with {n_labels} labels: the last axis is the one of the examples, "
            f"and is taken first, {_shown(moved)}"
        )
        log.info("%s", note)
        splits = [split and _laid_out(split, np.moveaxis(split.images, -1, 0)) for split in content.splits]
    else:
        note = ""
        if len(shape) > 1 and shape[0] == shape[-1] == n_labels:
            note = (
                f"{train.names.images}: {_shown(shape)} with {n_labels} labels: the first axis is taken as the one of "
                "the examples; if it is the last, move it to the front"
            )
            log.warning("%s", note)
        splits = [split and _laid_out(split, split.images) for split in content.splits]
    return content._replace(splits=splits), note


def noted(source: Source, note: str) -> Source:
    """The same source with a note, if there is one."""
    return source._replace(notes=(*source.notes, note)) if note else source


def _laid_out(split: Split, images: np.ndarray) -> Split:
    return split._replace(images=named.laid_out(images))


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _read(path: pathlib.Path, file: IO[bytes], variable: Variable, kind: str) -> np.ndarray:
    with host.undoing_imports():  # Of a filter of warnings.
        import scipy.io

    where = f"{path} ({variable.name})"
    if variable.form == NO_ARRAY or (variable.of_class == "char" and kind not in named.MAY_BE_TEXT):
        raise DataError(f"{where}: {unusable(variable.of_class)}")
    itemsize = 4 if variable.of_class == "char" else variable.form.dtype.itemsize
    check_fits_memory(where, math.prod(variable.shape) * itemsize)
    file.seek(0)
    codec = "utf-16-le" if variable.order == "<" else "utf-16-be"
    values = scipy.io.loadmat(file, mat_dtype=True, variable_names=[variable.name], uint16_codec=codec)[variable.name]
    if values.dtype.kind == "U":
        return np.char.rstrip(values, " ")  # Which pad texts to one length.
    return as_kind(values, kind)

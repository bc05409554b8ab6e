"""Files of the library safetensors: tensors by the names that arrays of an `.npz` have."""

import functools
import math
import os
import pathlib
import struct
from typing import Any

import numpy as np

from tfpipe import memory
from tfpipe.config import DataConfig
from tfpipe.data.readers import named
from tfpipe.data.readers.named import NO_ARRAY, Stored
from tfpipe.data.readers.npz_names import Form
from tfpipe.data.readers.source import Source
from tfpipe.data.rows import BLOCK_BYTES
from tfpipe.exceptions import DataError
from tfpipe.memory import check_fits_memory

_SUFFIX = ".safetensors"
# What their types are here. float32 holds every bfloat16.
_TYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "f4", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U64": "u8",
    "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file that begins as these do, or else has their suffix."""
    if not path.is_file():
        return None
    return path if path.suffix.lower() == _SUFFIX or _is_safetensors(path) else None


def read(
    path: pathlib.Path,
    images_key: str | None = None,
    labels_key: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
) -> Source:
    """Reads the tensors of a file as `arrays.read_npz` reads the arrays of an archive; the arguments are the same.

    bfloat16 becomes float32, without any loss.

    Raises:
      DataError: the file is damaged; it holds no such tensors; or there is no safetensors, by which it is read.
      ConfigError: a key names no tensor.
    """
    try:
        import safetensors
    except ImportError:
        raise DataError(f"{path}: is read by a package that is not there: pip install 'tfpipe[safetensors]'") from None
    with named.reading(path, "a safetensors file"), safetensors.safe_open(path, framework="np") as file:
        stored = {name: _stored(f"{path} ({name})", file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
        content = named.content(path, stored, images_key, labels_key)
    return named.source(content, numbered=numbered_classes)


def _is_safetensors(path: pathlib.Path) -> bool:
    """Whether it begins with the length of a header, and the JSON of one."""
    with open(path, "rb") as file:
        head = file.read(9)
        if len(head) < 9 or head[8:] != b"{":
            return False
        (length,) = struct.unpack("<Q", head[:8])
        return length <= os.fstat(file.fileno()).st_size - 8


def _stored(where: str, tensor: Any) -> Stored:
    shape, kind = tuple(tensor.get_shape()), tensor.get_dtype()
    form = Form(shape, np.dtype(_TYPES[kind])) if kind in _TYPES else NO_ARRAY
    return Stored(form, functools.partial(_read, where, tensor, form))


def _read(where: str, tensor: Any, form: Form, kind: str) -> np.ndarray:
    """The values, in pieces: the library has a copy of each."""
    if form == NO_ARRAY:
        raise DataError(f"{where}: of type {tensor.get_dtype()}; expected {', '.join(_TYPES)}")
    if not form.shape or 0 in form.shape:
        raise DataError(f"{where}: an array of shape {form.shape} holds nothing that could be examples")
    check_fits_memory(where, math.prod(form.shape) * form.dtype.itemsize)
    values = memory.empty(form.shape, form.dtype)
    rows = max(1, BLOCK_BYTES * len(values) // values.nbytes)
    for start in range(0, len(values), rows):
        stop = min(start + rows, len(values))
        values[start:stop] = tensor[start:stop]
    return values

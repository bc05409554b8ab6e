"""The variables of a `.mat` file of version 5, up to their values: names, classes and shapes, and whether all is sound.

Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf.
"""

import math
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np

from tfpipe.data.readers.named import NO_ARRAY
from tfpipe.data.readers.npz_names import Form
from tfpipe.exceptions import DataError
from tfpipe.memory import DEFLATE_MOST

# Classes of variables that are numbers, with NumPy's types.
NUMBERS = {
    "double": "f8", "single": "f4", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4",
    "uint32": "u4", "int64": "i8", "uint64": "u8", "logical": "?",
}  # fmt: skip
_CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single", 8: "int8", 9: "uint8",
    10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64", 16: "function handle",
}  # fmt: skip
_OPAQUE = 17
# Types of elements: bytes of a value, of numbers; and of text, where UTF-8 has one at least.
_NUMBER_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXT_SIZES = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
_UTF8, _MATRIX, _COMPRESSED = 16, 14, 15
MAGIC = b"MATLAB 5.0 MAT-file"
_HEADER_BYTES = 128
_VERSION = 0x0100
# More than stands before the values of any variable; and of how many compressed bytes it is made at most.
_HEAD_BYTES, _PACKED_BYTES = 8192, 1 << 16
_MOST_AXES = 32


class Variable(NamedTuple):
    """What stands before the values of a variable.

    Attributes:
      name: its name; empty for what MATLAB keeps of functions.
      of_class: its class, in words.
      shape: of the values; of text, the last length is that of each text.
      form: NO_ARRAY where it is neither numbers nor text.
      order: `<` or `>`, of the bytes in the file.
    """

    name: str
    of_class: str
    shape: tuple[int, ...]
    form: Form
    order: str


def variables(path: pathlib.Path, file: IO[bytes], size: int) -> Iterator[Variable]:
    """All variables of a file of `size` bytes. Raises DataError if one is not whole."""
    head = file.read(_HEADER_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
    if order is None or head[: len(MAGIC)] != MAGIC or struct.unpack(f"{order}H", head[124:126]) != (_VERSION,):
        remedy = "MATLAB's save(FILE, ..., '-v7') and scipy.io.savemat write one, and '-v7.3' writes HDF5"
        raise DataError(f"{path}: not a MAT-file of version 5; {remedy}")
    at = len(head)
    while at < size:
        file.seek(at)
        tag = file.read(8)
        kind, count = struct.unpack(f"{order}II", tag)
        at += len(tag) + count
        if count == 0 or at > size:
            raise DataError(f"{path}: truncated or damaged: {count} bytes are promised, and fewer follow")
        if kind == _COMPRESSED:
            packed = zlib.decompressobj()
            head = packed.decompress(file.read(min(count, _PACKED_BYTES)), _HEAD_BYTES)
            yield _variable(path, head, order, most=count * DEFLATE_MOST)
        else:
            yield _variable(path, tag + file.read(min(count, _HEAD_BYTES)), order, most=count)


def form(shape: tuple[int, ...], dtype: np.dtype) -> Form:
    """The form of a variable: MATLAB has no vectors, but matrices `[1, N]` and `[N, 1]`."""
    return Form((math.prod(shape),) if len(shape) == 2 and 1 in shape else shape, dtype)


def _variable(path: pathlib.Path, head: bytes, order: str, most: int) -> Variable:
    """The variable that begins with `head`, and has `most` bytes at most. Raises DataError if it is damaged."""
    elements = _Elements(head, order)
    kind, _ = elements.tag()
    flags, _ = elements.numbers(4, "I")[2:]
    number = flags & 0xFF
    if kind != _MATRIX or number not in {*_CLASSES, _OPAQUE}:
        raise DataError(f"{path}: damaged: no variable stands where one should")
    shape = () if number == _OPAQUE else elements.shape()
    name = elements.name()
    of_class = _CLASSES.get(number, "object")
    if of_class in NUMBERS and flags >> 9 & 1:
        of_class = "logical"
    if flags >> 11 & 1:
        of_class = f"complex {of_class}"
    if of_class not in NUMBERS and of_class != "char":
        return Variable(name, of_class, shape, NO_ARRAY, order)
    if any(length < 0 for length in shape) or not 2 <= len(shape) <= _MOST_AXES:
        raise DataError(f"{path}: {name}: damaged: its shape is {list(shape)}")
    kind, count = elements.tag()
    left = most + 8 - elements.at
    sizes = _TEXT_SIZES if of_class == "char" else _NUMBER_SIZES
    n_values = math.prod(shape)
    expected = n_values * sizes.get(kind, 0)
    if kind not in sizes or count > left or (count < expected if kind == _UTF8 else count != expected):
        raise DataError(f"{path}: {name}: damaged: {count} bytes of type {kind} for {list(shape)}")
    if not n_values:
        return Variable(name, f"empty {of_class}", shape, NO_ARRAY, order)
    if of_class == "char":
        return Variable(name, of_class, shape, Form(shape[:-1], np.dtype("U")), order)
    return Variable(name, of_class, shape, form(shape, np.dtype(NUMBERS[of_class])), order)


class _Elements:
    """The elements of a variable, from byte `at` of it on. Raises ValueError or struct.error where they are damaged."""

    def __init__(self, head: bytes, order: str):
        self._head, self._order = head, order
        self.at = 0

    def numbers(self, count: int, code: str) -> tuple[int, ...]:
        form = f"{self._order}{count}{code}"
        numbers = struct.unpack_from(form, self._head, self.at)
        self.at += struct.calcsize(form)
        return numbers

    def tag(self) -> tuple[int, int]:
        """Type and bytes of the next element, which is not passed over but for its tag."""
        kind, count = self.numbers(2, "I")
        if kind >> 16:  # A small element: its values stand in place of the count.
            self.at -= 4
            kind, count = kind & 0xFFFF, kind >> 16
            if count > 4:
                raise ValueError(f"a small element of {count} bytes")
        return kind, count

    def shape(self) -> tuple[int, ...]:
        kind, count = self.tag()
        if kind not in (5, 6) or count % 4 or count > 4 * _MOST_AXES:
            raise ValueError(f"{count} bytes of type {kind} as a shape")
        shape = self.numbers(count // 4, "i")
        self._align()
        return shape

    def name(self) -> str:
        kind, count = self.tag()
        name = self._head[self.at : self.at + count]
        if kind not in (1, _UTF8) or len(name) < count:
            raise ValueError(f"{count} bytes of type {kind} as a name")
        self.at += count
        self._align()
        return name.decode("latin1")

    def _align(self) -> None:
        """Goes on to a multiple of eight bytes, where elements begin."""
        self.at += -self.at % 8

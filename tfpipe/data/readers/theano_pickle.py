"""The file of the Theano tutorial, `mnist.pkl.gz`: a pickle of three `(images, labels)` pairs, read as plain data.

Nothing in the file is executed: every name but those that rebuild NumPy arrays is refused; see `plain_pickle`.
"""

import gzip
import math
import pathlib
import zlib
from typing import Any

import numpy as np

from tfpipe.data.examples import Examples
from tfpipe.data.readers.plain_pickle import PlainUnpickler, Refused, unpickle
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError, brief

# Five times the file that the tutorial had, decompressed; more than that comes as .npz or .npy.
MOST_BYTES = 1 << 30
_MNIST_SHAPE = (28, 28)
_TYPES = frozenset(["f2", "f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file `.pkl` or `.pkl.gz`."""
    return path if path.name.endswith((".pkl", ".pkl.gz")) and path.is_file() else None


def read(path: pathlib.Path, most_bytes: int = MOST_BYTES) -> Source:
    """Reads a pickle (gzip'd or not) of `((images, labels), (images, labels), (images, labels))`.

    Images `[n, D]` of floating point (the tutorial's: float32, pixel / 256) or bytes, labels `[n]` integers; train,
    validation, test. Rows of 784 are 28 x 28 images, as in the tutorial's file; others stay rows.

    Args:
      path: the file.
      most_bytes: what it may hold at most, decompressed.

    Raises:
      DataError: the file is damaged, too large, of another form, or names anything but NumPy's arrays.
    """
    pairs = _unpickle(path, _decompressed(path, most_bytes))
    if not (isinstance(pairs, (tuple, list)) and len(pairs) == 3):
        raise DataError(f"{path}: expected three (images, labels) pairs: train, validation, test")
    splits = []
    for name, pair in zip(("train", "validation", "test"), pairs, strict=True):
        where = f"{path} ({name})"
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(a, _Array) for a in pair)):
            raise DataError(f"{where}: expected a pair of NumPy arrays, (images, labels)")
        images, labels = (array.value(where) for array in pair)
        if images.ndim != 2:
            raise DataError(f"{where}: images of shape {images.shape}; expected [n, D], one row an image")
        if images.shape[1] == math.prod(_MNIST_SHAPE):
            images = images.reshape(-1, *_MNIST_SHAPE)
        splits.append(Examples(images, labels, where))

    train, validation, test = splits
    return Source(train, validation, test, pixel_max=255.0 if train.stored.dtype == np.uint8 else 1.0)


def texts(where: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The text in an array of objects, as `numpy.save` writes it: a pickle of which nothing is executed.

    Args:
      where: the array, in errors.
      data: the pickle.
      shape: of the array, as the header before the pickle says.

    Raises:
      DataError: it holds anything but text.
    """
    try:
        array = _unpickle(where, data)
        values = array.data if isinstance(array, _Array) else None
        if isinstance(values, list) and values and all(type(value) is str for value in values):
            return np.array(values).reshape(shape)
        reason = "not all of them text"
    except ValueError as error:  # Of another shape, too.
        reason = brief(error)
    remedy = "where you trust it, numpy.load(FILE, allow_pickle=True) reads it; save that as ARRAY.astype(str)"
    raise DataError(f"{where}: refused: an array of type object, {reason}; {remedy}")


def _decompressed(path: pathlib.Path, most_bytes: int) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            data = file.read(most_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or truncated gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > most_bytes:
        raise DataError(f"{path}: holds more than {most_bytes} bytes, the most that is read of such a file")
    return data


def _unpickle(where: pathlib.Path | str, data: bytes) -> Any:
    return unpickle(where, data, _ArrayUnpickler, "expected a pickle of NumPy arrays and nothing else")


class _Dtype:
    """Stands in for `numpy.dtype`."""

    def __init__(self, name: str, *flags: object):
        self.name = name
        self.byte_order = "="

    def __setstate__(self, state: tuple) -> None:
        self.byte_order = state[1]

    def value(self) -> np.dtype:
        if not isinstance(self.name, str) or self.name not in _TYPES:
            raise Refused("an array of another type than integers and floating-point numbers")
        return np.dtype((self.byte_order if self.byte_order in ("<", ">") else "=") + self.name)


class _Array:
    """Stands in for `numpy.ndarray`: holds what the pickle says of the array until `value` builds it."""

    shape: Any
    dtype: Any
    fortran_order: Any
    data: Any

    def __setstate__(self, state: tuple) -> None:
        _version, self.shape, self.dtype, self.fortran_order, self.data = state

    def value(self, where: str) -> np.ndarray:
        try:
            dtype = self.dtype.value()
            # Text where Python 2 wrote a string of bytes, and where `_encode` left it so.
            data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
            return np.frombuffer(memoryview(data), dtype).reshape(self.shape, order="F" if self.fortran_order else "C")
        except Refused as error:
            raise DataError(f"{where}: refused: {error}; expected numbers") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{where}: damaged array: {brief(error)}") from error


def _reconstruct(_type: object, _shape: object, _typecode: object) -> _Array:
    return _Array()


def _frombuffer(data: bytes, dtype: _Dtype, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _encode(text: str, encoding: str) -> str:
    # Protocol 2 writes bytes as latin-1 text; no other codec has a reason to be here. The text is encoded once, when
    # its array is built: a file that encodes it a thousand times must not take a thousand times its memory.
    if encoding != "latin1":
        raise Refused("it uses another codec than latin1")
    return text


_ADMITTED = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(PlainUnpickler):
    """Reads NumPy's arrays of numbers, and of text."""

    admitted = _ADMITTED
    with_state = (_Array, _Dtype)

"""The file of the Theano tutorial, `mnist.pkl.gz`: a pickle of three `(images, labels)` pairs, read as plain data.

Nothing in the file is executed. A pickle is a program that may name any function; here every name but those that
rebuild NumPy arrays is refused, and those few are bound to the stand-ins below, which only record what they are given.
"""

import gzip
import io
import math
import pathlib
import pickle
import zlib
from typing import Any, ClassVar

import numpy as np

from tfpipe.data.examples import Examples
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


def _unpickle(path: pathlib.Path | str, data: bytes) -> Any:
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Refused as error:
        raise DataError(f"{path}: refused: {error}; expected a pickle of NumPy arrays and nothing else") from None
    except MemoryError:
        raise
    except Exception as error:  # A damaged pickle can fail in any way; none of them is more than damage.
        raise DataError(f"{path}: not a readable pickle: {brief(error)}") from error


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not admitted."""


class _Dtype:
    """Stands in for `numpy.dtype`."""

    def __init__(self, name: str, *flags: object):
        self.name = name
        self.byte_order = "="

    def __setstate__(self, state: tuple) -> None:
        self.byte_order = state[1]

    def value(self) -> np.dtype:
        if not isinstance(self.name, str) or self.name not in _TYPES:
            raise _Refused("an array of another type than integers and floating-point numbers")
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
        except _Refused as error:
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
        raise _Refused("it uses another codec than latin1")
    return text


_ADMITTED = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


# Python's own unpickler in its Python form: the C form allocates whatever size a damaged file asks for.
_PythonUnpickler: Any = pickle._Unpickler
_OPCODE_NAMES = (
    "PROTO FRAME MARK STOP GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG "
    "LONG1 STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST APPEND APPENDS GET BINGET "
    "LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE"
)
_OPCODES = frozenset(getattr(pickle, name) for name in _OPCODE_NAMES.split())


class _ArrayUnpickler(_PythonUnpickler):
    """Reads what `_ADMITTED` can build, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"it names {module}.{name}") from None

    def load_bytearray8(self) -> None:
        # The inherited method allocates the promised length before it looks for the bytes.
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def load_build(self) -> None:
        # The inherited method would also set attributes of the functions above.
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise _Refused("it sets the state of something that is no array")
        super().load_build()

    # No dictionaries and sets: a small file can hold a key whose hash takes for ever.
    dispatch: ClassVar = {
        **{code: function for code, function in _PythonUnpickler.dispatch.items() if bytes([code]) in _OPCODES},
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.BUILD[0]: load_build,
    }

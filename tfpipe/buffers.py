"""Memory for images that TensorFlow can use where it lies: what is loaded once is held once."""

import math
import mmap
from typing import IO, BinaryIO

import numpy as np

# TensorFlow uses an array in place only if it begins at a multiple of this, in bytes. What malloc gives seldom does.
ALIGNMENT = 64
_BYTES_PER_READ = 1 << 20


def empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An array of zeros, of at least one value, that begins where a page of memory does.

    Raises:
      MemoryError: there is not so much.
    """
    dtype = np.dtype(dtype)
    try:
        memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    except OSError as error:
        raise MemoryError(error.strerror) from error
    return np.frombuffer(memory, dtype).reshape(shape)


def read(file: BinaryIO | IO[bytes], size: int) -> np.ndarray:
    """The next `size` bytes of `file`, at least 1, or what there is of them: `[at most size]` uint8."""
    data = empty((size,), np.uint8)
    filled = 0
    while filled < size and (piece := file.read(min(_BYTES_PER_READ, size - filled))):
        data[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    return data[:filled]

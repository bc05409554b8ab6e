"""Which rows of arrays are equal, byte by byte. NumPy only."""

from collections.abc import Sequence

import numpy as np

from tfpipe.data.fingerprint import Part
from tfpipe.data.rows import chosen

_WORD = np.dtype(np.uint32)
# So many bytes in the middle of each row are hashed first, which tells nearly all apart: all but 713 of MNIST's 70,000.
_MIDDLE = 64
# What stays in a core's cache, with what becomes of it.
_BLOCK_BYTES = 1 << 18


def contents(parts: Sequence[Part]) -> list[np.ndarray]:
    """Numbers of their contents, `[n]` int64 for each part: equal rows have one, at least 0; -1: no other is equal.

    What is compared is a hash of 128 bits of each row, the sums of its words of 32 bits times random ones of 64, modulo
    2**64: two rows that differ have one hash with a probability of at most 2**-66 (Lemire and Kaser, "Strongly
    universal string hashing is fast", 2014, "multilinear").

    Args:
      parts: arrays of one type, with rows of one shape.
    """
    rows = [np.arange(len(array)) if numbers is None else numbers for array, numbers in parts]
    bounds = np.cumsum([0, *map(len, rows)])
    places = np.arange(bounds[-1])
    number = places
    for n_hashes, in_the_middle in ((1, True), (2, False)):
        of_each = np.split(places, np.searchsorted(places, bounds[1:-1]))
        hashes = [
            _hashes(part.array, of_part[of_places - begin], n_hashes, in_the_middle)
            for part, of_part, of_places, begin in zip(parts, rows, of_each, bounds, strict=False)
        ]
        number = _numbered(np.concatenate(hashes))
        twice = np.bincount(number)[number] > 1
        places, number = places[twice], number[twice]
    found = np.full(bounds[-1], -1)
    found[places] = number
    return np.split(found, bounds[1:-1])


def _hashes(array: np.ndarray, rows: np.ndarray, n_hashes: int, in_the_middle: bool) -> np.ndarray:
    """`[n, n_hashes]` uint64: of all bytes of each of the rows, or of those in its middle."""
    n_bytes = array[:1].nbytes
    columns = slice(None)
    if in_the_middle and n_bytes > _MIDDLE:
        begin = (n_bytes - _MIDDLE) // 2
        columns, n_bytes = slice(begin, begin + _MIDDLE), _MIDDLE
    n_words = -(-n_bytes // _WORD.itemsize)
    factors = np.random.Generator(np.random.Philox(key=0)).integers(0, 1 << 64, (n_words, n_hashes), np.uint64)
    hashes = np.empty((len(rows), n_hashes), np.uint64)
    # Of rows here and there, no more than these columns is copied.
    is_whole = array.flags.c_contiguous
    source = _bytes(array)[:, columns] if is_whole else array
    step = max(1, _BLOCK_BYTES // max(n_bytes, array[:1].nbytes if not is_whole else 0))
    for start in range(0, len(rows), step):
        block = chosen(source, rows[start : start + step])
        block = block if is_whole else _bytes(block)[:, columns]
        words = np.zeros((len(block), n_words * _WORD.itemsize), np.uint8)
        words[:, :n_bytes] = block
        hashes[start : start + step] = words.view(_WORD).astype(np.uint64) @ factors
    return hashes


def _bytes(array: np.ndarray) -> np.ndarray:
    """`[n, bytes]`: a view where the array is contiguous."""
    return np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)


def _numbered(keys: np.ndarray) -> np.ndarray:
    """`[n]` int64: equal numbers for equal rows of `keys`, `[n, m]`."""
    order = np.lexsort(keys.T)
    is_new = np.arange(len(keys)) == 0
    for column in keys.T:
        ordered = column[order]
        is_new[1:] |= ordered[1:] != ordered[:-1]
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return numbers

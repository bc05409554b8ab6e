"""Some rows of an array, by their numbers in ascending order: a file that memory cannot hold is then read forward."""

from collections.abc import Iterator

import numpy as np

BLOCK_BYTES = 8 << 20


def chosen(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`array[rows]`: a view where the rows are consecutive, else a copy.

    Args:
      array: `[M, ...]`.
      rows: `[n]` int64, ascending, in [0, M).
    """
    if not len(rows):
        return array[:0]
    first, last = int(rows[0]), int(rows[-1])
    return array[first : last + 1] if last - first + 1 == len(rows) else array[rows]


def blocks(array: np.ndarray, rows: np.ndarray, most_bytes: int, itemsize: int) -> Iterator[np.ndarray]:
    """The same rows in pieces `[m, ...]` one after the other.

    A piece takes at most `most_bytes` where a value takes `itemsize` bytes, or it is a single row.
    """
    step = max(1, most_bytes // (itemsize * array[0].size))
    for start in range(0, len(rows), step):
        yield chosen(array, rows[start : start + step])

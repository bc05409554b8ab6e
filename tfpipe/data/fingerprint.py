"""Whether data is still the same."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfpipe.data.rows import chosen

_BLOCK_BYTES = 1 << 20
# 0.2 s on one core. Larger arrays are sampled: to read 12 GB again would take longer than many a run.
_MOST_BLOCKS = 256


class Part(NamedTuple):
    """An array `[M, ...]`, of which the ascending `rows`, `[n]` int64, belong to the data; None: all."""

    array: np.ndarray
    rows: np.ndarray | None = None


def fingerprint(facts: str, parts: Iterable[Part]) -> str:
    """SHA-256, 64 hexadecimal digits, of `facts` and of shape, type and values of each part.

    Where in their array these rows lie does not matter. Of a part beyond 256 MiB, 256 blocks of rows of about a MiB (of
    a row, if that is larger), evenly spread from its beginning to its end, stand for the values: a change between them
    does not show.
    """
    digest = hashlib.sha256(facts.encode())
    for array, numbers in parts:
        rows = np.arange(len(array)) if numbers is None else numbers
        digest.update(f"\n{array.dtype.str} {(len(rows), *array.shape[1:])}\n".encode())
        step = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
        starts = np.arange(0, len(rows), step)
        if len(starts) > _MOST_BLOCKS:
            starts = np.linspace(0, len(rows) - step, _MOST_BLOCKS).astype(np.int64)
        for start in starts:
            digest.update(np.ascontiguousarray(chosen(array, rows[start : start + step])).tobytes())
    return digest.hexdigest()

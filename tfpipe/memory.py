"""Memory: how much there is, and arrays that TensorFlow can use where they lie."""

import math
import mmap
import os
import pathlib
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from tfpipe.exceptions import DataError

# Deflate, in gzip and zip, cannot expand a byte to more than this many (zlib's technical details): a larger claim is
# false, and is found out before memory is taken for it.
DEFLATE_MOST = 1032
_ROOT = pathlib.Path("/")


def total_memory(root: pathlib.Path = _ROOT) -> int:
    """How many bytes this process may use at most: the machine's memory, or the limit of a container.

    Args:
      root: where `proc` and `sys` lie.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(group.limit for group in _groups(root))])


def available_memory(root: pathlib.Path = _ROOT) -> int:
    """How many bytes this process could still use, for the system's cache of files too; `root` as above."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([total_memory(root), *available, *(group.limit - group.held for group in _groups(root))])


def check_fits_memory(where: str, size: int) -> None:
    """Raises DataError if `size` bytes, which a file asks for, are more than there are: before they are taken."""
    most = total_memory()
    if size > most:
        raise DataError(
            f"{where}: would take {size / 2**30:.1f} GiB of memory, and there are {most / 2**30:.1f}; an .npy "
            "file that numpy.save wrote may be larger than memory"
        )


class _Group(NamedTuple):
    """A control group of Linux, in bytes: what its processes may use, and what they hold without cached files."""

    limit: int
    held: int


def _groups(root: pathlib.Path) -> list[_Group]:
    """Those that this process is in, and those around them, as far as they have a limit: versions 1 and 2."""
    cgroups = root / "sys/fs/cgroup"
    try:
        lines = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []  # Not Linux.
    groups = []
    for _, controllers, path in lines:
        if controllers and "memory" not in controllers.split(","):
            continue
        top = cgroups / "memory" if controllers else cgroups
        names = ("memory.limit_in_bytes", "rss") if controllers else ("memory.max", "anon")
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(top):
                groups += _group(folder, *names)
    return groups


def _group(folder: pathlib.Path, limit: str, held: str) -> list[_Group]:
    try:
        bytes_or_max = (folder / limit).read_text().strip()
        if not bytes_or_max.isdigit():  # `max`: no limit.
            return []
        statistics = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        return [_Group(int(bytes_or_max), int(statistics.get(f"total_{held}", statistics.get(held, 0))))]
    except (OSError, ValueError):  # It has none, has just ended, or is not for us to see.
        return []


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

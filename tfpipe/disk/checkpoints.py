"""The state of a run on disk: the newest two, each of them whole.

A file is an `.npz` archive: an array for each part of the state, and `facts`, JSON as bytes. The archive's comment is
the SHA-256 of all bytes before it, so that no damage goes unnoticed. Needs NumPy alone, and executes nothing that is in
a file.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np

from tfpipe.disk import files, npz
from tfpipe.exceptions import DataError, brief
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

FORMAT_VERSION = 2
_KEPT = 2
_DIGITS = 12
_DIGEST_BYTES = 64


class Saved(NamedTuple):
    """What one file holds.

    Attributes:
      facts: what is no array, as JSON can hold it.
      arrays: by name.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Checkpoints:
    """The states in `folder`. One process at a time may use it."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def save(self, number: int, saved: Saved) -> None:
        """Writes a state, of which `number` says how new it is, and removes those that are older than the newest two.

        Raises:
          OSError: it cannot be written; those that were there still are.
        """
        files.write_whole(self._folder / f"{number:0{_DIGITS}}.npz", encode(saved))
        for path in self._paths()[_KEPT:]:
            with contextlib.suppress(OSError):  # It is in nobody's way.
                os.unlink(path)

    def load(self) -> Saved | None:
        """The newest sound state; None if there never was one. Damaged files get another name.

        Raises:
          DataError: none that is there is sound, or the newest is of another version.
          OSError: a file cannot be read.
        """
        for path in self._paths():
            try:
                return decode(str(path), _read(path))
            except _DamagedError as error:
                os.replace(path, path.with_name(f"{path.name}.damaged"))
                log.warning("%s; put aside as %s.damaged", error, path.name)
        damaged = sorted(self._folder.glob("*.damaged"))
        if damaged:
            raise DataError(f"{damaged[-1]}: the state of the run is damaged, and no older one is left")
        return None

    def clear(self) -> None:
        """Removes all states, the damaged ones too; the newest last, so that half of it is no step back."""
        for name in reversed(self.names()):
            os.unlink(self._folder / name)

    def names(self) -> list[str]:
        """The files that are there, the damaged ones too."""
        return [path.name for path in [*self._paths(), *self._folder.glob("*.damaged")]]

    def _paths(self) -> list[pathlib.Path]:
        """The newest first."""
        return sorted(self._folder.glob(f"{'[0-9]' * _DIGITS}.npz"), reverse=True)


def size(saved: Saved) -> str:
    """How many bytes a file takes, about, in words."""
    kilobytes = 1 + sum(array.nbytes + 300 for array in saved.arrays.values()) // 1000
    return f"{kilobytes} kB" if kilobytes < 1000 else f"{kilobytes / 1000:.1f} MB"


class _DamagedError(DataError):
    """The file is not what was written."""


def encode(saved: Saved) -> bytes:
    """The content of a file."""
    facts = json.dumps({"format_version": FORMAT_VERSION, **saved.facts}, allow_nan=False).encode()
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.frombuffer(facts, np.uint8), **saved.arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(_DIGEST_BYTES)
    with buffer.getbuffer() as content:
        digest = _digest(content[:-_DIGEST_BYTES])
    buffer.seek(-_DIGEST_BYTES, io.SEEK_END)
    buffer.write(digest)
    return buffer.getvalue()  # Not a copy.


def decode(where: str, content: bytes) -> Saved:
    """What `encode` was given, from what it gave.

    Raises:
      DataError: `content`, which came from `where`, is damaged, or is of another version.
    """
    if len(content) < _DIGEST_BYTES or _digest(content[:-_DIGEST_BYTES]) != content[-_DIGEST_BYTES:]:
        raise _DamagedError(f"{where}: damaged: its bytes do not match its checksum")
    try:
        arrays = npz.load(where, io.BytesIO(content))
        facts = json.loads(arrays.pop("facts").tobytes())
        version = facts.pop("format_version")
    except MemoryError:
        raise
    except Exception as error:  # Whoever can write checksums can write anything before them.
        raise _DamagedError(f"{where}: not a state of a run: {brief(error)}") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{where}: a state of format version {version!r}; this program reads {FORMAT_VERSION}")
    return Saved(facts, arrays)


def _read(path: pathlib.Path) -> bytes:
    check_fits_memory(str(path), path.stat().st_size)
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno == errno.EIO:  # A bad sector.
            raise _DamagedError(f"{path}: damaged: {error.strerror}") from error
        raise


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()

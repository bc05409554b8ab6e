"""Files that reach the disk whole or not at all."""

import os
import pathlib


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Replaces the file at `path` by `data`: a reader, or a crash at any moment, sees the old content or the new one.

    Raises:
      OSError: the file cannot be written; what stood there still stands.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

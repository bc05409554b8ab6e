"""Files that reach the disk whole or not at all."""

import os
import pathlib
import tempfile


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Replaces the file at `path` by `data`: a reader, or a crash at any moment, sees the old content or the new one.

    Raises:
      OSError: the file cannot be written; what stood there still stands.
    """
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    # The mode that open() would give; mkstemp's own is for the owner alone. Reading the mask means setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that reach the disk whole or not at all."""

import contextlib
import errno
import os
import pathlib
import shutil


def write_whole(path: pathlib.Path, data: bytes | memoryview) -> None:
    """Replaces the file at `path` by `data`: a reader, or a crash at any moment, sees the old content or the new one.

    Raises:
      OSError: the file cannot be written, or is a folder or a device; what stood there still stands.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is there, and no file", str(path))
    temporary = path.with_name(temporary_name(path))
    try:
        _write(temporary, data)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync(path.parent)  # Without it a power cut could take the new name back.


def temporary_name(path: pathlib.Path) -> str:
    """The name of a new file or folder until it takes the place of `path`; if that never comes, of a leftover."""
    return f".{path.name}.{os.getpid()}.new"


def _write(path: pathlib.Path, data: bytes | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        rest = memoryview(data)
        while rest:  # A disk that is nearly full takes a part.
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: pathlib.Path) -> None:
    """Returns when all that was written to the file, or to the list of names of a folder, is on the disk.

    Raises:
      OSError: it does not get there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(path: pathlib.Path) -> None:
    """As `sync`, for a file, or for a folder and all that is in it."""
    for each in [*path.rglob("*"), path]:
        sync(each)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what a process that died has left under a `temporary_name`; nothing must be writing there."""
    for path in folder.glob(".*.[0-9]*.new"):
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                os.unlink(path)

"""A lock on a file: one process at a time."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from tfpipe.log import log


class HeldError(Exception):
    """Another process has the lock. Its words say which."""


@contextlib.contextmanager
def held(path: pathlib.Path, what: str) -> Iterator[None]:
    """Keeps other processes out as long as this one lives. `what` says in a warning what cannot be locked.

    Raises:
      HeldError: another process has it.
      OSError: the file cannot be written.
    """
    with open(path, "a+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # The system gives it back, however a process ends.
        except BlockingIOError:
            lock.seek(0)
            raise HeldError(" ".join(lock.read(200).decode(errors="replace").split()) or "another process") from None
        except OSError as error:  # A file system without locks.
            log.warning("%s cannot be locked: %s; a second run there would not notice", what, error)
        with contextlib.suppress(OSError):  # On a full disk the name is missing, and the lock holds all the same.
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield

"""Standard output and standard error, also where they are closed or full."""

import contextlib
import os
import sys

from tfpipe.exceptions import TfpipeError


def repair() -> None:
    """Gives the process the streams that it was started without, so that writing to them is harmless."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))


def write_output(text: str) -> None:
    """Writes a result for scripts.

    Raises:
      TfpipeError: it cannot be written, or nobody reads it.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # What is still in the buffer must not fail at exit again.
        raise TfpipeError(f"standard output cannot be written: {error.strerror}") from error


def flush() -> None:
    """Sends on what still waits. A stream that cannot be written is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed.
            stream.flush()


def write_error(text: str) -> None:
    """Writes a line for people. A stream that cannot be written is no reason to fail."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def pass_on(data: bytes) -> None:
    """Writes for people what another process has written. A stream that cannot be written is no reason to fail."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(2, data) :]

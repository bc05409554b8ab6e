"""SIGTERM and SIGINT: they end a command at once, or a run with what it has; then a second one ends it at once."""

import contextlib
import os
import signal
import types
from collections.abc import Callable, Iterator

STATUS = 143

_deferred = False
_came = False


class Interrupted(BaseException):
    """One of the signals came. Not an Exception: nothing but the command line is to catch it."""


def listen() -> None:
    """Takes over both signals, from now on; not one that is ignored, as a shell has it for jobs in the background.

    They raise Interrupted in the main thread.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within it, a signal is only noted, and a second one ends the process; gives the function that tells."""
    global _deferred
    _deferred = True
    try:
        yield lambda: _came
    finally:
        _deferred = False


def _handle(number: int, frame: types.FrameType | None) -> None:
    global _came
    if not _deferred:
        raise Interrupted(signal.Signals(number).name)
    if _came:
        os._exit(STATUS)
    _came = True
    # Not by the log: a signal may come while that holds its lock. On a line of its own: there may be a live line.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{signal.Signals(number).name}: ending with what there is; once more to end at once\n".encode())

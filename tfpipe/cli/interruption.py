"""SIGTERM, SIGINT and SIGHUP: they end a command at once, or a run with what it has."""

import contextlib
import os
import signal
import types
from collections.abc import Callable, Iterator

STATUS = 143

_HANGUP = getattr(signal, "SIGHUP", None)  # The terminal was closed, or its line dropped. Not on Windows.

_deferred = False
_came = False
_came_by_hand = False


class Interrupted(BaseException):
    """One of the signals came. Not an Exception: nothing but the command line is to catch it."""


def listen() -> None:
    """Takes over the signals, from now on; not one that is ignored, as by nohup, or by a shell for background jobs.

    They raise Interrupted in the main thread. What came before is forgotten.
    """
    _forget()
    for number in (signal.SIGTERM, signal.SIGINT, _HANGUP):
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within it, a signal is only noted, and a second SIGTERM or SIGINT ends the process.

    Gives the function that tells whether one came since it began.
    """
    global _deferred
    _forget()  # One that came before has raised Interrupted.
    _deferred = True
    try:
        yield lambda: _came
    finally:
        _deferred = False


def _forget() -> None:
    global _came, _came_by_hand
    _came = _came_by_hand = False


def _handle(number: int, frame: types.FrameType | None) -> None:
    global _came, _came_by_hand
    # A closed terminal can send SIGHUP twice, once by the shell; and nobody is there who could mean it.
    by_hand = number != _HANGUP
    if by_hand and _came_by_hand:
        os._exit(STATUS)
    is_first = not _came
    _came, _came_by_hand = True, _came_by_hand or by_hand
    if not is_first:
        return
    if not _deferred:
        raise Interrupted(signal.Signals(number).name)
    # Not by the log: a signal may come while that holds its lock. On a line of its own: there may be a live line.
    at_once = "once more to end at once" if by_hand else "SIGTERM twice to end at once"
    with contextlib.suppress(OSError):
        os.write(2, f"\n{signal.Signals(number).name}: ending with what there is; {at_once}\n".encode())

"""SIGTERM and SIGINT: the first asks the run to end with what it has, a second ends the process at once."""

import contextlib
import os
import signal
import types

STATUS = 143

_came = False


def listen() -> None:
    """Takes over both signals, from now on; not one that is ignored, as a shell has it for jobs in the background."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def came() -> bool:
    """Whether one of the signals has come."""
    return _came


def _handle(number: int, frame: types.FrameType | None) -> None:
    global _came
    if _came:
        os._exit(STATUS)
    _came = True
    # Not by the log: a signal may come while that holds its lock. On a line of its own: there may be a live line.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{signal.Signals(number).name}: ending with what there is; once more to end at once\n".encode())

"""Ctrl-C in a program that trains: noted, so that the run ends between two spans with all that it has."""

import contextlib
import signal
import threading
import types
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def asked_to_stop(should_stop: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Within it SIGINT is noted where it would raise KeyboardInterrupt; a second one raises it.

    One that comes after the last look is raised at the end.

    Gives what tells whether to stop: if one came, or `should_stop` says so or raises KeyboardInterrupt. The handler of
    the program is put back at the end; one of its own is left alone, and so are other threads than the main one.
    """
    came = heard = False

    def note(number: int, frame: types.FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    def stops() -> bool:
        nonlocal heard
        try:
            wanted = should_stop()
        except KeyboardInterrupt:
            if came:  # The second one.
                raise
            return True
        heard = came
        return wanted or came

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield stops
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield stops
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came and not heard:  # After the last look: there is nothing left to stop, but perhaps in the program.
        raise KeyboardInterrupt

"""Ends a process in which TensorFlow waits for others that are gone, with a line that says who.

While TensorFlow joins the processes of a cluster it keeps Python's lock: no other thread runs, and no signal's handler.
So a process more looks on meanwhile: this file as a program, of the standard library alone, for 10 ms of a core. It
says who is gone; faulthandler, which is written in C, ends the process that waits.
"""

import contextlib
import faulthandler
import io
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

ANOTHER = "another worker"
# For TensorFlow to join processes that are all there, which takes it one or two.
_MOST_SECONDS = 18.0
# When the process beside looks who is there: before any of the others ends for the same reason, and twice, for a busy
# machine; then it speaks, when faulthandler has begun.
_LOOKS, _SPEAKS = (14.0, 16.0), 19.0
_SECONDS_OF_A_CALL, _SECONDS_TO_SPEAK = 1.0, 3


@contextlib.contextmanager
def watched(ports: Mapping[str, tuple[str, int]], line: str) -> Iterator[None]:
    """Ends this process, with status 1 and a line on standard error, if what is within takes more than 18 seconds.

    Args:
      ports: of the others, by name: host and port.
      line: with `{}` for the name of the first that does not listen; if all do, for "another worker".

    Raises:
      OSError: no process can be started.
    """
    source, sink = os.pipe()
    with open(sink, "wb", buffering=0) as full:
        with open(source, "rb", buffering=0) as end:
            _fill(full)
            others = [word for name, (host, port) in ports.items() for word in (name, host, str(port))]
            beside = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, line, *others],
                stdin=end,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it.
            )
        # Before it ends this process it writes: to a full pipe, so it waits until nobody can read from that, which is
        # when the process beside has spoken and ended.
        faulthandler.dump_traceback_later(_MOST_SECONDS, exit=True, file=full)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            full.close()  # The process beside would end, unless somebody has stopped it.
            beside.kill()
            beside.wait()


def listens(host: str, port: int) -> bool:
    """Whether anybody listens there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=_SECONDS_OF_A_CALL):
        return True
    return False


def _fill(pipe: io.FileIO) -> None:
    os.set_blocking(pipe.fileno(), False)
    while pipe.write(bytes(4096)) is not None:
        pass
    os.set_blocking(pipe.fileno(), True)


def _look_on(line: str, *others: str) -> None:
    """Says who is gone, unless nobody can write to this process's input any more, in time."""
    poll = select.poll()
    poll.register(sys.stdin, 0)
    begin, gone = time.monotonic(), list(zip(*[iter(others)] * 3, strict=True))
    for at in (*_LOOKS, _SPEAKS):
        if poll.poll(1000 * max(0.0, begin + at - time.monotonic())):  # All are joined, or the other process has ended.
            return
        if at in _LOOKS:
            gone = [other for other in gone if not listens(other[1], int(other[2]))]
    signal.alarm(_SECONDS_TO_SPEAK)  # Nobody may read what is written.
    with contextlib.suppress(OSError):
        os.write(2, f"{line.format(gone[0][0] if gone else ANOTHER)}\n".encode())


if __name__ == "__main__":
    _look_on(*sys.argv[1:])

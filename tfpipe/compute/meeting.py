"""The processes of a cluster come together, before TensorFlow, which would wait for the others without end.

Each worker calls the chief, on the port that is TensorFlow's afterwards, and says which one it is. The connection stays
while all load their data: so each hears at once if one of them cannot, and before long if one is silent, for all let
hear from them every few seconds. When all are ready the chief tells them to go.
While TensorFlow waits for others nothing else runs in the process, no signal's handler either.
"""

import contextlib
import hashlib
import json
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator

from tfpipe.compute.tf_config import Task
from tfpipe.exceptions import ClusterError

# For all processes to come.
MOST_SECONDS = 40.0
_SECONDS_BETWEEN_CALLS, _SECONDS_OF_A_GREETING = 0.1, 2.0
# A process that loads data may keep Python's lock for a while.
_SECONDS_BETWEEN_BEATS, _MOST_SECONDS_OF_SILENCE = 3.0, 30.0
_BEAT = ""
# Which a thread of this process sends to the one that loads, and nobody else.
_INTERRUPT = signal.SIGUSR1
_MOST_BYTES = 1 << 16
_READY = "ready"


class _Line:
    """A connection on which lines are said."""

    def __init__(self, connection: socket.socket, stack: contextlib.ExitStack):
        self._connection, self._one_at_a_time = stack.enter_context(connection), threading.Lock()
        # Without its end the connection would have none.
        self._heard = stack.enter_context(connection.makefile("r", encoding="utf-8", errors="replace"))
        stack.callback(self._hang_up)

    def say(self, line: str) -> None:
        """Says a line, if there is somebody to hear it."""
        with contextlib.suppress(OSError), self._one_at_a_time:
            self._connection.sendall(" ".join(line.split()).encode() + b"\n")

    def hear(self, most_seconds: float = _MOST_SECONDS_OF_SILENCE) -> str:
        """The next line that is no beat; empty: there is none, or nothing was heard for so many seconds."""
        try:
            self._connection.settimeout(most_seconds)
            while (line := self._heard.readline(_MOST_BYTES)) == f"{_BEAT}\n":
                pass
        except (OSError, ValueError):  # The latter of a connection that this process has ended.
            return ""
        return line.rstrip("\n")

    def _hang_up(self) -> None:
        """Ends what a thread still hears, which would hold up the end of the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


class Meeting:
    """Those of a cluster who have come.

    Args:
      task: which process this is.
      lines: to the others, by rank: of the chief to all, of another to the chief.
    """

    def __init__(self, task: Task, lines: dict[int, _Line]):
        self._task, self._lines = task, lines
        self._said: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._loads, self._leaves = False, threading.Event()

    def ready(self) -> None:
        """Returns when all are ready.

        Raises:
          ClusterError: one of them is gone, or cannot go on.
        """
        self._loads = False
        if self._task.rank:
            self._lines[0].say(_READY)
        waiting = set(self._lines)
        while waiting:
            rank, said = self._said.get()
            if said != _READY:
                raise self._lost(rank, said)
            waiting.remove(rank)
        if not self._task.rank:
            for line in self._lines.values():
                line.say(_READY)
            for _ in self._lines:
                rank, said = self._said.get()
                if said:
                    raise self._lost(rank, said)
                # It has hung up first, so that the port is free.

    def fail(self, problem: str) -> None:
        """Tells the others why this process cannot go on."""
        for line in self._lines.values():
            line.say(problem)

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Within it the others hear that this process is there."""
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            yield
        finally:
            self._leaves.set()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within it ClusterError is raised as soon as one of the others is gone or cannot go on."""
        problems: list[ClusterError] = []

        def interrupt(*_: object) -> None:
            if self._loads:
                self._loads = False
                raise problems[0]

        main, one_at_a_time = threading.main_thread(), threading.Lock()

        def listen(rank: int, line: _Line) -> None:
            while (said := line.hear()) == _READY:
                self._said.put((rank, said))
            problems.append(self._lost(rank, said))
            self._said.put((rank, said))
            with one_at_a_time:
                if self._loads and main.ident:
                    signal.pthread_kill(main.ident, _INTERRUPT)

        self._loads = threading.current_thread() is main
        before = signal.signal(_INTERRUPT, interrupt) if self._loads else None
        for rank, line in self._lines.items():
            threading.Thread(target=listen, args=(rank, line), daemon=True).start()
        try:
            yield
        finally:
            with one_at_a_time:
                self._loads = False
            if before is not None:
                signal.signal(_INTERRUPT, before)

    def _beat(self) -> None:
        while not self._leaves.wait(_SECONDS_BETWEEN_BEATS):
            for line in list(self._lines.values()):
                line.say(_BEAT)

    def _lost(self, rank: int, said: str) -> ClusterError:
        """What became of one of the others, by its last line."""
        if not said:
            return ClusterError(f"{self._task.name(rank)} is gone, or does not answer; start all workers again")
        # The chief passes on what others say.
        return ClusterError(said if self._task.rank else f"{self._task.name(rank)}: {said}")


@contextlib.contextmanager
def meeting(task: Task, most_seconds: float = MOST_SECONDS) -> Iterator[Meeting]:
    """Waits until all processes are there; within it they are, and hear of an error that is raised.

    Raises:
      ClusterError: one did not come in so many seconds, or has another TF_CONFIG, or is gone, or cannot go on; the port
        of this one is in use.
    """
    lines: dict[int, _Line] = {}
    with contextlib.ExitStack() as stack:
        met = Meeting(task, lines)
        try:
            with met.beating():
                with _port(task) as port:
                    if task.rank:
                        lines[0] = _called(task, stack, most_seconds)
                    else:
                        _wait_for_all(task, port, lines, stack, most_seconds)
                with met.listening():
                    yield met
        except BaseException as error:
            met.fail(str(error) or type(error).__name__)
            raise


@contextlib.contextmanager
def _port(task: Task) -> Iterator[socket.socket]:
    """The port that is this process's own."""
    family = socket.AF_INET6 if ":" in task.port(task.rank)[0] else socket.AF_INET
    with socket.socket(family) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind(("", task.port(task.rank)[1]))
            port.listen(len(task.addresses))
        except OSError as error:
            raise ClusterError(
                f"{task.name(task.rank)} cannot listen: {error.strerror}; give it another port in TF_CONFIG of all"
            ) from error
        yield port


def _wait_for_all(
    task: Task, port: socket.socket, lines: dict[int, _Line], stack: contextlib.ExitStack, most_seconds: float
) -> None:
    deadline = time.monotonic() + most_seconds
    while len(lines) < len(task.addresses) - 1 and (left := deadline - time.monotonic()) > 0:
        port.settimeout(left)
        try:
            caller = _Line(port.accept()[0], stack)
        except OSError:
            continue
        match caller.hear(_SECONDS_OF_A_GREETING).split():
            case [rank, cluster] if rank.isdecimal():
                if cluster != _digest(task) or not 0 < int(rank) < len(task.addresses):
                    raise ClusterError(f"{task.name(0)} and worker {rank} have different addresses in TF_CONFIG")
                if int(rank) in lines:
                    raise ClusterError(f"two processes are {task.name(int(rank))}; give each an index of its own")
                lines[int(rank)] = caller
    missing = [task.name(rank) for rank in range(1, len(task.addresses)) if rank not in lines]
    if missing:
        raise _not_come(", ".join(missing), most_seconds)


def _called(task: Task, stack: contextlib.ExitStack, most_seconds: float) -> _Line:
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            line = _Line(socket.create_connection(task.port(0), timeout=5), stack)
            line.say(f"{task.rank} {_digest(task)}")
            return line
        time.sleep(_SECONDS_BETWEEN_CALLS)
    raise _not_come(task.name(0), most_seconds)


def _not_come(who: str, most_seconds: float) -> ClusterError:
    return ClusterError(f"{who} did not come within {most_seconds:.0f} seconds; start all workers again")


def _digest(task: Task) -> str:
    """Of all addresses."""
    return hashlib.sha256(json.dumps(task.addresses).encode()).hexdigest()[:16]

"""Workers on this machine: processes that begin together, share its cores, and end together.

TF_CONFIG tells each who takes part. They talk by TensorFlow's servers, which have no authentication, and listen on all
interfaces of the machine, whatever address TF_CONFIG gives: so they are for trusted networks only.
"""

import contextlib
import ctypes
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tfpipe.compute import cpu

# Seconds from SIGTERM to SIGKILL. A worker notices after 10 that another is gone, and saves in a few.
GRACE = 30.0
# Seconds between two looks at who has ended; most are seen at once, for their output ends too.
_PERIOD = 0.1
_AT_ONCE = 1 << 16
# Progress bars end with \r. One that came last may be the first half of \r\n.
_LINE = re.compile(rb"[^\r\n]*(?:\n|\r\n|\r(?!\Z))")
_PR_SET_PDEATHSIG = 1  # From <sys/prctl.h>.


class Failed(NamedTuple):
    """A worker that ended with another status than 0.

    Attributes:
      rank: which one.
      returncode: its exit status; where a signal ended it, the signal's number, negative.
    """

    rank: int
    returncode: int

    @property
    def status(self) -> int:
        """An exit status that says the same, as shells have it: 128 more than the number of a signal."""
        return self.returncode if self.returncode > 0 else 128 - self.returncode

    def __str__(self) -> str:
        if self.returncode > 0:
            return f"worker {self.rank} ended with status {self.returncode}"
        by = -self.returncode
        return f"worker {self.rank} was ended by {signal.Signals(by).name if by in set(signal.Signals) else by}"


def tf_config(addresses: Sequence[str], rank: int) -> str:
    """TF_CONFIG of one of the workers that have these addresses, `host:port`, by rank."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": rank}})


@contextlib.contextmanager
def launched(
    command: Sequence[str], count: int, write: Callable[[bytes], object], *, grace: float = GRACE
) -> Iterator["Launch"]:
    """Starts workers, and sees to it that none is left at the end.

    Each has a port of its own, and as many cores as the others: see `cpu.shares`. On Linux the kernel kills them when
    the thread that started them ends, however it ends, so call this from the main thread. On other systems they outlive
    a process that is killed by SIGKILL.

    Args:
      command: that each of them runs.
      count: how many there are, at least 1.
      write: takes what they write, line by line, with `worker RANK: ` in front. What worker 0 writes to standard output
        is not among it: it goes to this process's own.
      grace: seconds between SIGTERM and SIGKILL for those that have not ended at the end.

    Raises:
      OSError: they cannot be started.
    """
    launch = Launch(write)
    with _reserved_ports(count) as ports:
        addresses = [f"127.0.0.1:{port}" for port in ports]
        # What `cpu.cores` goes by, which knows quotas of containers too.
        most_cores = str(max(1, cpu.cores() // count))
        try:
            for rank, cores in enumerate(cpu.shares(count)):
                own = {"TF_CONFIG": tf_config(addresses, rank), "LOKY_MAX_CPU_COUNT": most_cores}
                launch.start(command, os.environ | own, cores)
            yield launch
        finally:
            launch.end(grace)


class Launch:
    """The workers of `launched`.

    Attributes:
      failed: the first that ended with another status than 0, so far.
      killed: ranks of those that SIGTERM did not end in time.
    """

    def __init__(self, write: Callable[[bytes], object]):
        self.failed: Failed | None = None
        self.killed: list[int] = []
        self._output = _Output(write)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._running: dict[int, int] = {}  # Where the output of a worker is read, by its rank.
        self._selector = selectors.DefaultSelector()

    def start(self, command: Sequence[str], environment: Mapping[str, str], cores: Sequence[int]) -> None:
        """Starts the next worker. `cores` are those it may use; all of this process's if there are none."""
        rank = len(self._processes)
        source, sink = os.pipe()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink if rank else None,  # Scripts read that of worker 0.
                stderr=sink,
                env=environment,
                preexec_fn=_tied_to_this_process(cores),
                # Ctrl-C is this process's to pass on: a worker that got it twice would end at once.
                start_new_session=True,
            )
        except BaseException:
            os.close(source)
            raise
        finally:
            os.close(sink)
        os.set_blocking(source, False)
        self._processes.append(process)
        self._running[rank] = source
        self._selector.register(source, selectors.EVENT_READ, rank)

    def wait(self, should_stop: Callable[[], bool]) -> None:
        """Returns when all have ended; or as soon as one has failed, or `should_stop` says so."""
        while self._running and self.failed is None and not should_stop():
            self._look()

    def end(self, grace: float) -> None:
        """Ends those that still run: by SIGTERM, and `grace` seconds later by SIGKILL."""
        for rank in self._running:
            self._processes[rank].terminate()
        deadline = time.monotonic() + grace
        while self._running and time.monotonic() < deadline:
            self._look()
        self.killed = list(self._running)
        for rank in self.killed:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._processes[rank].pid, signal.SIGKILL)  # With those that it has started.
        while self._running:
            self._look()
        self._selector.close()

    def _look(self) -> None:
        """Passes on what workers have written, and takes note of those that have ended."""
        for key, _ in self._selector.select(_PERIOD):
            self._read(key.data)
        for rank in list(self._running):
            returncode = self._processes[rank].poll()
            if returncode is not None:
                self._close(rank)
                if returncode and self.failed is None:
                    self.failed = Failed(rank, returncode)

    def _read(self, rank: int) -> bool:
        """Passes on what there is from a worker; whether there was any."""
        source = self._running[rank]
        try:
            data = os.read(source, _AT_ONCE)
        except BlockingIOError:
            return False
        if data:
            self._output.add(rank, data)
        elif source in self._selector.get_map():
            self._selector.unregister(source)
        return bool(data)

    def _close(self, rank: int) -> None:
        """Of a worker that has ended. Its pipe may have no end: others may have it too, that it started."""
        while self._read(rank):
            pass
        self._output.end(rank)
        source = self._running.pop(rank)
        if source in self._selector.get_map():
            self._selector.unregister(source)
        os.close(source)


class _Output:
    """Makes lines of what workers write, each with its worker's name in front."""

    def __init__(self, write: Callable[[bytes], object]):
        self._write = write
        self._begun: dict[int, bytes] = {}  # What has no end yet.
        self._live: int | None = None  # Whose progress bar stands on the line, to be written over.

    def add(self, rank: int, data: bytes) -> None:
        data = self._begun.get(rank, b"") + data
        end = 0
        for line in _LINE.finditer(data):
            self._pass_on(rank, line[0])
            end = line.end()
        self._begun[rank] = data[end:]

    def end(self, rank: int) -> None:
        """Nothing more comes from this one."""
        if rest := self._begun.pop(rank, b"").removesuffix(b"\r"):
            self._pass_on(rank, rest + b"\n")
        elif self._live == rank:
            self._write(b"\n")
            self._live = None

    def _pass_on(self, rank: int, line: bytes) -> None:
        if line == b"\r":  # With which a progress bar begins.
            return
        if self._live not in (None, rank):
            self._write(b"\n")
        self._live = rank if line.endswith(b"\r") else None
        self._write(b"worker %d: %b" % (rank, line))


@contextlib.contextmanager
def _reserved_ports(count: int) -> Iterator[list[int]]:
    """Free ports, that meanwhile nobody gets who asks for any.

    A socket that is bound, and does not listen, holds each. A server can bind it too, and listen, if it sets
    SO_REUSEADDR, as TensorFlow's does. Other systems than Linux do not allow that, so there the ports are let go.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("", 0))  # On all interfaces, as TensorFlow does.
        ports = [one.getsockname()[1] for one in sockets]
        if sys.platform != "linux":
            stack.close()
        yield ports


def _tied_to_this_process(cores: Sequence[int]) -> Callable[[], None]:
    """What a new process does before it runs its command: takes its cores, and asks to be killed with this process."""
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        if cores:
            os.sched_setaffinity(0, cores)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
            if os.getppid() != parent:  # It has died before the kernel was asked.
                os.kill(os.getpid(), signal.SIGKILL)

    return prepare

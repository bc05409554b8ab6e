"""The processes that share a run: one leads, the others do what it tells them. They talk over tf.distribute.

`MultiWorkerMirroredStrategy` starts a server in each process, and its coordination service notices within some ten
seconds which of them is gone: what is under way raises then. All that is said is gathered by all: in one collective
what is no longer than what was said two exchanges before, for calls and answers take turns; what is longer in two.
"""

import collections
import contextlib
import functools
import logging as python_logging
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.compute import joining
from tfpipe.compute.messages import Message
from tfpipe.compute.programs import padded
from tfpipe.compute.tf_config import Task
from tfpipe.exceptions import ClusterError, brief

# int32 numbers that are gathered at once, at least: how many bytes there are, flags, and the first of the bytes.
_FIRST, _HEAD = 1024, 2
# Of what is expected to be as long as the last time. Two processes on a core each took 3.3 ms to tell 628 kB in two
# collectives, 2.3 in one; to answer 1.3 MB 5.4 and 4.2. Of more the second collective is little.
_MOST_EXPECTED_BYTES = 4 << 20
_MOST_BYTES = (1 << 31) - 1
_STOPS, _HAS_FAILED = 1, 2
_FAILED = "failed"
# Of the collectives, which those of a strategy, from 1 on, do not reach.
_GROUP, _FIRST_INSTANCE = 1 << 16, 1 << 20
_SECONDS_BETWEEN_LOOKS, _LOOKS = 2.0, 3
_SECONDS_OF_SILENCE = 1.0
STILL_THERE = "still there"
# For a thread that may have failed in its turn; and for others to hear what is said last.
_SECONDS_OF_A_TURN, _SECONDS_TO_HEAR = 20.0, 1.0
_OF_A_TASK = re.compile(r"/job:(\w+)/replica:\d+/task:(\d+)")
_GO_ON = "start all workers again: the same command goes on from the last state that was saved"


class Cluster:
    """The processes of a run, as one of them sees them.

    Args:
      task: which one it is, and where the others are, whom TensorFlow has joined.

    Attributes:
      task: likewise.
      stops: whether any process is asked to end the run, as far as was heard.
    """

    def __init__(self, task: Task):
        self.task = task
        self.stops = False
        self._asked: Callable[[], bool] = lambda: False
        self._turn = threading.Lock()
        self._caller: int | None = None
        _take_back(signal.SIGTERM)
        self._asked_for: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        self._gathered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._gone: int | None = None
        self._said_last = time.monotonic()
        self._is_out_of_step = False
        self._longest = collections.deque([0, 0], maxlen=2)  # Bytes of what was said in the last exchanges.
        # Neither holds up the end of the process, wherever it waits.
        threading.Thread(target=self._gather_what_is_asked_for, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def rank(self) -> int:
        """Which of the processes this is; the chief is 0."""
        return self.task.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.task.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether this is the one that leads."""
        return self.rank == 0

    @contextlib.contextmanager
    def heeding(self, stops: Callable[[], bool]) -> Iterator[None]:
        """Within it, all processes hear whether this one is asked to end the run."""
        before, self._asked = self._asked, stops
        try:
            yield
        finally:
            self._asked = before

    def call(self, message: Message) -> Callable[[], list[Message]]:
        """Chief: tells all others a message. What it returns waits for their answers, by rank.

        The answers are to be waited for in the same thread; threads that call side by side take turns.
        """
        self._turn.acquire()
        self._caller = threading.get_ident()
        self._exchange(message.packed())
        return self._answers

    def asks_to_stop(self) -> bool:
        """Chief: whether any process is asked to end the run; asks them, if nothing was said for a while.

        Raises:
          ClusterError: one of them is gone.
        """
        if time.monotonic() > self._said_last + _SECONDS_OF_SILENCE and not self._turn.locked():
            self.call(Message(STILL_THERE))()
        return self.stops

    def listen(self) -> Message:
        """Others: what the chief says next."""
        while (message := Message.unpacked(self._exchange(b"")[0])).name == STILL_THERE:
            self.answer(message)
        return message

    def answer(self, message: Message) -> None:
        """Others: what they say to that."""
        self._exchange(message.packed())

    def tell_all(self, message: Message) -> list[Message]:
        """Every process says something, and hears what all say, by rank."""
        return [Message.unpacked(content) for content in self._exchange(message.packed())]

    def fail(self, problem: str) -> None:
        """Tells all others what went wrong here: it is raised in each of them. Nothing is said afterwards."""
        if self._is_out_of_step:  # They notice that this process is gone.
            return
        with contextlib.suppress(ClusterError):
            if self.is_chief:
                # It may have gone wrong here, or in another thread, before the answers were heard.
                is_own = self._caller == threading.get_ident()
                if is_own or not self._turn.acquire(timeout=_SECONDS_OF_A_TURN):
                    self._exchange(b"")
            self._exchange(Message(_FAILED, {"problem": problem}).packed(), has_failed=True)
        time.sleep(_SECONDS_TO_HEAR)  # Also where another one failed at the same time.

    def _answers(self) -> list[Message]:
        others = [Message.unpacked(content) for content in self._exchange(b"")[1:]]
        self._caller = None
        self._turn.release()
        return others

    def _exchange(self, content: bytes, *, has_failed: bool = False) -> list[bytes]:
        """What all say at once, by rank. Raises ClusterError if that of another process is that it failed."""
        if len(content) > _MOST_BYTES:
            raise ClusterError(f"{len(content)} bytes are too many for processes to say at once; try fewer heads")
        expected = self._longest[0] if self._longest[0] <= _MOST_EXPECTED_BYTES else 0
        first = np.zeros(padded(max(_FIRST, _HEAD + -(-expected // 4))), np.int32)
        first[:_HEAD] = len(content), self._asked() * _STOPS | has_failed * _HAS_FAILED
        said, of_first = np.frombuffer(content, np.uint8), 4 * (len(first) - _HEAD)
        begin, end = said[:of_first], said[of_first:]
        first[_HEAD:].view(np.uint8)[: len(begin)] = begin
        heard = self._of_all(first)
        self._said_last = time.monotonic()
        lengths, flags = heard[:, 0], heard[:, 1]
        self.stops |= bool((flags & _STOPS).any())
        parts = [[row[_HEAD:].view(np.uint8)] for row in heard]
        self._longest.append(int(lengths.max()))
        if (most := self._longest[-1] - of_first) > 0:
            rest = np.zeros(padded(-(-most // 4)), np.int32)
            rest.view(np.uint8)[: len(end)] = end
            for part, row in zip(parts, self._of_all(rest), strict=True):
                part.append(row.view(np.uint8))
        said_by_all = [_cut(part, int(length)) for part, length in zip(parts, lengths, strict=True)]
        for rank in np.flatnonzero(flags & _HAS_FAILED):
            if rank != self.rank:
                problem = Message.unpacked(said_by_all[rank]).facts["problem"]
                raise ClusterError(f"{self.task.name(int(rank))}: {problem}")
        return said_by_all

    def _of_all(self, numbers: np.ndarray) -> np.ndarray:
        """`[size, n]`, of vectors `[n]` int32. It waits where signals are heard, and not in TensorFlow."""
        self._asked_for.put(numbers)
        self._is_out_of_step = True  # If anything is raised before it is there.
        while True:
            try:
                found = self._gathered.get(timeout=1)
            except queue.Empty:
                if self._gone is None:
                    continue
                raise _lost(self.task, self._gone) from None
            self._is_out_of_step = isinstance(found, Exception)
            if isinstance(found, Exception):
                gone = _whom(self.task, found) if self._gone is None else self._gone
                raise _lost(self.task, gone) from found
            return found.reshape(self.size, -1)

    def _gather_what_is_asked_for(self) -> None:
        while True:
            numbers = self._asked_for.get()
            try:
                self._gathered.put(_gatherer(self.task, len(numbers))(tf.constant(numbers)).numpy())
            except Exception as error:
                self._gathered.put(error)

    def _watch(self) -> None:
        """Finds out who is gone: where the chief is killed, TensorFlow may wait for ever."""
        others = _others(self.task) if self.is_chief else [0]
        failures = dict.fromkeys(others, 0)
        while self._gone is None:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for rank in others:
                failures[rank] = 0 if joining.listens(*self.task.port(rank)) else failures[rank] + 1
                if failures[rank] == _LOOKS:
                    self._gone = rank


@functools.cache  # TensorFlow can do so once in a process.
def joined(task: Task, program: str) -> Cluster:
    """The cluster, when all of its processes join it: see `meeting`.

    Args:
      task: which of them this is.
      program: which begins the line with which this process ends where others are gone meanwhile.

    Raises:
      ClusterError: TensorFlow cannot join them.
    """
    # Which tells people nothing that they need.
    python_logging.getLogger("tensorflow").setLevel(python_logging.WARNING)
    ports = {task.name(rank): task.port(rank) for rank in _others(task)}
    try:
        with joining.watched(ports, f"{program}: {_is_gone('{}')}"):
            tf.distribute.MultiWorkerMirroredStrategy()
    except OSError as error:
        raise ClusterError(f"{task.name(task.rank)} cannot start a process: {error.strerror}; {_GO_ON}") from error
    except tf.errors.UnavailableError as error:
        raise _lost(task, _whom(task, error)) from error
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ClusterError(f"{task.name(task.rank)} cannot join the others: {brief(error)}") from error
    return Cluster(task)


def _others(task: Task) -> list[int]:
    return [rank for rank in range(len(task.addresses)) if rank != task.rank]


def _whom(task: Task, error: Exception) -> int | None:
    """Which other process an error of TensorFlow is about; None: it does not say."""
    if silent := [rank for rank in _others(task) if not joining.listens(*task.port(rank))]:
        return silent[0]
    named = [task.rank_of(job, int(index)) for job, index in _OF_A_TASK.findall(str(error))]
    return next((rank for rank in named if rank != task.rank), None)


def _lost(task: Task, rank: int | None) -> ClusterError:
    return ClusterError(_is_gone(joining.ANOTHER if rank is None else task.name(rank)))


def _is_gone(who: str) -> str:
    return f"{who} is gone, or does not answer; {_GO_ON}"


def _cut(parts: Sequence[np.ndarray], length: int) -> bytes:
    """The first bytes of parts, copied once."""
    own = []
    for part in parts:
        own.append(part.data[:length])
        length -= len(own[-1])
    return b"".join(own)


@functools.cache
def _gatherer(task: Task, length: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """What gathers a vector of so many int32 numbers of each process, one after the other.

    A strategy's own `gather` asks for all lengths first: 1.8 ms for 4 kB, this 0.7; 4.1 for 1.3 MB, this 2.2.
    """

    def gather(numbers: tf.Tensor) -> tf.Tensor:
        with tf.device(f"/job:{task.job}/task:{task.number}/device:CPU:0"):
            return tf.raw_ops.CollectiveGatherV2(
                input=numbers,
                group_size=len(task.addresses),
                group_key=_GROUP,
                instance_key=_FIRST_INSTANCE + length,  # One for each form of tensor.
                ordering_token=[],
            )

    return tf.function(gather, autograph=False).get_concrete_function(tf.TensorSpec([length], tf.int32))


def _take_back(number: signal.Signals) -> None:
    """Puts back what the process does on a signal, which TensorFlow's coordination service has taken over."""
    handler = signal.getsignal(number)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)

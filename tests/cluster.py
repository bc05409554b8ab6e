"""Processes that share a run, each begun as a command of its own."""

import contextlib
import hashlib
import json
import os
import socket
import time

import numpy as np

from tests.command import Command


def addresses(count):
    """As many ports of this machine that nobody has."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(socket.socket()) for _ in range(count)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{port.getsockname()[1]}" for port in ports]


def tf_config(of_all, rank):
    """The environment of one of the processes that have these addresses."""
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": of_all}, "task": {"type": "worker", "index": rank}})}


def begun(count, *arguments, of_rank=lambda rank: (), prepare=None):
    """The same command in so many processes, with arguments that depend on the rank besides; see Command."""
    of_all = addresses(count)
    return [Command(*arguments, *of_rank(rank), env=tf_config(of_all, rank), prepare=prepare) for rank in range(count)]


def exchange(lengths):
    """Says so much to the other processes, time after time, and prints what is heard: see `said_by_all`."""
    from tfpipe.compute import cluster, meeting, startup, tf_config
    from tfpipe.compute.messages import Message

    startup.import_tensorflow()
    task = tf_config.wanted("multi_worker", os.environ)
    with meeting.meeting(task) as others:
        others.ready()
    processes, heard = cluster.joined(task), []
    for number, length in enumerate(lengths):
        said = Message("said", arrays={"bytes": _content(number, length, task.rank)})
        heard.append([_digest(message.arrays["bytes"]) for message in processes.tell_all(said)])
    print(json.dumps(heard), flush=True)
    time.sleep(1)  # Until the others have heard it all.
    os._exit(0)


def said_by_all(number, length, count):
    """A digest of what each of so many processes says, the next one ten bytes more each."""
    return [_digest(_content(number, length, rank)) for rank in range(count)]


def _content(number, length, rank):
    return np.random.default_rng([number, rank]).integers(256, size=length + 10 * rank, dtype=np.uint8)


def _digest(content):
    return hashlib.sha256(content.tobytes()).hexdigest()


def failing_in_the_second_span():
    """Prepares processes of which worker 1 has no memory left in the second span."""
    from tfpipe.training.heads_follower import HeadsFollower

    answer, spans = HeadsFollower.answer, []

    def fail(follower, message):
        spans.append(message.name == "advance")
        if sum(spans) == 2:
            raise MemoryError("no memory left")
        return answer(follower, message)

    HeadsFollower.answer = fail


def failing_in_the_chief():
    """Prepares processes of which the chief has no memory left when it takes in what was measured."""
    from tfpipe.training.record import Record

    def fail(*_):
        raise MemoryError("no memory left")

    Record.take_stretch = fail


def finished(commands, timeout=300):
    """What came of each; none is left."""
    try:
        return [command.finished(timeout) for command in commands]
    finally:
        for command in commands:
            command.kill()

"""Processes that share a run, each begun as a command of its own."""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
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


def begun(count, *arguments, of_rank=lambda rank: (), of_all=None, env=None, **options):
    """The same command in so many processes, with arguments that depend on the rank besides; see Command."""
    of_all = of_all or addresses(count)
    return [
        Command(*arguments, *of_rank(rank), env=(env or {}) | tf_config(of_all, rank), **options)
        for rank in range(count)
    ]


def left_behind(word):
    """Processes in whose environment there is a word, as they have begun, and of whom nobody has taken leave."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # It has ended.
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def listening(of_all):
    """Those of the addresses on whose ports a process of this machine listens."""
    listens = "0A"  # TCP_LISTEN, of include/net/tcp_states.h
    ports = set()
    for name in ("tcp", "tcp6"):
        rows = [line.split() for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]]
        ports |= {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == listens}
    return [address for address in of_all if int(address.rpartition(":")[2]) in ports]


def exchange(lengths):
    """Says so much to the other processes, time after time, and prints what is heard: see `said_by_all`."""
    from tfpipe.compute import cluster, meeting, startup, tf_config
    from tfpipe.compute.messages import Message

    startup.import_tensorflow()
    task = tf_config.wanted("multi_worker", os.environ)
    with meeting.meeting(task) as others:
        others.ready()
    processes, heard = cluster.joined(task, "exchange"), []
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


def slow_to_load(folder):
    """Prepares processes that load data without end, each of which leaves a file in a folder."""
    from tfpipe.data import loading

    def loaded(*_, **__):
        (folder / f"loads-{os.getpid()}").touch()
        while True:
            time.sleep(3600)

    loading.loaded = loaded


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


def of_another_version():
    """Prepares processes of which worker 1 is of another version."""
    if _rank() == 1:
        from tfpipe.training import versions

        versions.__version__ = "0.0.1"


def killed_before_it_joins(victim, _):
    """Prepares processes of which one is killed when TensorFlow is about to join the others."""
    if _rank() == victim:
        _before_joining(lambda: os.kill(os.getpid(), signal.SIGKILL))


def killed_while_it_joins(victim, folder):
    """Prepares processes of which one is killed when TensorFlow waits for the others there, who are about to join."""
    pid = folder / "pid"
    of_all = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]

    def kill():
        while not (listening([of_all[victim]]) and pid.exists()):
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):  # Another worker was faster.
            os.kill(int(pid.read_text()), signal.SIGKILL)
        while listening([of_all[victim]]):
            time.sleep(0.01)

    _before_joining(kill if _rank() != victim else lambda: pid.write_text(str(os.getpid())))


def _rank():
    return json.loads(os.environ["TF_CONFIG"])["task"]["index"]


def _before_joining(act):
    import tensorflow as tf

    join = tf.distribute.MultiWorkerMirroredStrategy

    def join_after_that():
        act()
        return join()

    tf.distribute.MultiWorkerMirroredStrategy = join_after_that


def finished(commands, timeout=300):
    """What came of each; none is left."""
    try:
        return [command.finished(timeout) for command in commands]
    finally:
        for command in commands:
            command.kill()

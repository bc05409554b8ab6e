"""Which tasks of a SLURM step share a run, and which of them this process is: by the variables that srun sets.

Its manual has them under "Output environment variables". TensorFlow's own SlurmClusterResolver sorts the names of nodes
as text, n10 before n9, so its addresses are not in the order of the ranks.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tfpipe.exceptions import ClusterError

# Below those that Linux gives to whoever asks for any, from 32768 on.
_PORTS = range(10_000, 32_768)
# Ports between the first of one job and that of the next, and jobs between a step and the next.
_PORTS_A_JOB, _JOBS_A_STEP = 16, 89
_MOST_NODES = _MOST_TASKS = 1 << 16
_NUMBER = "[0-9]{1,9}"
_RANGES = rf"\[{_NUMBER}(?:-{_NUMBER})?(?:,{_NUMBER}(?:-{_NUMBER})?)*\]"
_NODE = re.compile(rf"(?:[A-Za-z0-9._-]|{_RANGES})+")
_PART = re.compile(rf"{_RANGES}|[^\[]+")
_TASKS = re.compile(rf"({_NUMBER})(?:\(x({_NUMBER})\))?")
_REMEDY = "srun --distribution=block is understood"


class Step(NamedTuple):
    """What one call of srun has started.

    Attributes:
      addresses: `host:port` of each task, by rank.
      rank: which task this process is.
    """

    addresses: list[str]
    rank: int


def step(variables: Mapping[str, str]) -> Step:
    """The step of which the process with these environment variables is a task.

    The ports follow from the numbers of the job, the step and the task on its node. So those of two jobs on a node are
    others, where the numbers of the jobs differ by less than 1,423 and each has at most 16 tasks there.

    Raises:
      ClusterError: a variable is missing, damaged, or contradicts another; or the tasks are distributed over the nodes
        neither by block nor by cyclic.
    """
    hosts = _hosts(variables, "SLURM_STEP_NODELIST")
    tasks = _tasks(variables, "SLURM_STEP_TASKS_PER_NODE")
    if len(tasks) != len(hosts):
        raise _error(variables, "SLURM_STEP_TASKS_PER_NODE", f"of {len(tasks)} nodes, but there are {len(hosts)}")
    count = _number(variables, "SLURM_STEP_NUM_TASKS")
    if count != sum(tasks):
        raise _error(variables, "SLURM_STEP_NUM_TASKS", f"but SLURM_STEP_TASKS_PER_NODE adds up to {sum(tasks)}")
    rank = _number(variables, "SLURM_PROCID")
    if rank >= count:
        raise _error(variables, "SLURM_PROCID", f"expected less than the number of tasks, {count}")
    places = _places(variables, "SLURM_DISTRIBUTION", tasks)
    node, local = places[rank]
    for name, expected in (("SLURM_NODEID", node), ("SLURM_LOCALID", local)):
        if _number(variables, name) != expected:
            raise _error(variables, name, f"expected {expected} of the task with rank {rank}; {_REMEDY}")
    job, number = _number(variables, "SLURM_JOB_ID"), _number(variables, "SLURM_STEP_ID")
    first = _PORTS_A_JOB * (job + _JOBS_A_STEP * number)
    return Step([f"{hosts[node]}:{_PORTS[(first + local) % len(_PORTS)]}" for node, local in places], rank)


def _hosts(variables: Mapping[str, str], name: str) -> list[str]:
    """`n[1-3,10],gpu07` -> n1, n2, n3, n10, gpu07; `n[08-10]` -> n08, n09, n10: in their order."""
    text = _text(variables, name)
    nodes = _NODE.findall(text)
    if not text or ",".join(nodes) != text:
        raise _error(variables, name, "expected names of nodes, such as n[1-3,10],gpu07")
    hosts: list[str] = []
    for node in nodes:
        parts = [list(_numbers(part)) if part.startswith("[") else [part] for part in _PART.findall(node)]
        if not all(parts):
            raise _error(variables, name, "has a range that goes down")
        hosts += map("".join, itertools.islice(itertools.product(*parts), _MOST_NODES))
    if len(set(hosts)) < len(hosts):
        raise _error(variables, name, "names a node twice")
    return hosts


def _numbers(ranges: str) -> Iterator[str]:
    """`[1-3,10]` -> 1, 2, 3, 10: with as many digits at least as the first of a range."""
    for one in ranges[1:-1].split(","):
        first, _, last = one.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        yield from (f"{number:0{len(first)}}" for number in numbers[:_MOST_NODES])


def _tasks(variables: Mapping[str, str], name: str) -> list[int]:
    """`2(x3),1` -> 2, 2, 2, 1: the number of tasks on each node."""
    tasks: list[int] = []
    for part in _text(variables, name).split(","):
        match = _TASKS.fullmatch(part)
        if match is None or int(match[1]) == 0:
            raise _error(variables, name, "expected how many tasks each node has, such as 2(x3),1")
        tasks += [int(match[1])] * min(int(match[2] or 1), _MOST_NODES)
    if sum(tasks) > _MOST_TASKS:
        raise _error(variables, name, f"more than {_MOST_TASKS} tasks")
    return tasks


def _places(variables: Mapping[str, str], name: str, tasks: list[int]) -> list[tuple[int, int]]:
    """Where each task is, by rank: the number of its node, and its own number among those there."""
    by_block = [(node, local) for node, count in enumerate(tasks) for local in range(count)]
    # Of `cyclic:block,pack` the first word is about nodes. Without any srun fills one node after the other.
    over_nodes = re.split("[:,=]", variables.get(name, ""))[0]
    if over_nodes == "cyclic":
        return sorted(by_block, key=lambda place: place[::-1])
    if over_nodes in ("plane", "arbitrary"):
        raise _error(variables, name, f"ranks cannot be told; {_REMEDY}")
    return by_block


def _number(variables: Mapping[str, str], name: str) -> int:
    text = _text(variables, name)
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise _error(variables, name, "expected an integer of at least 0")
    return int(text)


def _text(variables: Mapping[str, str], name: str) -> str:
    try:
        return variables[name]
    except KeyError as error:
        raise ClusterError(f"{name} is not set; srun sets it for the tasks that it starts") from error


def _error(variables: Mapping[str, str], name: str, problem: str) -> ClusterError:
    return ClusterError(f"{name}={variables[name]}: {problem}")

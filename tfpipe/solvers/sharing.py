"""Passes that several processes share: each has the rows of some blocks, and the chief adds what they find.

The chief leads: it tells the others what to sum at which parameters, sums its own rows meanwhile, and hears theirs. As
the blocks and the tree by which their sums are added do not depend on who has them, the sums are those of one process,
to the bit. The others hold rows and nothing else, so nothing that follows from the sums can differ between processes.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import tensorflow as tf

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.data import Examples
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline import residency
from tfpipe.solvers.branches import added, shares
from tfpipe.solvers.branches import branches as branches_of
from tfpipe.solvers.branches import own as own_blocks
from tfpipe.solvers.objective import Objective, parameter_type
from tfpipe.solvers.passes import Cut, Passes, Sums

_OF_ROWS = ("loss", "wrong")
T = TypeVar("T")
Found = TypeVar("Found", bound=tuple[Any, ...])


class Branch(NamedTuple):
    """A branch of the tree of blocks, of whose rows this process has the sums.

    Attributes:
      bounds: the first of its blocks, and the one behind its last.
      passes: over its rows.
      objectives: of them, by arithmetic.
    """

    bounds: tuple[int, int]
    passes: Passes
    objectives: Mapping[str, Objective]


class Wanted(NamedTuple):
    """Rows that are to be measured.

    Attributes:
      examples: all N of them.
      weights: `[C, N]`, what they count.
      kinds: in which arithmetic.
    """

    examples: Examples
    weights: np.ndarray
    kinds: tuple[str, ...]


class Shared(NamedTuple):
    """With whom passes are shared.

    Attributes:
      cluster: the processes, of which this one is the chief.
      name: what the others call these rows.
    """

    cluster: Cluster
    name: str

    def part(self, number: int) -> Self:
        """The same for one of several kinds of rows: those that are fitted, and those that validate."""
        return self._replace(name=f"{self.name}.{number}")


def placed(
    wanted: Sequence[Wanted], scaling: Scaling, n_columns: int, workers: Workers, shared: Shared | None
) -> list[tuple["Passes | SharedPasses", Mapping[str, Objective]]]:
    """Brings rows to the devices, and has the other processes do so with theirs; see `Cut` for `n_columns`.

    Returns:
      Of each passes over all of them, and the objectives of those that come first, by arithmetic.
    """
    if shared is None:
        alone = own_rows(wanted, scaling, n_columns, workers, 0, 1)
        if not workers.device.others:
            return [(branch.passes, branch.objectives) for (branch,) in alone]
        return [(SharedPasses(branches, workers), branches[0].objectives) for branches in alone]
    facts = {"rows": shared.name, "n_columns": n_columns}
    others = shared.cluster.call(Message("place", facts, scaling.arrays()))
    own = own_rows(wanted, scaling, n_columns, workers, shared.cluster.rank, shared.cluster.size)
    others()
    return [
        (SharedPasses(branches, workers, shared.part(number)), branches[0].objectives)
        for number, branches in enumerate(own)
    ]


def own_rows(
    wanted: Sequence[Wanted], scaling: Scaling, n_columns: int, workers: Workers, rank: int, size: int
) -> list[list[Branch]]:
    """Brings to its devices what process `rank` of `size` has of rows: of each the branches that have any, in order."""
    parts = [_parts(each, n_columns, len(workers.each), rank, size) for each in wanted]
    # A device, of several or a GPU, takes its own from the host; on a CPU they are used where they lie, if they can be.
    apart = len(workers.each) > 1 or (size > 1 and workers.device.is_gpu)
    if apart:
        with tf.device(residency.HOST):
            resident = iter(residency.place([each.examples for each in wanted]))
    else:
        own_parts = [_part(each.examples, part.rows) for each, of in zip(wanted, parts, strict=True) for part in of]
        # Of several processes each copies no more than its parts, which may lie far from each other.
        groups = [own_parts] if size == 1 else [[part] for part in own_parts]
        resident = itertools.chain.from_iterable(map(residency.place, groups))
    found = []
    for each, of_each in zip(wanted, parts, strict=True):
        whole = next(resident) if apart else None
        branches = []
        for part in of_each:
            own = workers.each[part.device]
            with tf.device(own.device.name):
                split = next(resident) if whole is None else residency.part(whole, part.rows)
                weights = each.weights[:, part.rows]
                objectives = {k: Objective.of(scaling, split.labels, weights, part.cut.n, k) for k in each.kinds}
                branches.append(Branch(part.bounds, Passes(split, own, part.cut), objectives))
        found.append(branches)
    return found


class _Part(NamedTuple):
    """What a device has of rows."""

    bounds: tuple[int, int]
    cut: Cut
    rows: slice
    device: int


def _parts(wanted: Wanted, n_columns: int, n_devices: int, rank: int, size: int) -> list[_Part]:
    """The branches that have rows, of the devices of process `rank` of `size`: of the first block always the chief."""
    cut = Cut.of(len(wanted.examples), wanted.examples.stored[0].size, n_columns)
    begin, end = own_blocks(cut.blocks, rank, size)
    of_devices = shares(end - begin, min(end - begin, n_devices)) if end > begin else []
    found = [
        _Part(bounds, *cut.branch(*bounds), device)
        for device, (first, last) in enumerate(of_devices)
        for bounds in branches_of(begin + first, begin + last)
    ]
    return [part for part in found if part.cut.n]


def _part(examples: Examples, rows: slice) -> Examples:
    is_all = rows == slice(0, len(examples))
    return examples if is_all else examples.take(np.arange(rows.start, rows.stop))


class SharedPasses:
    """As `Passes`, over rows that several devices have; or, of the chief of a cluster, several processes.

    Args:
      own: those of this process.
      workers: of all of its devices.
      shared: with whom they are shared; None: with no other process.

    Attributes:
      workers: likewise.
    """

    def __init__(self, own: Sequence[Branch], workers: Workers, shared: Shared | None = None):
        self._own, self._shared = own, shared
        self.workers = workers

    def sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> Sums:
        """See `Passes`."""
        message = self._message("sums", objective, W, b, column=column)
        others = self._shared.cluster.call(message) if self._shared else list
        nodes = _sums(self._own, message)
        for said in others():
            nodes |= heard(said, Sums)
        blocks = 1 << (max(end for _, end in nodes) - 1).bit_length()
        total = added(0, blocks, lambda *bounds: nodes.get(bounds), Sums.joined)
        assert total is not None
        return total

    def losses(self, objective: Objective, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Passes`."""
        message = self._message("losses", objective, W, b)
        others = self._shared.cluster.call(message) if self._shared else list
        parts = [_losses(self._own, message), *(said.arrays for said in others() if said.arrays)]
        loss, wrong = (np.concatenate([part[name] for part in parts], axis=1) for name in _OF_ROWS)
        return loss, wrong

    def compile_sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> None:
        """See `Passes`."""
        kind = objective.arithmetic
        _each(self._own, lambda branch: branch.passes.compile_sums(branch.objectives[kind], W, b, column))

    def compile_losses(self, objective: Objective, W: np.ndarray, b: np.ndarray) -> None:
        """See `Passes`."""
        kind = objective.arithmetic
        _each(self._own, lambda branch: branch.passes.compile_losses(branch.objectives[kind], W, b))

    def _message(self, name: str, objective: Objective, W: np.ndarray, b: np.ndarray, **arrays: np.ndarray) -> Message:
        dtype = parameter_type(objective.arithmetic).as_numpy_dtype
        facts = {"rows": self._shared.name if self._shared else "", "arithmetic": objective.arithmetic}
        return Message(name, facts, {"W": W.astype(dtype), "b": b.astype(dtype), **arrays})


def answer(message: Message, rows: Mapping[str, Sequence[Branch]]) -> Message:
    """What another process than the chief says to a message of `SharedPasses`, with its rows by name."""
    branches = rows[message.facts["rows"]]
    if message.name == "losses":
        return Message(message.name, arrays=_losses(branches, message))
    return stacked(message.name, _sums(branches, message))


def stacked(name: str, found: Mapping[tuple[int, int], Any]) -> Message:
    """What was found of n branches, by their bounds: these, `[n, 2]`, and the fields of each, `[n, ...]`.

    Nothing of none.
    """
    if not found:
        return Message(name)
    fields = next(iter(found.values()))._fields
    arrays = {
        field: np.stack(of_each) for field, of_each in zip(fields, zip(*found.values(), strict=True), strict=True)
    }
    return Message(name, arrays={"bounds": np.array([*found]), **arrays})


def heard(said: Message, kind: type[Found]) -> dict[tuple[int, int], Found]:
    """The way back: of each branch a named tuple of this kind."""
    of_each = zip(*said.arrays.values(), strict=True)
    return {tuple(bounds.tolist()): kind(*arrays) for bounds, *arrays in of_each}


def _sums(branches: Sequence[Branch], message: Message) -> dict[tuple[int, int], Sums]:
    """Of each branch, by its bounds."""
    kind = message.facts["arithmetic"]
    sums = _each(branches, lambda branch: branch.passes.sums(branch.objectives[kind], **message.arrays))
    return {branch.bounds: of_branch for branch, of_branch in zip(branches, sums, strict=True)}


def _losses(own: Sequence[Branch], message: Message) -> dict[str, np.ndarray]:
    """Of the rows of all branches, in their order: see `Passes.losses`."""
    kind = message.facts["arithmetic"]
    found = _each(own, lambda branch: branch.passes.losses(branch.objectives[kind], **message.arrays))
    if not found:
        return {}
    return {name: np.concatenate(parts, axis=1) for name, parts in zip(_OF_ROWS, zip(*found, strict=True), strict=True)}


def _each(own: Sequence[Branch], function: Callable[[Branch], T]) -> list[T]:
    """What a function gives of each branch: side by side on several devices, and one after the other on each."""
    workers = list(dict.fromkeys(branch.passes.workers for branch in own))
    if len(workers) <= 1:
        return [function(branch) for branch in own]

    def of_device(of: Workers) -> list[T]:
        return [function(branch) for branch in own if branch.passes.workers is of]

    # Each has the next branches.
    return [found for call in [of.start(of_device, of) for of in workers] for found in call.result()]

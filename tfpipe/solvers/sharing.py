"""Passes that several processes share: each has the rows of some blocks, and the chief adds what they find.

The chief leads: it tells the others what to sum at which parameters, sums its own rows meanwhile, and hears theirs. As
the blocks and the tree by which their sums are added do not depend on who has them, the sums are those of one process,
to the bit. The others hold rows and nothing else, so nothing that follows from the sums can differ between processes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.data import Examples, Splits
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline import residency
from tfpipe.solvers.branches import branches as branches_of
from tfpipe.solvers.branches import shares
from tfpipe.solvers.objective import Objective, parameter_type
from tfpipe.solvers.passes import SMALL, Cut, Passes, Sums

_OF_ROWS = ("loss", "wrong")
T = TypeVar("T")


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


def of_fit(
    examples: Examples, weights: np.ndarray, validating: Examples, splits: Splits, precision: str
) -> list[Wanted]:
    """The rows that are fitted, with weights `[C, N]`, and those that validate, if they are others.

    Where it pays, the first are measured in float32 too, which is faster: `precision` is float32, or float64 if nothing
    may be rounded on the way.
    """
    is_small = len(examples) * splits.n_in * splits.n_out <= SMALL
    kinds = ("float64",) if is_small or precision == "float64" else ("float64", "float32")
    fitted = Wanted(examples, weights, kinds)
    if validating is examples:
        return [fitted]
    return [fitted, Wanted(validating, np.ones((1, len(validating)), np.float32), ("float64",))]


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
    shift = {} if scaling.shift is None else {"shift": scaling.shift}
    facts = {"rows": shared.name, "n_columns": n_columns}
    others = shared.cluster.call(Message("place", facts, {"factor": np.asarray(scaling.factor), **shift}))
    own = own_rows(wanted, scaling, n_columns, workers, shared.cluster.rank, shared.cluster.size)
    others()
    return [
        (SharedPasses(branches, workers, Shared(shared.cluster, f"{shared.name}.{number}")), branches[0].objectives)
        for number, branches in enumerate(own)
    ]


def own_rows(
    wanted: Sequence[Wanted], scaling: Scaling, n_columns: int, workers: Workers, rank: int, size: int
) -> list[list[Branch]]:
    """Brings to its devices what process `rank` of `size` has of rows: of each the branches that have any, in order."""
    parts = [_parts(each, n_columns, len(workers.each), rank, size) for each in wanted]
    several = len(workers.each) > 1
    if several:  # Each takes its own from the host.
        with tf.device(residency.HOST):
            resident = iter(residency.place([each.examples for each in wanted]))
    else:
        resident = iter(
            residency.place(
                [_part(each.examples, part.rows) for each, of in zip(wanted, parts, strict=True) for part in of]
            )
        )
    found = []
    for each, of_each in zip(wanted, parts, strict=True):
        whole = next(resident) if several else None
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
    of_all = shares(cut.blocks, min(cut.blocks, size))
    begin, end = of_all[rank] if rank < len(of_all) else (0, 0)
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
        nodes = dict(_sums(self._own, message))
        for said in others():
            for bounds, *sums in zip(*said.arrays.values(), strict=True):
                nodes[tuple(bounds.tolist())] = Sums(*sums)
        total = _total(nodes, 0, 1 << (max(end for _, end in nodes) - 1).bit_length())
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
    """What another process than the chief says to a message of `SharedPasses`, with its rows by name.

    To `sums`, of n branches: their bounds `[n, 2]`, and the fields of `Sums`, `[n, ...]` each; nothing of none.
    """
    own = rows[message.facts["rows"]]
    if message.name == "losses":
        return Message(message.name, arrays=_losses(own, message))
    found = _sums(own, message)
    if not found:
        return Message(message.name)
    bounds, sums = zip(*found, strict=True)
    of_each = zip(Sums._fields, zip(*sums, strict=True), strict=True)
    stacked = {name: np.stack(arrays) for name, arrays in of_each}
    return Message(message.name, arrays={"bounds": np.array(bounds), **stacked})


def _sums(own: Sequence[Branch], message: Message) -> list[tuple[tuple[int, int], Sums]]:
    """Of each branch, with its bounds."""
    kind = message.facts["arithmetic"]
    sums = _each(own, lambda branch: branch.passes.sums(branch.objectives[kind], **message.arrays))
    return [(branch.bounds, of_branch) for branch, of_branch in zip(own, sums, strict=True)]


def _losses(own: Sequence[Branch], message: Message) -> dict[str, np.ndarray]:
    """Of the rows of all branches, in their order: see `Passes.losses`."""
    kind = message.facts["arithmetic"]
    found = _each(own, lambda branch: branch.passes.losses(branch.objectives[kind], **message.arrays))
    if not found:
        return {}
    return {name: np.concatenate(parts, axis=1) for name, parts in zip(_OF_ROWS, zip(*found, strict=True), strict=True)}


def _total(nodes: Mapping[tuple[int, int], Sums], begin: int, end: int) -> Sums | None:
    """The sums of a branch, added as in the tree; None where no block has rows."""
    if (begin, end) in nodes:
        return nodes[begin, end]
    if end - begin == 1:
        return None
    middle = (begin + end) // 2
    first, second = _total(nodes, begin, middle), _total(nodes, middle, end)
    if first is None or second is None:
        return second if first is None else first
    return Sums(*(a + b for a, b in zip(first, second, strict=True)))


def _each(own: Sequence[Branch], function: Callable[[Branch], T]) -> list[T]:
    """What a function gives of each branch: side by side on several devices, and one after the other on each."""
    workers = list(dict.fromkeys(branch.passes.workers for branch in own))
    if len(workers) <= 1:
        return [function(branch) for branch in own]

    def of_device(of: Workers) -> list[T]:
        return [function(branch) for branch in own if branch.passes.workers is of]

    # Each has the next branches.
    return [found for call in [of.start(of_device, of) for of in workers] for found in call.result()]

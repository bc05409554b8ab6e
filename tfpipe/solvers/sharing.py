"""Passes that several processes share: each has the rows of some blocks, and the chief adds what they find.

The chief leads: it tells the others what to sum at which parameters, sums its own rows meanwhile, and hears theirs. As
the blocks and the tree by which their sums are added do not depend on who has them, the sums are those of one process,
to the bit. The others hold rows and nothing else, so nothing that follows from the sums can differ between processes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

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
    """Brings rows to the device, and has the other processes do so with theirs; see `Cut` for `n_columns`.

    Returns:
      Of each passes over all of them, and the objectives of those that are here, by arithmetic.
    """
    if shared is None:
        return [(branch.passes, branch.objectives) for (branch,) in own_rows(wanted, scaling, n_columns, workers, 0, 1)]
    shift = {} if scaling.shift is None else {"shift": scaling.shift}
    facts = {"rows": shared.name, "n_columns": n_columns}
    others = shared.cluster.call(Message("place", facts, {"factor": np.asarray(scaling.factor), **shift}))
    own = own_rows(wanted, scaling, n_columns, workers, shared.cluster.rank, shared.cluster.size)
    others()
    return [
        (SharedPasses(branches, f"{shared.name}.{number}", shared.cluster), branches[0].objectives)
        for number, branches in enumerate(own)
    ]


def own_rows(
    wanted: Sequence[Wanted], scaling: Scaling, n_columns: int, workers: Workers, rank: int, size: int
) -> list[list[Branch]]:
    """Brings to the device what process `rank` of `size` has of rows: of each the branches that have any."""
    found: list[list[Branch]] = []
    for each in wanted:
        cut = Cut.of(len(each.examples), each.examples.stored[0].size, n_columns)
        bounds = of_process(cut.blocks, rank, size)
        parts = [(own, *cut.branch(*own)) for own in bounds]
        parts = [(own, part, rows) for own, part, rows in parts if part.n]
        resident = residency.place([_part(each.examples, rows) for _, _, rows in parts])
        branches = []
        for (own, part, rows), split in zip(parts, resident, strict=True):
            weights = each.weights[:, rows]
            objectives = {kind: Objective.of(scaling, split.labels, weights, part.n, kind) for kind in each.kinds}
            branches.append(Branch(own, Passes(split, workers, part), objectives))
        found.append(branches)
    return found


def of_process(blocks: int, rank: int, size: int) -> list[tuple[int, int]]:
    """The branches of which process `rank` of `size` has the sums: of the first block always the chief."""
    of_all = shares(blocks, min(blocks, size))
    return branches_of(*of_all[rank]) if rank < len(of_all) else []


def _part(examples: Examples, rows: slice) -> Examples:
    is_all = rows == slice(0, len(examples))
    return examples if is_all else examples.take(np.arange(rows.start, rows.stop))


class SharedPasses:
    """As `Passes`, of the chief of a cluster: over the rows that all of its processes have.

    Args:
      own: those of the chief.
      name: what the others call theirs.
      cluster: of the processes.
    """

    def __init__(self, own: Sequence[Branch], name: str, cluster: Cluster):
        self._own, self._name, self._cluster = own, name, cluster
        self.workers = own[0].passes.workers

    def sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> Sums:
        """See `Passes`."""
        message = self._message("sums", objective, W, b, column=column)
        others = self._cluster.call(message)
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
        others = self._cluster.call(message)
        parts = [_losses(self._own, message), *(said.arrays for said in others() if said.arrays)]
        loss, wrong = (np.concatenate([part[name] for part in parts], axis=1) for name in _OF_ROWS)
        return loss, wrong

    def compile_sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> None:
        """See `Passes`."""
        for branch in self._own:
            branch.passes.compile_sums(branch.objectives[objective.arithmetic], W, b, column)

    def compile_losses(self, objective: Objective, W: np.ndarray, b: np.ndarray) -> None:
        """See `Passes`."""
        for branch in self._own:
            branch.passes.compile_losses(branch.objectives[objective.arithmetic], W, b)

    def _message(self, name: str, objective: Objective, W: np.ndarray, b: np.ndarray, **arrays: np.ndarray) -> Message:
        dtype = parameter_type(objective.arithmetic).as_numpy_dtype
        facts = {"rows": self._name, "arithmetic": objective.arithmetic}
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
    return [(branch.bounds, branch.passes.sums(branch.objectives[kind], **message.arrays)) for branch in own]


def _losses(own: Sequence[Branch], message: Message) -> dict[str, np.ndarray]:
    """Of the rows of all branches, in their order: see `Passes.losses`."""
    kind = message.facts["arithmetic"]
    found = [branch.passes.losses(branch.objectives[kind], **message.arrays) for branch in own]
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

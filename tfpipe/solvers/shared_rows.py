"""What NumPy finds of the rows of a fit: each process reads those of its own blocks, and the chief adds what they find.

Before any pass: moments, and some of the rows themselves. The blocks and the tree by which their sums are added are
those of the passes, so a process reads no rows but its own, and what is found is the same to the bit by any number.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from tfpipe.compute.messages import Message
from tfpipe.data import Examples
from tfpipe.data.scaling import Scaling, Spread
from tfpipe.exceptions import DataError
from tfpipe.solvers.branches import added, branches, own
from tfpipe.solvers.moments import AboutMean, Moments
from tfpipe.solvers.passes import Cut
from tfpipe.solvers.scaled_rows import BLOCK_BYTES, ScaledRows
from tfpipe.solvers.sharing import Shared, heard, stacked

T = TypeVar("T", Spread, Moments, AboutMean)


class BlockedRows(NamedTuple):
    """Rows, in the blocks of a pass over them.

    Attributes:
      examples: N of them, of D columns.
      weights: `[C, N]`, what they count, at least 0.
      n_out: K, of classes: labels are below.
      cut: into blocks.
    """

    examples: Examples
    weights: np.ndarray
    n_out: int
    cut: Cut

    @classmethod
    def of(cls, examples: Examples, weights: np.ndarray, n_out: int, n_columns: int) -> Self:
        """As they are cut for passes of so many columns: see `Cut.of`."""
        return cls(examples, weights, n_out, Cut.of(len(examples), examples.stored[0].size, n_columns))

    def scaled(self, part: slice, scaling: Scaling) -> ScaledRows:
        """Some consecutive ones as inputs."""
        return ScaledRows(self.examples.take(np.arange(part.start, part.stop)), scaling)

    def block(self, number: int) -> slice:
        """The rows of a block, of which the last ones may have none."""
        return self.cut.branch(number, number + 1)[1]


class SharedRows:
    """All rows of a fit, for a process alone or the chief of several, which reads its own.

    Args:
      rows: all of them.
      n_columns: by which they are cut.
      shared: with whom they are shared, and as what; None: with nobody.
    """

    def __init__(self, rows: BlockedRows, n_columns: int, shared: Shared | None):
        self._rows, self._n_columns, self._shared = rows, n_columns, shared

    def spread(self) -> Spread:
        """Of the rows that have weight, as they are stored."""
        return self._added("spread", Spread, None)

    def moments(self, scaling: Scaling) -> Moments:
        """Of the rows as inputs, under each column of weights."""
        return self._added("moments", Moments, scaling)

    def about_mean(self, scaling: Scaling, mean: np.ndarray) -> AboutMean:
        """The same about a mean `[C, D]`."""
        return self._added("about_mean", AboutMean, scaling, mean=mean)

    def images(self, numbers: np.ndarray) -> np.ndarray:
        """`[n, D]`, as they are stored: the rows of these numbers, `[n]` ascending, none twice."""
        return self._of_each("images", None, numbers=numbers)

    def logits(self, scaling: Scaling, W: np.ndarray, b: np.ndarray, head: np.ndarray) -> np.ndarray:
        """`[N, K]` float64: of each row by one head, `head` `[N]`, of those that have W `[H, K, D]` and b `[H, K]`."""
        return self._of_each("logits", scaling, W=W, b=b, head=head)

    def _added(self, name: str, kind: type[T], scaling: Scaling | None, **arrays: np.ndarray) -> T:
        message, others = self._asked(name, scaling, **arrays)
        nodes = _of_branches(self._rows, message, *self._ranks)
        for said in others():
            nodes |= heard(said, kind)
        total = added(0, self._rows.cut.blocks, lambda *bounds: nodes.get(bounds), kind.joined)
        assert total is not None
        return total

    def _of_each(self, name: str, scaling: Scaling | None, **arrays: np.ndarray) -> np.ndarray:
        message, others = self._asked(name, scaling, **arrays)
        found = _of_rows(self._rows, message, *self._ranks)
        return np.concatenate([found, *(said.arrays["found"] for said in others())])

    def _asked(
        self, name: str, scaling: Scaling | None, **arrays: np.ndarray
    ) -> tuple[Message, Callable[[], list[Message]]]:
        """What this process is to find, and all others, if there are any; and what waits for what these say."""
        if scaling is not None:
            arrays |= scaling.arrays()
        if self._shared is None:
            return Message(name, arrays=arrays), list
        message = Message(name, {"rows": self._shared.name, "n_columns": self._n_columns}, arrays)
        return message, self._shared.cluster.call(message)

    @property
    def _ranks(self) -> tuple[int, int]:
        return (0, 1) if self._shared is None else (self._shared.cluster.rank, self._shared.cluster.size)


def answer(message: Message, rows: BlockedRows, rank: int, size: int) -> Message:
    """What process `rank` of `size` says to a message of `SharedRows`, one of QUESTIONS: see `stacked`, or `found`."""
    if message.name in _BY_BRANCHES:
        return stacked(message.name, _of_branches(rows, message, rank, size))
    return Message(message.name, arrays={"found": _of_rows(rows, message, rank, size)})


def _of_branches(rows: BlockedRows, message: Message, rank: int, size: int) -> dict[tuple[int, int], Any]:
    """Of each of the process's branches, by its bounds: what is found of its blocks, added; nothing of no rows."""
    find = _BY_BRANCHES[message.name]

    def of_block(begin: int, end: int) -> Any:
        part = rows.block(begin)
        return find(rows, part, message.arrays) if end - begin == 1 and part.stop > part.start else None

    found = {}
    for bounds in branches(*own(rows.cut.blocks, rank, size)):
        of_branch = added(*bounds, of_block, lambda first, second: first.joined(second))
        if of_branch is not None:
            found[bounds] = of_branch
    return found


def _of_rows(rows: BlockedRows, message: Message, rank: int, size: int) -> np.ndarray:
    """What is found of the process's rows, block by block: one array."""
    find, blocks = _BY_ROWS[message.name], range(*own(rows.cut.blocks, rank, size))
    # Of none an array of the same form.
    return np.concatenate([find(rows, rows.block(block), message.arrays) for block in blocks or [rows.cut.blocks]])


def _spread(rows: BlockedRows, part: slice, _: Mapping[str, np.ndarray]) -> Spread | None:
    counted = part.start + np.flatnonzero(rows.weights[:, part].any(axis=0))
    if not len(counted):
        return None
    return Spread.of(rows.examples.take(counted).blocks(BLOCK_BYTES, np.dtype(np.float64).itemsize))


def _moments(rows: BlockedRows, part: slice, arrays: Mapping[str, np.ndarray]) -> Moments:
    blocks = rows.scaled(part, Scaling.of_arrays(arrays)).blocks()
    found = Moments.of(blocks, rows.examples.labels[part], rows.weights[:, part], rows.n_out)
    if not np.isfinite(found.x).all():  # Other processes have checked them, in a copy of the file perhaps.
        numbers = rows.examples.rows[part]
        raise DataError(
            f"{rows.examples.name}: a value of rows {numbers[0]} to {numbers[-1]} is not finite; all processes "
            "need the same file"
        )
    return found


def _about_mean(rows: BlockedRows, part: slice, arrays: Mapping[str, np.ndarray]) -> AboutMean:
    blocks = rows.scaled(part, Scaling.of_arrays(arrays)).blocks()
    return AboutMean.of(blocks, rows.weights[:, part], arrays["mean"])


def _images(rows: BlockedRows, part: slice, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    numbers = arrays["numbers"]
    of_part = numbers[slice(*np.searchsorted(numbers, (part.start, part.stop)))]
    return np.asarray(rows.examples.take(of_part).images).reshape(len(of_part), rows.examples.stored[0].size)


def _logits(rows: BlockedRows, part: slice, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    W, b, head = arrays["W"], arrays["b"], arrays["head"][part]
    found, begin = np.empty((part.stop - part.start, W.shape[1])), 0
    for x in rows.scaled(part, Scaling.of_arrays(arrays)).blocks():
        piece = slice(begin, begin + len(x))
        begin += len(x)
        for number in np.unique(head[piece]):
            of_head = head[piece] == number
            found[piece][of_head] = x[of_head] @ W[number].T + b[number]
    return found


_BY_BRANCHES: dict[str, Callable[[BlockedRows, slice, Mapping[str, np.ndarray]], Any]] = {
    "spread": _spread,
    "moments": _moments,
    "about_mean": _about_mean,
}
_BY_ROWS = {"images": _images, "logits": _logits}
QUESTIONS = (*_BY_BRANCHES, *_BY_ROWS)

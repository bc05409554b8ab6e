"""How heads are measured by passes over the rows: exactly, and roughly where that will do."""

from typing import NamedTuple, Protocol

import numpy as np

from tfpipe.solvers.objective import Objective
from tfpipe.solvers.passes import SMALL, Passes, Sums
from tfpipe.solvers.problem import Problems
from tfpipe.solvers.shared_passes import SharedPasses

# Exact sums of so many heads are made one after the other where most are made in float32: a program for several heads
# takes longer to make than it saves.
_ONE_BY_ONE = 2
# To make another program takes as long as so many numbers, rows times columns times classes times heads, in each of the
# evaluations that are to come with few heads.
_WORTH_A_PROGRAM = 60 * SMALL


class Measuring(Protocol):
    """By what heads on their way are measured: `Measures`, or rows that take no passes."""

    def sums(self, problems: Problems, v: np.ndarray, *, rough: bool = False) -> Sums:
        """The sums of heads at v, `[h, K, D + 1]`; `rough` where the problems' descent says that it will do."""


class Measures(NamedTuple):
    """How heads are measured: by passes over the rows, exactly, and roughly where that will do.

    Attributes:
      passes: over the rows.
      exact: the objective of them, in float64.
      rough: the same in float32, which is faster: taken as long as it tells where to go. None: it is not.
      sizes: programs are made for so many heads, ascending: the last for all that are evaluated side by side.
    """

    passes: Passes | SharedPasses
    exact: Objective
    rough: Objective | None = None
    sizes: tuple[int, ...] = (1,)

    def sums(self, problems: Problems, v: np.ndarray, *, rough: bool = False) -> Sums:
        """The sums at v, `[h, K, D + 1]`: of as many heads as programs are made for."""
        if not rough and self.rough is not None and len(v) <= _ONE_BY_ONE:
            return self._exact_one_by_one(problems, v)
        objective = self.rough if rough and self.rough is not None else self.exact
        sums = self._sums(objective, problems, v, self._filled(len(v)))
        return Sums(*(array[: len(v)] for array in sums))

    def _exact_one_by_one(self, problems: Problems, v: np.ndarray) -> Sums:
        found = [self._sums(self.exact, problems, v, np.array([head])) for head in range(len(v))]
        return Sums(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))

    def _sums(self, objective: Objective, problems: Problems, v: np.ndarray, rows: np.ndarray) -> Sums:
        W, b = problems.parameters(v)
        return self.passes.sums(objective, W[rows], b[rows], problems.column[rows])

    def losses(
        self, passes: Passes | SharedPasses, objective: Objective, problems: Problems, v: np.ndarray
    ) -> list[np.ndarray]:
        """What heads at v lose on each row of other passes, and whether they are wrong: see `Passes.losses`."""
        rows = self._filled(len(v))
        W, b = problems.parameters(v)
        return [array[: len(v)] for array in passes.losses(objective, W[rows], b[rows])]

    def compile(self, passes: Passes | SharedPasses, objective: Objective, n_out: int, n_in: int) -> None:
        """Has XLA begin with the programs of `sums` and, on these passes, of `losses`, for the most heads.

        Not where there is a rough objective: then it takes longer to compute than to compile.
        """
        if self.rough is None:
            W, b = np.zeros((self.sizes[-1], n_out, n_in)), np.zeros((self.sizes[-1], n_out))
            self.passes.compile_sums(self.exact, W, b, np.zeros(len(W), np.int32))
            passes.compile_losses(objective, W, b)

    def certified(self, problems: Problems, v: np.ndarray, tolerance: float) -> tuple[np.ndarray, ...]:
        """How good heads are at v, `[H, K, D + 1]`: cost and certificate `[H]`, and whether that is small enough."""
        sums = self.sums(problems, v)
        cost, gradient = problems.cost_and_gradient(v, sums)
        certificate, _ = problems.certificate(v, sums, np.zeros(len(v)))
        is_flat = np.abs(gradient).max(axis=(1, 2)) <= tolerance
        return cost, certificate, np.where(problems.l2 > 0, certificate <= problems.target(cost, tolerance), is_flat)

    def _filled(self, count: int) -> np.ndarray:
        """Numbers of as many heads as a program takes: each of `count`, and the first again where there is room."""
        size = next((size for size in self.sizes if size >= count), count)
        return np.append(np.arange(count), np.zeros(size - count, np.int64))

    def error(self, problems: Problems, v: np.ndarray) -> np.ndarray:
        """`[H]`: the Euclidean norm of the error of a rough gradient at v, `[H, K, D + 1]`; 0 if there is none."""
        if self.rough is None:
            return np.zeros(len(v))
        # Heads that begin at one point, as those of a path do, have one error: it does not depend on l2.
        numbers: dict[tuple[bytes, int], int] = {}
        keys = [(point.tobytes(), int(column)) for point, column in zip(v, problems.column, strict=True)]
        of_each = [numbers.setdefault(key, len(numbers)) for key in keys]
        first = np.array([of_each.index(number) for number in range(len(numbers))])
        problems, v = problems.take(first), v[first]
        # Side by side, for each makes its program.
        exact = self.passes.workers.start(self._exact_one_by_one, problems, v)
        of_both = self.sums(problems, v, rough=True), exact.result()
        of_rough, of_exact = (problems.cost_and_gradient(v, sums)[1] for sums in of_both)
        return np.linalg.norm((of_rough - of_exact).reshape(len(v), -1), axis=1)[of_each]


def sizes(most: int, numbers: int) -> tuple[int, ...]:
    """For how many heads programs are made; see `Measures`: the most, and of its half, its quarter, ... what pays.

    Args:
      most: heads that are evaluated side by side.
      numbers: rows times columns times classes.
    """
    found = [most]
    for power in range(1, most.bit_length() + 1):
        fewer = -(-most // (1 << power))
        if (found[-1] - fewer) * numbers >= _WORTH_A_PROGRAM:
            found.append(fewer)
    return tuple(reversed(found))

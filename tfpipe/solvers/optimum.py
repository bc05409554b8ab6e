"""The way of H heads to their optimum: by L-BFGS, with a proof of how near each one is."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from tfpipe.compute import cpu
from tfpipe.solvers import metric
from tfpipe.solvers.lbfgs import PAIRS, Found, Lbfgs
from tfpipe.solvers.measures import Measures, Measuring
from tfpipe.solvers.passes import SMALL, Sums
from tfpipe.solvers.problem import NOISE, Problems

# The errors of a cost, relative to that of a guess among all classes: rough, and exact.
_NOISE = 1e-6, NOISE
# Below so many times its own error a gradient says too little of where to go.
_SOUND = 10.0
# So many steps may bring neither a better cost nor a certificate of so little of the best one.
_MOST_IDLE, _BETTER = 20, 0.9
# What V may have of a certificate that is small enough, before the intercepts are brought to their best.
_SHARE_OF_V = 0.5
# Iterations between two looks at the curvature, where the sample has all rows: the digits at l2 = 1e-5, to 1e-4, take
# 34 iterations, and 155 without. Of 5,000 of MNIST's 50,000 rows the second look shows no more than the first.
_REFRESH = 20
# Evaluations that a metric of blocks may save, where it is made once.
_SAVED_BY_A_METRIC = 50
# What a descent knows of its heads besides where L-BFGS has them.
_OF_A_DESCENT = (
    "rough", "_point", "_error", "_renews", "_at_intercepts", "_certificate", "_gradient", "_iterations",
    "_evaluations", "_converged", "_tried", "_idle", "_lowest", "_best", "_seen_by", "_seen_at",
)  # fmt: skip
# Rows from which the curvature is estimated; and where there are more columns, or classes, than that decomposes in a
# second.
_SAMPLE_ROWS, _SAMPLE_ROWS_OF_WIDE, _WIDE = 5000, 1000, 2000


class Sampled(Protocol):
    """From what the curvature is estimated: `Sample`, or all rows where these are few."""

    @property
    def is_all(self) -> bool:
        """Whether these are all rows that have weight."""

    def under(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows `[n, D]`, and their weights `[n]`, as a head with this column of weights has them."""

    def metric(self, problems: Problems, head: int, z: np.ndarray) -> metric.Blocks | metric.Spectrum:
        """The metric of all heads, where the logits of one, on these rows, are z `[n, K]`."""


class Sample(NamedTuple):
    """A few rows, from which the curvature is estimated.

    Attributes:
      x: `[n, D]` float64, inputs as the objective has them.
      weights: `[C, n]`, under each column of weights.
      n_all: how many rows have weight.
    """

    x: np.ndarray
    weights: np.ndarray
    n_all: int

    def under(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Sampled`."""
        return self.x, self.weights[column]

    def metric(self, problems: Problems, head: int, z: np.ndarray) -> metric.Blocks | metric.Spectrum:
        """See `Sampled`."""
        x = self.x - problems.mean[head]
        x /= problems.scale[head]
        evaluation = 2 * max(self.n_all * z.shape[1] * x.shape[1] * len(problems.l2), SMALL)
        saved = (_REFRESH if self.is_all else _SAVED_BY_A_METRIC) * evaluation
        return metric.of(x, self.weights[problems.column[head]], z, problems.l2, saved=saved)

    @property
    def is_all(self) -> bool:
        """Whether these are all rows that have weight."""
        return self.weights.shape[1] == self.n_all


def sample_rows(n_in: int, n_out: int) -> int:
    """How many rows a sample has at most, for D columns and K classes."""
    return _SAMPLE_ROWS if max(n_in, n_out) <= _WIDE else _SAMPLE_ROWS_OF_WIDE


def sampled(weights: np.ndarray, n_in: int, n_out: int) -> tuple[np.ndarray, int]:
    """The rows of a sample, evenly among those with weight in `[C, N]`: their numbers, and how many have weight.

    `n_in` is D, `n_out` K.
    """
    counted = np.flatnonzero(weights.any(axis=0))
    most = min(len(counted), sample_rows(n_in, n_out))
    return counted[np.linspace(0, len(counted) - 1, most).astype(int)], len(counted)


class Exactness(NamedTuple):
    """How far heads go.

    Attributes:
      tolerance: see `minimize`.
      most_iterations: likewise.
    """

    tolerance: float
    most_iterations: int


class Optimum(NamedTuple):
    """Where H heads ended.

    Attributes:
      v: `[H, K, D + 1]`, see `problem`.
      cost: `[H]`, F there.
      certificate: `[H]`, how far above the least F it is at most; infinity where l2 is 0.
      gradient: `[H]`, the largest magnitude in the gradient of F.
      iterations: `[H]`, how many steps were made.
      evaluations: `[H]`, how many evaluations that took.
      converged: `[H]` bool, whether the tolerance was reached.
    """

    v: np.ndarray
    cost: np.ndarray
    certificate: np.ndarray
    gradient: np.ndarray
    iterations: np.ndarray
    evaluations: np.ndarray
    converged: np.ndarray


class Descent:
    """H heads on their way, each at a point, with another one at which it is to be evaluated next.

    They share a metric: their columns are to be measured in about the same.

    Args:
      measures: by what they are measured.
      problems: what they minimize.
      start: `[H, K, D + 1]`, where they begin.
      sample: a few of the rows.
      error: `[H]`, the Euclidean norm of the error of a gradient in float32; 0: float64 is wanted from the beginning.
      tolerance: see `minimize`.
      most_iterations: likewise.
      pairs: that L-BFGS keeps of each head; see `lbfgs.PAIRS`.

    Attributes:
      problems: see there.
      rough: `[H]` bool, the heads for which float32 will do.
    """

    def __init__(
        self,
        measures: Measuring,
        problems: Problems,
        start: np.ndarray,
        sample: Sampled,
        error: np.ndarray,
        *,
        tolerance: float,
        most_iterations: int,
        pairs: int = PAIRS[0],
    ):
        self.problems = problems
        self._measures, self._sample = measures, sample
        self._tolerance = tolerance
        self._most_iterations = most_iterations
        self._shape = start.shape[1:]
        n_heads = len(start)
        self._lbfgs = Lbfgs.at(problems.centred(start).reshape(n_heads, -1), pairs)
        self._point = self._lbfgs.x.copy()
        self._error, self.rough = error, error > 0
        self._renews = np.zeros(n_heads, bool)  # The next point is where it is, to be evaluated in float64.
        self._at_intercepts = np.zeros(n_heads, bool)  # The next point has the same V, and better intercepts.
        self._guess = problems.guess
        self._certificate, self._gradient = np.full(n_heads, np.inf), np.full(n_heads, np.inf)
        self._iterations, self._evaluations = np.zeros(n_heads, np.int64), np.zeros(n_heads, np.int64)
        self._converged, self._tried = np.zeros(n_heads, bool), np.zeros(n_heads, bool)
        self._idle = np.zeros(n_heads, np.int64)  # Steps without a better cost or certificate.
        self._lowest, self._best = np.full(n_heads, np.inf), np.full(n_heads, np.inf)
        self._refresh(0)

    @property
    def active(self) -> np.ndarray:
        """`[h]` int64: the heads that have not arrived."""
        ended = (self._lbfgs.stalled & ~self._at_intercepts) | (self._iterations >= self._most_iterations)
        return np.flatnonzero(self._renews | ~(ended | self._converged))

    def points(self, heads: np.ndarray) -> np.ndarray:
        """`[h, K, D + 1]`: where these heads are to be evaluated."""
        return self._point[heads].reshape(-1, *self._shape)

    def take(self, heads: np.ndarray, sums: Sums) -> None:
        """Takes in the sums at `points(heads)`, and finds where to look next. All of the heads are rough, or none."""
        problems, v = self.problems.take(heads), self.points(heads)
        cost, gradient = problems.cost_and_gradient(v, sums)
        flat, is_rough = gradient.reshape(len(heads), -1), bool(self.rough[heads[0]])
        certificate, share_of_V = problems.certificate(v, sums, self._error[heads] * is_rough)
        self._evaluations[heads] += 1

        noise = _NOISE[not is_rough] * self._guess[heads]
        moved, begins = np.zeros(len(heads), bool), np.isinf(self._lbfgs.cost[heads])
        to_intercepts, renews = self._at_intercepts[heads], self._renews[heads]
        found = Found(self._point[heads], cost, flat, noise)
        ways = (
            (~(to_intercepts | renews), self._lbfgs.take),
            (to_intercepts, self._lbfgs.go),
            (renews, self._lbfgs.renew),
        )
        for group, take in ways:
            if group.any():
                moved[group] = take(heads[group], found.take(group), self._metric)
        self._iterations[heads] += moved & ~renews & ~begins
        self._certificate[heads[moved]] = certificate[moved]
        self._gradient[heads[moved]] = np.abs(flat[moved]).max(axis=1)
        target = problems.target(cost, self._tolerance)
        is_small = np.where(problems.l2 > 0, certificate <= target, np.abs(flat).max(axis=1) <= self._tolerance)
        self._converged[heads] = moved & is_small & (not is_rough)

        self._point[heads] = self._lbfgs.points(heads)
        # Once more where nothing else is left: rounding may hide from the cost what the intercepts still lack.
        stuck = self._lbfgs.stalled[heads] & ~is_small & ~self._tried[heads] & (not is_rough)
        self._tried[heads] |= stuck
        better = (moved & ~is_small & (share_of_V <= _SHARE_OF_V * target)) | stuck
        better &= (problems.l2 > 0) & (self._shape[0] <= metric.MOST_CLASSES)
        self._at_intercepts[heads] = better
        for head in heads[better]:
            self._point[head] = self._with_better_intercepts(head)
        self._renews[heads] = False
        stepped = moved & ~(begins | renews | to_intercepts)
        due = heads[stepped & (self._iterations[heads] % _REFRESH == 0)]
        if due.size and self._sample.is_all:
            self._refresh(due[-1])
        idle = self._count_idle(heads, moved, certificate, noise)
        if is_rough:
            lost = self._lbfgs.stalled[heads] | (self._iterations[heads] >= self._most_iterations)
            lost |= moved & (is_small | (np.linalg.norm(flat, axis=1) <= _SOUND * self._error[heads]))
            self._leave_rough(heads[lost | idle])
        else:
            self._lbfgs.stalled[heads[idle]] = True

    def step(self) -> None:
        """Evaluates all heads that are on their way, once."""
        active = self.active
        for rough in (True, False):
            heads = active[self.rough[active] == rough]
            if heads.size:
                sums = self._measures.sums(self.problems.take(heads), self.points(heads), rough=rough)
                with cpu.one_blas_thread():
                    self.take(heads, sums)

    def _count_idle(
        self, heads: np.ndarray, moved: np.ndarray, certificate: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        """`[h]` bool: the heads that have gone on for long without a better cost or certificate."""
        cost, lowest, best = self._lbfgs.cost[heads], self._lowest[heads], self._best[heads]
        better = moved & ((cost < lowest - noise) | (certificate < _BETTER * best))
        self._lowest[heads] = np.where(moved, np.minimum(cost, lowest), lowest)
        self._best[heads] = np.where(moved, np.minimum(certificate, best), best)
        self._idle[heads] = np.where(better, 0, self._idle[heads] + moved)
        return self._idle[heads] >= _MOST_IDLE

    def _refresh(self, head: int) -> None:
        """Has the metric taken of where this head is, when it is next asked for."""
        self._seen_by, self._seen_at = np.array([head]), self._lbfgs.x[head].copy()
        self._metric_there: metric.Blocks | metric.Spectrum | None = None

    def _look(self) -> metric.Blocks | metric.Spectrum:
        head = int(self._seen_by[0])
        z = self._logits(self._seen_at.reshape(self._shape), head)
        return self._sample.metric(self.problems, head, z)

    def _leave_rough(self, heads: np.ndarray) -> None:
        """Has heads evaluated in float64 from now on for which float32 is too coarse, or which seem to have arrived."""
        self.rough[heads], self._renews[heads], self._at_intercepts[heads] = False, True, False
        self._lbfgs.stalled[heads], self._idle[heads] = False, 0
        self._lowest[heads], self._best[heads] = np.inf, np.inf
        self._point[heads] = self._lbfgs.x[heads]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it has to go on with, by name; they change when it does."""
        own = {name: getattr(self, name) for name in _OF_A_DESCENT}
        return own | {f"lbfgs.{name}": array for name, array in vars(self._lbfgs).items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `arrays` gave. Raises ValueError if that was another descent."""
        own = self.arrays()
        for name, array in own.items():
            there = arrays.get(name)
            if there is None or (there.dtype, there.shape) != (array.dtype, array.shape):
                raise ValueError(f"{name} is not that of such a descent")
        for name in _OF_A_DESCENT:
            setattr(self, name, arrays[name].copy())
        for name in vars(self._lbfgs):
            setattr(self._lbfgs, name, arrays[f"lbfgs.{name}"].copy())
        self._metric_there = None  # It takes a second to look again, and of MNIST's ten classes 50 MB to keep.

    @property
    def cost(self) -> np.ndarray:
        """`[H]`: F where they are; infinity before the first evaluation."""
        return self._lbfgs.cost

    def optimum(self) -> Optimum:
        """Where they are."""
        v = self.problems.centred(self._lbfgs.x.reshape(-1, *self._shape))
        found = self._lbfgs.cost, self._certificate, self._gradient, self._iterations, self._evaluations
        return Optimum(v, *found, self._converged)

    def _metric(
        self, gradient: np.ndarray, heads: np.ndarray, change: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._metric_there is None:
            self._metric_there = self._look()
        problems = self.problems.take(heads)

        def centred(g: np.ndarray) -> np.ndarray:
            return problems.centred(g.reshape(len(heads), *self._shape))

        y = None if change is None else centred(change)
        found, squares = self._metric_there.inverse_times(centred(gradient), problems.l2, y)
        return problems.centred(found).reshape(len(heads), -1), squares

    def _logits(self, v: np.ndarray, head: int) -> np.ndarray:
        """`[n, K]`: of the sample, by a head at v, `[K, D + 1]`."""
        x, _ = self._sample.under(self.problems.column[head])
        W, b = self.problems.take(np.array([head])).parameters(v[np.newaxis])
        (z,) = np.einsum("nd,hkd->hnk", x, W, optimize=True) + b[:, np.newaxis]
        return z

    def _with_better_intercepts(self, head: int) -> np.ndarray:
        """`[P]`: where the head is, after a step of Newton's method in c alone, by the sample's Hessian."""
        v, gradient = (array[head].reshape(self._shape) for array in (self._lbfgs.x, self._lbfgs.gradient))
        _, weights = self._sample.under(self.problems.column[head])
        hessian = metric.hessian_of_intercepts(self._logits(v, head), weights)
        step = np.linalg.lstsq(hessian, gradient[:, -1], rcond=1e-12)[0]
        point = v.copy()
        point[:, -1] -= (step - step.mean()) * self.problems.there[head]
        return point.ravel()


def minimize(
    measures: Measures,
    problems: Problems,
    start: np.ndarray,
    sample: Sample,
    *,
    tolerance: float,
    most_iterations: int,
) -> Optimum:
    """Minimizes until each certificate is small.

    Args:
      measures: of the rows.
      problems: of the heads.
      start: `[H, K, D + 1]`, where they begin.
      sample: a few of the rows.
      tolerance: of a certificate, relative to the cost (or to 1e-6 of the cost of V = 0, if that is more); where l2 is
        0, of the largest entry of the gradient.
      most_iterations: of each head.
    """
    start = problems.centred(start)
    error = measures.error(problems, start)
    descent = Descent(measures, problems, start, sample, error, tolerance=tolerance, most_iterations=most_iterations)
    while descent.active.size:
        descent.step()
    return descent.optimum()

"""The rows that heads are fitted to, as L-BFGS takes them: on their device, scaled, in columns of weights."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.compute.workers import Workers
from tfpipe.data import Examples, Splits, scaling
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline import residency
from tfpipe.pipeline.residency import Resident
from tfpipe.solvers.few_rows import FewRows
from tfpipe.solvers.measures import Measures, sizes
from tfpipe.solvers.moments import Moments
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.optimum import Descent, Exactness, Sample, sampled
from tfpipe.solvers.passes import SMALL, Passes
from tfpipe.solvers.problem import FAR_BELOW, Problems
from tfpipe.solvers.row_space import RowSpace
from tfpipe.solvers.scaled_rows import BLOCK_BYTES, ScaledRows
from tfpipe.solvers.shared_passes import SharedPasses, passes_over


class Saved(NamedTuple):
    """The parameters of a model as it is kept, for images as they are stored, and how good these are.

    Attributes:
      W: `[D, K]`, b: `[K]`, both float32 if that is exact enough, else float64; divided by the temperature.
      cost: what was minimized, at them times the temperature.
      certificate: how far that is above the least, at most; infinity where l2 is 0.
      is_exact: whether the certificate is within the tolerance.
    """

    W: np.ndarray
    b: np.ndarray
    cost: float
    certificate: float
    is_exact: bool


class Fit:
    """Training rows, under columns of weights.

    Args:
      examples: the rows.
      weights: `[C, N]`, at least 0: the columns.
      splits: what they are of.
      precision: float32, or float64 if nothing may be rounded on the way.
      most_heads: that are measured side by side.
      workers: who compute.
      validation: other rows on which heads are measured; None: there are none.
      in_span: whether heads go down in what the rows span; then every l2 is above 0.

    Attributes:
      n: N.
      total_weight: the sum of the first column.
      moments: of the rows, under each column.
    """

    def __init__(
        self,
        examples: Examples,
        weights: np.ndarray,
        splits: Splits,
        precision: str,
        most_heads: int,
        workers: Workers,
        validation: Examples | None = None,
        *,
        in_span: bool = False,
    ):
        self.n = len(examples)
        self.total_weight = float(weights[0].sum(dtype=np.float64))
        self._splits = splits
        weights = weights / weights.max()
        counted = np.flatnonzero(weights.any(axis=0))
        self._scaling = _coordinates(splits, examples if len(counted) == len(examples) else examples.take(counted))
        self._rows, self._weights = ScaledRows(examples, self._scaling), weights
        self._precision, self._most_heads, self._workers = precision, most_heads, workers
        self._in_span = in_span
        self._validating = examples if validation is None else validation
        self.moments = Moments.of(self._rows.blocks(), examples.labels, weights, splits.n_out)

    @property
    def _n_columns(self) -> int:
        return self._most_heads * self._splits.n_out

    @functools.cached_property
    def _measures(self) -> Measures:
        own, workers = self._placed[0], self._workers
        numbers = self.n * self._splits.n_in * self._splits.n_out
        kinds = ("float64",) if numbers <= SMALL or self._precision == "float64" else ("float64", "float32")
        objectives = [Objective.of(self._scaling, own.labels, self._weights, self.n, kind) for kind in kinds]
        rough = objectives[1] if len(kinds) > 1 else None
        return Measures(
            passes_over(own, workers, self._n_columns), objectives[0], rough, sizes(self._most_heads, numbers)
        )

    @functools.cached_property
    def _placed(self) -> list[Resident]:
        """Its rows, and those for validation if they are others: on the host, where several devices take their own."""
        device = self._workers.device
        with tf.device(residency.HOST if device.others else device.name):
            return residency.place(dict.fromkeys((self._rows.examples, self._validating)))

    @functools.cached_property
    def _measured_on(self) -> tuple[Passes | SharedPasses, Objective]:
        if len(self._placed) == 1:
            return self._measures.passes, self._measures.exact
        other = self._placed[1]
        every = np.ones((1, len(other.labels)), np.float32)
        objective = Objective.of(self._scaling, other.labels, every, len(other.labels), self._measures.exact.arithmetic)
        return passes_over(other, self._workers, self._n_columns), objective

    @functools.cached_property
    def _sample(self) -> Sample:
        chosen, n_all = sampled(self._weights, self._splits.n_in, self._splits.n_out)
        x = self._scaling.apply(np.asarray(self._rows.examples.take(chosen).images))
        return Sample(x, self._weights[:, chosen], n_all)

    @functools.cached_property
    def _deviations(self) -> np.ndarray:
        return self.moments.deviations(self._rows.blocks(), self._weights)

    @functools.cached_property
    def _row_space(self) -> RowSpace:
        return RowSpace(self._rows.columns, self._splits.n_in, self._rows.examples.labels, self._weights)

    def problems(self, scale: str, l2: Sequence[float] | np.ndarray, column: np.ndarray) -> Problems:
        """Of heads with `l2` and columns of weights `[H]`, whose columns are measured at this scale."""
        if scale == "columns":
            measured = self._deviations
        else:
            # V is W for inputs divided by pixel_max, as at every other place that knows an l2.
            unit = np.broadcast_to(self._scaling.factor * self._splits.pixel_max, self._splits.n_in)
            measured = np.broadcast_to(unit, self.moments.x.shape)
        return Problems.of(self.moments, np.asarray(l2, np.float64), column, measured[column])

    def scale_of_images(self, scale: str) -> np.ndarray:
        """What V is measured in, for images as they are stored and the first column: `[D]`, or `[]` for one number."""
        if scale == "columns":
            return np.asarray(self._deviations[0] / self._scaling.factor)
        return np.array(self._splits.pixel_max, np.float64)

    def deviations(self, scale: str) -> np.ndarray:
        """Standard deviations of the columns of rows of features as they are stored: `[D]`, above 0.

        Of the scale `columns` what V is measured in, under the first column of weights; else those by which the rows
        came to variance 1 here, each counted once: there is no pass more.
        """
        return self.scale_of_images(scale) if scale == "columns" else np.asarray(1 / self._scaling.factor)

    def descent(self, problems: Problems, start: np.ndarray, exactness: Exactness, pairs: int) -> Descent:
        """Heads on their way from `start`, `[H, K, D + 1]`, each with so many pairs of L-BFGS."""
        start = problems.centred(start)
        if self._in_span:
            return self._row_space.descent(problems, start, exactness, pairs)
        error = self._measures.error(problems, start)
        return Descent(
            self._measures, problems, start, self._sample, error,
            tolerance=exactness.tolerance, most_iterations=exactness.most_iterations, pairs=pairs,
        )  # fmt: skip

    def few_rows(self, problems: Problems) -> FewRows:
        """Its rows, all of which have weight under the first column, as a single head measures them."""
        (weights,) = self._weights
        return FewRows.of(np.concatenate([*self._rows.blocks()]), self._rows.examples.labels, weights, problems)

    def compile(self) -> None:
        """Has XLA begin with the programs of a search, beside what follows: see `Measures.compile`."""
        self._measures.compile(*self._measured_on, self._splits.n_out, self._splits.n_in)

    def losses(self, problems: Problems, v: np.ndarray) -> list[np.ndarray]:
        """What heads at v, `[H, K, D + 1]`, lose on each row, and whether they are wrong: see `Passes.losses`.

        On the rows for validation, if there are any, else on their own.
        """
        return self._measures.losses(*self._measured_on, problems, v)

    def logits(self, problems: Problems, v: np.ndarray, head: np.ndarray) -> np.ndarray:
        """`[n, K]` float64, on the same n rows: of each by one head of those at v, `[H, K, D + 1]`.

        Args:
          problems: of the heads.
          v: where they are.
          head: `[n]` integers, which one looks at each row.
        """
        W, b = problems.parameters(v)
        found = np.empty((len(self._validating), v.shape[1]))
        begin = 0
        for x in ScaledRows(self._validating, self._scaling).blocks():
            rows = slice(begin, begin + len(x))
            for number in np.unique(head[rows]):
                of_head = head[rows] == number
                found[rows][of_head] = x[of_head] @ W[number].T + b[number]
            begin += len(x)
        return found

    def raw(self, problems: Problems, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`[D, K]` and `[K]` float64: a single head at v, `[1, K, D + 1]`, for images as they are stored."""
        (W,), (b,) = problems.parameters(v)
        return self._scaling.fold(W.T, b)

    def saved(
        self, problems: Problems, v: np.ndarray, precision: str, tolerance: float, temperature: float = 1.0
    ) -> Saved:
        """The model of a single head at v, `[1, K, D + 1]`, as it is to be kept: its logits over `temperature`."""
        there = problems.there[0]
        W, b = (part / temperature for part in self.raw(problems, v))
        b = np.where(there, b, b[there].min() - FAR_BELOW)
        found = self.certified(problems, W, b, tolerance, temperature)
        if precision == "float32":
            rounded = self.certified(problems, W.astype(np.float32), b.astype(np.float32), tolerance, temperature)
            if rounded.is_exact or not found.is_exact:
                return rounded
        return found

    def certified(
        self, problems: Problems, W: np.ndarray, b: np.ndarray, tolerance: float, temperature: float = 1.0
    ) -> Saved:
        """How good `temperature` times a model is, with parameters `[D, K]` and `[K]` for images as they are stored."""
        v = self.coordinates(problems, *(part.astype(np.float64) * temperature for part in (W, b)))
        cost, certificate, is_exact = self._measures.certified(problems, v, tolerance)
        return Saved(W, b, float(cost[0]), float(certificate[0]), bool(is_exact[0]))

    def cost(self, problems: Problems, v: np.ndarray) -> np.ndarray:
        """`[H]`: what heads at v, `[H, K, D + 1]`, have of what they minimize."""
        cost, _, _ = self._measures.certified(problems, v, tolerance=1.0)
        return cost

    def coordinates(self, problems: Problems, W: np.ndarray, b: np.ndarray) -> np.ndarray:
        """`[H, K, D + 1]`: heads that all have parameters `[D, K]` and `[K]` float64, for images as they are stored."""
        if self._scaling.shift is not None:
            b = b + self._scaling.shift @ W
        factor = np.broadcast_to(self._scaling.factor, len(W))[:, np.newaxis]
        n_heads = len(problems.l2)
        W, b = (np.repeat(part[np.newaxis], n_heads, axis=0) for part in ((W / factor).T, b))
        return problems.coordinates(W, b)


def _coordinates(splits: Splits, examples: Examples) -> Scaling:
    """In what columns are computed: rows of features at mean 0 and variance 1, in which float32 loses little."""
    if len(splits.image_shape) > 1 or splits.standardization is not None:
        return splits.scaling
    mean, deviation = scaling.moments(examples.blocks(BLOCK_BYTES, np.dtype(np.float64).itemsize))
    return scaling.by_moments(mean, deviation)

"""The rows that heads are fitted to, as L-BFGS takes them: on their device, scaled, in columns of weights."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tfpipe.compute.workers import Workers
from tfpipe.data import Splits, scaling
from tfpipe.data.scaling import Scaling
from tfpipe.solvers.few_rows import FewRows
from tfpipe.solvers.measures import Measures, sizes
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.optimum import Descent, Exactness, Sample, sampled
from tfpipe.solvers.passes import Passes
from tfpipe.solvers.problem import FAR_BELOW, Problems
from tfpipe.solvers.row_space import RowSpace
from tfpipe.solvers.scaled_rows import ScaledRows
from tfpipe.solvers.shared_rows import BlockedRows, SharedRows
from tfpipe.solvers.sharing import Shared, SharedPasses, placed
from tfpipe.training.fitted import Fitted


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
      fitted: the rows.
      most_heads: that are measured side by side.
      workers: who compute.
      in_span: whether heads go down in what the rows span; then every l2 is above 0.
      shared: with which other processes the rows are shared; None: with none.

    Attributes:
      n: N.
      total_weight: the sum of the first column.
      moments: of the rows, under each column.
    """

    def __init__(
        self,
        fitted: Fitted,
        most_heads: int,
        workers: Workers,
        *,
        in_span: bool = False,
        shared: Shared | None = None,
    ):
        self.n = len(fitted.examples)
        self.total_weight = float(fitted.weights[0].sum(dtype=np.float64))
        splits = self._splits = fitted.splits
        self._most_heads, self._workers, self._in_span, self._shared = most_heads, workers, in_span, shared
        self._n_columns = most_heads * splits.n_out
        self._wanted = fitted.wanted
        shared_rows = [
            SharedRows(
                BlockedRows.of(of.examples, of.weights, splits.n_out, self._n_columns), self._n_columns,
                shared and shared.part(number),
            )
            for number, of in enumerate(self._wanted)
        ]  # fmt: skip
        self._known, self._validating = shared_rows[0], shared_rows[-1]
        self._weights = self._wanted[0].weights
        self._scaling = _coordinates(splits, self._known)
        self._rows = ScaledRows(fitted.examples, self._scaling)
        self.moments = self._known.moments(self._scaling)

    @functools.cached_property
    def _measures(self) -> Measures:
        passes, objectives = self._placed[0]
        numbers = self.n * self._splits.n_in * self._splits.n_out
        rough = objectives.get("float32")
        return Measures(passes, objectives["float64"], rough, sizes(self._most_heads, numbers))

    @functools.cached_property
    def _placed(self) -> list[tuple[Passes | SharedPasses, Mapping[str, Objective]]]:
        """Its rows, and those for validation if they are others, on the device."""
        return placed(self._wanted, self._scaling, self._n_columns, self._workers, self._shared)

    @property
    def _measured_on(self) -> tuple[Passes | SharedPasses, Objective]:
        passes, objectives = self._placed[-1]
        return passes, objectives["float64"]

    @functools.cached_property
    def _sample(self) -> Sample:
        chosen, n_all = sampled(self._weights, self._splits.n_in, self._splits.n_out)
        return Sample(self._scaling.apply(self._known.images(chosen)), self._weights[:, chosen], n_all)

    @functools.cached_property
    def _deviations(self) -> np.ndarray:
        return self.moments.deviation(self._known.about_mean(self._scaling, self.moments.mean))

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
        return self._validating.logits(self._scaling, *problems.parameters(v), head)

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


def _coordinates(splits: Splits, rows: SharedRows) -> Scaling:
    """In what columns are computed: rows of features at mean 0 and variance 1, in which float32 loses little."""
    if len(splits.image_shape) > 1 or splits.standardization is not None:
        return splits.scaling
    spread = rows.spread()
    return scaling.by_moments(spread.mean, spread.deviation)

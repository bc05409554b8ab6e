"""Few rows under one column of weights, minimized by one core, in the basis of their covariance. NumPy only.

There the metric is a diagonal, and of n rows only min(n, D) coordinates are left. 1,600 rows of 768 columns and 100
classes on a core of an AMD EPYC: 12 ms an evaluation with all that follows from it; in the columns as they are, with
XLA's programs on both cores, 27 ms. 100 rows: 0.7 and 7 ms.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.special

from tfpipe.compute import cpu
from tfpipe.solvers import metric
from tfpipe.solvers.moments import Moments
from tfpipe.solvers.optimum import Descent, Exactness, Optimum
from tfpipe.solvers.passes import Sums
from tfpipe.solvers.problem import Problems


class Rotated(NamedTuple):
    """Rows in the basis of their covariance, and what heads lose on them: in the place of passes, and of a sample.

    Attributes:
      x: under each of C columns of weights `[n, R]`, of mean 0.
      values: under each `[R]`, their covariance, a diagonal.
      weights: `[C, n]`.
      labels: `[n]` integers, in [0, K).
    """

    x: Sequence[np.ndarray]
    values: Sequence[np.ndarray]
    weights: np.ndarray
    labels: np.ndarray

    @property
    def is_all(self) -> bool:
        """These are all rows."""
        return True

    def under(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """See `optimum.Sample`."""
        return self.x[column], self.weights[column]

    def metric(self, problems: Problems, head: int, z: np.ndarray) -> metric.Spectrum:
        """See `optimum.Sample`: a diagonal."""
        column = problems.column[head]
        return metric.diagonal(self.values[column], self.weights[column], z)

    def sums(self, problems: Problems, v: np.ndarray, *, rough: bool = False) -> Sums:
        """The sums at v, `[h, K, R + 1]`; never `rough`."""
        W, b = problems.parameters(v)

        def of_head(head: int) -> Sums:
            x, weights = self.under(problems.column[head])
            return _sums(x, self.labels, weights, W[head], b[head])

        if len(W) == 1:
            with cpu.one_blas_thread():
                found = [of_head(0)]
        else:
            with cpu.a_thread_a_core() as threads:
                found = [*threads.map(of_head, range(len(W)))]
        return Sums(*map(np.stack, zip(*found, strict=True)))


class FewRows(NamedTuple):
    """Rows in the basis of their covariance.

    Attributes:
      rows: with their weights; x `[n, R]`.
      moments: of them.
      basis: `[D, R]`, orthonormal: all rows, about their mean and in what each column is measured in, lie in its span.
    """

    rows: Rotated
    moments: Moments
    basis: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, labels: np.ndarray, weights: np.ndarray, problems: Problems) -> "FewRows":
        """Rows `[n, D]` float64 with labels and weights above 0 `[n]`, as a single head of `problems` measures them."""
        x = (x - problems.mean) / problems.scale
        root = np.sqrt(weights / weights.sum())[:, np.newaxis]
        if len(x) < x.shape[1]:
            # Nothing is cut off: at a small l2 it counts what the smallest directions hold.
            span, lower = scipy.linalg.qr(x.T, mode="economic", check_finite=False)
            values, turned = np.linalg.eigh(_gram(lower.T * root))
            basis = span @ turned
        else:
            values, basis = np.linalg.eigh(_gram(x * root))
        rotated = x @ basis
        moments = Moments.of([rotated], labels, weights[np.newaxis], problems.shares.shape[1])
        rows = Rotated([rotated], [np.maximum(values, 0)], weights[np.newaxis], labels)
        return cls(rows, moments, basis)

    def minimize(
        self,
        problems: Problems,
        start: np.ndarray,
        exactness: Exactness,
        pairs: int,
        ends: Callable[[], bool] = lambda: False,
    ) -> Optimum:
        """From `start`, `[1, K, D + 1]`, for a single head with l2 above 0: see `optimum.minimize`.

        `ends`, asked before each evaluation, is to end it where it is.
        """
        own = Problems.of(self.moments, problems.l2, np.zeros(1, np.int32), np.ones((1, self.basis.shape[1])))
        way = Descent(
            self.rows, own, _turned(start, self.basis), self.rows, np.zeros(1),
            tolerance=exactness.tolerance, most_iterations=exactness.most_iterations, pairs=pairs,
        )  # fmt: skip
        while way.active.size and not ends():
            way.step()
        found = way.optimum()
        return found._replace(v=_turned(found.v, self.basis.T))


def _sums(x: np.ndarray, labels: np.ndarray, weights: np.ndarray, W: np.ndarray, b: np.ndarray) -> Sums:
    """Of a single head, without the axis of heads."""
    z = x @ W.T + b
    own = np.arange(len(x)), labels
    residuals = scipy.special.log_softmax(z, axis=1)
    loss = -(weights @ residuals[own])
    np.exp(residuals, out=residuals)
    residuals[own] -= 1
    residuals *= weights[:, np.newaxis]
    return Sums(np.array(loss), residuals.T @ x, residuals.sum(axis=0))


def _gram(x: np.ndarray) -> np.ndarray:
    return x.T @ x


def _turned(v: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """`[1, K, D + 1]` in other coordinates of V; the intercepts are about the same mean in both."""
    return np.concatenate([v[..., :-1] @ basis, v[..., -1:]], axis=2)

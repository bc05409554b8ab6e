"""Rows of far more columns than there are rows: heads go down in what the rows span. NumPy only.

Every V that may be the best lies in the span of the rows, about their mean and as their columns are measured. In an
orthonormal basis of it N rows have N coordinates, the squared norm of V is the same, and the covariance is a diagonal:
an evaluation takes N^2 K products in the place of N D K. Each column of weights has its own mean, each scale its own
measure, so each has a basis of its own. The basis is never made: V is a sum of the rows, and is brought there and back
by passes over the columns.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import scipy.linalg

from tfpipe.compute import cpu
from tfpipe.solvers.few_rows import Rotated
from tfpipe.solvers.moments import Moments
from tfpipe.solvers.optimum import Descent, Exactness, Optimum
from tfpipe.solvers.problem import Problems

# Columns for each row, and rows, with which it takes less than in the columns as they are: a search of 2,000 rows of
# 20,000 columns 35 s, and more than 56 there.
_LEAST_COLUMNS, _MOST_ROWS = 4, 2500
# Of a piece of columns, in float64; and so many for each row, of which the QR decomposition takes one for its own.
_PIECE_BYTES, _COLUMNS_OF_A_PIECE = 32 << 20, 4
# The pieces go in so many lanes, however many cores there are: lanes are decomposed side by side. Some have no piece
# where there are few; a single one is not cut, for of fewer columns than rows a decomposition gains little.
_LANES = 4
# Singular values below, relative to the largest, are rounding.
_FLOOR = 1e-14


def pays(n: int, n_in: int) -> bool:
    """Whether N rows of D columns are fitted in their span."""
    return n <= _MOST_ROWS and n_in >= _LEAST_COLUMNS * n


def head_bytes(n: int, n_in: int, n_out: int, pairs: int) -> int:
    """What a head of K classes and m pairs takes on N rows of D columns: a basis, its descent, and V in all columns."""
    in_span = n * n + (2 * pairs + 90) * n_out * (n + 1)
    return np.dtype(np.float64).itemsize * (in_span + 12 * n_out * (n_in + 1))


def piece_bytes(n: int, n_in: int) -> int:
    """What a thread takes of N rows of D columns: a piece, as it is, about the mean, decomposed; and R of each lane.

    It has the piece, or else the singular values of what is left of a head, which take no more.
    """
    return np.dtype(np.float64).itemsize * n * (5 * min(n_in, _width(n)) + _LANES * n)


def _width(n: int) -> int:
    """How many columns a piece has."""
    return max(_PIECE_BYTES // (8 * n), _COLUMNS_OF_A_PIECE * n)


class Basis(NamedTuple):
    """Rows about their mean, under a column of weights and at a scale, in the basis of their covariance.

    Attributes:
      x: `[N, N]`, the rows; zeros for a row without weight, and in the coordinates that none needs.
      values: `[N]`, their covariance, a diagonal.
      moments: of them.
    """

    x: np.ndarray
    values: np.ndarray
    moments: Moments


class RowSpace:
    """N rows of D columns under columns of weights.

    Args:
      columns: gives a slice of the columns of all rows, `[N, d]` float64; a copy.
      n_in: D.
      labels: `[N]` integers, in [0, K).
      weights: `[C, N]`, at least 0.

    Attributes:
      labels: likewise.
      weights: likewise.
      n: N.
    """

    def __init__(self, columns: Callable[[slice], np.ndarray], n_in: int, labels: np.ndarray, weights: np.ndarray):
        self._columns, self.labels, self.weights, self.n = columns, labels, weights, len(labels)
        width = _width(self.n)
        self._pieces = [slice(begin, min(begin + width, n_in)) for begin in range(0, n_in, width)]
        self._bases: dict[tuple[int, bytes], Basis] = {}

    def descent(self, problems: Problems, start: np.ndarray, exactness: Exactness, pairs: int) -> Descent:
        """Heads with l2 above 0 on their way from `start`, `[H, K, D + 1]`, each with so many pairs of L-BFGS."""
        return _Descent(self, problems, start, exactness, pairs)

    def bases(self, problems: Problems) -> tuple[list[Basis], np.ndarray]:
        """The bases of heads, and `[H]` int32, which of them each has."""
        keys = [(int(column), scale.tobytes()) for column, scale in zip(problems.column, problems.scale, strict=True)]
        distinct = list(dict.fromkeys(keys))
        missing = [key for key in distinct if key not in self._bases]
        with cpu.a_thread_a_core() as threads:
            for begin in range(0, len(missing), step := cpu.cores()):
                some = missing[begin : begin + step]
                heads = [problems.take(np.array([keys.index(key)])) for key in some]
                self._bases |= zip(some, self._side_by_side(heads, threads), strict=True)
        return [self._bases[key] for key in distinct], np.array([distinct.index(key) for key in keys], np.int32)

    def _side_by_side(self, heads: Sequence[Problems], threads: ThreadPoolExecutor) -> list[Basis]:
        """The bases of single heads, as many as there are threads: each takes a few matrices `[N, N]` beside."""
        lanes = [[threads.submit(self._lower, head, lane) for lane in range(_LANES)] for head in heads]
        lowers = [[lower.result() for lower in of_head] for of_head in lanes]
        return list(threads.map(self._basis, heads, lowers))

    def _roots(self, head: Problems) -> tuple[np.ndarray, np.ndarray]:
        """The rows that have weight for a single head, and the square roots of what they count, `[n, 1]`."""
        weights = self.weights[head.column[0]]
        counted = np.flatnonzero(weights)
        return counted, np.sqrt(weights[counted] / weights.sum())[:, np.newaxis]

    def _lower(self, head: Problems, lane: int) -> np.ndarray:
        """`[at most n, n]`: of the columns of a lane, each row a column, the R of their QR decomposition."""
        counted, root = self._roots(head)
        lower = np.empty((0, len(counted)))
        for piece in self._pieces[lane::_LANES]:
            x = self._columns(piece)[counted]
            x -= head.mean[0, piece]
            x /= head.scale[0, piece]
            x *= root
            lower = _lower_of(lower, x.T)
        return lower

    def _basis(self, head: Problems, lowers: Sequence[np.ndarray]) -> Basis:
        counted, root = self._roots(head)
        left, singular, _ = scipy.linalg.svd(_lower_of(*lowers).T, full_matrices=False, check_finite=False)
        singular[singular <= _FLOOR * singular.max(initial=0)] = 0
        n, rank = self.n, len(singular)
        x, values = np.zeros((n, n)), np.zeros(n)
        x[counted, :rank] = left * singular / root
        values[:rank] = np.square(singular)
        return Basis(x, values, Moments.of([x], self.labels, self.weights[head.column], head.shares.shape[1]))

    def within(self, problems: Problems, v: np.ndarray) -> np.ndarray:
        """`[H, K, D + 1]` -> `[H, K, N + 1]`: heads in their bases, without what of V is orthogonal to the rows."""
        n_heads, n_out, _ = v.shape
        found = np.zeros((n_heads, n_out, self.n + 1))
        found[..., -1] = v[..., -1]
        if not v[..., :-1].any():
            return found
        W, _ = problems.parameters(v)
        flat = W.reshape(n_heads * n_out, -1)
        bases, which = self.bases(problems)
        with cpu.a_thread_a_core() as threads:
            z = sum(threads.map(lambda piece: self._columns(piece) @ flat[:, piece].T, self._pieces))
            z = z.reshape(-1, n_heads, n_out) - np.einsum("hkd,hd->hk", W, problems.mean)
            for head, basis in enumerate(which):
                found[head, :, :-1] = z[:, head].T @ self._directions(problems, head, bases[basis])
        return found

    def beyond(self, problems: Problems, v: np.ndarray) -> np.ndarray:
        """The way back: `[H, K, N + 1]` -> `[H, K, D + 1]`."""
        n_heads, n_out, _ = v.shape
        found = np.empty((n_heads, n_out, problems.mean.shape[1] + 1))
        found[..., -1] = v[..., -1]
        bases, which = self.bases(problems)
        of_rows = np.empty((n_heads, n_out, self.n))
        flat = of_rows.reshape(n_heads * n_out, -1)

        def place(piece: slice) -> None:
            V = (flat @ self._columns(piece)).reshape(n_heads, n_out, -1)
            V -= total * problems.mean[:, np.newaxis, piece]
            V /= problems.scale[:, np.newaxis, piece]
            found[..., piece] = V

        with cpu.a_thread_a_core() as threads:
            for head, basis in enumerate(which):
                of_rows[head] = v[head, :, :-1] @ self._directions(problems, head, bases[basis]).T
            total = of_rows.sum(axis=2, keepdims=True)
            list(threads.map(place, self._pieces))
        return found

    def _directions(self, problems: Problems, head: int, basis: Basis) -> np.ndarray:
        """`[N, N]`: how much of each row is in each vector of a head's basis."""
        weights = self.weights[problems.column[head]]
        values = np.where(basis.values > 0, basis.values, np.inf)
        return (weights / weights.sum())[:, np.newaxis] * (basis.x / values)


class _Descent(Descent):
    """Heads on their way in their bases; `optimum` has them in the columns as they are."""

    def __init__(self, space: RowSpace, problems: Problems, start: np.ndarray, exactness: Exactness, pairs: int):
        self._space, self._in_columns = space, problems
        bases, which = space.bases(problems)
        moments = Moments(*map(np.concatenate, zip(*(basis.moments for basis in bases), strict=True)))
        _, first = np.unique(which, return_index=True)
        own = Problems.of(moments, problems.l2, which, np.ones((len(which), space.n)))
        weights = space.weights[problems.column[first]]
        rows = Rotated([basis.x for basis in bases], [basis.values for basis in bases], weights, space.labels)
        super().__init__(
            rows, own, space.within(problems, start), rows, np.zeros(len(which)),
            tolerance=exactness.tolerance, most_iterations=exactness.most_iterations, pairs=pairs,
        )  # fmt: skip

    def optimum(self) -> Optimum:
        """Where they are."""
        found = super().optimum()
        return found._replace(v=self._space.beyond(self._in_columns, found.v))


def _lower_of(*parts: np.ndarray) -> np.ndarray:
    """R of the QR decomposition of what lies one below the other."""
    _, lower = scipy.linalg.qr(np.concatenate(parts), mode="raw", overwrite_a=True, check_finite=False)
    return lower

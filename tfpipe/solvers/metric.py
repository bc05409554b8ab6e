"""A metric for L-BFGS: the Hessian of a few rows, as far as it takes little to invert. NumPy only.

In the coordinates of `problem`, the Hessian in V of head h is about, for classes i and j,

    mean (p_i (1[i = j] - p_j)) (x - m)(x - m)' / s^2 + l2

`Blocks` has what lies on its diagonal: for class k the covariance of the rows weighted by p_k (1 - p_k). `Spectrum` has
one covariance for all classes, weighted by the mean over the classes of p (1 - p), times how large p_k (1 - p_k) is
beside that mean: one eigendecomposition serves all of them, and all l2. At V = 0 the two are the same. The intercepts
have their own Hessian, mean (diag p - p p'), after a shift that makes them independent of V.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from tfpipe.compute import cpu

# Of the largest, the smallest curvature that is believed: of columns, which may have very different scales, and of
# classes. Breast cancer's raw columns at l2 = 1e-9: 52 iterations, with 1e-6 for both more than 1,000.
_FLOOR, _FLOOR_OF_CLASSES = 1e-12, 1e-6
# Blocks serve heads whose l2 differ by no more than the first, and are made for the second times the least of these,
# for the covariances are of few rows. Sixteen values of MNIST, four side by side: 104 evaluations with 1, 88 with 4, 94
# with 10; 105 if each head has its own, and 274 by Spectrum.
_WIDEST, _ABOVE_LEAST_L2 = 100.0, 4.0
# To be added to a covariance, relative to its trace, that float32 has rounded.
_FLOOR_IN_FLOAT32 = 1e-5
_MOST_BLOCK_BYTES = 128 << 20
# Beyond, to solve for the intercepts takes longer than to search.
MOST_CLASSES = 1000


class Spectrum(NamedTuple):
    """The covariance of a few rows, in its eigenbasis.

    Attributes:
      basis: `[D, R]`, orthonormal columns; None: the coordinates are in the eigenbasis.
      values: `[R]`, the eigenvalues; those of what is orthogonal to the basis are 0.
      mean: `[D]`, the weighted mean, which has been taken off.
      classes: `[K]`, p (1 - p) of each class, relative to the mean over the classes.
      intercepts: `[K, K]`, the inverse of their Hessian; of many classes `[K]`, its diagonal where p is the same for
        all rows, as at V = 0.
    """

    basis: np.ndarray | None
    values: np.ndarray
    mean: np.ndarray
    classes: np.ndarray
    intercepts: np.ndarray

    def inverse_times(
        self, g: np.ndarray, l2: np.ndarray, y: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The metric's inverse, A, of heads with `l2` `[h]`.

        Args:
          g: `[h, K, D + 1]`, gradients.
          l2: `[h]`.
          y: `[h, K, D + 1]`, changes of them; None: none.

        Returns:
          A g, `[h, K, D + 1]`; and y' A y, `[h]`, or `[0]`.
        """
        g_c, g_V = self._centred(g)
        floor = np.maximum(l2, _FLOOR * self.values.max(initial=0) + np.finfo(float).tiny)[:, np.newaxis, np.newaxis]
        curvature = self.classes[:, np.newaxis] * self.values + floor
        if self.basis is None:
            V = g_V / curvature
        else:
            in_basis = _product(g_V, self.basis)
            V = _product(in_basis / curvature - in_basis / floor, self.basis.T) + g_V / floor
        c = _times(g_c, self.intercepts) - V @ self.mean
        squares = np.zeros(0)
        if y is not None:
            y_c, y_V = self._centred(y)
            in_basis = y_V if self.basis is None else _product(y_V, self.basis)
            squares = np.einsum("hkr,hkr->h", in_basis, in_basis / curvature)
            rest = np.einsum("hkd,hkd->h", y_V, y_V) - np.einsum("hkr,hkr->h", in_basis, in_basis)
            squares += np.maximum(rest, 0) / floor[:, 0, 0]
            squares += np.einsum("hk,hk->h", y_c, _times(y_c, self.intercepts))
        return np.concatenate([V, c[..., np.newaxis]], axis=2), squares

    def _centred(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        g_c = g[..., -1]
        return g_c, g[..., :-1] - g_c[..., np.newaxis] * self.mean


class Blocks(NamedTuple):
    """The Hessian's diagonal blocks, of a few rows.

    Attributes:
      inverses: `[K, D, D]`, of each class's block.
      means: `[K, D]`, the weighted mean of each class, which has been taken off.
      intercepts: as in `Spectrum`.
    """

    inverses: np.ndarray
    means: np.ndarray
    intercepts: np.ndarray

    def inverse_times(
        self, g: np.ndarray, l2: np.ndarray, y: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As that of `Spectrum`; it was made for their `l2`."""
        # In one call, which has much to read: of MNIST's blocks 50 MB.
        both = g if y is None else np.concatenate([g, y])
        of_c = both[..., -1]
        of_V = both[..., :-1] - of_c[..., np.newaxis] * self.means
        V = np.matmul(of_V.swapaxes(0, 1), self.inverses).swapaxes(0, 1)  # The blocks are symmetric.
        c = _times(of_c, self.intercepts) - np.einsum("hkd,kd->hk", V, self.means)
        found = np.concatenate([V, c[..., np.newaxis]], axis=2)
        squares = np.zeros(0) if y is None else np.einsum("hkd,hkd->h", y, found[len(g) :])
        return found[: len(g)], squares


def of(x: np.ndarray, weights: np.ndarray, z: np.ndarray, l2: np.ndarray, *, saved: float) -> Blocks | Spectrum:
    """The metric that is the nearest to the Hessian that still pays: `Blocks`, or `Spectrum`.

    Args:
      x: `[n, D]`, rows in the coordinates of V; they are overwritten.
      weights: `[n]`, theirs.
      z: `[n, K]`, logits.
      l2: `[H]`, of the heads that it serves.
      saved: the multiplications of the evaluations that `Blocks` may save.
    """
    (n, n_in), n_out = x.shape, z.shape[1]
    pays = n_out * n_in**2 * (n + n_in) <= saved and (z != z[0]).any()
    is_small = n_out * n_in**2 * x.itemsize <= _MOST_BLOCK_BYTES
    found = None
    if pays and is_small and l2.max() <= _WIDEST * l2.min():
        found = blocks(x, weights, z, l2.min())
    return found or spectrum(x, weights, z)


def spectrum(x: np.ndarray, weights: np.ndarray, z: np.ndarray) -> Spectrum:
    """Of rows `[n, D]` in the coordinates of V, with weights `[n]`, at logits `[n, K]`. The rows are overwritten."""
    p, w, variance = _of_rows(weights, z)
    of_class, of_row = w @ variance, w * variance.mean(axis=1)
    if not of_row.any():  # A single class, or p of 0 and 1 to the last bit: no row says more than another.
        of_class, of_row = np.ones_like(of_class), w
    rows, mean = _about_mean(x, of_row, out=x)
    if x.shape[1] <= len(x):
        values, basis = np.linalg.eigh(rows.T @ rows)
    else:
        values, left = np.linalg.eigh(rows @ rows.T)
        kept = values > _FLOOR * values.max(initial=0)
        values, basis = values[kept], rows.T @ (left[:, kept] / np.sqrt(values[kept]))
    classes = of_class / of_class.mean()
    return Spectrum(
        basis,
        np.maximum(values, 0),
        mean,
        np.maximum(classes, _FLOOR_OF_CLASSES * classes.max()),
        _inverse_of_intercepts(p, w),
    )


def diagonal(values: np.ndarray, weights: np.ndarray, z: np.ndarray) -> Spectrum:
    """As `spectrum`, but for rows whose covariance is a diagonal: its `values` `[D]`.

    All rows count alike in it, times the mean of p (1 - p): few shots of 100 classes take no more evaluations so.
    """
    p, w, variance = _of_rows(weights, z)
    of_class = w @ variance
    mean = of_class.mean()
    classes = of_class / mean if mean > 0 else np.ones_like(of_class)
    classes = np.maximum(classes, _FLOOR_OF_CLASSES * classes.max())
    return Spectrum(None, values * (mean or 1.0), np.zeros(len(values)), classes, _inverse_of_intercepts(p, w))


def blocks(x: np.ndarray, weights: np.ndarray, z: np.ndarray, l2: float) -> Blocks | None:
    """As `spectrum`, for heads with this `l2` or more; None if rounding leaves a block no inverse.

    The bits do not depend on how many threads there are: a class is the work of one.
    """
    p, w, variance = _of_rows(weights, z)
    n_out, n_in = z.shape[1], x.shape[1]
    of_class, means = np.empty((n_out, n_in, n_in)), np.empty((n_out, n_in))

    def take(k: int) -> None:
        of_row = w * variance[:, k]
        rows, means[k] = _about_mean(x, of_row if of_row.any() else w)
        if _ABOVE_LEAST_L2 * l2 > _FLOOR_IN_FLOAT32 * np.vdot(rows, rows):
            rows = rows.astype(np.float32)  # In half the time: MNIST's in 0.5 s.
        of_class[k] = rows.T @ rows * of_row.any()

    def invert(k: int) -> bool:
        block = of_class[k]
        block += of_all
        block[np.diag_indices(n_in)] += max(_ABOVE_LEAST_L2 * l2, _FLOOR * np.trace(block))
        factor, is_lost = scipy.linalg.lapack.dpotrf(block, lower=True)
        lower, _ = scipy.linalg.lapack.dpotri(factor, lower=True)
        lower = np.tril(lower)
        of_class[k] = lower + np.tril(lower, -1).T
        return not is_lost

    with cpu.a_thread_a_core() as threads:
        list(threads.map(take, range(n_out)))
        of_all = _FLOOR_OF_CLASSES * of_class.mean(axis=0)
        if not all(threads.map(invert, range(n_out))):
            return None
    return Blocks(of_class, means, _inverse_of_intercepts(p, w))


def hessian_of_intercepts(z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`[K, K]`, mean (diag p - p p'), at logits `[n, K]` of rows with weights `[n]`."""
    p, w, _ = _of_rows(weights, z)
    return _hessian(p, w)


def _of_rows(weights: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of rows with weights `[n]` and logits `[n, K]`: p `[n, K]`, the weights with sum 1, and p (1 - p) `[n, K]`."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p, weights / weights.sum(), p * (1 - p)


def _about_mean(x: np.ndarray, weights: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose product with themselves is `[n, D]`'s covariance times the sum of the weights, and the mean `[D]`."""
    mean = weights @ x / weights.sum()
    rows = np.subtract(x, mean, out=out)
    rows *= np.sqrt(weights)[:, np.newaxis]
    return rows, mean


def _product(g: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`[h, K, n]` times `[n, r]`."""
    # In one for all heads: 4.4 ms for four of MNIST, and 6.4 if NumPy makes one for each.
    return (g.reshape(-1, g.shape[-1]) @ matrix).reshape(*g.shape[:-1], -1)


def _times(g: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """`[h, K]` times `[K, K]`, or `[K]`, which stands for a diagonal."""
    return g * inverse if inverse.ndim == 1 else g @ inverse


def _inverse_of_intercepts(p: np.ndarray, w: np.ndarray) -> np.ndarray:
    if p.shape[1] > MOST_CLASSES:
        # Where all rows have the same p, (diag p - p p') (g / p) is g, for gradients have a sum of 0; and the Hessian
        # is never above diag mean p.
        shares = w @ p
        return 1 / np.maximum(shares, _FLOOR_OF_CLASSES * shares.max())
    return np.linalg.pinv(_hessian(p, w), rcond=_FLOOR_OF_CLASSES, hermitian=True)


def _hessian(p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.diag(w @ p) - (p * w[:, np.newaxis]).T @ p

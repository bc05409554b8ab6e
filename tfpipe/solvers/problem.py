"""What each head minimizes, in coordinates in which it is well conditioned; and how far it is from the least.

Conventions. x is an input of the objective, w the weights of a head's rows, n its rows, "mean" the mean weighted by w.
m = mean x, and s is what each column is measured in: for V = s W and c = b + W m,

    F(V, c) = mean loss + l2 / 2 |V|^2,   logits z = V (x - m) / s + c

All numbers are float64.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfpipe.solvers.moments import Moments
from tfpipe.solvers.passes import Sums

# A class that a head gives no weight to is left out of its softmax: exp of this is 0 also in float32.
_LEFT_OUT = -1e30
# The error of a cost in float64, relative to that of a guess among all classes.
NOISE = 1e-15
# Separable data drives the cost to 0: a tolerance is relative to this share of the cost of V = 0 at least.
_SMALLEST_COST = 1e-6
# As far as its logit is below all others in a model that is kept, which must be finite.
FAR_BELOW = 1e4


class Problems(NamedTuple):
    """Of H heads.

    Attributes:
      l2: `[H]`, at least 0.
      column: `[H]` int32, the column of weights of each.
      scale: `[H, D]`, s, above 0.
      mean: `[H, D]`, m.
      total: `[H]`, the sum of w.
      shares: `[H, K]`, of the classes: mean y.
      cross: `[H, K, D]`, mean (x - m) y.
    """

    l2: np.ndarray
    column: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    total: np.ndarray
    shares: np.ndarray
    cross: np.ndarray

    @classmethod
    def of(cls, moments: Moments, l2: np.ndarray, column: np.ndarray, scale: np.ndarray) -> "Problems":
        """The problems of heads with `l2` and columns of weights `[H]`, whose columns are measured in `[H, D]`."""
        total = moments.total[column]
        mean = moments.x[column] / total[:, np.newaxis]
        shares = moments.of_class[column] / total[:, np.newaxis]
        cross = moments.x_of_class[column] / total[:, np.newaxis, np.newaxis]
        cross -= shares[..., np.newaxis] * mean[:, np.newaxis]
        return cls(l2, column, scale, mean, total, shares, cross)

    def take(self, heads: np.ndarray) -> "Problems":
        """Some of the heads."""
        return Problems(*(array[heads] for array in self))

    @classmethod
    def joined(cls, parts: Sequence["Problems"]) -> "Problems":
        """The heads of one after those of the other; whose columns of weights are columns of the same rows, or not."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def each(self) -> Iterator["Problems"]:
        """Head by head."""
        return (self.take(np.array([head])) for head in range(len(self.l2)))

    @property
    def there(self) -> np.ndarray:
        """`[H, K]` bool: the classes that have weight."""
        return self.shares > 0

    @property
    def at_zero(self) -> np.ndarray:
        """`[H]`: the least cost of V = 0, the entropy of the classes' shares."""
        return _entropy(self.shares)

    @property
    def guess(self) -> np.ndarray:
        """`[H]`: the cost of a guess among all classes."""
        return np.log(self.there.sum(axis=1))

    def target(self, cost: np.ndarray, tolerance: float) -> np.ndarray:
        """`[H]`: the certificate at which heads of this cost have arrived."""
        target = tolerance * np.maximum(cost, _SMALLEST_COST * self.at_zero)
        return np.maximum(target, NOISE * self.guess)  # Less cannot be told.

    def start(self) -> np.ndarray:
        """`[H, K, D + 1]`: V = 0, and c, in the last column, the logarithms of the shares, centred."""
        n_heads, n_out = self.shares.shape
        v = np.zeros((n_heads, n_out, self.mean.shape[1] + 1))
        v[..., -1] = np.log(np.where(self.there, self.shares, 1))
        return self.centred(v)

    def centred(self, v: np.ndarray) -> np.ndarray:
        """The same function of x, with sums of 0 over the classes that are there, and 0 for the others."""
        there = self.there[..., np.newaxis]
        mean = (v * there).sum(axis=1, keepdims=True) / there.sum(axis=1, keepdims=True)
        return (v - mean) * there

    def coordinates(self, W: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The way back of `parameters`: `[H, K, D + 1]`."""
        c = b + np.einsum("hkd,hd->hk", W, self.mean)
        return self.centred(np.concatenate([W * self.scale[:, np.newaxis], c[..., np.newaxis]], axis=2))

    def parameters(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W and b for inputs x, `[H, K, D]` and `[H, K]`."""
        W = v[..., :-1] / self.scale[:, np.newaxis]
        b = v[..., -1] - np.einsum("hkd,hd->hk", W, self.mean)
        return W, np.where(self.there, b, _LEFT_OUT)

    def cost_and_gradient(self, v: np.ndarray, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
        """F `[H]` and its gradient, as v has it, of the sums at v."""
        loss, G, r = self._means(sums)
        V = v[..., :-1]
        cost = loss + self.l2 / 2 * np.square(V).sum(axis=(1, 2))
        g_V = G / self.scale[:, np.newaxis] + self.l2[:, np.newaxis, np.newaxis] * V
        return cost, np.concatenate([g_V, r[..., np.newaxis]], axis=2)

    def certificate(self, v: np.ndarray, sums: Sums, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`[H]`: F(v) is at most so much above the least value that there is; infinity where l2 is 0.

        The dual of the problem bounds it from below, at probabilities q_n with mean (q - y) = 0: by the mean of their
        entropies, less |mean (x - m) / s (q - y)|^2 / (2 l2). Those of v, p, miss that by r = mean (p - y), so
        q_n = (1 - t) p_n + t q with the smallest t in [0, 1) for which q = shares - (1 - t) / t r has no negative
        entry. And mean H(p) = mean loss - mean (p - y) z.

        Args:
          v: `[H, K, D + 1]`.
          sums: at v.
          error: `[H]`, the Euclidean norm of the error that the gradient may have.

        Returns:
          The bound; and what V has in it, |dF/dV|^2 / (2 l2), which is all of it where r is 0.
        """
        loss, G, r = self._means(sums)
        G = G / self.scale[:, np.newaxis]
        V, c = v[..., :-1], v[..., -1]
        ratio = np.max(r / np.where(self.there, self.shares, 1), axis=1, initial=0)
        t = ratio / (1 + ratio)
        q = np.maximum(self.shares - r / np.where(ratio > 0, ratio, 1)[:, np.newaxis], 0)
        D = (1 - t)[:, np.newaxis, np.newaxis] * G - t[:, np.newaxis, np.newaxis] * self.cross / self.scale[
            :, np.newaxis
        ]
        # F less the bound, in an order in which what is large cancels first.
        rest = t * (loss - _entropy(q)) + (1 - t) * (_product(G, V) + np.einsum("hk,hk->h", r, c)) - _product(D, V)
        bound = self._of_V(D, V, error) + rest
        of_V = self._of_V(G, V, error)
        return np.where(self.l2 > 0, bound, np.inf), np.where(self.l2 > 0, of_V, np.inf)

    def _of_V(self, G: np.ndarray, V: np.ndarray, error: np.ndarray) -> np.ndarray:
        l2 = np.where(self.l2 > 0, self.l2, 1)
        gradient = G + l2[:, np.newaxis, np.newaxis] * V
        return np.square(np.sqrt(_product(gradient, gradient)) + error) / (2 * l2)

    def _means(self, sums: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the loss, of (p - y) (x - m), and of p - y."""
        G = sums.G - sums.r[..., np.newaxis] * self.mean[:, np.newaxis]
        return sums.loss / self.total, G / self.total[:, np.newaxis, np.newaxis], sums.r / self.total[:, np.newaxis]


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products, head by head: `[H, K, D]` both -> `[H]`."""
    return np.einsum("hkd,hkd->h", a, b)


def _entropy(p: np.ndarray) -> np.ndarray:
    """`[H, K]` -> `[H]`."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)

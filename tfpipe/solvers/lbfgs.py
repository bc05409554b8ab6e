"""L-BFGS for many heads at once: each with its own memory and line search, all advanced by the same array operations.

Nocedal and Wright (2006), "Numerical Optimization", algorithms 7.4 and 7.5, with a metric in the place of the initial
inverse Hessian. The line search brackets a step that meets the weak Wolfe conditions, or the approximate ones of Hager
and Zhang (2005), "A new conjugate gradient method with guaranteed descent", where rounding hides the descent. NumPy
only.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

# How many pairs of changes a head may keep: the first, where memory allows it.
PAIRS = 10, 5, 3
_DESCENT, _CURVATURE = 1e-4, 0.9
_LARGEST_STEP_UP = 4.0
_MOST_TRIALS = 20
# The cosine between a change of x and that of the gradient, below which rounding is all that the pair tells.
_LEAST_CURVATURE = 1e-14


class Metric(Protocol):
    """What stands in the place of the initial inverse Hessian, A."""

    def __call__(
        self, gradient: np.ndarray, heads: np.ndarray, change: np.ndarray | None = None, /
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of heads `[h]`, with gradients g and changes of them y, both `[h, P]`: A g, `[h, P]`; and y' A y, `[h]`."""


def head_bytes(size: int, pairs: int) -> int:
    """What a head of P numbers that keeps m pairs takes, and its evaluation while it is under way: 2 m + 90 P numbers.

    The peak beyond what the process had, of 2,000 rows, 768 columns and 500 classes (P numbers are 3.1 MB), with m =
    10, 5 and 3, when pairs were copied for each direction: 144, 124 and 121 P numbers of one head; of two 126, 118 and
    104 each; of four 85, 65 and 59. Without copies it is 19 less of one head with m = 10, and 26 each of four.
    """
    return (2 * pairs + 90) * size * np.dtype(np.float64).itemsize


class Found(NamedTuple):
    """What was found of h heads at their points.

    Attributes:
      x: `[h, P]`, the points.
      cost: `[h]`, there.
      gradient: `[h, P]`, there.
      noise: `[h]`, the error of a cost.
    """

    x: np.ndarray
    cost: np.ndarray
    gradient: np.ndarray
    noise: np.ndarray

    def take(self, which: np.ndarray) -> "Found":
        """Of some of them, `[h]` bool."""
        return Found(*(array[which] for array in self))


@dataclasses.dataclass
class Lbfgs:
    """H heads, each at a point of P numbers. All arrays are float64 unless said.

    Attributes:
      x: `[H, P]`, where each head is.
      cost: `[H]`, there; infinity before the first evaluation.
      gradient: `[H, P]`, there.
      direction: `[H, P]`, along which it searches; zeros before the first evaluation.
      slope: `[H]`, of the cost along the direction, at x.
      step: `[H]`, how far along the direction it is tried next.
      low, high: `[H, 3]`, the bracket: step, cost and slope of the largest step known to be too short, and of the
        smallest known to be too long (infinity: none).
      trials: `[H]` int64, evaluations in this search.
      S, Y: `[H, m, P]`, the last changes of x and of the gradient.
      pairs: `[H]` int64, how many there were; number i lies in place i % m.
      stalled: `[H]` bool, no step is any better: rounding is all that is left.
    """

    x: np.ndarray
    cost: np.ndarray
    gradient: np.ndarray
    direction: np.ndarray
    slope: np.ndarray
    step: np.ndarray
    low: np.ndarray
    high: np.ndarray
    trials: np.ndarray
    S: np.ndarray
    Y: np.ndarray
    pairs: np.ndarray
    stalled: np.ndarray

    @classmethod
    def at(cls, x: np.ndarray, pairs: int) -> "Lbfgs":
        """Heads that begin at `[H, P]`, and keep so many pairs, m."""
        n_heads, size = x.shape
        return cls(
            x.copy(),
            np.full(n_heads, np.inf),
            np.zeros_like(x),
            np.zeros_like(x),
            np.zeros(n_heads),
            np.zeros(n_heads),
            np.zeros((n_heads, 3)),
            np.full((n_heads, 3), np.inf),
            np.zeros(n_heads, np.int64),
            np.zeros((n_heads, pairs, size)),
            np.zeros((n_heads, pairs, size)),
            np.zeros(n_heads, np.int64),
            np.zeros(n_heads, bool),
        )

    def points(self, heads: np.ndarray) -> np.ndarray:
        """`[h, P]`: where these heads, `[h]`, are to be evaluated next."""
        return self.x[heads] + self.step[heads, np.newaxis] * self.direction[heads]

    def take(self, heads: np.ndarray, found: Found, metric: Metric) -> np.ndarray:
        """Takes in what was found at `points(heads)`, and finds where to look next.

        Args:
          heads: `[h]`.
          found: of them.
          metric: see Metric.

        Returns:
          `[h]` bool: the heads that went there; the others try another step.
        """
        cost, slope = found.cost, np.einsum("hp,hp->h", found.gradient, self.direction[heads])
        with np.errstate(invalid="ignore"):
            is_less = cost <= self.cost[heads] + _DESCENT * self.step[heads] * self.slope[heads]
            within_noise = cost <= self.cost[heads] + found.noise
            is_less |= within_noise & (slope <= (2 * _DESCENT - 1) * self.slope[heads])
            is_flat = slope >= _CURVATURE * self.slope[heads]
        begins = np.isinf(self.cost[heads])
        accepted = begins | (is_less & is_flat)
        self.trials[heads] += 1
        self._move(heads[accepted], found.take(accepted), metric)
        others = ~accepted
        self._narrow(heads[others], cost[others], slope[others], is_less[others])
        lost = heads[others][self.trials[heads[others]] >= _MOST_TRIALS]
        if lost.size:
            self._give_up(lost, metric)
        return accepted

    def go(self, heads: np.ndarray, found: Found, metric: Metric) -> np.ndarray:
        """Goes to points that another rule has found, as `take` has them, where the cost is no larger."""
        goes = found.cost <= self.cost[heads] + found.noise
        self._move(heads[goes], found.take(goes), metric)
        return goes

    def renew(self, heads: np.ndarray, found: Found, metric: Metric) -> np.ndarray:
        """Takes in what is better known of the points where the heads are; as `take` has it."""
        self.cost[heads], self.gradient[heads] = found.cost, found.gradient
        self._search(heads, metric)
        return np.ones(len(heads), bool)

    def _move(self, heads: np.ndarray, found: Found, metric: Metric) -> None:
        s, y = found.x - self.x[heads], found.gradient - self.gradient[heads]
        sy = np.einsum("hp,hp->h", s, y)
        lengths = np.sqrt(np.einsum("hp,hp->h", s, s) * np.einsum("hp,hp->h", y, y))
        curved = np.isfinite(self.cost[heads]) & (sy > _LEAST_CURVATURE * lengths)
        kept = heads[curved]
        places = self.pairs[kept] % self.S.shape[1]
        self.S[kept, places], self.Y[kept, places] = s[curved], y[curved]
        self.pairs[kept] += 1
        self.x[heads], self.cost[heads], self.gradient[heads] = found.x, found.cost, found.gradient
        self.stalled[heads] = False
        self._search(heads, metric)

    def _search(self, heads: np.ndarray, metric: Metric) -> None:
        """Begins a search along a new direction."""
        if not heads.size:
            return
        direction = -self._inverse_hessian(heads, metric)
        slope = np.einsum("hp,hp->h", direction, self.gradient[heads])
        uphill = ~(slope < 0)
        if uphill.any():  # Pairs of changes that are all rounding lead anywhere.
            self.pairs[heads[uphill]] = 0
            direction[uphill] = -metric(self.gradient[heads[uphill]], heads[uphill])[0]
            slope = np.einsum("hp,hp->h", direction, self.gradient[heads])
        self.direction[heads], self.slope[heads] = direction, slope
        self.step[heads], self.trials[heads] = 1.0, 0
        self.low[heads] = np.stack([np.zeros_like(slope), self.cost[heads], slope], axis=1)
        self.high[heads] = np.inf
        self.stalled[heads] |= ~(slope < 0)

    def _inverse_hessian(self, heads: np.ndarray, metric: Metric) -> np.ndarray:
        """The approximate inverse Hessian times the gradient: the two loops over the pairs, with numbers alone.

        All products of vectors are made beforehand, as in Chen, Wang and Zhou (2014), "Large-scale L-BFGS using
        MapReduce".
        """
        # Twenty heads of MNIST: 33 ms with vectors in the loops, and 18.9 so.
        gradient, pairs, most = self.gradient[heads], self.pairs[heads], self.S.shape[1]
        backwards = np.arange(min(most, int(pairs.max(initial=0))))
        if not backwards.size:
            return metric(gradient, heads)[0]
        # Of each head from the last pair back: [h, n] places, and whether there is one.
        places, there = (pairs[:, np.newaxis] - 1 - backwards) % most, backwards < pairs[:, np.newaxis]
        S, Y = [self.S[head] for head in heads], [self.Y[head] for head in heads]
        sy = np.stack([(s @ y.T)[np.ix_(order, order)] for s, y, order in zip(S, Y, places, strict=True)])
        rho = np.where(there, 1 / np.where(there, np.einsum("hii->hi", sy), 1), 0)

        sq = _products(S, gradient, places)
        alpha = np.zeros_like(rho)
        for i in backwards:
            alpha[:, i] = rho[:, i] * (sq[:, i] - np.einsum("hj,hj->h", sy[:, i, :i], alpha[:, :i]))
        q = gradient - _combined(Y, alpha, places)
        last = np.stack([y[order[0]] for y, order in zip(Y, places, strict=True)])
        r, squares = metric(q, heads, last)
        is_known = rho[:, 0] > 0
        r *= np.where(is_known, 1 / np.where(is_known, squares * rho[:, 0], 1), 1)[:, np.newaxis]

        yr = _products(Y, r, places)
        of_s = np.zeros_like(rho)  # alpha - beta.
        for i in backwards[::-1]:
            beta = rho[:, i] * (yr[:, i] + np.einsum("hj,hj->h", sy[:, i + 1 :, i], of_s[:, i + 1 :]))
            of_s[:, i] = alpha[:, i] - beta
        r += _combined(S, of_s, places)
        return r

    def _narrow(self, heads: np.ndarray, cost: np.ndarray, slope: np.ndarray, too_short: np.ndarray) -> None:
        """Narrows the brackets of heads whose step was too short, or else too long."""
        tried = np.stack([self.step[heads], cost, slope], axis=1)
        self.low[heads[too_short]] = tried[too_short]
        self.high[heads[~too_short]] = tried[~too_short]
        low, high = self.low[heads], self.high[heads]
        bracketed = np.isfinite(high[:, 0])
        with np.errstate(all="ignore"):
            between = _cubic(low, high)
            width = high[:, 0] - low[:, 0]
            between = np.where(np.isfinite(between), between, low[:, 0] + width / 2)
            between = np.clip(between, low[:, 0] + 0.1 * width, high[:, 0] - 0.1 * width)
        self.step[heads] = np.where(bracketed, between, _LARGEST_STEP_UP * low[:, 0])

    def _give_up(self, heads: np.ndarray, metric: Metric) -> None:
        """Begins anew without memory; heads that had none are stalled."""
        self.stalled[heads] = self.pairs[heads] == 0
        self.pairs[heads] = 0
        self._search(heads, metric)


def _products(pairs: list[np.ndarray], vectors: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`[h, n]`: of each head's vector `[P]` with those of its pairs, `[m, P]`, that lie at `places`."""
    return np.stack([(own @ vector)[order] for own, vector, order in zip(pairs, vectors, places, strict=True)])


def _combined(pairs: list[np.ndarray], factors: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`[h, P]`: of each head the sum of those of its pairs, `[m, P]`, that lie at `places`, times factors `[n]`."""
    of_all = np.zeros((len(pairs), len(pairs[0])))
    np.put_along_axis(of_all, places, factors, axis=1)
    return np.stack([of_head @ own for of_head, own in zip(of_all, pairs, strict=True)])


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where the cubic through two ends `[h, 3]` (step, cost, slope) is least; equation 3.59 of Nocedal and Wright."""
    d1 = a[:, 2] + b[:, 2] - 3 * (a[:, 1] - b[:, 1]) / (a[:, 0] - b[:, 0])
    d2 = np.sqrt(d1 * d1 - a[:, 2] * b[:, 2])
    return b[:, 0] - (b[:, 0] - a[:, 0]) * (b[:, 2] + d2 - d1) / (b[:, 2] - a[:, 2] + 2 * d2)

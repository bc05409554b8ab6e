"""The temperature that makes probabilities of logits worth what they say. NumPy and SciPy only.

Guo, Pleiss, Sun and Weinberger (2017), "On Calibration of Modern Neural Networks": logits z of rows that the model has
not seen are divided by one T > 0, so that no prediction changes. With weights w, 1 where nobody says otherwise,

    f(T) = sum w loss(z / T) + 1/2 (log T)^2

is minimized. The second term is a prior: log T is 0 with a standard deviation of 1. It decides where rows say little,
and keeps T finite where they would have it go to 0.
"""

import math

import numpy as np

from tfpipe.statistics.intervals import effective

_CHUNK_BYTES = 32 << 20
# Of s = -log T, between two looks for a root of df/ds: no loss bends sharply on this scale.
_STEP = 0.1
_EXACTNESS = 1e-12


def fitted(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """T, at which f is least. It is 1 without rows that are wrong, for nothing says then how sure is too sure.

    Args:
      logits: `[n, K]` float64, of rows that the model was not fitted to.
      labels: `[n]` integers in [0, K).
      weights: `[n]`, at least 0; None: 1. They are scaled to a sum of (sum w)^2 / sum w^2, the number of rows of equal
        weights that would say as much (Kish 1965, "Survey Sampling"), so that the prior means the same whatever their
        unit, and few rows that have nearly all of the weight count as few.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    counted = weights > 0
    logits, labels, weights = logits[counted], labels[counted], weights[counted]
    if not (logits.argmax(axis=1) != labels).any():
        return 1.0
    counts = weights * (effective(weights) / weights.sum())
    problem = _Problem(logits, labels, counts)
    return math.exp(-min(problem.minima(), key=lambda s: problem.at(s)[0]))


class _Problem:
    """f, as a function of s = -log T.

    Args:
      logits: `[n, K]`.
      labels: `[n]`.
      counts: `[n]`, what the rows count.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray, counts: np.ndarray):
        self._z, self._labels, self._counts = logits, labels, counts

    def at(self, s: float) -> tuple[float, float]:
        """f, and the derivative of its sum in s, without that of the prior."""
        value = slope = 0.0
        step = max(1, _CHUNK_BYTES // (8 * self._z.shape[1]))
        for begin in range(0, len(self._z), step):
            part = slice(begin, begin + step)
            z = (self._z[part] - self._z[part].max(axis=1, keepdims=True)) * math.exp(s)
            own = np.take_along_axis(z, self._labels[part, np.newaxis], axis=1)[:, 0]
            p = np.exp(z)
            total = p.sum(axis=1)
            value += float(self._counts[part] @ (np.log(total) - own))
            slope += float(self._counts[part] @ ((p * z).sum(axis=1) / total - own))
        return value + s * s / 2, slope

    def _derivative(self, s: float) -> float:
        return self.at(s)[1] + s

    def _minimum(self, low: float, high: float) -> float:
        """Between an s where the derivative is at most 0 and one where it is at least 0."""
        from scipy.optimize import brentq  # 0.07 s: not for every run that may want a temperature.

        return float(brentq(self._derivative, low, high, xtol=_EXACTNESS))

    def minima(self) -> list[float]:
        """Where f is least locally: one s of at most 0, or some above it."""
        s, (most, of_loss) = 0.0, self.at(0.0)
        if of_loss == 0:
            return [s]
        # The sum is convex in 1/T, so s of its minimum is below 0 too, and f has one between both: its derivative is at
        # most e^s of_loss + s, which is not above 0 at -log(1 + of_loss).
        if of_loss > 0:
            return [self._minimum(-math.log1p(of_loss), s)]
        # In 1/T the prior is convex as long as T is above 1/e alone.
        found: list[float] = []
        while of_loss < 0 and s * s / 2 < most:  # Beyond, f rises; or is above what it is at 0.
            before, s = of_loss + s, s + _STEP
            of_loss = self.at(s)[1]
            if before < 0 <= of_loss + s:
                found.append(self._minimum(s - _STEP, s))
        return found or [s]

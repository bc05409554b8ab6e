"""A mean over examples, and its standard error by what is drawn independently: examples, or groups. NumPy only."""

import math
from typing import NamedTuple

import numpy as np


class Units(NamedTuple):
    """What is drawn independently: examples, or groups of them.

    Attributes:
      numbers: `[n]`, the unit of each example; None: each is its own.
      weights: `[n]` float64, what each example counts, at least 0; None: 1. One that counts nothing is not there.
    """

    numbers: np.ndarray | None
    weights: np.ndarray | None = None

    @classmethod
    def of(cls, groups: np.ndarray | None, weights: np.ndarray | None = None) -> "Units":
        return cls(None if groups is None else np.unique(groups, return_inverse=True)[1], weights)

    def mean(self, values: np.ndarray) -> tuple[float, float]:
        """The mean of `[n]` values that are not NaN, and its standard error, by the sums over units.

        The latter is that of a ratio of two sums, linearized, for the weights of what is drawn are drawn too: Särndal,
        Swensson and Wretman (1992), "Model Assisted Survey Sampling", section 5.6.
        """
        counted = ~np.isnan(values)
        if self.weights is not None:
            counted &= self.weights > 0
        n = int(counted.sum())
        if n == 0:
            return math.nan, math.nan
        of_these = values[counted].astype(np.float64)
        if np.isinf(of_these).any():
            return math.inf, math.nan
        if self.weights is None:
            total, mean = float(n), of_these.mean()
            rest = of_these - mean
        else:
            weights = self.weights[counted]
            total = float(weights.sum())
            mean = weights @ of_these / total
            rest = weights * (of_these - mean)
        if self.numbers is not None:
            rest = np.bincount(self.numbers[counted], rest)
            units = len(np.unique(self.numbers[counted]))
        else:
            units = n
        if units < 2:
            return float(mean), math.inf
        return float(mean), float(np.sqrt(np.square(rest).sum() * units / (units - 1)) / total)

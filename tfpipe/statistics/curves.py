"""How a figure of a test varies from draw to draw of the training rows. NumPy and SciPy only."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

_LEVEL = 0.95


class Spread(NamedTuple):
    """How a figure varies from draw to draw.

    Attributes:
      mean: over the draws.
      deviation: the standard deviation of one draw, of S draws sqrt(sum of squares / (S - 1)); NaN of a single one.
      low, high: of few shots and subsets, the 95 % interval of the mean, by Student's t with S - 1 degrees of freedom:
        it says how much the draw matters, and nothing of other test examples. Of a bootstrap, the percentiles 2.5 and
        97.5 of the draws (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13). NaN of a single
        draw.
    """

    mean: float
    deviation: float
    low: float
    high: float


def spread(values: Sequence[float], *, bootstrap: bool) -> Spread:
    """Of the draws that have the figure; all NaN if none has.

    Args:
      values: one for each draw; what is not finite does not count.
      bootstrap: whether they are draws of a bootstrap.
    """
    found = np.array([value for value in values if math.isfinite(value)])
    if not len(found):
        return Spread(math.nan, math.nan, math.nan, math.nan)
    mean = float(found.mean())
    if len(found) == 1:
        return Spread(mean, math.nan, math.nan, math.nan)
    deviation = float(found.std(ddof=1))
    if bootstrap:
        low, high = np.quantile(found, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]).tolist()
        return Spread(mean, deviation, low, high)
    half = float(scipy.special.stdtrit(len(found) - 1, (1 + _LEVEL) / 2)) * deviation / math.sqrt(len(found))
    return Spread(mean, deviation, mean - half, mean + half)

"""How a figure of a test varies from draw to draw of the training rows. NumPy and SciPy only."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

from tfpipe.statistics.intervals import around

_LEVEL = 0.95


class Spread(NamedTuple):
    """How a figure varies from draw to draw.

    Attributes:
      mean: over the draws.
      deviation: the standard deviation of one draw, of S draws sqrt(sum of squares / (S - 1)); NaN of a single one.
      low, high: of few shots and subsets, the 95 % interval of the mean by Student's t with S - 1 degrees of freedom,
        on a scale without ends: g(mean) ± t deviation / sqrt(S) g'(mean), with g(x) = log(x / (1 - x)) for what lies in
        [0, 1], and log x for a cost. It says how much the draw matters, and nothing of other test examples. Of a
        bootstrap, the percentiles 2.5 and 97.5 of the draws (Efron and Tibshirani 1993, "An Introduction to the
        Bootstrap", chapter 13). NaN of a single draw, and where the mean is at an end of the scale.
    """

    mean: float
    deviation: float
    low: float
    high: float


def spread(values: Sequence[float], *, bootstrap: bool, is_share: bool) -> Spread:
    """Of the draws that have the figure; all NaN if none has.

    Args:
      values: one for each draw, at least 0; what is not finite does not count.
      bootstrap: whether they are draws of a bootstrap.
      is_share: whether they are at most 1.
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
    if mean == 0 or (is_share and mean == 1):
        return Spread(mean, deviation, math.nan, math.nan)
    half = float(scipy.special.stdtrit(len(found) - 1, (1 + _LEVEL) / 2)) * deviation / math.sqrt(len(found))
    return Spread(mean, deviation, *around(mean, half, has_end=is_share))

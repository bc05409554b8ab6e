"""Two models on the same examples: tests and intervals of their differences. NumPy and SciPy only.

Differences are always of the first less the second: above 0, the second is better. What is drawn independently is a
*unit*, an example or a group of them.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from tfpipe.statistics.units import Units

CONFIDENCE = 0.95
# Signs of up to so many units are all tried; of more so many assignments are drawn.
_MOST_EXACT = 14
_DRAWS = 9_999
_SEED = 1_947
_CHUNK_BYTES = 32 << 20
# Sums of the same numbers in another order differ by rounding.
_ROUNDING = 1e-9


class Difference(NamedTuple):
    """A difference of two means.

    Attributes:
      value: the first less the second.
      standard_error: of it; NaN where it is not known.
      low, high: the ends of its interval at CONFIDENCE; NaN where there is none.
    """

    value: float
    standard_error: float
    low: float
    high: float


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value in (0, 1] of McNemar's exact test, two-sided: whether two models have the same error.

    Of the examples that one model alone gets wrong, each is as likely to be the one's as the other's if so: a binomial
    test of 1/2. McNemar (1947), "Note on the sampling error of the difference between correlated proportions".

    Args:
      only_first: how many examples only the first gets wrong.
      only_second: how many only the second gets wrong.
    """
    fewer, both = min(only_first, only_second), only_first + only_second
    return min(1.0, 2 * float(special.bdtr(fewer, both, 0.5)))


def error_difference(only_first: int, only_second: int, examples: int) -> Difference:
    """The difference of two errors, with Tango's score interval.

    It holds every difference that a score test does not refuse, and so is an interval even where no example tells the
    two apart. Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design". The standard error is that of the mean of paired differences.

    Args:
      only_first: how many examples only the first gets wrong.
      only_second: how many only the second gets wrong.
      examples: n, how many there are, at least 1.
    """
    value = (only_first - only_second) / examples
    low, high = -_largest(only_second, only_first, examples), _largest(only_first, only_second, examples)
    return Difference(value, _standard_error(only_first + only_second, value, examples), low, high)


def _standard_error(discordant: int, value: float, examples: int) -> float:
    if examples < 2:
        return math.nan
    return math.sqrt((discordant / examples - value**2) / (examples - 1))


def _largest(b: int, c: int, n: int) -> float:
    """The largest difference that the score test does not refuse, of b and c examples of n that only one gets wrong."""
    z2 = float(special.ndtri((1 + CONFIDENCE) / 2)) ** 2
    if b + c == 0:
        return z2 / (n + z2)
    if b == n:
        return 1.0

    def excess(difference: float) -> float:
        """Above 0 where it is refused; its variance is that of the likeliest shares that have this difference."""
        linear = (2 * n - b + c) * difference - b - c
        root = math.sqrt(linear**2 + 8 * n * c * difference * (1 - difference))
        share = (root - linear) / (4 * n)  # Of the examples that only the second gets wrong.
        return (b - c - n * difference) ** 2 - z2 * n * (2 * share + difference * (1 - difference))

    return float(optimize.brentq(excess, (b - c) / n, 1.0, xtol=1e-15))


def mean_difference(differences: np.ndarray, weights: np.ndarray | None, groups: np.ndarray | None) -> Difference:
    """The mean of paired differences, its standard error over units, and Student's interval, of units - 1 degrees.

    mean = sum w d / sum w, and its squared standard error U / (U - 1) times the sum over U units of the squares of
    sum w (d - mean), divided by (sum w)^2: the ratio of two sums, linearized (Cochran 1977, "Sampling Techniques",
    chapter 6). Of examples that count alike it is the paired t interval.

    Args:
      differences: `[n]`, finite.
      weights: `[n]`, at least 0, one above; None: each counts once.
      groups: `[n]` integers, of which equal ones are one unit; None: each example is one.
    """
    value, error = Units.of(groups, weights).mean(differences)
    if not 0 < error < math.inf:  # No spread is no knowledge of it: an interval of no width would be a lie.
        return Difference(value, math.nan, math.nan, math.nan)
    n_units = len(_of_units(differences, weights, groups))
    half = float(special.stdtrit(n_units - 1, (1 + CONFIDENCE) / 2)) * error
    return Difference(value, error, value - half, value + half)


def sign_flips(differences: np.ndarray, weights: np.ndarray | None, groups: np.ndarray | None) -> float:
    """The p-value in (0, 1] of a randomization test, two-sided: whether the mean of paired differences is 0.

    If two models are alike, they may change places in any unit, and the sum over it changes its sign. The p-value is
    the share of all assignments of signs that bring the total as far from 0 as it is: of all of them where at most 14
    units differ, else of 9,999 that are drawn, and the one that is there (Fisher 1935, "The Design of Experiments",
    section 21; Phipson and Smyth 2010). Of wrong predictions that count alike, without groups, it is McNemar's test.

    A pure function of its arguments, by NumPy's Philox generator.

    Args:
      differences: `[n]`, finite.
      weights: `[n]`, at least 0; None: each counts once.
      groups: `[n]` integers, of which equal ones are one unit; None: each example is one.
    """
    counted = differences if weights is None else weights * differences
    sums = _of_units(counted.astype(np.float64), weights, groups)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    bound = abs(sums.sum()) - _ROUNDING * np.abs(sums).sum()
    if len(sums) <= _MOST_EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(sums))))
        return float(np.mean(np.abs(signs @ sums) >= bound))
    generator = np.random.Generator(np.random.Philox(key=_SEED))
    step = max(1, _CHUNK_BYTES // (8 * len(sums)))
    as_far = 1
    for begin in range(0, _DRAWS, step):
        bits = generator.integers(0, 2, (min(step, _DRAWS - begin), len(sums)), np.int8)
        as_far += int(np.count_nonzero(np.abs((2.0 * bits - 1) @ sums) >= bound))
    return as_far / (1 + _DRAWS)


def _of_units(values: np.ndarray, weights: np.ndarray | None, groups: np.ndarray | None) -> np.ndarray:
    """`[n]` -> `[U]`, the sums over the units of which an example has weight."""
    counted = np.ones(len(values), bool) if weights is None else weights > 0
    if groups is None:
        return values[counted]
    _, unit = np.unique(groups[counted], return_inverse=True)
    return np.bincount(unit, values[counted])


def holm(p_values: np.ndarray) -> np.ndarray:
    """`[m]` p-values, corrected for there being m of them, in [0, 1].

    Of those that are at most a, the chance that there is a false one among them is at most a. The i-th smallest times
    m - i + 1, and no less than what is smaller: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    ranked = p_values[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(ranked))
    return corrected

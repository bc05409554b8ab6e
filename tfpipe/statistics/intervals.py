"""Between which values a figure may lie, by the examples that it was measured on: 95 % intervals. NumPy and SciPy only.

The interval of a share p of n examples, the error or the top-5 error, is Wilson's, with z the 97.5 % quantile of the
normal distribution:

    (p + z^2 / 2n  ±  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

Wilson (1927), "Probable inference, the law of succession, and statistical inference". Under weights w, n is Kish's
effective number of examples, (sum w)^2 / sum w^2: Kish (1965), "Survey Sampling".

Any other figure has one by the bootstrap: as many examples as there are, drawn with replacement, give a figure; of many
such draws, s is the standard deviation. The interval lies on a scale without ends, g(x) = log x for the cost, and
log(x / (1 - x)) for what lies in [0, 1]:

    g(figure)  ±  t s sqrt(U / (U - 1)) g'(figure)

with t the 97.5 % quantile of Student's distribution of U - 1 degrees of freedom. The U units are the examples; or
groups of them, which are drawn whole, for shares too. Efron and Tibshirani (1993), "An Introduction to the Bootstrap",
chapters 6, 12 and 13. Percentiles of the draws would be too narrow near the ends: of 1,000 examples of 11 classes, 1 %
of them wrong, they hold an AUC of 0.9999 85 % of the time, and this interval 94 %.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from tfpipe.statistics import figures
from tfpipe.statistics.figures import Outcomes

_QUANTILE = 0.975
# Each example is in it or not.
_SHARES = {"error", "top5_error"}
# A standard deviation is off by 3 % then, and of the fewest by 7 %.
_DRAWS, _FEWEST_DRAWS = 500, 100
# Examples times draws, 20 ns each, and times classes for `auc`, 6 ns each: those of MNIST's test take 0.4 s.
_MOST_COUNTS, _MOST_SCORES = 1 << 26, 1 << 27
# What differs by less differs by the order of sums.
_ROUNDING = 1e-12
_BATCH_BYTES = 64 << 20
# Of fewer units the draws know little.
_FEW_UNITS = 10
# No seed of data or of orders: intervals have a draw of their own, always the same.
_DRAW_OF_INTERVALS = 1 << 33


class Estimate(NamedTuple):
    """A figure of examples, and what they say of others like them.

    Attributes:
      value: the figure; NaN where there is none, infinity for a cost with a class of probability 0.
      interval: its 95 % interval, low and high; None: there is none, and `note` says why.
      method: `wilson` or `bootstrap`; None: there is no interval.
      draws: of the bootstrap; None for others.
      note: what is to be said of the interval; None: nothing.
    """

    value: float
    interval: tuple[float, float] | None = None
    method: str | None = None
    draws: int | None = None
    note: str | None = None


def effective(weights: np.ndarray) -> float:
    """How many examples that count alike say as much: 1 to n, of `[n]` weights at least 0, one of them above."""
    scaled = weights / weights.max()  # Their squares may be too large, or too small.
    return float(scaled.sum() ** 2 / np.square(scaled).sum())


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, within [0, 1].

    Args:
      share: in [0, 1].
      n: of how many examples, at least 1; need not be whole.
    """
    z = float(ndtri(_QUANTILE))
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return float(low) if share > 0 else 0.0, float(high) if share < 1 else 1.0


def estimates(
    outcomes: Outcomes, weights: np.ndarray | None = None, groups: np.ndarray | None = None, draws: int = _DRAWS
) -> dict[str, Estimate]:
    """Each figure with its interval, by name.

    Examples of weight 0 have no part in it. There is no interval of fewer than two examples or groups; of a figure that
    is the same in every draw, for these then say nothing of how it may vary; of an infinite cost; and none by the
    bootstrap where there are so many examples that fewer than 100 draws would be made of them.

    A pure function of the arguments, by NumPy's Philox generator.

    Args:
      outcomes: of n examples, one at least.
      weights: `[n]`, what each counts, at least 0; None: 1.
      groups: `[n]` integers; equal ones are one group. None: each example is its own.
      draws: how many the bootstrap makes at most.
    """
    counted = np.arange(len(outcomes)) if weights is None else np.flatnonzero(weights)
    wanted = figures.names(outcomes.n_out)
    if not len(counted):
        return dict.fromkeys(wanted, Estimate(np.nan, note="no example has weight"))
    values = outcomes.figures(weights)
    units = counted if groups is None else np.unique(groups[counted])
    what = "examples" if groups is None else "groups"
    if len(units) < 2:
        note = f"there is no interval of one {what[:-1]}"
        return {name: Estimate(value, note=note) for name, value in values.items()}
    found = {name: _without(name, values[name], outcomes) for name in wanted if not np.isfinite(values[name])}
    if groups is None:
        n = float(len(outcomes)) if weights is None else effective(weights)
        found |= {name: Estimate(values[name], wilson(values[name], n), "wilson") for name in _SHARES & values.keys()}
    by_draws: dict[int, list[str]] = {}
    for name in wanted:
        if name not in found:
            n_scores = len(outcomes) * outcomes.n_out
            possible = _MOST_SCORES // n_scores if name == "auc" else _MOST_COUNTS // len(outcomes)
            by_draws.setdefault(min(draws, possible), []).append(name)
    for made, names in by_draws.items():
        if made < min(_FEWEST_DRAWS, draws):
            note = f"too many examples: there is time for {made} draws, and {_FEWEST_DRAWS} are needed"
            found |= {name: Estimate(values[name], note=note) for name in names}
            continue
        for name, drawn in _bootstrap(outcomes, weights, groups, names, made).items():
            found[name] = _of_draws(name, values[name], drawn, draws, len(units), what)
    return {name: found[name] for name in wanted}


def _without(name: str, value: float, outcomes: Outcomes) -> Estimate:
    """Of a value that is not finite."""
    if np.isinf(value):
        return Estimate(value, note="infinite: the class of an example has probability 0")
    if name == "auc" and len(outcomes) * outcomes.n_out > figures.MOST_SCORES:
        return Estimate(value, note="too many examples and classes to be ranked")
    return Estimate(value, note="all examples are of one class" if name == "auc" else "no example has a part in it")


def _of_draws(name: str, value: float, drawn: np.ndarray, wanted: int, n_units: int, what: str) -> Estimate:
    """Of a figure, and of what it was in draws of so many units, `[B]`: NaN where it was none."""
    made, drawn = len(drawn), drawn[np.isfinite(drawn)]
    if len(drawn) < min(_FEWEST_DRAWS, made):
        return Estimate(value, note=f"only {len(drawn)} of {made} draws have such a figure")
    at_an_end = name != "cost" and not 0 < value < 1
    if at_an_end or np.ptp(drawn) <= _ROUNDING * np.abs(drawn).max():
        return Estimate(value, note="the same in every draw, which says nothing of how it may vary")
    deviation = float(drawn.std()) * np.sqrt(n_units / (n_units - 1))
    half = float(stdtrit(n_units - 1, _QUANTILE)) * deviation
    notes = [f"{len(drawn)} draws, not {wanted}"] * (len(drawn) < wanted)
    notes += [f"of {n_units} {what} alone, so rough"] * (n_units < _FEW_UNITS)
    between = around(value, half, has_end=name != "cost")
    return Estimate(value, between, "bootstrap", len(drawn), "; ".join(notes) or None)


def around(value: float, half: float, *, has_end: bool) -> tuple[float, float]:
    """From `half` below a value to as much above, on the scale of logits, or of logarithms where 1 is no end."""
    if has_end:
        half /= value * (1 - value)
        return float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return float(value * np.exp(-half / value)), float(value * np.exp(half / value))


def _bootstrap(
    outcomes: Outcomes, weights: np.ndarray | None, groups: np.ndarray | None, names: Sequence[str], draws: int
) -> dict[str, np.ndarray]:
    """What the figures of these names are in draws of examples, or groups, with weight: `[draws]` each."""
    generator = np.random.Generator(np.random.Philox(key=[0, _DRAW_OF_INTERVALS]))
    counted = np.ones(len(outcomes), bool) if weights is None else weights > 0
    units = np.arange(len(outcomes)) if groups is None else groups
    numbers, of_counted = np.unique(units[counted], return_inverse=True)
    batch = max(1, _BATCH_BYTES // (8 * len(outcomes)))
    parts = []
    for begin in range(0, draws, batch):
        counts = np.zeros((min(batch, draws - begin), len(outcomes)))
        for row in counts:
            drawn = np.bincount(generator.integers(len(numbers), size=len(numbers)), minlength=len(numbers))
            row[counted] = drawn[of_counted] if weights is None else drawn[of_counted] * weights[counted]
        parts.append(outcomes.drawn(counts, names))
    return {name: np.concatenate([part[name] for part in parts]) for name in names}

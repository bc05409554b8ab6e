"""What was tried, how good it was, and what follows: when a path of L2 ends, and which setting is taken. NumPy only."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfpipe.solvers.weights import balance
from tfpipe.statistics.figures import RISES
from tfpipe.statistics.units import Units

# A step along the path that changes the cost by less than this share of its standard error changes nothing, ...
_FLAT = 0.1
# ... and the path ends after so many of them in a row, at values so far below the largest at least.
_MOST_FLAT, _FLAT_FROM = 2, 1e4
# A scale may leave after so many values, when its best is behind by so many standard errors.
_FEWEST_OF_A_SCALE, _BEHIND = 12, 2.0


class Trial(NamedTuple):
    """One setting that was tried. Its figures of the validation are by the weights of the examples.

    Attributes:
      standardize: the scale of its columns.
      l2: its regularization.
      cost: mean log loss over the validation examples, or those out of the folds; without those of classes that its
        model leaves out.
      cost_error: the standard error of that.
      error: share of wrong predictions, in [0, 1].
      balanced_error: the mean of that over the classes that occur.
      train_cost: what was minimized, l2 included; the mean over its folds.
      certificate: by how much that may be above the least; the largest over its folds.
      gradient: the largest entry of the gradient of what was minimized, likewise.
      iterations, evaluations: of its heads, the largest.
      converged: whether all its heads did.
      left_out: examples of a class that its model leaves out: wrong, and not in the cost.
      figure: by which the search chooses, where that is none of the others; else NaN.
    """

    standardize: str
    l2: float
    cost: float
    cost_error: float
    error: float
    balanced_error: float
    train_cost: float
    certificate: float
    gradient: float
    iterations: int
    evaluations: int
    converged: bool
    left_out: int
    figure: float = math.nan

    def by(self, name: str) -> float:
        """The figure of this name, as `statistics.figures` has them, if the search has measured it."""
        return float(getattr(self, name)) if name in self._fields else self.figure


def figures(loss: np.ndarray, wrong: np.ndarray, labels: np.ndarray, units: Units) -> dict[str, Any]:
    """What a trial's model does on n examples, as Trial has it.

    Args:
      loss: `[n]`, NaN where the model leaves out the class.
      wrong: `[n]` bool.
      labels: `[n]`.
      units: of the examples, with their weights.
    """
    cost, cost_error = units.mean(loss)
    weights, in_balance, is_left_out = units.weights, balance(labels, units.weights), np.isnan(loss)
    if weights is None:
        error, balanced = wrong.mean(), in_balance[wrong].sum() / len(labels)
    else:
        error = weights[wrong].sum() / weights.sum()
        balanced = (weights * in_balance)[wrong].sum() / weights.sum()
        is_left_out &= weights > 0
    return {
        "cost": cost, "cost_error": cost_error, "error": float(error), "balanced_error": float(balanced),
        "left_out": int(is_left_out.sum()),
    }  # fmt: skip


def best(trials: Sequence[Trial], figure: str) -> int:
    """The number of the trial that is taken: by a figure of this name; of equals by cost, then l2."""
    sign = -1.0 if RISES[figure] else 1.0

    def key(number: int) -> tuple[float, float, float]:
        trial = trials[number]
        first, cost = (value if np.isfinite(value) else math.inf for value in (sign * trial.by(figure), trial.cost))
        return first, cost, -trial.l2

    return min(range(len(trials)), key=key)


def why(trials: Sequence[Trial], taken: int, figure: str, of: str) -> str:
    """Which trial is taken, by a figure of this name, and why, for people; `of` says of which examples it is."""
    own, name = trials[taken], figure.replace("_", " ")
    told = f"{of} cost {own.cost:.4g} ± {own.cost_error:.2g} (standard error), error {own.error:.2%}"
    if figure not in ("cost", "error"):
        told += f", {name} {own.by(figure):{'.2%' if figure.endswith('_error') else '.4g'}}"
    best_of = f"the {'largest' if RISES[figure] else 'least'} {of} {name} of {len(trials)} settings"
    best_of += ", so somewhat too good" * (len(trials) > 1)
    most = own.cost + own.cost_error
    plainer = max(t.l2 for t in trials if t.standardize == own.standardize and (t.cost <= most or t is own))
    within = f"; within one standard error: l2={plainer:.3g}" if plainer > own.l2 else ""
    return f"taken: standardize={own.standardize}, l2={own.l2:.3g}, {best_of}: {told}{within}"


class Path:
    """The values of l2 at one scale, from the largest on.

    Args:
      units: of the examples that are measured.

    Attributes:
      best: the trial with the least cost; None before the first.
      ended: whether smaller values are not worth trying.
      best_loss: `[n]` float32, of the trial with the least cost; None before the first.
      last_loss: `[n]` float32, of the last one.
      flat: how many steps in a row changed nothing.
    """

    def __init__(self, units: Units):
        self._units = units
        self.best: Trial | None = None
        self._first: float = 0.0
        self.ended = False
        self.best_loss: np.ndarray | None = None
        self.last_loss: np.ndarray | None = None
        self.flat = 0

    def take(self, trial: Trial, loss: np.ndarray) -> None:
        """Takes in the next value; `loss` is `[n]` float32."""
        least, last = self.best_loss, self.last_loss
        self.last_loss = loss
        if self.best is None or least is None or last is None:
            self.best, self._first, self.best_loss = trial, trial.l2, loss
            return
        behind, by_chance = self._units.mean(loss.astype(np.float64) - least)
        # More than chance says, and more than what is not yet minimized may be worth.
        if behind > by_chance and behind > _finite(trial.certificate) + _finite(self.best.certificate):
            self.ended = True
        change, _ = self._units.mean(loss.astype(np.float64) - last)
        is_flat = trial.l2 < self._first / _FLAT_FROM and abs(change) < _FLAT * trial.cost_error
        self.flat = self.flat + 1 if is_flat else 0
        if self.flat >= _MOST_FLAT:
            self.ended = True
        if np.isfinite(trial.cost) and not self.best.cost <= trial.cost:
            self.best, self.best_loss = trial, loss

    def restore(self, trials: Sequence[Trial], ended: bool, flat: int, losses: np.ndarray) -> None:
        """Goes on after these trials, with what was kept: `[2, n]`, the best and the last loss."""
        if trials:
            self._first, self.best = trials[0].l2, trials[best(trials, "cost")]
            self.best_loss, self.last_loss = losses
        self.ended, self.flat = ended, flat


def is_behind(trials: Sequence[Trial], others: Sequence[Trial]) -> bool:
    """Whether the scale of `trials` may leave: what was tried at another one is better, and not by chance."""
    if len(trials) < _FEWEST_OF_A_SCALE or not others:
        return False
    own, other = trials[best(trials, "cost")], others[best(others, "cost")]
    return own.cost - other.cost > _BEHIND * own.cost_error


def _finite(value: float) -> float:
    return value if np.isfinite(value) else 0.0

"""The figure by which a search chooses, where losses do not tell it: of the probabilities of all examples."""

import numpy as np

from tfpipe.data import Examples
from tfpipe.exceptions import ConfigError
from tfpipe.solvers.problem import Problems
from tfpipe.solvers.weights import measured_weights
from tfpipe.statistics.figures import FEWEST_FOR_TOP5, MOST_SCORES, Outcomes, of_select
from tfpipe.training.fit import Fit


def check(select: str, validating: Examples, n_out: int) -> None:
    """Looks whether the examples that validate have a figure to choose by.

    Args:
      select: see `TrainConfig.select`.
      validating: they.
      n_out: K.

    Raises:
      ConfigError: they have none of this name.
      DataError: none of them has weight.
    """
    weights = measured_weights(validating)
    if select == "top5" and n_out < FEWEST_FOR_TOP5:
        problem = f"takes at least {FEWEST_FOR_TOP5} classes, for among five of {n_out} most labels are; take error"
        raise ConfigError("select", select, problem)
    if select != "auc":
        return
    scores = len(validating) * n_out
    if scores > MOST_SCORES:
        problem = f"ranks {len(validating)} examples for each of {n_out} classes, {scores} in all"
        raise ConfigError("select", select, f"{problem}; it takes at most {MOST_SCORES}: take cost, or macro_f1")
    counted = validating.labels if weights is None else validating.labels[weights > 0]
    if len(np.unique(counted)) < 2:
        raise ConfigError("select", select, "takes validation examples of two classes; they are of one; take cost")


def figure(
    select: str, fit: Fit, problems: Problems, v: np.ndarray, head: np.ndarray, labels: np.ndarray,
    weights: np.ndarray | None,
) -> float:  # fmt: skip
    """What `select` names, of the examples that validate.

    Args:
      select: none of `config.SUMS`.
      fit: see `Fit.logits`.
      problems: likewise.
      v: likewise.
      head: likewise.
      labels: `[n]`.
      weights: `[n]`, what the examples count; None: 1 each.
    """
    p = fit.logits(problems, v, head)
    p -= p.max(axis=1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return Outcomes(labels, p).figure(of_select(select), weights)

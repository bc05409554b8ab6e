"""Runs compared in pairs, on the examples that they share: figures, tests, where they differ most. NumPy and SciPy."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from tfpipe.model.matching import Matched
from tfpipe.statistics import paired
from tfpipe.statistics.paired import Difference

_MOST_EXAMPLES = 10


class Pair(NamedTuple):
    """Two runs, on n examples.

    Attributes:
      first, second: their numbers.
      counts: `[2, 2]` int64, how many examples the first gets right and wrong (rows), and the second (columns).
      error, cost: the first's less the second's; the cost is NaN where a model gives a class probability 0.
      test: `mcnemar`; with weights or groups, `sign_flips`.
      p_value: of the difference in error.
      p_holm: the same, corrected for all pairs.
      first_better, second_better: the numbers of the examples on which one has the smaller log loss, by how much, the
        largest difference first; ten at most.
    """

    first: int
    second: int
    counts: np.ndarray
    error: Difference
    cost: Difference
    test: str
    p_value: float
    p_holm: float
    first_better: np.ndarray
    second_better: np.ndarray


def pairs(matched: Matched) -> list[Pair]:
    """Each run with each that comes after it."""
    numbers = itertools.combinations(range(len(matched.runs)), 2)
    found = [_pair(matched, first, second) for first, second in numbers]
    corrected = paired.holm(np.array([pair.p_value for pair in found])).tolist()
    return [pair._replace(p_holm=p) for pair, p in zip(found, corrected, strict=True)]


def _pair(matched: Matched, first: int, second: int) -> Pair:
    ours, theirs = matched.wrong[first], matched.wrong[second]
    weights, groups = matched.weights, matched.groups
    counts = np.bincount(2 * ours + theirs, minlength=4).reshape(2, 2)
    if weights is None and groups is None:
        only_first, only_second = int(counts[1, 0]), int(counts[0, 1])
        test, p_value = "mcnemar", paired.mcnemar(only_first, only_second)
        error = paired.error_difference(only_first, only_second, len(ours))
    else:
        differences = ours.astype(np.float64) - theirs
        test, p_value = "sign_flips", paired.sign_flips(differences, weights, groups)
        error = paired.mean_difference(differences, weights, groups)
    with np.errstate(invalid="ignore"):  # Of two losses without bound.
        gains = matched.loss[first] - matched.loss[second]
    if np.isfinite(gains).all():
        cost = paired.mean_difference(gains, weights, groups)
    else:
        cost = Difference(math.nan, math.nan, math.nan, math.nan)
    first_better, second_better = (_furthest(sign * np.nan_to_num(gains, nan=0.0)) for sign in (-1, 1))
    return Pair(first, second, counts, error, cost, test, p_value, math.nan, first_better, second_better)


def _furthest(gains: np.ndarray) -> np.ndarray:
    """The numbers of the largest of `[n]` gains that are above 0, the largest first."""
    order = np.argsort(-gains, kind="stable")[:_MOST_EXAMPLES]
    return order[gains[order] > 0]


def content(matched: Matched, found: list[Pair], split: str) -> dict[str, Any]:
    """All of it, as JSON can hold it; what there is no figure for is None.

    Args:
      matched: the runs, on the examples that they share.
      found: what `pairs` gave.
      split: which examples these are.
    """
    n_groups = None if matched.groups is None else len(np.unique(matched.groups))
    of_runs = []
    for run, wrong, loss in zip(matched.runs, matched.wrong, matched.loss, strict=True):
        error, cost = (np.average(of_each, weights=matched.weights) for of_each in (wrong, loss))
        told = {"error": float(error), "cost": _finite(float(cost))}
        of_runs.append({"run": run.name, "dataset": run.dataset, "examples": len(run.rows)} | told)
    return {
        "split": split,
        "matched_by": matched.by,
        "examples": len(matched.names),
        "groups": n_groups,
        "weighted": matched.weights is not None,
        "confidence": paired.CONFIDENCE,
        "runs": of_runs,
        "pairs": [_told(matched, pair) for pair in found],
    }


def _told(matched: Matched, pair: Pair) -> dict[str, Any]:
    (both_right, only_second_wrong), (only_first_wrong, both_wrong) = pair.counts.tolist()
    return {
        "first": matched.runs[pair.first].name,
        "second": matched.runs[pair.second].name,
        "both_right": both_right,
        "only_first_wrong": only_first_wrong,
        "only_second_wrong": only_second_wrong,
        "both_wrong": both_wrong,
        "error_difference": _difference(pair.error),
        "test": pair.test,
        "p_value": pair.p_value,
        "p_holm": pair.p_holm,
        "cost_difference": _difference(pair.cost),
        "first_better": [_example(matched, pair, number) for number in pair.first_better.tolist()],
        "second_better": [_example(matched, pair, number) for number in pair.second_better.tolist()],
    }


def _difference(difference: Difference) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in difference._asdict().items()}


def _example(matched: Matched, pair: Pair, number: int) -> dict[str, Any]:
    """An example, and what both runs say of it."""
    name = matched.names[number]
    found: dict[str, Any] = {
        "file": name if matched.by == "files" else None,
        "row": int(name) if matched.by == "rows" else None,
        "class": matched.class_names[matched.labels[number]],
    }
    for which, run in (("first", pair.first), ("second", pair.second)):
        found[which] = {
            "class": matched.class_names[matched.predicted[run, number]],
            "probability": float(matched.confidence[run, number]),
            "loss": _finite(float(matched.loss[run, number])),
        }
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

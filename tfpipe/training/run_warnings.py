"""What must be said of the answer of a run of SGD: one line each, in words."""

import math

import numpy as np

from tfpipe.config import known
from tfpipe.training import diagnoses
from tfpipe.training.plan import Plan
from tfpipe.training.record import Record

# A cost that is below this share of what it was at three quarters of the run is still falling.
_AT_REST = 0.999


def warnings(plan: Plan, record: Record, steps: int, certificate: float | None, *, interrupted: bool) -> list[str]:
    """What the user must know of the selected head: lines; nothing before the first validation.

    Args:
      plan: of the run.
      record: of it.
      steps: how many were done.
      certificate: see `run_report.build`.
      interrupted: whether the run was stopped from outside.
    """
    if (leader := record.leader) is None:
        return []
    solver, splits, config = plan.solver, plan.splits, plan.config
    reports = {name: np.array([event.reports[name][leader] for event in record.history]) for name in solver.reports}
    lines = solver.warnings(reports, leader)
    if not lines and steps >= solver.steps:
        lines = _still_falling(plan, record, leader, certificate)
    if not interrupted:
        lines += _at_the_end(plan, record, leader)
    patience, weights, select = record.patience, plan.weights[0], known(config.select)
    figure = patience.best_balanced_error if select == "balanced_error" else patience.best_error
    return [
        *lines,
        *diagnoses.of_classes(splits, splits.train, weights, splits.validation),
        *diagnoses.no_better(
            splits, splits.train, weights, splits.validation,
            select=select, figure=float(figure[leader]), is_balanced=config.class_weight is not None,
        ),
    ]  # fmt: skip


def _at_the_end(plan: Plan, record: Record, leader: int) -> list[str]:
    """Where a value lies at the end of its list. What diverged is no value that was tried, but an end."""
    lines, settings = [], plan.solver.settings
    for name, taken in settings[leader].items():
        tried = [head[name] for head, is_gone in zip(settings, record.patience.diverged, strict=True) if not is_gone]
        is_largest = taken == max(tried) and len(set(tried)) > 1
        if not (is_largest and max(head[name] for head in settings) > taken):
            lines += diagnoses.at_the_end(name, taken, tried, "give a list that goes on")
    return lines


def _still_falling(plan: Plan, record: Record, leader: int, certificate: float | None) -> list[str]:
    """Where the epochs ended before the validation cost had come to rest."""
    begin = math.log(np.count_nonzero(~plan.left_out))
    costs = np.array([begin, *(event.validation_cost[leader] for event in record.history)])
    if not costs[-1] < _AT_REST * costs[3 * len(costs) // 4 - 1]:
        return []
    far = "" if certificate is None else f" (its training cost may be {certificate:.2g} above the least)"
    return [
        f"the validation cost of the selected head was still falling when the epochs ended{far}: give more epochs, a "
        "larger learning_rate, standardize where columns are of different scales, or solver=lbfgs, which goes to the "
        "optimum"
    ]

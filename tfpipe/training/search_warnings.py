"""What must be said of the answer of a search: one line each, in words."""

import numpy as np

from tfpipe.config import known
from tfpipe.solvers.optimum import Optimum
from tfpipe.statistics.figures import of_select
from tfpipe.training import diagnoses
from tfpipe.training.fit import Saved
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.settings import Settings


def warnings(plan: SearchPlan, settings: Settings, optimum: Optimum, saved: Saved, *, interrupted: bool) -> list[str]:
    """What the user must know of the answer: lines."""
    taken, lines = settings.taken, []
    if taken.l2 == 0:
        gradient = f"the largest entry of its gradient is {optimum.gradient[0]:.2g}"
        lines.append(f"l2=0 has no certificate, and on separable data no optimum; {gradient}")
    if plan.config.refit and not plan.refits:
        lines.append(
            "training and validation lie in files of their own that memory cannot hold: the model is that of the "
            "training examples alone"
        )
    if not interrupted:
        if not (optimum.converged[0] and saved.is_exact):
            lines.append(_not_converged(plan, optimum, saved))
        lines += _rough_trials(settings) + _at_the_end(plan, settings)
    weights, select = plan.weight, known(plan.config.select)
    there = np.bincount(plan.examples.labels, weights, plan.splits.n_out) > 0
    if there[plan.validating.labels].all():  # Else what is said of the classes says it.
        lines += _left_out(settings)
    of_classes = diagnoses.of_classes(plan.splits, plan.examples, weights, plan.validating)
    return [*lines, *of_classes, *diagnoses.no_better(
        plan.splits, plan.examples, weights, plan.validating, select=select,
        figure=taken.by("error" if select == "cost" else of_select(select)),
        is_balanced=plan.config.class_weight is not None,
    )]  # fmt: skip


def _rough_trials(settings: Settings) -> list[str]:
    """Settings that were judged before they had converged."""
    rough = sum(not trial.converged and trial.l2 > 0 for trial in settings.trials)
    if not rough or len(settings.trials) == 1:
        return []
    return [f"{rough} of {len(settings.trials)} settings were judged before they had converged: give more --max_iter"]


def _left_out(settings: Settings) -> list[str]:
    """Where a fold left no example of a class to learn from."""
    if not (count := settings.taken.left_out):
        return []
    return [f"{count} validation examples are of classes that their model has no example of: wrong, and in no cost"]


def _not_converged(plan: SearchPlan, optimum: Optimum, saved: Saved) -> str:
    found = f"not converged after {optimum.iterations[0]} iterations: its cost, {saved.cost:.4g}"
    if np.isfinite(saved.certificate):
        found += f", may be {saved.certificate:.2g} above the least"
    if optimum.iterations[0] >= plan.exactness.most_iterations:
        return f"{found}; give --max_iter={10 * plan.exactness.most_iterations}, or a larger --l2"
    return f"{found}; rounding allows no more: give a larger --tolerance or --l2, or --standardize"


def _at_the_end(plan: SearchPlan, settings: Settings) -> list[str]:
    """Where the value that was taken lies at the end of those that were given."""
    taken = settings.taken.l2
    if plan.config.l2 is None:
        of_scale = [head["l2"] for head in settings.all if head["standardize"] == settings.taken.standardize]
        if taken == of_scale[0]:
            return [f"l2={taken:.3g} is the largest of the path: the images say next to nothing of the classes"]
        if taken == of_scale[-1]:
            return [f"l2={taken:.3g} is the smallest of the path: smaller ones may be better; give them by --l2"]
        return []
    return diagnoses.at_the_end("l2", taken, plan.config.l2, "without --l2 the values follow from the data")

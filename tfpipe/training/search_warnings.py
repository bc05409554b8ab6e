"""What must be said of the answer of a search: one line each, in words."""

import numpy as np

from tfpipe.exceptions import enumeration
from tfpipe.solvers.optimum import Optimum
from tfpipe.solvers.weights import balance
from tfpipe.training.fit import Saved
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.settings import Settings

_FEW_EXAMPLES = 5
_OTHERS = "{} ones may be better; without --l2 the values follow from the data"


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
    return lines + _few_examples(plan) + (_unknown_classes(plan) or _left_out(settings)) + _no_better(plan, settings)


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


def _no_better(plan: SearchPlan, settings: Settings) -> list[str]:
    """Where the answer is none."""
    taken, weights, labels = settings.taken, plan.weight, plan.validating.labels
    if plan.config.select == "balanced_error":
        of_class = np.bincount(labels, balance(labels))
        of_one = (of_class.sum() - of_class.max()) / len(labels)
        if taken.balanced_error < of_one:
            return []
        return [
            f"the model is no better than to name one class always, which has a balanced error of {of_one:.2%}: its "
            f"own is {taken.balanced_error:.2%}"
        ]
    shares = np.bincount(plan.examples.labels, weights, plan.splits.n_out) / weights.sum()
    of_largest = float((labels != shares.argmax()).mean())
    if taken.error >= of_largest and plan.config.class_weight is None:
        return [
            f"the model is no better than to name the largest class always, which is wrong in {of_largest:.2%}: its "
            f"validation error is {taken.error:.2%}"
        ]
    return []


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
    values = plan.config.l2
    if len(values) == 1:
        return []
    if taken == min(values) and taken > 0:
        return [f"l2={taken:g} is the smallest that was tried: {_OTHERS.format('smaller')}"]
    if taken == max(values):
        return [f"l2={taken:g} is the largest that was tried: {_OTHERS.format('larger')}"]
    return []


def _few_examples(plan: SearchPlan) -> list[str]:
    counts = np.bincount(plan.examples.labels, minlength=plan.splits.n_out)
    few = [name for name, count in zip(plan.splits.class_names, counts, strict=True) if 0 < count < _FEW_EXAMPLES]
    if not few:
        return []
    return [f"fewer than {_FEW_EXAMPLES} training examples: {_some(few)}; what is said of such classes is little worth"]


def _unknown_classes(plan: SearchPlan) -> list[str]:
    """Those of examples that validate, of which no example has weight in training."""
    n_out, weights = plan.splits.n_out, plan.weight
    there = np.bincount(plan.examples.labels, weights, n_out) > 0
    asked = np.bincount(plan.validating.labels, minlength=n_out) > 0
    unknown = [name for name, is_one in zip(plan.splits.class_names, asked & ~there, strict=True) if is_one]
    if not unknown:
        return []
    return [f"no training example has weight: {_some(unknown)}; such classes are wrong in validation, beside its cost"]


def _some(names: list[str]) -> str:
    return enumeration([repr(name) for name in names[:5]]) + f" and {len(names) - 5} more" * (len(names) > 5)

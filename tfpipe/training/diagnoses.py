"""What must be said of the data of a run, and of the choice that it made, whatever trained: one line each, in words."""

from collections.abc import Sequence

import numpy as np

from tfpipe.data import Examples, Splits
from tfpipe.exceptions import enumeration
from tfpipe.solvers.weights import balance, measured_weights
from tfpipe.statistics.figures import RISES, Outcomes, of_select

_FEW_EXAMPLES = 5
_MOST_NAMES = 5


def of_classes(splits: Splits, examples: Examples, weights: np.ndarray, validating: Examples) -> list[str]:
    """Classes of which there is none, or hardly any, where there should be some.

    Args:
      splits: of the run.
      examples: that are trained on.
      weights: `[N]`, what these count.
      validating: the examples that validate; in folds those that are trained on.
    """
    n_out = splits.n_out
    counts = np.bincount(examples.labels, minlength=n_out)
    there = np.bincount(examples.labels, weights, n_out) > 0
    without = (counts > 0) & ~there
    in_validation = np.bincount(validating.labels, validating.weights, n_out)
    in_test = np.bincount(splits.test.labels, minlength=n_out)

    def never_named(which: np.ndarray) -> str:
        if in_validation[which].any():
            return "such classes are wrong in validation, beside its cost"
        return "the model never takes an image for one of them"

    lines = [
        (counts == 0, f"no training example: {{}}; {never_named(counts == 0)}"),
        (without, f"no training example has weight: {{}}; {never_named(without)}"),
        (there & (in_validation == 0), "no validation example: {}; what is chosen is not chosen by such classes"),
        (there & (in_test == 0) & bool(len(splits.test)), "no test example: {}; the test error says nothing of them"),
        ((counts > 0) & (counts < _FEW_EXAMPLES),
         f"fewer than {_FEW_EXAMPLES} training examples: {{}}; what is said of such classes is little worth"),
    ]  # fmt: skip
    return [words.format(_some(splits.class_names, which)) for which, words in lines if which.any()]


def no_better(
    splits: Splits,
    examples: Examples,
    weights: np.ndarray,
    validating: Examples,
    *,
    select: str,
    figure: float,
    is_balanced: bool,
) -> list[str]:
    """Where the answer is no better than one that does not look at the examples.

    Args:
      splits: of the run.
      examples: that are trained on.
      weights: `[N]`, what these count.
      validating: the examples that validate.
      select: see `TrainConfig.select`.
      figure: of the model in validation: its error where the cost selects, else what selects.
      is_balanced: whether classes count alike in what is minimized: then an error says little.
    """
    labels, measured = validating.labels, measured_weights(validating)
    counts = np.ones(len(labels)) if measured is None else measured
    shares = np.bincount(examples.labels, weights, splits.n_out)
    if select in ("cost", "error"):
        of_one = float((counts * (labels != shares.argmax())).sum() / counts.sum())
        told = f"to name the largest class always, which is wrong in {of_one:.2%}: its validation error is {figure:.2%}"
        return [] if figure < of_one or is_balanced else [f"the model is no better than {told}"]
    if select == "balanced_error":
        of_class = np.bincount(labels, counts * balance(labels, measured))
        of_one = (of_class.sum() - of_class.max()) / counts.sum()
        told = f"to name one class always, which has a balanced error of {of_one:.2%}: its own is {figure:.2%}"
        return [] if figure < of_one else [f"the model is no better than {told}"]
    name = of_select(select)
    alike = Outcomes(labels, np.broadcast_to(shares / shares.sum(), (len(labels), splits.n_out)))
    of_shares = alike.figure(name, measured)
    told = f"the shares of the classes, whose {name.replace('_', ' ')} is {of_shares:.4g}: its own is {figure:.4g}"
    is_better = figure > of_shares if RISES[name] else figure < of_shares
    return [] if is_better else [f"the model is no better than {told}"]


def at_the_end(name: str, taken: float, values: Sequence[float], otherwise: str) -> list[str]:
    """Where the value of a setting that was taken lies at the end of those that were given; `otherwise` is a remedy."""
    if len(set(values)) == 1 or (taken == min(values) and taken == 0):
        return []
    for end, which, others in ((min(values), "smallest", "smaller"), (max(values), "largest", "larger")):
        if taken == end:
            return [f"{name}={taken:g} is the {which} that was tried: {others} ones may be better; {otherwise}"]
    return []


def _some(names: Sequence[str], which: np.ndarray) -> str:
    """Some of the names of which `[K]` says so."""
    return enumeration([repr(names[number]) for number in np.flatnonzero(which).tolist()], _MOST_NAMES)

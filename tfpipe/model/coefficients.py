"""Which columns of rows of features carry each class. NumPy only.

A coefficient W_dk times the standard deviation of column d is what one such deviation adds to the logit of class k: so
columns of any units compare. Menard (2004), "Six Approaches to Calculating Standardized Logistic Regression
Coefficients", standardizes columns alone as one of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfpipe.model.artifact import TrainedModel
from tfpipe.text import one_line

_MOST_CLASSES = 20
_MOST_COLUMNS = 5
_MOST_LINES = 10


def of_classes(model: TrainedModel, unit: np.ndarray) -> list[dict[str, Any]]:
    """For each class, the first 20 at most, the columns that speak most for it and against it, as JSON can hold them.

    Args:
      model: of rows of features.
      unit: `[D]`, or `[]` for one number, above 0: how much of a column is told of, in rows as they are stored.

    Returns:
      Of each class `class`, its name, and `for` and `against`: pairs of the name of a column and of what a unit of it
      adds to the logit; the largest first, five at most.
    """
    W = model.W.astype(np.float64) * np.reshape(unit, (-1, 1))
    columns = named(model)
    found = []
    for k, name in enumerate(model.class_names[:_MOST_CLASSES]):
        order = np.argsort(-W[:, k], kind="stable")
        of_both = order[:_MOST_COLUMNS], order[::-1][:_MOST_COLUMNS]
        speak_for, against = (
            [[columns[d], float(W[d, k])] for d in numbers.tolist() if sign * W[d, k] > 0]
            for sign, numbers in zip((1, -1), of_both, strict=True)
        )
        found.append({"class": name, "for": speak_for, "against": against})
    return found


def along_path(
    model: TrainedModel, l2: Sequence[float], norms: np.ndarray, taken: int
) -> dict[str, Any] | None:  # fmt: skip
    """The columns that are largest in the setting that was taken, ten at most, and how large they are at each l2.

    Args:
      model: of rows of features.
      l2: T values.
      norms: `[T, D]`, of the coefficients of each column, over the classes; NaN where they are not known.
      taken: which of the values was taken.

    Returns:
      As JSON can hold it: `l2`, of those that are known and above 0; `columns`, their names; `norms`, a list of these
      for each l2; and the l2 that was `taken`. None where that is not known, or there are less than two.
    """
    known = [t for t in range(len(l2)) if l2[t] > 0 and np.isfinite(norms[t]).all()]
    if taken not in known or len(known) < 2:
        return None
    largest = np.argsort(-norms[taken], kind="stable")[:_MOST_LINES]
    columns = named(model)
    return {
        "l2": [float(l2[t]) for t in known],
        "columns": [columns[d] for d in largest.tolist()],
        "norms": [[float(value) for value in norms[t, largest]] for t in known],
        "taken": float(l2[taken]),
    }


def named(model: TrainedModel) -> list[str]:
    """`[D]`: what each column is called; where there are no names, `column` and its number from 0."""
    if model.columns is None:
        return [f"column {number}" for number in range(len(model.W))]
    return [one_line(str(column)) for column in model.columns]

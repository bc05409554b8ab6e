"""Folds: the examples in parts, each of which is left out of training once. NumPy only."""

import numpy as np

from tfpipe.data import groups as groups_
from tfpipe.data.examples import Splits
from tfpipe.exceptions import DataError

# Another draw than those of splits and of orders of the training examples.
_DRAW_OF_FOLDS = (1 << 32) + 1
# Of fewer rows a validation split would tell too little.
_FEW_ROWS, _FOLDS = 10_000, 5


def by_default(splits: Splits) -> int:
    """How many folds choose where nobody says; 0: the validation split does, if it was asked for or has many rows."""
    asked = splits.config is None or splits.config.validation_split is not None or "validation" not in splits.taken
    if asked or len(splits.train) + len(splits.validation) >= _FEW_ROWS:
        return 0
    parts = splits.train, splits.validation
    return min(_FOLDS, sum(len(part) if part.groups is None else len(np.unique(part.groups)) for part in parts))


def folds(labels: np.ndarray, n_folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """The number of the fold of each example, `[N]` in [0, `n_folds`): int8, or int16 where that cannot hold it.

    Two folds differ by one example at most in size, and by one at most in each class. With groups these stay whole, and
    the folds come as near to that as `groups.placed` brings them.

    A pure function of the arguments, by NumPy's Philox generator.

    Args:
      labels: `[N]` integers, at least 0.
      n_folds: from 2 to 32767.
      seed: in [0, 2**63).
      groups: `[N]` integers; equal ones are one group. None: each example is its own.

    Raises:
      DataError: there are fewer examples or groups than folds.
    """
    there, what = (len(labels), "examples") if groups is None else (len(np.unique(groups)), "groups")
    if there < n_folds:
        raise DataError(f"{there} {what} for {n_folds} folds; expected at least as many {what} as folds")
    generator = np.random.Generator(np.random.Philox(key=[seed, _DRAW_OF_FOLDS]))
    dtype = np.int8 if n_folds <= np.iinfo(np.int8).max else np.int16
    if groups is not None:
        sizes = [len(labels) / n_folds] * n_folds
        return groups_.placed(labels, groups, sizes, [1] * n_folds, generator).astype(dtype)
    # Dealt out like cards, class by class, from a fold on that is drawn.
    drawn = generator.permutation(len(labels))
    drawn = drawn[np.argsort(labels[drawn], kind="stable")]
    numbers = np.empty(len(labels), dtype)
    numbers[drawn] = (np.arange(len(labels)) + generator.integers(n_folds)) % n_folds
    return numbers

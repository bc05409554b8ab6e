"""Groups: examples that belong together, such as pictures of one patient, and are never divided. NumPy only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfpipe.exceptions import DataError

# Of so many draws the best is taken. For 8 sets of 40 groups, 5 to 24 examples of four classes, in five folds, one draw
# left a chi-square of 8.5 on average, 4 draws 6.0, 10 4.9, 30 3.8; scikit-learn's StratifiedGroupKFold 5.6. Of more
# groups fewer will do: of 1,000 one draw left 0.3, and scikit-learn 0.2.
_MOST_DRAWS = 20
# 3 to 8 were enough on average for 12 to 2,000 groups of 1 to 100 classes.
_MOST_SWEEPS = 10
# A sweep takes 17 microseconds a group: a second for 10,000 groups in one draw. More are swept once.
_GROUPS_IN_DRAWS = 10_000


def numbered(splits: list[tuple[np.ndarray, str]]) -> list[np.ndarray]:
    """Numbers of the groups of all splits of a data set, from 0 on, by their first examples.

    Args:
      splits: `(values, name)` of each split: `[N]` integers or text, of which equal ones are one group; `name` is for
        error messages.

    Returns:
      `[N]` int64 for each split.

    Raises:
      DataError: values of another form.
    """
    if not splits:
        return []
    first_values, first_name = splits[0]
    for values, name in splits:
        kinds = "iu" if first_values.dtype.kind in "iu" else first_values.dtype.kind
        if values.ndim != 1 or values.dtype.kind not in "iuUS":
            found = f"groups of shape {values.shape} and type {values.dtype}"
            raise DataError(f"{name}: {found}; expected [N] integers or text")
        if values.dtype.kind not in kinds:
            found = f"groups of type {values.dtype} beside {first_values.dtype} of {first_name}"
            raise DataError(f"{name}: {found}; expected integers in every split, or text of one kind")
    # NumPy would bring uint64 beside int64 to float64, which cannot tell large numbers apart.
    values = np.concatenate([v.astype(np.int64) if v.dtype.kind in "iu" else v for v, _ in splits])
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[inverse]
    return np.split(numbers, np.cumsum([len(v) for v, _ in splits[:-1]]))


def placed(
    labels: np.ndarray,
    groups: np.ndarray,
    sizes: Sequence[float],
    least: Sequence[int],
    generator: np.random.Generator,
) -> np.ndarray:
    """Puts each group as a whole into one of S parts: these come near their sizes, and near the shares of the classes.

    A part of size n is to have n of the N examples, and n N_k / N of those of class k. How far it is from that is
    measured by chi-square: the squares of the differences, each divided by what was to be. The groups are taken in an
    order that is drawn, and each goes where it adds least; then again, until none does better in another part. Of
    several such draws the best is taken.

    Args:
      labels: `[N]` integers, at least 0.
      groups: `[N]` integers; equal ones are one group.
      sizes: `[S]`, above 0, of sum N. Of parts that are as good the first takes a group.
      least: `[S]`, how many groups each part has at least; together not more than there are.
      generator: draws the orders.

    Returns:
      `[N]` int64: the number of the part of each example.
    """
    _, of_example = np.unique(groups, return_inverse=True)
    of_group, of_class = np.bincount(of_example), np.bincount(labels)
    # Group by group its classes, and how many examples of each it has.
    pairs, counts = np.unique(of_example * len(of_class) + labels, return_counts=True)
    group, classes = np.divmod(pairs, len(of_class))
    bounds = np.searchsorted(group, np.arange(len(of_group) + 1))
    table = _Table(of_group.tolist(), of_class, np.split(classes, bounds[1:-1]), np.split(counts, bounds[1:-1]))
    n_draws = int(np.clip(_GROUPS_IN_DRAWS // len(of_group), 1, _MOST_DRAWS))
    draws = [_drawn(table, np.asarray(sizes, np.float64), least, generator) for _ in range(n_draws)]
    _, best = min(draws, key=lambda draw: draw[0])
    return best[of_example]


class _Table(NamedTuple):
    """How many examples there are: of each of G groups, of each of K classes, and in a group of each that it has."""

    of_group: list[int]
    of_class: np.ndarray
    classes: list[np.ndarray]
    counts: list[np.ndarray]


def _drawn(
    table: _Table, sizes: np.ndarray, least: Sequence[int], generator: np.random.Generator
) -> tuple[float, np.ndarray]:
    """How far a draw is from what was to be, but for what all draws have alike; and the part of each group, `[G]`."""
    n_examples, lacking = table.of_class.sum(), np.array(least)
    has, has_of_class = np.zeros(len(sizes), np.int64), np.zeros((len(sizes), len(table.of_class)), np.int64)
    part = np.full(len(table.of_group), -1)
    order = generator.permutation(len(table.of_group)).tolist()
    for sweep in range(_MOST_SWEEPS if len(order) <= _GROUPS_IN_DRAWS else 1):
        before = part.copy()
        for left, g in zip(range(len(order), 0, -1), order, strict=True):
            total, k, count = table.of_group[g], table.classes[g], table.counts[g]
            if sweep:
                if lacking[part[g]] == 0:  # It cannot do without.
                    continue
                has[part[g]] -= total
                has_of_class[part[g], k] -= count
                lacking[part[g]] += 1
            # By how much chi-square grows, but for what is the same in every part.
            of_classes = (count * (2 * has_of_class[:, k] + count) / table.of_class[k]).sum(axis=1)
            growth = (total * (2 * has + total) / n_examples + of_classes) / sizes
            if left == lacking.clip(0).sum():
                growth[lacking <= 0] = np.inf
            part[g] = growth.argmin()
            has[part[g]] += total
            has_of_class[part[g], k] += count
            lacking[part[g]] -= 1
        if (part == before).all():
            break
    of_each = np.square(has) / n_examples + (np.square(has_of_class) / table.of_class.clip(1)).sum(axis=1)
    return float((of_each / sizes).sum()), part

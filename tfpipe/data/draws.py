"""Draws of training rows: a few of each class, a share of all, or as many as there are with replacement. NumPy only.

All are pure functions of their arguments, by NumPy's Philox generator. The draws of one `number` are nested: 16 rows of
each class hold the 8, and a tenth of all holds the hundredth.
"""

import numpy as np

# Other draws than those of splits, of folds, of intervals, and of orders of the training examples.
_NESTED, _BOOTSTRAP = 1 << 34, 1 << 35


def shots(labels: np.ndarray, count: int, seed: int, number: int) -> np.ndarray:
    """`[N]` bool: `count` rows of each class, or all where there are fewer.

    Args:
      labels: `[N]` integers, at least 0.
      count: at least 1.
      seed: in [0, 2**63).
      number: of the draw, at least 0.
    """
    return _ranks(labels, _generator(seed, _NESTED + number)) < count


def subset(labels: np.ndarray, share: float, seed: int, number: int, groups: np.ndarray | None = None) -> np.ndarray:
    """`[N]` bool: this share of the rows to the nearest one, at least one of them, and of each class about its share.

    With groups these stay whole: they are taken in an order that is drawn, whatever their classes, until the number of
    rows is nearest to what is wanted.

    Args:
      labels: `[N]` integers, at least 0.
      share: above 0, at most 1.
      seed: in [0, 2**63).
      number: of the draw, at least 0.
      groups: `[N]` integers; equal ones are one group. None: each row is its own.
    """
    generator = _generator(seed, _NESTED + number)
    wanted = max(1, int(share * len(labels) + 0.5))
    if groups is None:
        # The i-th row of a class, of n in an order that is drawn, stands at (i + u) / n.
        ranks, sizes = _ranks(labels, generator), np.bincount(labels)
        places = (ranks + generator.random(len(sizes))[labels]) / sizes[labels]
        return np.argsort(np.argsort(places, kind="stable"), kind="stable") < wanted
    _, of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = generator.permutation(len(sizes))
    taken = order[: 1 + int(np.abs(np.cumsum(sizes[order]) - wanted).argmin())]
    return np.isin(of_row, taken)


def bootstrap(n: int, seed: int, number: int, groups: np.ndarray | None = None) -> np.ndarray:
    """`[N]` float64: how often each of `n` rows is drawn, in n draws with replacement; groups as a whole.

    Args:
      n: at least 1.
      seed: in [0, 2**63).
      number: of the draw, at least 0.
      groups: `[N]` integers; equal ones are one group, and as many are drawn as there are. None: each row is its own.
    """
    of_row = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(of_row.max()) + 1
    drawn = _generator(seed, _BOOTSTRAP + number).integers(units, size=units)
    return np.bincount(drawn, minlength=units)[of_row].astype(np.float64)


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, number]))


def _ranks(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """`[N]`, the place of each row among those of its class, from 0, in an order that is drawn."""
    drawn = generator.permutation(len(labels))
    drawn = drawn[np.argsort(labels[drawn], kind="stable")]
    first = np.concatenate([[0], np.cumsum(np.bincount(labels))])[:-1]
    ranks = np.empty(len(labels), np.int64)
    ranks[drawn] = np.arange(len(labels)) - first[labels[drawn]]
    return ranks

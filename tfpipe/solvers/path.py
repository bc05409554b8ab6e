"""The path of L2: the values to try where none is given. NumPy only."""

import numpy as np

from tfpipe.solvers.problem import Problems

# Best values lay between 1e-7 and 10 times the largest that matters, on nine data sets of very different scales; of
# images that say next to nothing, up to 500 times. The first values take an evaluation or two.
_FIRST, _STEP = 1000.0, np.sqrt(10.0)
COUNT = 23


def largest(problems: Problems) -> np.ndarray:
    """`[H]`: the l2 beyond which heads say little more than the classes' shares.

    |dF/dV|^2 / (2 F) at V = 0: with as much regularization a step along the gradient gains no more than F.
    """
    gradient = problems.cross / problems.scale[:, np.newaxis]
    cost = problems.at_zero
    # Of a single class nothing is to be learned.
    return np.square(gradient).sum(axis=(1, 2)) * (cost > 0) / (2 * np.where(cost > 0, cost, 1))


def values(problems: Problems) -> np.ndarray:
    """`[23]`, descending: from a thousand times the `largest` of the first head on, each sqrt(10) below another.

    Of columns that say nothing at all, which have no such value, from 100 on.
    """
    first = largest(problems)[0]
    return _FIRST * (first if first > 0 else 0.1) / _STEP ** np.arange(COUNT)

"""What examples count: in the cost that is minimized, and in the figures by which models are chosen. NumPy only."""

import math

import numpy as np

from tfpipe.data import Examples
from tfpipe.exceptions import DataError


def example_weights(examples: Examples, class_weight: str | None, n_out: int) -> np.ndarray:
    """What each of N training examples counts in the cost, by its weight and `TrainConfig.class_weight`: `[N]` float32.

    By the largest of their weights, for the cost takes them by their mean: so float32 holds weights of any scale.
    """
    labels = examples.labels
    weights = np.ones(len(labels)) if examples.weights is None else examples.weights / examples.weights.max()
    if class_weight is not None:
        weights = weights * balanced(np.bincount(labels, weights, minlength=n_out))[labels]
    return weights.astype(np.float32)


def measured_weights(examples: Examples) -> np.ndarray | None:
    """What each of n examples that validate counts in their figures: its weight, `[n]` float64 below 1; None: all 1.

    Weights are divided by a power of two, so that sums of integers stay exact, and what is equal is so to the bit.

    Raises:
      DataError: none has weight.
    """
    weights = examples.weights
    if weights is None:
        return None
    if not weights.any():
        raise DataError(f"{examples.name}: the weight of every validation example is 0; expected one above 0 at least")
    return np.asarray(np.ldexp(weights, -np.frexp(weights.max())[1]))


def balanced(counts: np.ndarray) -> np.ndarray:
    """What an example of each class counts, so that classes with these sums of weights, `[K]`, count alike: `[K]`.

    A class without any counts for none of the others, and its examples, if they have no weight, once.
    """
    there = counts > 0  # As scikit-learn does, which knows the classes of the examples alone.
    return np.where(there, counts.sum() / (there.sum() * np.where(there, counts, 1)), 1)


def balance(labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """What each of n examples counts in the balanced error, beside its weight: `[n]` float64.

    So the classes that occur with any weight count alike. It is so rounded that sums without weights, or of weights
    that are integers, are exact: what is equal is so to the bit, in whatever order it is summed.
    """
    total = len(labels) if weights is None else math.ceil(weights.sum(dtype=np.float64))
    grid = 2.0 ** (52 - total.bit_length())
    return np.round(grid * balanced(np.bincount(labels, weights))[labels]) / grid

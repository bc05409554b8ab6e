"""What examples count: in the cost that is minimized, and in the balanced error. NumPy only."""

import numpy as np

from tfpipe.data import Examples


def example_weights(examples: Examples, class_weight: str | None, n_out: int) -> np.ndarray:
    """What each of N training examples counts in the cost, by its weight and `TrainConfig.class_weight`: `[N]` float32.

    By the largest of their weights, for the cost takes them by their mean: so float32 holds weights of any scale.
    """
    labels = examples.labels
    weights = np.ones(len(labels)) if examples.weights is None else examples.weights / examples.weights.max()
    if class_weight is not None:
        weights = weights * balanced(np.bincount(labels, weights, minlength=n_out))[labels]
    return weights.astype(np.float32)


def balanced(counts: np.ndarray) -> np.ndarray:
    """What an example of each class counts, so that classes with these sums of weights, `[K]`, count alike: `[K]`.

    A class without any counts for none of the others, and its examples, if they have no weight, once.
    """
    there = counts > 0  # As scikit-learn does, which knows the classes of the examples alone.
    return np.where(there, counts.sum() / (there.sum() * np.where(there, counts, 1)), 1)


def balance(labels: np.ndarray) -> np.ndarray:
    """What each of n examples counts in the balanced error, so that the classes that occur count alike: `[n]` float64.

    So rounded that their sums are exact: what is equal is so to the bit, in whatever order it is summed.
    """
    grid = 2.0 ** (52 - len(labels).bit_length())
    return np.round(grid * balanced(np.bincount(labels))[labels]) / grid

"""How images as stored become inputs of the model, and the way back: folded into the parameters."""

from typing import NamedTuple

import numpy as np
from absl import logging

_FAR_FROM_0 = 1e4
_BYTES_PER_BLOCK = 32 << 20


class Scaling(NamedTuple):
    """`x = (image - shift) * factor`, for each input.

    Attributes:
      shift: `[D]` float64, or None for none.
      factor: `[D]` or `[]`, float64.
    """

    shift: np.ndarray | None
    factor: np.ndarray

    def fold(self, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters `[D, K]`, `[K]` for scaled inputs -> the same model, as exact, for images as they are stored."""
        dtype, W = W.dtype, W.astype(np.float64)
        W *= np.broadcast_to(self.factor, len(W))[:, np.newaxis]
        b = b if self.shift is None else b - self.shift @ W
        return np.ascontiguousarray(W, dtype), np.array(b, dtype)


def by_pixel_max(pixel_max: float) -> Scaling:
    """Divides by `pixel_max`."""
    return Scaling(None, np.array(1 / pixel_max))


def standardization(images: np.ndarray) -> Scaling:
    """Gives each column of `images`, `[N, ...]`, mean 0 and variance 1; a constant column becomes 0.

    One pass over the images, in blocks, in float64. The blocks are merged as in Chan, Golub and LeVeque (1979),
    "Updating formulae and a pairwise algorithm for computing sample variances".
    """
    flat = images.reshape(len(images), -1)
    count, mean, squares = 0, np.zeros(flat.shape[1]), np.zeros(flat.shape[1])
    constant = np.ones(flat.shape[1], bool)
    step = max(1, _BYTES_PER_BLOCK // (8 * flat.shape[1]))
    for start in range(0, len(flat), step):
        block = np.array(flat[start : start + step], np.float64)  # A copy, to be changed.
        constant &= (block == flat[0]).all(axis=0)  # Exactly: rounding leaves squares something of a constant column.
        block_mean = block.mean(axis=0)
        block -= block_mean
        difference, total = block_mean - mean, count + len(block)
        squares += np.square(block).sum(axis=0) + np.square(difference) * count * len(block) / total
        mean += difference * len(block) / total
        count = total
    deviation = np.sqrt(squares / count)
    # Training computes in float32, which cannot hold the factor of a column that hardly varies.
    constant |= deviation < 1 / np.finfo(np.float32).max
    if np.max(np.abs(mean) / np.where(constant, np.inf, deviation)) > _FAR_FROM_0:
        logging.warning(
            "a column lies more than %g standard deviations away from 0: the saved model, which takes raw rows in "
            "float32, will be less exact than the training; take the mean off beforehand",
            _FAR_FROM_0,
        )
    return Scaling(mean, 1 / np.where(constant, 1.0, deviation))

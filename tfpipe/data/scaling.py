"""How images as stored become inputs of the model, and the way back: folded into the parameters."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import numpy as np

from tfpipe.log import log

_FAR_FROM_0 = 1e4


class Scaling(NamedTuple):
    """`x = (image - shift) * factor`, for each input.

    Attributes:
      shift: `[D]` float64, or None for none.
      factor: `[D]` or `[]`, float64.
    """

    shift: np.ndarray | None
    factor: np.ndarray

    def apply(self, images: np.ndarray) -> np.ndarray:
        """`[n, ...]` images -> `[n, D]` float64, the inputs; a copy."""
        x = images.reshape(len(images), -1).astype(np.float64)
        if self.shift is not None:
            x -= self.shift
        x *= self.factor
        return x

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, for `of_arrays`."""
        return {"factor": np.asarray(self.factor)} | ({} if self.shift is None else {"shift": self.shift})

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The way back; there may be others beside them."""
        return cls(arrays.get("shift"), arrays["factor"])

    def columns(self, part: slice) -> "Scaling":
        """That of some of the columns alone."""
        shift = None if self.shift is None else self.shift[part]
        return Scaling(shift, self.factor[part] if self.factor.ndim else self.factor)

    def fold(self, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters `[D, K]`, `[K]` for scaled inputs -> the same model, as exact, for images as they are stored."""
        dtype, W = W.dtype, W.astype(np.float64)
        W *= np.broadcast_to(self.factor, len(W))[:, np.newaxis]
        b = b if self.shift is None else b - self.shift @ W
        return np.ascontiguousarray(W, dtype), np.array(b, dtype)


def by_pixel_max(pixel_max: float) -> Scaling:
    """Divides by `pixel_max`."""
    return Scaling(None, np.array(1 / pixel_max))


def standardization(blocks: Iterable[np.ndarray]) -> Scaling:
    """Gives each column of images mean 0 and variance 1; a constant column becomes 0.

    Args:
      blocks: as `moments` takes them.
    """
    mean, deviation = moments(blocks)
    if np.max(np.abs(mean) / np.where(deviation == 0, np.inf, deviation)) > _FAR_FROM_0:
        log.warning(
            "a column lies more than %g standard deviations away from 0: the saved model, which takes raw rows in "
            "float32, will be less exact than the training; take the mean off beforehand",
            _FAR_FROM_0,
        )
    return by_moments(mean, deviation)


def by_moments(mean: np.ndarray, deviation: np.ndarray) -> Scaling:
    """Gives columns of these means and standard deviations, `[D]`, mean 0 and variance 1; a constant one becomes 0."""
    return Scaling(mean, 1 / np.where(deviation == 0, 1.0, deviation))


class Spread(NamedTuple):
    """Of images: what their columns' means and deviations are found by.

    Attributes:
      n: how many there are.
      first: `[D]` float64, one of them.
      is_constant: `[D]` bool, whether all are equal there.
      mean: `[D]` float64.
      squares: `[D]` float64, the sum of the squares of the differences from the mean.
    """

    n: int
    first: np.ndarray
    is_constant: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray]) -> Self:
        """Of images in pieces `[n, ...]`, at least one; twice the memory of a piece in float64 is taken."""
        found: Self | None = None
        for images in blocks:
            block = images.reshape(len(images), -1).astype(np.float64, copy=False)
            first = block[0].copy()
            if found is None:
                found = cls(0, first, np.ones(len(first), bool), np.zeros(len(first)), np.zeros(len(first)))
            # Exactly: rounding leaves squares something of a constant column.
            is_constant = (block == found.first).all(axis=0)
            mean = block.mean(axis=0)
            centred = block - mean
            squares = np.square(centred, out=centred).sum(axis=0)
            found = found.joined(cls(len(block), first, is_constant, mean, squares))
        assert found is not None
        return found

    def joined(self, other: Self) -> Self:
        """Of these images and others, as in Chan, Golub and LeVeque (1979).

        "Updating formulae and a pairwise algorithm for computing sample variances".
        """
        difference, total = other.mean - self.mean, self.n + other.n
        squares = self.squares + (other.squares + np.square(difference) * self.n * other.n / total)
        mean = self.mean + difference * other.n / total
        is_constant = self.is_constant & other.is_constant & (self.first == other.first)
        return self._replace(n=total, is_constant=is_constant, mean=mean, squares=squares)

    @property
    def deviation(self) -> np.ndarray:
        """`[D]` float64, the standard deviations; 0 for a constant column."""
        deviation = np.sqrt(self.squares / self.n)
        # Training computes in float32, which cannot hold the factor of a column that hardly varies.
        return np.where(self.is_constant | (deviation < 1 / np.finfo(np.float32).max), 0.0, deviation)


def moments(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of each column of images, `[D]` float64 both; 0 for a constant column.

    One pass over the images, in float64.

    Args:
      blocks: as `Spread.of` takes them.
    """
    found = Spread.of(blocks)
    return found.mean, found.deviation

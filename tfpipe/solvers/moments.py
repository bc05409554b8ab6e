"""What is known of the training rows before any model: sums of weights and columns, deviations. NumPy only.

On the processor, also beside a GPU: a program would take longer to make than this takes for most data.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
import scipy.sparse

# Of inputs that vary by less than this share of their mean, a logit in float64 would keep less than half its digits.
_LEAST_DEVIATION = 1e-8


class Moments(NamedTuple):
    """Of the rows, for each of C columns of weights w.

    Attributes:
      total: `[C]` float64, the sum of w.
      x: `[C, D]` float64, of w x.
      of_class: `[C, K]` float64, of w y, where y is 1 for the class of a row.
      x_of_class: `[C, K, D]` float64, of w y x.
    """

    total: np.ndarray
    x: np.ndarray
    of_class: np.ndarray
    x_of_class: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray], labels: np.ndarray, weights: np.ndarray, n_out: int) -> Self:
        """Of rows with labels `[N]`, in [0, K), and weights `[C, N]`; `blocks` are they, `[n, D]` float64, in order."""
        n_columns = len(weights)
        of_class = np.stack([np.bincount(labels, of_column, n_out) for of_column in weights])
        begin = 0
        x_of_class: np.ndarray | None = None
        for x in blocks:
            part = slice(begin, begin + len(x))
            begin += len(x)
            # Each row adds to one class: of 1,000 classes a dense product would be of zeros.
            row_of = np.arange(n_columns)[:, np.newaxis] * n_out + labels[part]
            rows = np.broadcast_to(np.arange(len(x)), row_of.shape)
            placed = weights[:, part].ravel(), (row_of.ravel(), rows.ravel())
            of_part = scipy.sparse.csr_array(placed, shape=(n_columns * n_out, len(x))) @ x
            x_of_class = of_part if x_of_class is None else np.add(x_of_class, of_part, out=x_of_class)
        assert x_of_class is not None
        x_of_class = x_of_class.reshape(n_columns, n_out, -1)
        return cls(of_class.sum(axis=1), x_of_class.sum(axis=1), of_class, x_of_class)

    def joined(self, other: Self) -> Self:
        """Of these rows and others."""
        return type(self)(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def mean(self) -> np.ndarray:
        """`[C, D]` float64, of x."""
        return self.x / self.total[:, np.newaxis]

    def deviations(self, blocks: Iterable[np.ndarray], weights: np.ndarray) -> np.ndarray:
        """`[C, D]` float64: `deviation` of rows in `blocks` with `weights`, as `of` takes them."""
        return self.deviation(AboutMean.of(blocks, weights, self.mean))

    def deviation(self, about: "AboutMean") -> np.ndarray:
        """`[C, D]` float64, the standard deviation of each input under each column of weights; 1 for a constant one.

        By the corrected two-pass algorithm of Chan, Golub and LeVeque (1983), "Algorithms for computing the sample
        variance": inputs are at mean 0 of all rows, and those with weight may lie far off, and close together.
        """
        total = self.total[:, np.newaxis]
        variance = about.squares / total - np.square(about.difference / total)
        deviation = np.sqrt(np.maximum(variance, 0))
        return np.where(deviation > _LEAST_DEVIATION * np.abs(self.mean), deviation, 1)


class AboutMean(NamedTuple):
    """Of rows x, for each of C columns of weights w, about a mean m, `[C, D]`.

    Attributes:
      difference: `[C, D]` float64, the sum of w (x - m): what rounding left.
      squares: `[C, D]` float64, the sum of w (x - m)^2.
    """

    difference: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray], weights: np.ndarray, mean: np.ndarray) -> Self:
        """Of rows as `Moments.of` takes them."""
        difference, squares, begin = np.zeros_like(mean), np.zeros_like(mean), 0
        for x in blocks:
            part = slice(begin, begin + len(x))
            begin += len(x)
            for column, w in enumerate(weights[:, part]):
                about = x - mean[column]
                difference[column] += w @ about
                squares[column] += w @ np.square(about, out=about)
        return cls(difference, squares)

    def joined(self, other: Self) -> Self:
        """Of these rows and others."""
        return type(self)(*(a + b for a, b in zip(self, other, strict=True)))

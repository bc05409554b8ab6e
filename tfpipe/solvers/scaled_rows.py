"""Examples as an objective has them, a part at a time. NumPy only, but for the type in which images are held."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfpipe.data import Examples
from tfpipe.data.rows import chosen
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline import residency

# Of a part, in float64.
BLOCK_BYTES = 32 << 20


class ScaledRows(NamedTuple):
    """Examples as inputs.

    Attributes:
      examples: N of them, of D columns.
      scaling: from images as they are stored to inputs.
    """

    examples: Examples
    scaling: Scaling

    def blocks(self) -> Iterator[np.ndarray]:
        """All of them in pieces `[n, D]` float64, in order."""
        for images in self.examples.blocks(BLOCK_BYTES, np.dtype(np.float64).itemsize):
            yield self.scaling.apply(residency.rounded(images))

    def columns(self, part: slice) -> np.ndarray:
        """`[N, d]` float64: some columns of all of them; a copy."""
        stored = self.examples.stored
        images = chosen(stored.reshape(len(stored), -1)[:, part], self.examples.rows)
        return self.scaling.columns(part).apply(residency.rounded(images))

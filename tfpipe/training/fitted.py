"""Rows that heads are fitted to, their weights, and the rows on which heads are measured."""

from typing import NamedTuple

import numpy as np

from tfpipe.data import Examples, Splits
from tfpipe.solvers.passes import SMALL
from tfpipe.solvers.sharing import Wanted


class Fitted(NamedTuple):
    """Rows that heads are fitted to.

    Attributes:
      splits: what they are of.
      examples: the rows.
      weights: `[C, N]`, at least 0: columns of weights.
      precision: float32, or float64 if nothing may be rounded on the way.
      validation: other rows on which heads are measured; None: there are none.
    """

    splits: Splits
    examples: Examples
    weights: np.ndarray
    precision: str
    validation: Examples | None = None

    @property
    def wanted(self) -> list[Wanted]:
        """The rows that are fitted, with weights of which the largest is 1; and those that validate, if others do.

        Where it pays, the first are measured in float32 too, which is faster.
        """
        is_small = len(self.examples) * self.splits.n_in * self.splits.n_out <= SMALL
        kinds = ("float64",) if is_small or self.precision == "float64" else ("float64", "float32")
        fitted = Wanted(self.examples, self.weights / self.weights.max(), kinds)
        if self.validation is None:
            return [fitted]
        return [fitted, Wanted(self.validation, np.ones((1, len(self.validation)), np.float32), ("float64",))]

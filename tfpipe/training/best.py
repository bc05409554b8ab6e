"""The best model of each head: its parameters and its test error at its best validation."""

import math
from typing import Any

import numpy as np

from tfpipe.config import Reading
from tfpipe.data import Splits
from tfpipe.model.artifact import TrainedModel
from tfpipe.solvers.base import Solver
from tfpipe.training.patience import Patience
from tfpipe.training.state import State
from tfpipe.version import __version__


class Best:
    """Each head as it was at its best validation.

    Args:
      solver: by which it was trained.
      splits: on what.
      dtype: of W and b.
      state: from which the run goes on.

    Attributes:
      W: `[H, K, D]`, b: `[H, K]`, for scaled images; zeros before the first validation.
      test_error: `[H]`, shares in [0, 1]; NaN before the first validation.
    """

    def __init__(self, solver: Solver, splits: Splits, dtype: np.dtype, state: State):
        self._solver = solver
        self._splits = splits
        if state.steps:
            self.W, self.b, self.test_error = state.best_W.copy(), state.best_b.copy(), state.test_error.copy()
            return
        shape = (len(solver.settings), splits.n_out, splits.n_in)
        self.W, self.b = np.zeros(shape, dtype), np.zeros(shape[:2], dtype)
        self.test_error = np.full(shape[0], np.nan)

    def arrays(self) -> dict[str, Any]:
        """All that is to be kept, copied: by name, as State has it."""
        return {"best_W": self.W.copy(), "best_b": self.b.copy(), "test_error": self.test_error.copy()}

    def keep(self, heads: np.ndarray, W: np.ndarray, b: np.ndarray, test_error: np.ndarray) -> None:
        """Takes models `[n, K, D]`, `[n, K]` and test errors `[n]` for the best of these heads, numbers `[n]`."""
        self.W[heads], self.b[heads], self.test_error[heads] = W, b, test_error

    def model(self, head: int, patience: Patience) -> TrainedModel:
        """A head's best model as it is kept: it carries the scaling, and takes images as they are stored."""
        splits = self._splits
        summary = dict(self._solver.settings[head]) | {
            "solver": self._solver.name,
            "validation_error": float(patience.best_error[head]),
            "test_error": None if math.isnan(self.test_error[head]) else float(self.test_error[head]),
            "best_iteration": int(patience.best_steps[head]) - 1,
            "train_examples": self._solver.examples,
            "fingerprint": splits.fingerprint,
            "tfpipe": __version__,
        }
        scaled = splits.scaling.fold(self.W[head].T, self.b[head])
        return TrainedModel(
            *scaled,
            splits.class_names,
            splits.image_shape,
            splits.white_pixel,
            summary,
            reading=splits.reading or Reading(),
            columns=splits.columns,
        )

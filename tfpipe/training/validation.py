"""A validation of the heads beside the training: what they are worth now, and how far they went since the last one."""

from concurrent.futures import Future
from typing import NamedTuple, Self

import numpy as np

from tfpipe.compute.device import Workers
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.grid import Grid, joined


class Interval(NamedTuple):
    """The training between two validations.

    Attributes:
      W_before: `[h, K, D]`, of the heads in the grid, at its beginning.
      reach: `[h]`, the learning rate times the number of steps; 0 for a head that stood still.
      cost: `[H]`, mean cost of its minibatches; NaN for a head that stood still.
      examples_per_second: that were trained.
    """

    W_before: np.ndarray
    reach: np.ndarray
    cost: np.ndarray
    examples_per_second: float


class Measured(NamedTuple):
    """What is found, `[h]` each, of the heads in the grid.

    Attributes:
      error: shares of wrong predictions in [0, 1] on the validation examples.
      cost: mean costs there.
      test_error: shares on the test examples; NaN if no head had a new best.
    """

    error: np.ndarray
    cost: np.ndarray
    test_error: np.ndarray


class Validation(NamedTuple):
    """One that is under way, while the heads train on.

    Attributes:
      iteration: after which it was started.
      W: `[h, K, D]`, as they were then.
      b: `[h, K]`, likewise.
      interval: that it ends.
      measured: will hold what is found.
      norms: will hold `[2, h]`, the norms of W and of the mean gradient in the interval.
    """

    iteration: int
    W: np.ndarray
    b: np.ndarray
    interval: Interval
    measured: Future[Measured]
    norms: Future[np.ndarray]

    @classmethod
    def start(
        cls,
        iteration: int,
        grid: Grid,
        interval: Interval,
        best_error: np.ndarray,
        *,
        validation: Evaluation,
        test: Evaluation,
        workers: Workers,
    ) -> Self:
        """Has the heads of `grid` validated, and tested if one is below its `best_error`, `[h]`."""
        parameters = grid.parameters()
        W, b = joined(parameters)

        def measure() -> Measured:
            error, cost = validation.measure(parameters)
            improved = (error < best_error).any()
            return Measured(error, cost, test.measure(parameters)[0] if improved else np.full(len(error), np.nan))

        return cls(iteration, W, b, interval, workers.start(measure), workers.start(_norms, W, interval))


def _norms(W: np.ndarray, interval: Interval) -> np.ndarray:
    """The norms of W and of the mean gradient that led there, `[2, h]`; NaN for that of a head that stood still."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ways = (W, W - interval.W_before)
        norm, moved = (np.linalg.norm(way.astype(np.float64).reshape(len(W), -1), axis=1) for way in ways)
        return np.stack([norm, moved / interval.reach])

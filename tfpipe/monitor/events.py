"""What can happen in a run, as values."""

from typing import NamedTuple

import numpy as np


class Trained(NamedTuple):
    """A chunk of minibatches was trained.

    Attributes:
      iteration: the last one, from 0.
      epoch: the epoch it belongs to, from 1.
      end: the iteration before which the run ends, as far as is known: by epochs, or by patience if none improves.
      cost: mean cost over the chunk of the leading head, among those that trained to its end.
      examples_per_second: training examples, since the start of the chunk.
    """

    iteration: int
    epoch: int
    end: int
    cost: float
    examples_per_second: float


class Validated(NamedTuple):
    """The heads were validated. Arrays have one entry a head, `[H]` float64; NaN for a head that stands still.

    Attributes:
      iteration: the last one that was trained, from 0.
      epoch: the epoch it belongs to, from 1.
      seconds: since the training loop began.
      cost: mean cost of the minibatches since the last validation.
      validation_error: share of wrong predictions, in [0, 1].
      validation_cost: mean over the validation examples.
      test_error: share in [0, 1]; NaN also for a head whose validation error is no new best.
      leader: the head with the best validation error so far; None while there is none.
      best_error: its best validation error; infinity while there is none.
    """

    iteration: int
    epoch: int
    seconds: float
    cost: np.ndarray
    validation_error: np.ndarray
    validation_cost: np.ndarray
    test_error: np.ndarray
    leader: int | None
    best_error: float

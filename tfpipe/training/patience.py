"""The tutorial's early stopping, for H heads at once. NumPy only.

In the Theano tutorial's words, with `iter` counted from 0: a validation error below the best one is the new best; if
it is also below `best * improvement_threshold`, patience becomes `max(patience, iter * patience_increase)`; and after
every iteration, not only after a validation, the loop ends `if patience <= iter`.
"""

from collections.abc import Mapping

import numpy as np

NEVER = -1
# What Patience has to remember, each `[H]`: names as a state on disk has them.
FIELDS = {
    "patience": np.float64,
    "best_error": np.float64,
    "best_cost": np.float64,
    "best_iteration": np.int64,
    "diverged": np.bool_,
    "diverged_at": np.int64,
}
_FOREVER = 2**62


class Patience:
    """Who may go on, and who was best when. Every attribute has one entry a head, `[H]`.

    Attributes:
      best_error: float64, the smallest validation error seen, a share in [0, 1]; infinity before the first.
      best_cost: float64, the validation cost at that moment.
      best_iteration: int64, the iteration after which it was measured, from 0; -1 (NEVER) before the first.
      last_iteration: int64, the last iteration that the head trains, as far as is known.
      diverged: bool, the head was stopped because its cost was no longer finite.
    """

    def __init__(self, heads: int, *, patience: int, patience_increase: float, improvement_threshold: float):
        self._patience = np.full(heads, float(patience))
        self._increase = patience_increase
        self._threshold = improvement_threshold
        self.best_error = np.full(heads, np.inf)
        self.best_cost = np.full(heads, np.inf)
        self.best_iteration = np.full(heads, NEVER, np.int64)
        self.diverged = np.zeros(heads, bool)
        self._diverged_at = np.full(heads, NEVER, np.int64)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it has to remember, by name, each `[H]`."""
        values = (
            self._patience,
            self.best_error,
            self.best_cost,
            self.best_iteration,
            self.diverged,
            self._diverged_at,
        )
        return {name: value.copy() for name, value in zip(FIELDS, values, strict=True)}

    def restore(self, arrays: Mapping[str, np.ndarray], iteration: int) -> None:
        """Goes on after `iteration` from what `arrays` gave then, perhaps with more patience than there was.

        A head that patience had stopped before `iteration` stays as it is: it missed what the others trained.
        """
        least = self._patience
        (
            self._patience,
            self.best_error,
            self.best_cost,
            self.best_iteration,
            self.diverged,
            self._diverged_at,
        ) = (arrays[name].copy() for name in FIELDS)
        goes_on = iteration <= self.last_iteration
        self._patience[goes_on] = np.maximum(self._patience, least)[goes_on]

    @property
    def last_iteration(self) -> np.ndarray:
        # The first `iter` with patience <= iter is trained, then the loop ends. Patience changes at validations only.
        by_patience = np.minimum(np.ceil(self._patience), _FOREVER).astype(np.int64)
        return np.where(self.diverged, self._diverged_at, by_patience)

    def active(self, iteration: int) -> np.ndarray:
        """`[H]` bool: the heads that train `iteration`, and did not diverge in it."""
        return (iteration <= self.last_iteration) & ~(self.diverged & (iteration == self._diverged_at))

    def steps(self, first: int, most: int) -> int:
        """How many of the next `most` iterations, from `first` on, still train a head."""
        return max(0, min(most, int(self.last_iteration.max()) - first + 1))

    def observe(self, iteration: int, error: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Takes in a validation made after `iteration`; heads that did not train that iteration are left alone.

        Args:
          iteration: counted from 0.
          error: `[H]` validation errors, shares in [0, 1].
          cost: `[H]` validation costs.

        Returns:
          `[H]` bool: the heads whose error is a new best.
        """
        improved = self.active(iteration) & (error < self.best_error)
        clearly = improved & (error < self.best_error * self._threshold)
        self._patience[clearly] = np.maximum(self._patience[clearly], iteration * self._increase)
        self.best_error[improved] = error[improved]
        self.best_cost[improved] = cost[improved]
        self.best_iteration[improved] = iteration
        return improved

    def diverge(self, heads: np.ndarray, iteration: np.ndarray) -> None:
        """Stops `heads` (`[H]` bool) for good: their cost was not finite in `iteration` (`[H]`)."""
        self.diverged |= heads
        self._diverged_at[heads] = iteration[heads]

    def selected(self, among: np.ndarray | None = None) -> int | None:
        """The head with the smallest best error; of equals the one with the smaller cost, then the first one.

        None if no head that is still sound has been validated. A diverged head is never selected, nor one that is not
        `among` (`[H]` bool; None: all).
        """
        candidates = np.flatnonzero(~self.diverged & (self.best_iteration != NEVER) & (among is None or among))
        if not candidates.size:
            return None
        order = np.lexsort((self.best_cost[candidates], self.best_error[candidates]))
        return int(candidates[order[0]])

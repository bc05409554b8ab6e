"""The tutorial's early stopping, for H heads at once; by errors, or by another figure in their place. NumPy only.

In the Theano tutorial's words, with `iter` counted from 0: a validation error below the best one is the new best; if
it is also below `best * improvement_threshold`, patience becomes `max(patience, iter * patience_increase)`; and after
every iteration, not only after a validation, the loop ends `if patience <= iter`.

Here steps are counted as done: after `steps` of them, `iter` is `steps - 1`.
"""

from typing import Any

import numpy as np

from tfpipe.training.state import State

_FOREVER = 2**62


class Patience:
    """Who may go on, and who was best when. Every attribute has one entry a head, `[H]`.

    Args:
      heads: H.
      patience, patience_increase, improvement_threshold: as in the tutorial.
      select: the figure by which it goes, `error`, `cost` or `balanced_error`.
      begins: `[H]` bool, the heads that do any step; None: all.
      state: from which the run goes on.

    Attributes:
      patience: float64, as in the tutorial.
      best_error: float64, the validation error at the best validation, a share in [0, 1]; infinity before the first.
      best_cost: float64, the validation cost then.
      best_balanced_error: float64, the balanced error then; infinity also where that is not measured.
      best_steps: int64, how many steps were done then; 0 before the first.
      diverged: bool, the head was stopped because its cost was no longer finite.
      diverged_at: int64, after how many steps.
    """

    def __init__(
        self,
        heads: int,
        *,
        patience: int,
        patience_increase: float,
        improvement_threshold: float,
        select: str = "error",
        begins: np.ndarray | None = None,
        state: State | None = None,
    ):
        self._increase = patience_increase
        self._threshold = improvement_threshold
        self._select = select
        self.patience = np.full(heads, float(patience))
        if begins is not None:
            self.patience[~begins] = -1.0  # No `iter` is as small.
        self.best_error = np.full(heads, np.inf)
        self.best_cost = np.full(heads, np.inf)
        self.best_balanced_error = np.full(heads, np.inf)
        self.best_steps = np.zeros(heads, np.int64)
        self.diverged = np.zeros(heads, bool)
        self.diverged_at = np.zeros(heads, np.int64)
        if state is not None and state.steps:
            self._restore(state)

    def _restore(self, state: State) -> None:
        """Goes on from `state`, perhaps with more patience than there was.

        A head that patience had stopped before stays as it is: it missed what the others trained.
        """
        least = self.patience
        for name in self.arrays():
            setattr(self, name, getattr(state, name).copy())
        goes_on = state.steps <= self.allowed
        self.patience[goes_on] = np.maximum(self.patience, least)[goes_on]

    def arrays(self) -> dict[str, Any]:
        """All that it has to remember, copied: by name, as State has it."""
        names = (
            "patience", "best_error", "best_cost", "best_balanced_error", "best_steps", "diverged", "diverged_at",
        )  # fmt: skip
        return {name: getattr(self, name).copy() for name in names}

    @property
    def best(self) -> np.ndarray:
        """`[H]` float64: the smallest seen of the figure by which it goes."""
        figure: np.ndarray = getattr(self, f"best_{self._select}")
        return figure

    @property
    def allowed(self) -> np.ndarray:
        """`[H]` int64: how many steps each head will have done at its end, as far as is known."""
        # The first `iter` with patience <= iter is trained, then the loop ends. Patience changes at validations only.
        by_patience = np.minimum(np.ceil(self.patience), _FOREVER).astype(np.int64) + 1
        return np.where(self.diverged, self.diverged_at, by_patience)

    def active(self, steps: int) -> np.ndarray:
        """`[H]` bool: the heads that did the last of `steps`, and did not diverge in it."""
        return (steps <= self.allowed) & ~(self.diverged & (steps == self.diverged_at))

    def over(self, steps: int) -> bool:
        """Whether no head does another step after so many."""
        return bool((self.allowed <= steps).all())

    def certain(self, steps: int, validation: int) -> int:
        """Up to how many steps it is known which heads do them, if the next validation comes after `validation`.

        A validation can prolong the patience of a head that it finds training. So where such a head would end, one
        looks at what was found by then.
        """
        allowed = self.allowed[self.allowed > steps]
        open_ends = allowed[allowed >= validation]
        return int(open_ends.min() if open_ends.size else allowed.max(initial=steps))

    def observe(
        self, steps: int, error: np.ndarray, cost: np.ndarray, balanced_error: np.ndarray | None = None
    ) -> np.ndarray:
        """Takes in a validation made after `steps`; heads that did not do the last of them are left alone.

        Args:
          steps: how many were done.
          error: `[H]` validation errors, shares in [0, 1].
          cost: `[H]` validation costs.
          balanced_error: `[H]` balanced errors, shares too; None where it does not go by them.

        Returns:
          `[H]` bool: the heads of which the figure by which it goes is a new best.
        """
        figure = {"error": error, "cost": cost, "balanced_error": balanced_error}[self._select]
        assert figure is not None
        improved = self.active(steps) & (figure < self.best)
        clearly = improved & (figure < self.best * self._threshold)
        self.patience[clearly] = np.maximum(self.patience[clearly], (steps - 1) * self._increase)
        self.best_error[improved] = error[improved]
        self.best_cost[improved] = cost[improved]
        if balanced_error is not None:
            self.best_balanced_error[improved] = balanced_error[improved]
        self.best_steps[improved] = steps
        return improved

    def diverge(self, heads: np.ndarray, steps: np.ndarray) -> None:
        """Stops `heads` (`[H]` bool) for good: their cost was not finite in the last of so many steps (`[H]`)."""
        self.diverged |= heads
        self.diverged_at[heads] = steps[heads]

    def selected(self, among: np.ndarray | None = None) -> int | None:
        """The head with the smallest best figure; of equals the one with the smaller cost, then the first one.

        If it goes by costs, of equals the one with the smaller error.

        None if no head that is still sound has been validated. A diverged head is never selected, nor one that is not
        `among` (`[H]` bool; None: all).
        """
        candidates = np.flatnonzero(~self.diverged & (self.best_steps > 0) & (among is None or among))
        if not candidates.size:
            return None
        then = self.best_error if self._select == "cost" else self.best_cost
        order = np.lexsort((then[candidates], self.best[candidates]))
        return int(candidates[order[0]])

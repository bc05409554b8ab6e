"""Heads between two steps, as arrays: what a state holds of them, and what processes send each other."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from tfpipe.solvers.base import Solver
from tfpipe.solvers.problem import FAR_BELOW
from tfpipe.training.state import State

_NUMBERS, _REPORT, _ARRAY = "numbers", "report.", "array."


class Snapshot(NamedTuple):
    """Heads as they are between two steps: copies.

    Attributes:
      numbers: `[h]` int64, which heads of the run they are, ascending.
      reports: what the solver reported of them after the last step, by name, `[h]` each.
      arrays: W `[h, K, D]`, b `[h, K]`, and what the solver remembers, by name.
    """

    numbers: np.ndarray
    reports: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]

    @classmethod
    def at_first(
        cls, solver: Solver, sizes: tuple[int, int, int], left_out: np.ndarray, begins: np.ndarray, dtype: np.dtype
    ) -> Self:
        """Before the first step.

        Args:
          solver: what will advance them.
          sizes: H, K and D of the run.
          left_out: `[K]` bool, the classes without weight: heads begin, and stay, with a probability of 0 for them.
          begins: `[H]` bool, which of them train.
          dtype: of W and b.
        """
        numbers = np.flatnonzero(begins)
        sizes = (len(numbers), *sizes[1:])
        W, b = np.zeros(sizes, dtype), np.zeros(sizes[:2], dtype)
        b[:, left_out] = -FAR_BELOW  # No gradient is left in the softmax then.
        reports = {name: np.full(len(numbers), np.nan) for name in solver.reports}
        return cls(numbers, reports, {"W": W, "b": b, **solver.slots(*sizes)})

    @classmethod
    def of(cls, state: State) -> Self:
        """After the steps of a state."""
        return cls(state.numbers, dict(state.reports), {"W": state.W, "b": state.b, **state.slots})

    def take(self, places: np.ndarray) -> Self:
        """Some of them, by their places."""
        reports, arrays = ({name: array[places] for name, array in of.items()} for of in (self.reports, self.arrays))
        return self._replace(numbers=self.numbers[places], reports=reports, arrays=arrays)

    def as_state(self) -> dict[str, Any]:
        """By name, as State has it."""
        slots = dict(self.arrays)
        W, b = slots.pop("W"), slots.pop("b")
        return {"numbers": self.numbers, "reports": self.reports, "W": W, "b": b, "slots": slots}

    def packed(self) -> dict[str, np.ndarray]:
        """As arrays by name."""
        reports = {_REPORT + name: array for name, array in self.reports.items()}
        return {_NUMBERS: self.numbers, **reports, **{_ARRAY + name: array for name, array in self.arrays.items()}}

    @classmethod
    def unpacked(cls, packed: Mapping[str, np.ndarray]) -> Self:
        """The way back."""
        reports, arrays = (
            {name.removeprefix(prefix): array for name, array in packed.items() if name.startswith(prefix)}
            for prefix in (_REPORT, _ARRAY)
        )
        return cls(packed[_NUMBERS], reports, arrays)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The heads of all parts, one after the other."""
        packed = [part.packed() for part in parts]
        return cls.unpacked({name: np.concatenate([part[name] for part in packed]) for name in packed[0]})

"""All that a search needs to go on as if nothing had happened. NumPy only."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpipe.exceptions import DataError
from tfpipe.monitor.events import Written
from tfpipe.training.trials import Trial

_DESCENT = "descent."
_TRIALS = "trials."


@dataclasses.dataclass(frozen=True, eq=False)
class SearchState:
    """A search between two evaluations.

    Attributes:
      steps: how many evaluations were made.
      validated: how many were made when settings were validated last; 0: none were.
      seconds: that the search took so far.
      finished: whether nothing is left to do.
      written: what the event files for TensorBoard held.
      trials: the settings that were tried.
      losses: `[S, 2, n]` float32, at each of the S scales what the best and the last setting lost on each example;
        None before the first trial.
      ended: `[S]` bool, see `Path`.
      flat: `[S]` int64, likewise.
      last: `[S, F, K, D + 1]`, where the heads of the last setting ended at each scale; None before the first trial.
      taken: `[S, F, K, D + 1]`, the same of the setting that would be taken.
      descent: the heads that are on their way, by `Descent.arrays`; empty: none are.
    """

    steps: int = 0
    validated: int = 0
    seconds: float = 0.0
    finished: bool = False
    written: Written = dataclasses.field(default_factory=lambda: Written({}, None))
    trials: Sequence[Trial] = ()
    losses: Any = None
    ended: Any = None
    flat: Any = None
    last: Any = None
    taken: Any = None
    descent: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """As a file holds it: facts and arrays."""
        facts = {name: getattr(self, name) for name in _NUMBERS}
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        arrays |= {_DESCENT + name: array for name, array in self.descent.items()}
        for name in Trial._fields if self.trials else ():
            arrays[_TRIALS + name] = np.array([getattr(trial, name) for trial in self.trials])
        return facts, arrays

    @classmethod
    def unpacked(cls, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], written: Written) -> "SearchState":
        """The way back. Raises ValueError, or what else such a file leads to, if it holds something else."""
        if {name: type(value) for name, value in facts.items()} != _NUMBERS:
            raise ValueError("its numbers cannot be right")
        columns = {name: arrays[_TRIALS + name].tolist() for name in Trial._fields if _TRIALS + name in arrays}
        trials = [Trial(*row) for row in zip(*columns.values(), strict=True)] if columns else []
        own = {name: arrays.get(name) for name in _ARRAYS}
        descent = {name.removeprefix(_DESCENT): a for name, a in arrays.items() if name.startswith(_DESCENT)}
        return cls(**facts, written=written, trials=trials, **own, descent=descent)  # type: ignore[arg-type]

    def check_fits(self, scales: Sequence[str], n: int, shape: tuple[int, int, int]) -> None:
        """Raises DataError if the arrays are not those of such a search.

        Args:
          scales: that are tried.
          n: how many examples validate.
          shape: F, K and D + 1.
        """
        if not self.trials:
            return
        s = len(scales)
        expected = {
            "losses": ("f", (s, 2, n)), "ended": ("b", (s,)), "flat": ("i", (s,)),
            "last": ("f", (s, *shape)), "taken": ("f", (s, *shape)),
        }  # fmt: skip
        for name, (kind, of) in expected.items():
            array = getattr(self, name)
            if array is None or array.dtype.kind != kind or array.shape != of:
                raise DataError(f"{name} of the state is not that of such a search")
        if not {trial.standardize for trial in self.trials} <= {*scales}:
            raise DataError("the state has other scales")


_NUMBERS = {field.name: field.type for field in dataclasses.fields(SearchState) if field.type in (int, float, bool)}
_ARRAYS = ("losses", "ended", "flat", "last", "taken")

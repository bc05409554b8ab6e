"""All that a search needs to go on as if nothing had happened. NumPy only."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tfpipe.exceptions import DataError
from tfpipe.monitor.events import Written
from tfpipe.training.drawn import Drawn
from tfpipe.training.trials import Trial

_DESCENT, _FITTED = "descent.", "fitted."
_TRIALS, _DRAWN = "trials.", "drawn."
# The fields of `solvers.optimum.Optimum`, which does not do without TensorFlow.
_OF_AN_OPTIMUM = ("v", "cost", "certificate", "gradient", "iterations", "evaluations", "converged")
Row = TypeVar("Row", Trial, Drawn)


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
      fitted: where the setting that is taken ended when it was fitted again, by `Optimum`; empty: it has not.
      drawn: the heads that were fitted to draws of the rows.
      drawn_at: `[H, K, D + 1]`, where the last of these ended that were fitted side by side; None before the first.
      norms: `[T, D]` float32, see `Settings.norms`; None where they are not kept, as before there were any.
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
    fitted: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    drawn: Sequence[Drawn] = ()
    drawn_at: Any = None
    norms: Any = None
    descent: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """As a file holds it: facts and arrays."""
        facts = {name: getattr(self, name) for name in _NUMBERS}
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        arrays |= {_DESCENT + name: array for name, array in self.descent.items()}
        arrays |= {_FITTED + name: array for name, array in self.fitted.items()}
        arrays |= _packed(_TRIALS, self.trials) | _packed(_DRAWN, self.drawn)
        return facts, arrays

    @classmethod
    def unpacked(cls, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], written: Written) -> "SearchState":
        """The way back. Raises ValueError, or what else such a file leads to, if it holds something else."""
        if {name: type(value) for name, value in facts.items()} != _NUMBERS:
            raise ValueError("its numbers cannot be right")
        own: dict[str, Any] = {name: arrays.get(name) for name in _ARRAYS}
        own |= {"trials": _unpacked(_TRIALS, Trial, arrays), "drawn": _unpacked(_DRAWN, Drawn, arrays)}
        for name, prefix in (("fitted", _FITTED), ("descent", _DESCENT)):
            own[name] = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
        return cls(**facts, written=written, **own)

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
            "norms": ("f", (len(self.trials), shape[2] - 1)),
        }  # fmt: skip
        for name, (kind, of) in expected.items():
            array = getattr(self, name)
            if array is None and name == "norms":
                continue
            if array is None or array.dtype.kind != kind or array.shape != of:
                raise DataError(f"{name} of the state is not that of such a search")
        if self.fitted and (self.fitted.keys() != {*_OF_AN_OPTIMUM} or self.fitted["v"].shape != (1, *shape[1:])):
            raise DataError("fitted of the state is not that of such a search")
        if not {trial.standardize for trial in self.trials} <= {*scales}:
            raise DataError("the state has other scales")


def _packed(prefix: str, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Field by field, as arrays."""
    fields = rows[0]._fields if rows else ()
    return {prefix + name: np.array([getattr(row, name) for row in rows]) for name in fields}


def _unpacked(prefix: str, of: type[Row], arrays: Mapping[str, np.ndarray]) -> list[Row]:
    columns = [arrays[prefix + name].tolist() for name in of._fields if prefix + name in arrays]
    return [of(*row) for row in zip(*columns, strict=True)] if columns else []


_NUMBERS = {field.name: field.type for field in dataclasses.fields(SearchState) if field.type in (int, float, bool)}
_ARRAYS = ("losses", "ended", "flat", "last", "taken", "norms", "drawn_at")

"""All that a run needs to go on as if nothing had happened. NumPy only."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpipe.exceptions import DataError
from tfpipe.monitor.events import Written
from tfpipe.training.identity import check

# Of arrays that the solver names.
_PREFIXES = {"slots": "slots.", "reports": "reports."}
_MOST_STEPS = 2**62
_FLOAT, _INTEGER, _BOOLEAN = "f", "i", "b"


def _array(kind: str, *shape: str) -> dict[str, Any]:
    """For a field that holds an array: h of the H heads train, with D inputs and K classes."""
    return {"kind": kind, "shape": shape}


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """A run between two spans, when no validation is under way. Arrays are None before the first step.

    Attributes:
      steps: how many were done.
      validated: how many were done at the last validation; 0: there was none.
      seconds: that the training loop took so far.
      finished: whether nothing is left to train.
      written: what the event files for TensorBoard held.
      numbers: of the heads that train, ascending.
      W, b: of these, now.
      reports: of these, what the solver reported after the last step, `[h]` by name.
      slots: of these, what the solver remembers, `[h, ...]` by name.
      best_W, best_b, test_error: of all heads at their best validation.
      best_error, best_cost, best_balanced_error, best_steps, patience, diverged, diverged_at: see `Patience`.
    """

    steps: int = 0
    validated: int = 0
    seconds: float = 0.0
    finished: bool = False
    written: Written = dataclasses.field(default_factory=lambda: Written({}, None))
    numbers: Any = dataclasses.field(default=None, metadata=_array(_INTEGER, "h"))
    W: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "h", "K", "D"))
    b: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "h", "K"))
    reports: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    slots: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    best_W: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H", "K", "D"))
    best_b: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H", "K"))
    test_error: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H"))
    best_error: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H"))
    best_cost: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H"))
    best_balanced_error: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H"))
    best_steps: Any = dataclasses.field(default=None, metadata=_array(_INTEGER, "H"))
    patience: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H"))
    diverged: Any = dataclasses.field(default=None, metadata=_array(_BOOLEAN, "H"))
    diverged_at: Any = dataclasses.field(default=None, metadata=_array(_INTEGER, "H"))

    def packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """As a file holds it: facts and arrays."""
        facts = {name: getattr(self, name) for name in _NUMBERS}
        arrays = {field.name: getattr(self, field.name) for field in _ARRAYS}
        for group, prefix in _PREFIXES.items():
            arrays |= {prefix + name: array for name, array in getattr(self, group).items()}
        return facts, {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def unpacked(cls, facts: dict[str, Any], arrays: dict[str, np.ndarray], written: Written) -> "State":
        """The way back. Raises ValueError, or what else such a file leads to, if it holds something else."""
        check({name: type(value) for name, value in facts.items()} == _NUMBERS, "its numbers")
        of_solver: dict[str, dict[str, np.ndarray]] = {}
        for group, prefix in _PREFIXES.items():
            names = [name for name in arrays if name.startswith(prefix)]
            of_solver[group] = {name.removeprefix(prefix): arrays.pop(name) for name in names}
        if "best_error" in arrays:  # Of a run from before it was measured.
            arrays.setdefault("best_balanced_error", np.full_like(arrays["best_error"], np.inf))
        state = cls(**facts, written=written, **of_solver, **arrays)  # type: ignore[arg-type]
        check(0 <= state.validated <= state.steps < _MOST_STEPS, "its steps")
        check(0 <= state.seconds < math.inf, "its seconds")
        return state

    def check_fits(self, sizes: tuple[int, int, int], reports: Sequence[str], slots: Mapping[str, np.ndarray]) -> None:
        """Raises DataError if the arrays are not those of a run.

        Args:
          sizes: H, K and D of the run.
          reports: the names of what its solver reports.
          slots: what its solver remembers at the start.
        """
        if self.steps == 0:
            return
        n_heads, n_out, n_in = sizes
        try:
            lengths = {"h": len(self.numbers), "H": n_heads, "K": n_out, "D": n_in}
            for field in _ARRAYS:
                _check_array(
                    getattr(self, field.name), field.metadata["kind"], [lengths[n] for n in field.metadata["shape"]]
                )
            for name, array in slots.items():
                _check_array(self.slots[name], array.dtype.kind, [lengths["h"], *array.shape[1:]])
            for name in reports:
                _check_array(self.reports[name], _FLOAT, [lengths["h"]])
            ascends = (np.diff(self.numbers, prepend=-1, append=n_heads) > 0).all()
            check(bool(ascends) and lengths["h"] > 0, "its heads")
            check((self.slots.keys(), self.reports.keys()) == (slots.keys(), set(reports)), "its solver")
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # An array that is missing is None.
            sizes_in_words = f"{n_heads} heads, {n_out} classes, {n_in} inputs"
            raise DataError(f"the arrays of the state are not those of {sizes_in_words}") from error


_ARRAYS = [field for field in dataclasses.fields(State) if "shape" in field.metadata]
_NUMBERS = {field.name: field.type for field in dataclasses.fields(State) if field.type in (int, float, bool)}


def _check_array(array: np.ndarray, kind: str, shape: list[int]) -> None:
    check(array.dtype.kind == kind and list(array.shape) == shape, "an array")

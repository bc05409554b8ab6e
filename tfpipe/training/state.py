"""All that a run needs to go on as if nothing had happened; and of which run it is. NumPy only."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfpipe.disk.checkpoints import Saved
from tfpipe.exceptions import DataError, brief
from tfpipe.monitor.events import Written

# They may be others when a run goes on: what they name has no part in the figures, or is said.
_FREE = ("checkpoint_every", "device", "profile", "tensorboard")
# More of them prolongs a run.
_MAY_GROW = ("epochs", "patience")
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
      best_error, best_cost, best_steps, patience, diverged, diverged_at: see `Patience`.
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
    best_steps: Any = dataclasses.field(default=None, metadata=_array(_INTEGER, "H"))
    patience: Any = dataclasses.field(default=None, metadata=_array(_FLOAT, "H"))
    diverged: Any = dataclasses.field(default=None, metadata=_array(_BOOLEAN, "H"))
    diverged_at: Any = dataclasses.field(default=None, metadata=_array(_INTEGER, "H"))

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
            _check(bool(ascends) and lengths["h"] > 0, "its heads")
            _check((self.slots.keys(), self.reports.keys()) == (slots.keys(), set(reports)), "its solver")
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # An array that is missing is None.
            sizes_in_words = f"{n_heads} heads, {n_out} classes, {n_in} inputs"
            raise DataError(f"the arrays of the state are not those of {sizes_in_words}") from error


_ARRAYS = [field for field in dataclasses.fields(State) if "shape" in field.metadata]
_NUMBERS = {field.name: field.type for field in dataclasses.fields(State) if field.type in (int, float, bool)}


class RunIdentity(NamedTuple):
    """Which run it is, and where it was computed.

    Attributes:
      settings: the hyper-parameters, by name, as on the command line.
      data: the examples, in words.
      fingerprint: see Splits.
      sizes: H, K and D.
      machine: what the last bits of a result depend on: device, processor, cores, threads, versions.
    """

    settings: dict[str, str]
    data: str
    fingerprint: str
    sizes: tuple[int, int, int]
    machine: dict[str, str]

    def obstacles(self, before: "RunIdentity") -> list[str]:
        """What forbids that a run goes on here from a state of the run `before`."""
        found = []
        for name, value in self.settings.items():
            old = before.settings.get(name, "nothing")
            if value == old or name in _FREE:
                continue
            if name in _MAY_GROW and old.isdecimal():
                if int(value) < int(old):
                    found.append(f"{name}={old}, which may be raised but not be {value}")
            else:
                found.append(f"{name}={old}, not {value}")
        if self.fingerprint != before.fingerprint:
            same = self.data == before.data
            found.append("other values in the same form of data" if same else f"{before.data}, not {self.data}")
        return found

    def length(self) -> dict[str, str]:
        """The settings of which more may be given to a run that has ended."""
        return {name: self.settings[name] for name in _MAY_GROW}

    def differences(self, before: "RunIdentity") -> list[str]:
        """What makes the last bits differ from those of a run that was never interrupted."""
        changed = {name: value for name, value in self.machine.items() if before.machine.get(name) != value}
        return [f"{name} {before.machine.get(name)}, now {value}" for name, value in changed.items()]


def pack(state: State, identity: RunIdentity) -> Saved:
    """As a file holds it."""
    facts = {name: getattr(state, name) for name in _NUMBERS}
    facts |= {"written": state.written._asdict(), "identity": identity._asdict()}
    arrays = {field.name: getattr(state, field.name) for field in _ARRAYS}
    for group, prefix in _PREFIXES.items():
        arrays |= {prefix + name: array for name, array in getattr(state, group).items()}
    return Saved(facts, {name: array for name, array in arrays.items() if array is not None})


def unpack(saved: Saved) -> tuple[State, RunIdentity]:
    """The way back.

    Raises:
      DataError: it does not hold what `pack` gives.
    """
    try:
        facts = dict(saved.facts)
        identity, written = _identity(facts.pop("identity")), _written(facts.pop("written"))
        _check({name: type(value) for name, value in facts.items()} == _NUMBERS, "its numbers")
        arrays = dict(saved.arrays)
        of_solver: dict[str, dict[str, np.ndarray]] = {}
        for group, prefix in _PREFIXES.items():
            names = [name for name in arrays if name.startswith(prefix)]
            of_solver[group] = {name.removeprefix(prefix): arrays.pop(name) for name in names}
        state = State(**facts, written=written, **of_solver, **arrays)  # type: ignore[arg-type]
        _check(0 <= state.validated <= state.steps < _MOST_STEPS, "its steps")
        _check(0 <= state.seconds < math.inf, "its seconds")
        return state, identity
    except Exception as error:  # Whoever can write checksums can write anything before them.
        raise DataError(f"not the state of a run: {brief(error)}") from error


def _written(facts: dict[str, Any]) -> Written:
    written = Written(**facts)
    for path, size in written.events.items():
        parts = pathlib.PurePosixPath(path)
        _check(type(size) is int and size >= 0, "the size of an event file")
        _check(not parts.is_absolute() and ".." not in parts.parts, "the path of an event file")
    model = written.last_model
    _check(model is None or [type(part) for part in model] == [int, int], "the last model")
    return written._replace(last_model=None if model is None else (model[0], model[1]))


def _identity(facts: dict[str, Any]) -> RunIdentity:
    identity = RunIdentity(**facts)
    texts = (identity.data, identity.fingerprint, *identity.settings.values(), *identity.machine.values())
    _check(all(isinstance(text, str) for text in texts), "its identity")
    n_heads, n_out, n_in = identity.sizes
    return identity._replace(sizes=(n_heads, n_out, n_in))


def _check_array(array: np.ndarray, kind: str, shape: list[int]) -> None:
    _check(array.dtype.kind == kind and list(array.shape) == shape, "an array")


def _check(is_sound: bool, what: str) -> None:
    if not is_sound:
        raise ValueError(f"{what} cannot be right")

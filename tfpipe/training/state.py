"""All that a run needs to go on as if nothing had happened; and of which run it is. NumPy only."""

import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from tfpipe.disk.checkpoints import Saved
from tfpipe.exceptions import DataError, brief
from tfpipe.monitor.events import Written
from tfpipe.training.patience import FIELDS

# They may be others when a run goes on: what they name has no part in the figures, or is said.
_FREE = ("checkpoint_every", "device", "profile", "tensorboard")
# More of them prolongs a run.
_MAY_GROW = ("epochs", "patience")
_PATIENCE = "patience."
_MOST_ITERATIONS = 2**62


class State(NamedTuple):
    """A run between two chunks, when no validation is under way.

    Attributes:
      iteration: the last one that was trained, from 0; -1 before the first.
      validated: the last one that a validation followed; -1 likewise.
      seconds: that the training loop took so far.
      finished: whether nothing is left to train.
      written: see there.
      arrays: of the heads in the grid, h of H, `in_grid` `[h]`, `W` and `W_before` `[h, K, D]`, `b` `[h, K]`; of all
        heads `best_W` `[H, K, D]`, `best_b` `[H, K]`, `test_error`, `cost_sum`, `count` `[H]`. None before the first
        iteration.
      patience: what Patience has to remember, `[H]`; likewise.
    """

    iteration: int
    validated: int
    seconds: float
    finished: bool
    written: Written
    arrays: dict[str, np.ndarray]
    patience: dict[str, np.ndarray]


AT_THE_START = State(-1, -1, 0.0, False, Written({}, None), {}, {})


class Origin(NamedTuple):
    """Where a state comes from.

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

    def obstacles(self, before: "Origin") -> list[str]:
        """What forbids that a run goes on here from a state that comes from `before`."""
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

    def differences(self, before: "Origin") -> list[str]:
        """What makes the last bits differ from those of a run that was never interrupted."""
        changed = {name: value for name, value in self.machine.items() if before.machine.get(name) != value}
        return [f"{name} {before.machine.get(name)}, now {value}" for name, value in changed.items()]


def pack(state: State, origin: Origin) -> Saved:
    """As a file holds it."""
    facts = state._asdict() | {"written": state.written._asdict(), "origin": origin._asdict()}
    arrays = facts.pop("arrays") | {_PATIENCE + name: array for name, array in facts.pop("patience").items()}
    return Saved(facts, arrays)


def unpack(saved: Saved) -> tuple[State, Origin]:
    """The way back.

    Raises:
      DataError: it does not hold what `pack` gives.
    """
    facts = dict(saved.facts)
    arrays: dict[str, np.ndarray] = {}
    patience: dict[str, np.ndarray] = {}
    for name, array in saved.arrays.items():
        (patience if name.startswith(_PATIENCE) else arrays)[name.removeprefix(_PATIENCE)] = array
    try:
        return State(**_facts_of_state(facts), arrays=arrays, patience=patience), _origin(facts["origin"])
    except Exception as error:  # Whoever can write checksums can write anything before them.
        raise DataError(f"not the state of a run: {brief(error)}") from error


def _facts_of_state(facts: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: value for name, value in facts.items() if name not in ("written", "origin")}
    _check(_types(numbers) == {"iteration": int, "validated": int, "seconds": float, "finished": bool}, "its numbers")
    _check(-1 <= numbers["validated"] <= numbers["iteration"] < _MOST_ITERATIONS, "its iterations")
    _check(0 <= numbers["seconds"] < math.inf, "its seconds")
    written = Written(**facts["written"])
    for path, size in written.events.items():
        parts = pathlib.PurePosixPath(path)
        _check(type(size) is int and size >= 0, "the size of an event file")
        _check(not parts.is_absolute() and ".." not in parts.parts, "the path of an event file")
    head = written.last_model
    _check(head is None or [type(part) for part in head] == [int, int], "the last model")
    return numbers | {"written": written._replace(last_model=None if head is None else (head[0], head[1]))}


def _origin(facts: dict[str, Any]) -> Origin:
    origin = Origin(**facts)
    texts = (origin.data, origin.fingerprint, *origin.settings.values(), *origin.machine.values())
    _check(all(isinstance(text, str) for text in texts), "its origin")
    heads, n_out, n_in = origin.sizes
    return origin._replace(sizes=(heads, n_out, n_in))


def _types(values: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in values.items()}


def _check(is_sound: bool, what: str) -> None:
    if not is_sound:
        raise ValueError(f"{what} cannot be right")


def check_fits(state: State, heads: int, n_out: int, n_in: int) -> None:
    """Raises DataError if the arrays are not those of so many heads, classes and inputs."""
    if state.iteration < 0:
        return
    in_grid = state.arrays.get("in_grid", np.zeros(0, np.int64))
    here, matrix = (in_grid.size,), (n_out, n_in)
    expected = {
        "in_grid": here, "W": (*here, *matrix), "W_before": (*here, *matrix), "b": (*here, n_out),
        "best_W": (heads, *matrix), "best_b": (heads, n_out),
        "test_error": (heads,), "cost_sum": (heads,), "count": (heads,),
    }  # fmt: skip
    sound = in_grid.ndim == 1 and in_grid.dtype == np.int64 and in_grid.size > 0
    sound = sound and bool((np.diff(in_grid, prepend=-1, append=heads) > 0).all())
    sound = sound and {name: array.shape for name, array in state.arrays.items()} == expected
    sound = sound and {array.dtype.kind for name, array in state.arrays.items() if name != "in_grid"} == {"f"}
    sound = sound and {name: array.dtype for name, array in state.patience.items()} == FIELDS
    if not sound or {array.shape for array in state.patience.values()} != {(heads,)}:
        raise DataError(f"the arrays of the state are not those of {heads} heads, {n_out} classes, {n_in} inputs")

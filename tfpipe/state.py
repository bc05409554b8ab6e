"""All that a run needs to go on as if nothing had happened; and of which run it is. NumPy only."""

from typing import Any, NamedTuple

import numpy as np

from tfpipe.checkpoint import Saved
from tfpipe.config import TrainConfig, flag_value
from tfpipe.exceptions import DataError, brief

# They may be others when a run goes on: what they name has no part in the figures, or is said.
_FREE = ("checkpoint_every", "device", "profile", "tensorboard")
# More of them prolongs a run.
_MAY_GROW = ("epochs", "patience")
_PATIENCE = "patience."


class Written(NamedTuple):
    """What the files that only grow held at some moment.

    Attributes:
      metrics: bytes of `metrics.jsonl`.
      events: bytes of each event file, by its path below the folder for TensorBoard.
    """

    metrics: int
    events: dict[str, int]


NOTHING_WRITTEN = Written(0, {})


class State(NamedTuple):
    """A run between two chunks, when no validation is under way.

    Attributes:
      iteration: the last one that was trained, from 0; -1 before the first.
      validated: the last one that a validation followed; -1 likewise.
      seconds: that the training loop took so far.
      finished: whether nothing is left to train.
      written: what the files of the run hold of it.
      arrays: of the heads in the grid, h of H, `in_grid` `[h]`, `W` and `W_before` `[h, K, D]`, `b` `[h, K]`; of all
        heads `best_W` `[H, K, D]`, `best_b` `[H, K]`, `test_error`, `cost_sum`, `count` `[H]`. None before the first
        iteration.
      patience: what Patience has to remember, `[H]`.
    """

    iteration: int
    validated: int
    seconds: float
    finished: bool
    written: Written
    arrays: dict[str, np.ndarray]
    patience: dict[str, np.ndarray]


AT_THE_START = State(-1, -1, 0.0, False, NOTHING_WRITTEN, {}, {})


class Origin(NamedTuple):
    """Where a state comes from.

    Attributes:
      settings: the hyper-parameters, by name, as on the command line.
      data: the examples, in words.
      fingerprint: see Splits.
      machine: what the last bits of a result depend on: device, number of cores, versions.
    """

    settings: dict[str, str]
    data: str
    fingerprint: str
    machine: dict[str, str]

    def obstacles(self, before: "Origin") -> list[str]:
        """What forbids that a run goes on here from a state that comes from `before`."""
        found = []
        for name, value in self.settings.items():
            old = before.settings.get(name)
            if value == old or name in _FREE:
                continue
            if name in _MAY_GROW and old is not None:
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


def settings(config: TrainConfig) -> dict[str, str]:
    """For Origin."""
    return {name: flag_value(value) for name, value in vars(config).items()}


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
        origin = Origin(**_typed(facts.pop("origin"), settings=dict, data=str, fingerprint=str, machine=dict))
        written = Written(**_typed(facts.pop("written"), metrics=int, events=dict))
        numbers = _typed(facts, iteration=int, validated=int, seconds=float, finished=bool)
        return State(**numbers, written=written, arrays=arrays, patience=patience), origin
    except Exception as error:  # Whoever can write checksums can write anything before them.
        raise DataError(f"not the state of a run: {brief(error)}") from error


def _typed(values: dict[str, Any], **types: type) -> dict[str, Any]:
    if {name: type(value) for name, value in values.items()} != types:
        raise ValueError(f"{', '.join(values)}: expected {', '.join(types)}, each of its type")
    return values


def check_fits(state: State, heads: int, n_out: int, n_in: int) -> None:
    """Raises DataError if the arrays are not those of so many heads, classes and inputs."""
    in_grid = state.arrays.get("in_grid", np.zeros(0, np.int64))
    matrix, all_heads = (n_out, n_in), (heads,)
    expected = {
        "in_grid": in_grid.shape, "W": (*in_grid.shape, *matrix), "W_before": (*in_grid.shape, *matrix),
        "b": (*in_grid.shape, n_out), "best_W": (heads, *matrix), "best_b": (heads, n_out),
        "test_error": all_heads, "cost_sum": all_heads, "count": all_heads,
    }  # fmt: skip
    found = {name: array.shape for name, array in state.arrays.items()}
    sound = in_grid.ndim == 1 and in_grid.dtype == np.int64 and (np.diff(in_grid, prepend=-1, append=heads) > 0).all()
    kinds = {array.dtype.kind for name, array in state.arrays.items() if name != "in_grid"}
    if found != expected or not sound or kinds != {"f"}:
        raise DataError(f"the arrays of the state are not those of {heads} heads, {n_out} classes, {n_in} inputs")

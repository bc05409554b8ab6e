"""Of which run a state is, and how both lie in a file. NumPy only."""

import pathlib
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from tfpipe.data import Examples
from tfpipe.disk.checkpoints import Saved
from tfpipe.exceptions import DataError, brief
from tfpipe.monitor.events import Written

# They may be others when a run goes on: what they name has no part in the figures, or is said.
_FREE = ("checkpoint_every", "device", "distribute", "profile", "strategy", "tensorboard")
# More of them prolongs a run.
_MAY_GROW = ("epochs", "patience")
# What a run had that is from before there was such a setting; of any other, None.
_BEFORE = {"select": "error", "sample_weights_count_in": "training"}
# What an option that may be on is where it is not.
_OFF = {"None", "False"}
# Rules by which figures are made. A run that has ended keeps those of before.
_RULES = ("sample_weights_count_in",)


class Resumable(Protocol):
    """The state of a run.

    Attributes:
      steps: how many were done.
      validated: how many were done at the last validation; 0: there was none.
      finished: whether nothing is left to do.
      written: what the event files for TensorBoard held.
    """

    @property
    def steps(self) -> int: ...
    @property
    def validated(self) -> int: ...
    @property
    def finished(self) -> bool: ...
    @property
    def written(self) -> Written: ...

    def packed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """As a file holds it, but for `written`: facts and arrays."""

    @classmethod
    def unpacked(cls, facts: dict[str, Any], arrays: dict[str, np.ndarray], written: Written) -> Self:
        """The way back. Raises whatever it may, if they hold something else."""


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

    def obstacles(self, before: "RunIdentity", *, has_ended: bool) -> list[str]:
        """What forbids that a run goes on here from a state of the run `before`, or, if it has ended, is this one."""
        found = []
        free = _RULES if has_ended and self.length() == before.length() else ()
        # Of another solver nearly all are others: it is enough to name this one.
        another = self.settings.get("solver") != before.settings.get("solver")
        for name in ["solver"] if another else self.settings:
            value = self.settings[name]
            old = before.settings.get(name, _BEFORE.get(name, "None"))
            if value == old or name in (*_FREE, *free) or {value, old} == _OFF:
                continue
            if name in self._may_grow and old.isdecimal() and value.isdecimal():
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
        return {name: self.settings[name] for name in self._may_grow}

    @property
    def _may_grow(self) -> tuple[str, ...]:
        # What is within reach of the best follows from the length of the first run.
        return () if self.settings.get("precision") == "screen" else _MAY_GROW

    def differences(self, before: "RunIdentity") -> list[str]:
        """What makes the last bits differ from those of a run that was never interrupted."""
        changed = {name: value for name, value in self.machine.items() if before.machine.get(name) != value}
        return [f"{name} {before.machine.get(name)}, now {value}" for name, value in changed.items()]


State = TypeVar("State", bound=Resumable)


def of_weights(validating: Examples) -> dict[str, str]:
    """The rule by which examples with weights validate, for `RunIdentity.settings`; there is none without weights."""
    return {} if validating.weights is None else {"sample_weights_count_in": "training,validation"}


def pack(state: Resumable, identity: RunIdentity) -> Saved:
    """As a file holds it."""
    facts, arrays = state.packed()
    return Saved(facts | {"written": state.written._asdict(), "identity": identity._asdict()}, arrays)


def identity_of(saved: Saved) -> RunIdentity:
    """Of which run a state is. Raises DataError if the file does not say that."""
    try:
        return _identity(saved.facts["identity"])
    except Exception as error:  # Whoever can write checksums can write anything before them.
        raise DataError(f"not the state of a run: {brief(error)}") from error


def unpack(saved: Saved, begin: State) -> State:
    """A state that `pack` was given, of the kind of `begin`.

    Raises:
      DataError: the file does not hold what `pack` gives.
    """
    try:
        facts = {name: value for name, value in saved.facts.items() if name not in ("identity", "written")}
        return type(begin).unpacked(facts, dict(saved.arrays), _written(saved.facts["written"]))
    except Exception as error:
        raise DataError(f"not the state of a run: {brief(error)}") from error


def _written(facts: dict[str, Any]) -> Written:
    written = Written(**facts)
    for path, size in written.events.items():
        parts = pathlib.PurePosixPath(path)
        check(type(size) is int and size >= 0, "the size of an event file")
        check(not parts.is_absolute() and ".." not in parts.parts, "the path of an event file")
    model = written.last_model
    check(model is None or [type(part) for part in model] == [int, int], "the last model")
    return written._replace(last_model=None if model is None else (model[0], model[1]))


def _identity(facts: dict[str, Any]) -> RunIdentity:
    identity = RunIdentity(**facts)
    texts = (identity.data, identity.fingerprint, *identity.settings.values(), *identity.machine.values())
    check(all(isinstance(text, str) for text in texts), "its identity")
    n_heads, n_out, n_in = identity.sizes
    return identity._replace(sizes=(n_heads, n_out, n_in))


def check(is_sound: bool, what: str) -> None:
    """Raises ValueError unless it is."""
    if not is_sound:
        raise ValueError(f"{what} cannot be right")

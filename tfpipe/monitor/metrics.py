"""`metrics.jsonl`: every validation as one line of JSON, for programs."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfpipe.exceptions import DataError, brief
from tfpipe.monitor.events import Validated
from tfpipe.monitor.progress import warn

# `reports` stand each under its own name, and `best_error` can be computed.
_NOT_IN_THE_FILE = ("reports", "best_error")
_FIELDS = frozenset(Validated._fields).difference(_NOT_IN_THE_FILE)


class MetricsFile:
    """Appends to the file; a line is on its way to the disk before the next span trains.

    Args:
      path: the file, made if need be.
      last: the iteration of the last validation that is kept of a run that goes on, or -1. Those after it are of a
        time that the run will live through again: they are cut off.

    Attributes:
      history: the validations that are kept.

    Raises:
      OSError: from any method; the lines that could not be written are written with the next ones, or at the end.
    """

    def __init__(self, path: pathlib.Path, last: int):
        self._file = open(path, "a+b", buffering=0)
        self._file.seek(0)
        self.history, self._size = [], 0
        try:
            for line, event in _lines(path, self._file.read()):
                if event.iteration > last:
                    break
                self.history.append(event)
                self._size += len(line)
        except DataError as error:
            warn(f"{error}; what follows is cut off")
        if last != (self.history[-1].iteration if self.history else -1):
            warn(f"{path}: validations before iteration {last + 1} are missing")
        self._file.truncate(self._size)
        self._waiting = b""

    def validated(self, events: Sequence[Validated]) -> None:
        for event in events:
            values = event._asdict() | dict(event.reports)
            fields = {name: _jsonable(value) for name, value in values.items() if name not in _NOT_IN_THE_FILE}
            self._waiting += json.dumps(fields, allow_nan=False).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Writes the lines that could not be written before."""
        try:
            rest = memoryview(self._waiting)
            while rest:  # A disk that is nearly full takes a part.
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            self._file.truncate(self._size)  # Half a line would be no JSON.
            raise
        self._size += len(self._waiting)
        self._waiting = b""

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._file.close()


def read(path: pathlib.Path) -> list[Validated]:
    """The validations in the file, in their order.

    Raises:
      DataError: it cannot be read, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return [event for _, event in _lines(path, content)]


def _lines(path: pathlib.Path, content: bytes) -> Iterator[tuple[bytes, Validated]]:
    """Each line of the file with what it says. Raises DataError at one that says something else."""
    best = np.array(np.inf)
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            values = json.loads(line).items()
            fields: dict[str, Any] = {
                name: _as_array(value) if isinstance(value, list) else value for name, value in values
            }
            best = np.where(np.isnan(fields["test_error"]), best, fields["validation_error"])
            leader = fields["leader"]
            reports = {name: fields.pop(name) for name in fields.keys() - _FIELDS}
            best_error = np.inf if leader is None else float(best[leader])
            event = Validated(**fields, reports=reports, best_error=best_error)
            is_sound = isinstance(event.iteration, int) and line.endswith(b"\n")
        except Exception as error:  # Whatever it may hold.
            raise DataError(f"{path}: line {number} is no validation: {brief(error)}") from error
        if not is_sound:
            raise DataError(f"{path}: line {number} is no whole validation")
        yield line, event


def _as_array(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _jsonable(value: object) -> object:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, np.ndarray):
        return [number if np.isfinite(number) else None for number in value.tolist()]
    return value

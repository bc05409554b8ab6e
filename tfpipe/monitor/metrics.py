"""`metrics.jsonl`: every validation as one line of JSON, for programs."""

import json
import pathlib
from typing import Any

import numpy as np

from tfpipe.exceptions import DataError, brief
from tfpipe.monitor.events import Validated
from tfpipe.monitor.progress import warn

_NOT_IN_THE_FILE = "best_error"  # It can be computed.


class MetricsFile:
    """Appends to the file; a line is on its way to the disk before the next chunk trains.

    Args:
      path: the file, made if need be.
      size: what lies after so many bytes is cut off: it is of a time that the run will live through again.

    Attributes:
      size: bytes that it holds.

    Raises:
      OSError: from any method; the lines that could not be written are written with the next ones, or at the end.
    """

    def __init__(self, path: pathlib.Path, size: int):
        self._file = open(path, "ab", buffering=0)
        there = self._file.tell()
        if there < size:
            warn(f"{path}: {there} of {size} bytes are there: validations of the time before are missing")
        self.size = min(size, there)
        self._file.truncate(self.size)
        self._waiting = b""

    def validated(self, event: Validated) -> None:
        fields = {name: _jsonable(value) for name, value in event._asdict().items() if name != _NOT_IN_THE_FILE}
        self._waiting += json.dumps(fields, allow_nan=False).encode() + b"\n"
        self._write()

    def close(self) -> None:
        try:
            self._write()
        finally:
            self._file.close()

    def _write(self) -> None:
        try:
            rest = memoryview(self._waiting)
            while rest:  # A disk that is nearly full takes a part.
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            self._file.truncate(self.size)  # Half a line would be no JSON.
            raise
        self.size += len(self._waiting)
        self._waiting = b""


def read(path: pathlib.Path) -> list[Validated]:
    """The validations in the file, in their order.

    Raises:
      DataError: it cannot be read, or holds something else.
    """
    events: list[Validated] = []
    try:
        best = np.array(np.inf)
        for line in path.read_bytes().splitlines():
            fields: dict[str, Any] = {
                name: _as_array(value) if isinstance(value, list) else value for name, value in json.loads(line).items()
            }
            best = np.fmin(best, fields["validation_error"])
            leader = fields["leader"]
            events.append(Validated(**fields, best_error=np.inf if leader is None else float(best[leader])))
    except Exception as error:  # Whatever it may hold.
        raise DataError(f"{path}: line {len(events) + 1} is no validation: {brief(error)}") from error
    return events


def _as_array(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _jsonable(value: object) -> object:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, np.ndarray):
        return [number if np.isfinite(number) else None for number in value.tolist()]
    return value

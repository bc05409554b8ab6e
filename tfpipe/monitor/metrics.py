"""`metrics.jsonl`: every validation as one line of JSON, for programs."""

import json
import pathlib

import numpy as np

from tfpipe.monitor.events import Validated


class MetricsFile:
    """Appends to the file; a line is on its way to the disk before the next chunk trains."""

    def __init__(self, path: pathlib.Path):
        self._file = open(path, "a", encoding="utf-8")

    def validated(self, event: Validated) -> None:
        fields = {name: _jsonable(value) for name, value in event._asdict().items() if name != "best_error"}
        self._file.write(json.dumps(fields, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _jsonable(value: object) -> object:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, np.ndarray):
        return [number if np.isfinite(number) else None for number in value.tolist()]
    return value

"""What a run says while it goes on: to the terminal, to `metrics.jsonl`, to TensorBoard."""

import contextlib
import sys
from typing import Self

from tfpipe.monitor.events import Trained, Validated
from tfpipe.monitor.metrics import MetricsFile
from tfpipe.monitor.progress import LogLines, ProgressLine, warn
from tfpipe.monitor.tensorboard import TensorBoard
from tfpipe.workdir import Workdir

__all__ = ["Monitor", "Trained", "Validated", "warn"]


class Monitor:
    """Passes the events of a run on: progress to stderr, and to files if the run has a workdir. A context manager."""

    def __init__(self, workdir: Workdir | None, *, epochs: int, tensorboard: bool):
        self._progress = ProgressLine(epochs) if sys.stderr.isatty() else LogLines(epochs)
        self._records: list[MetricsFile | TensorBoard] = []
        if workdir:
            self._records.append(MetricsFile(workdir.metrics))
            if tensorboard:
                self._records.append(TensorBoard(workdir.tensorboard))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:  # Closes every one, even where another fails to.
            for sink in (self._progress, *self._records):
                stack.callback(sink.close)

    def trained(self, event: Trained) -> None:
        """After each chunk."""
        self._progress.trained(event)

    def validated(self, event: Validated) -> None:
        """After each validation."""
        for sink in (self._progress, *self._records):
            sink.validated(event)

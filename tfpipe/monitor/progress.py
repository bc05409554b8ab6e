"""Progress on stderr: one live line on a terminal, plain log lines elsewhere."""

import sys
import time

import tqdm
from absl import logging

from tfpipe.monitor.events import Trained, Validated

_SECONDS_BETWEEN_LINES = 2.0


class ProgressLine:
    """Epoch, iteration, cost, best validation error, speed, and the time left if nothing improves any more."""

    def __init__(self, epochs: int):
        self._epochs = epochs
        self._best = "no validation yet"
        self._bar: tqdm.tqdm | None = None  # From the first chunk on: until then other lines are written.

    def trained(self, event: Trained) -> None:
        if self._bar is None:
            self._bar = tqdm.tqdm(
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
                total=event.end,
                bar_format="{desc}  |{bar:10}| at most {remaining} left",
            )
        self._bar.total = event.end
        self._bar.set_description_str(
            f"epoch {event.epoch}/{self._epochs}  iteration {event.iteration}  {_rate(event)}  "
            f"cost {event.cost:.4f}  {self._best}",
            refresh=False,
        )
        self._bar.update(event.iteration + 1 - self._bar.n)

    def validated(self, event: Validated) -> None:
        if event.leader is not None:
            self._best = f"best validation error {event.best_error:.2%}"

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class LogLines:
    """The same as log lines: at validations, at most one in two seconds."""

    def __init__(self, epochs: int):
        self._epochs = epochs
        self._last: Trained | None = None
        self._next_line = 0.0

    def trained(self, event: Trained) -> None:
        self._last = event

    def validated(self, event: Validated) -> None:
        if self._last is None or time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
        logging.info(
            "epoch %d/%d  iteration %d  %s  cost %.4f  best validation error %.2f%%",
            event.epoch,
            self._epochs,
            event.iteration,
            _rate(self._last),
            self._last.cost,
            100 * event.best_error,
        )

    def close(self) -> None:
        pass


def warn(message: str) -> None:
    """Logs a warning on a line of its own, whether or not a live line is on the screen."""
    with tqdm.tqdm.external_write_mode(file=sys.stderr):
        logging.warning("%s", message)


def _rate(event: Trained) -> str:
    return f"{tqdm.tqdm.format_sizeof(event.examples_per_second)} examples/s"

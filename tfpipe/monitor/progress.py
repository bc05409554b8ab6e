"""Progress on stderr: one live line on a terminal, plain log lines elsewhere."""

import sys
from collections.abc import Callable

import tqdm

from tfpipe.log import log
from tfpipe.monitor.events import Trained, Validated

_SECONDS_BETWEEN_VALIDATIONS = 2.0
_SECONDS_OF_SILENCE = 10.0


class ProgressLine:
    """Where the run is, cost, best validation error, speed, and the time left if nothing improves any more."""

    def __init__(self) -> None:
        self._best = "no validation yet"
        self._bar: tqdm.tqdm | None = None  # From the first span on: until then other lines are written.

    def trained(self, event: Trained) -> None:
        if self._bar is None:
            self._bar = tqdm.tqdm(
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
                total=event.end,
                initial=event.iteration + 1,  # Its speed counts from here: the first span is slower than the others.
                bar_format="{desc}  |{bar:10}| at most {remaining} left",
            )
        self._bar.total = event.end
        self._bar.set_description_str(_line(event, self._best), refresh=False)
        self._bar.update(event.iteration + 1 - self._bar.n)

    def validated(self, event: Validated) -> None:
        if event.leader is not None:
            self._best = _best(event)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class LogLines:
    """The same as log lines: at validations, at most one in two seconds, and after ten seconds without one."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._best = "no validation yet"
        self._last: Trained | None = None
        self._last_line = clock() - _SECONDS_BETWEEN_VALIDATIONS

    def trained(self, event: Trained) -> None:
        self._last = event
        if self._clock() - self._last_line >= _SECONDS_OF_SILENCE:
            self._write(event)

    def validated(self, event: Validated) -> None:
        if event.leader is not None:
            self._best = _best(event)
        if self._last is not None and self._clock() - self._last_line >= _SECONDS_BETWEEN_VALIDATIONS:
            self._write(self._last)

    def _write(self, event: Trained) -> None:
        self._last_line = self._clock()
        log.info("%s", _line(event, self._best))

    def close(self) -> None:
        pass


def warn(message: str) -> None:
    """Logs a warning on a line of its own, whether or not a live line is on the screen."""
    with tqdm.tqdm.external_write_mode(file=sys.stderr):
        log.warning("%s", message)


def _line(event: Trained, best: str) -> str:
    speed = tqdm.tqdm.format_sizeof(event.examples_per_second)
    return f"{event.place}  {speed} examples/s  cost {event.cost:.4f}  {best}"


def _best(event: Validated) -> str:
    return f"best validation error {event.best_error:.2%}"

"""What a run says while it goes on: to the terminal, to `metrics.jsonl`, to TensorBoard; and at its end on a page."""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tfpipe.compute import host
from tfpipe.config import TrainConfig
from tfpipe.disk.workdir import Workdir
from tfpipe.monitor import event_files, page, pictures
from tfpipe.monitor.events import Finished, Selected, Started, Trained, Validated, Written
from tfpipe.monitor.metrics import MetricsFile
from tfpipe.monitor.progress import LogLines, ProgressLine, warn

if TYPE_CHECKING:
    from tfpipe.monitor.profiler import Profiler
    from tfpipe.monitor.tensorboard import TensorBoard

__all__ = ["DrawingPace", "Finished", "Monitor", "Selected", "Started", "Trained", "Validated", "Written", "warn"]


class DrawingPace(NamedTuple):
    """How often a run draws its best model.

    Attributes:
      pause: seconds between two models at least.
      share: so much of the time at most goes into pictures: two cores that train and validate have none to spare.
      growth: pauses grow with the run, or the pictures of a long one would fill the disk: 50 in 24 hours.
    """

    pause: float = 5.0
    share: float = 0.02
    growth: float = 0.2


class Monitor:
    """Passes the events of a run on: progress to stderr, and to files if the run has a workdir. A context manager.

    A file that cannot be written, because the disk is full perhaps, is given up with one warning.

    Args:
      workdir: None: no files.
      config: of the run.
      settings: of each head.
      validated: the iteration after which the last validation was made, of a run that goes on; -1 of a new one.
      written: what the files held then; what they hold of the time after it is cut off.
      clock: seconds, from any time on.
      pace: of pictures.
    """

    def __init__(
        self,
        workdir: Workdir | None,
        config: TrainConfig,
        settings: Sequence[Mapping[str, Any]],
        validated: int,
        written: Written,
        *,
        clock: Callable[[], float] = time.monotonic,
        pace: DrawingPace = DrawingPace(),  # noqa: B008  # It is immutable.
    ):
        self._clock, self._pace, self._settings = clock, pace, settings
        self._progress = ProgressLine() if sys.stderr.isatty() else LogLines(clock)
        self._workdir = workdir
        self._given_up: set[str] = set()
        self._lock = threading.Lock()
        self._written = written
        self._metrics: MetricsFile | None = None
        self._tensorboard: TensorBoard | None = None
        if workdir:
            self._metrics = self._write("metrics.jsonl", MetricsFile, workdir.metrics, validated)
            self._write("tensorboard", event_files.cut, workdir.tensorboard, written.events)
        if workdir and config.tensorboard:
            # Not above: the package need not be there. It would import these for logs that lie on stores.
            with host.hiding("boto3", "botocore", "fsspec"):
                from tfpipe.monitor import tensorboard

            self._tensorboard = tensorboard.TensorBoard(workdir.tensorboard, settings, config.select, written, clock)
        self._profiler: Profiler | None = None
        if workdir and config.profile:
            from tfpipe.monitor import profiler  # TensorFlow, which the state of a run can be read without.

            self._profiler = profiler.Profiler(workdir.tensorboard)
        self._begin = clock()
        self._next_model = self._begin + pace.pause
        self._model_since: float | None = None  # When the model was wanted that has not been drawn yet.
        self._last_model = written.last_model

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()
        if self._profiler:
            self._write("profile", self._profiler.close)
        if self._metrics:
            self._write("metrics.jsonl", self._metrics.close, again=True)
        if self._tensorboard:
            self._write("tensorboard", self._tensorboard.close, again=True)

    def started(self, event: Started) -> None:
        """When the run has begun. It may be called from another thread than the others."""
        if self._tensorboard:
            self._write("tensorboard", self._tensorboard.started, event)

    def prepare(self) -> None:
        """Imports what draws, which a run has time for while its programs are compiled."""
        if self._workdir:
            self._write("pictures", pictures.prepare)

    def trained(self, event: Trained) -> None:
        """After each span."""
        self._progress.trained(event)
        if self._profiler:
            self._write("profile", self._profiler.trained)

    def validated(self, events: Sequence[Validated]) -> None:
        """After one validation or several."""
        self._progress.validated(events[-1])
        if self._metrics:
            self._write("metrics.jsonl", self._metrics.validated, events, again=True)
        if self._tensorboard:
            self._write("tensorboard", self._tensorboard.validated, events)

    def history(self) -> list[Validated]:
        """The validations before, of a run that goes on, as far as they are known."""
        return list(self._metrics.history) if self._metrics else []

    def written(self) -> Written:
        """What the event files hold so far; if they were given up, what they were known to hold before."""
        if self._metrics:
            self._write("metrics.jsonl", self._metrics.flush, again=True)
        if self._tensorboard and (written := self._write("tensorboard", self._tensorboard.written)):
            self._written = written
        return self._written

    def wants_model(self, made: tuple[int, int]) -> bool:
        """Whether it is time for `selecting` with this model: its head, and the iteration after which it was made."""
        if self._tensorboard is None or self._given_up & {"tensorboard", "pictures"}:
            return False
        return made != self._last_model and self._model_since is None and self._clock() >= self._next_model

    def selecting(self, made: tuple[int, int]) -> None:
        """When this model begins to be looked at; `selected` must follow, from whatever thread."""
        self._model_since, self._last_model = self._clock(), made

    def selected(self, look: Callable[[], Selected]) -> None:
        """At a new best, if it is wanted. It may be called from another thread than the others."""
        event = self._write("pictures", look)
        drawn = self._write("pictures", pictures.of_model, event) if event else None
        if self._tensorboard and event:
            self._write("tensorboard", self._tensorboard.selected, event, drawn or {})
        now = self._clock()
        took, age = now - (self._model_since or now), now - self._begin
        self._next_model = now + max(self._pace.pause, took / self._pace.share, age * self._pace.growth)
        self._model_since = None

    def finished(self, event: Finished) -> None:
        """At the end."""
        if not self._workdir:
            return
        of_model = self._write("pictures", pictures.of_model, event.selected) if event.selected else None
        of_model = of_model or {}
        of_grid = self._write("pictures", pictures.of_grid, event.report["grid"], tuple(self._settings[0])) or {}
        for draw in (pictures.of_draws, pictures.of_coefficients):
            of_grid |= self._write("pictures", draw, event.report) or {}
        self._write("report.html", page.save, self._workdir.page, event, of_model | of_grid)
        if self._tensorboard:
            self._write("tensorboard", self._tensorboard.finished, event, of_model, of_grid)

    def _write(self, what: str, write: Callable[..., Any], *arguments: Any, again: bool = False) -> Any:
        """What `write` gives; None if it fails, or has failed before and is not to be tried `again`."""
        if what in self._given_up and not again:
            return None
        try:
            return write(*arguments)
        except Exception as error:  # A picture that cannot be drawn must not cost a run either.
            with self._lock:
                is_first = what not in self._given_up
                self._given_up.add(what)
            if is_first:
                reason = getattr(error, "strerror", None) or getattr(error, "message", None) or repr(error)
                warn(f"{what} of the workdir cannot be written: {reason}; the run goes on without it")
            return None

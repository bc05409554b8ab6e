"""A run for TensorBoard: event files below one folder, which `tensorboard --logdir` shows.

Runs: `train`, `validation` and `test` hold the curves of the leading head, the one with the best validation so
far, and the pictures of its model; without test examples there is no `test`, and `validation` holds its pictures and
tables. In a grid `lowest` and `highest` hold the range of all heads, and `heads/NUMBER` the best values of each, for
the tab HParams.

TensorBoard orders groups of tags by name, and opens the first two: `cost` and `error`. So the pictures stand in the
group `error`, and what one looks up rather than watches in `training`, `trials` and `weights`.
"""

import contextlib
import functools
import math
import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as sessions
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto

from tfpipe.monitor import event_files, pictures, tables
from tfpipe.monitor.events import Finished, Selected, Started, Validated, Written
from tfpipe.statistics.figures import of_select

_SECONDS_BETWEEN_FLUSHES = 5.0
_BEST = ("validation_error", "validation_cost", "test_error", "best_iteration", "iterations")


class TensorBoard:
    """Writes event files below `folder`. `started` and `selected` may be called from other threads than the rest.

    By TensorFlow's own record writer: 0.14 ms a validation, where tf.summary takes 1.1.

    Args:
      folder: for the files.
      settings: of each head, by name.
      select: the figure of the validation by which the run goes; None: that is not told.
      written: what the files hold already, of a run that goes on.
      clock: seconds, from any time on.

    Raises:
      OSError, tf.errors.OpError: from any method, a file cannot be written.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        settings: Sequence[Mapping[str, Any]],
        select: str | None,
        written: Written,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._folder = folder
        self._settings = settings
        self._best = _BEST if select in (None, "cost", "error") else (*_BEST, of_select(select))
        self._clock = clock
        self._written = written
        self._files: dict[str, _EventFile] = {}
        self._validations: list[tuple[float, Validated]] = []  # Not yet written, with the time when each came.
        self._lock = threading.Lock()
        self._last_flush = self._clock()
        self._last_model = written.last_model

    def started(self, event: Started) -> None:
        if self._written.events:  # It is all there.
            return
        flags = "\n".join(f"    {line}" for line in event.flags)  # Markdown's form of code.
        self._write("train", 0, [text_pb("flags", flags), text_pb("data", event.data)])
        if graph := event.step():
            self._write("train", 0, [], graph=graph)
        experiment = hparams.hparams_config_pb(
            hparams=[hparams.HParam(name) for name in self._settings[0]],
            metrics=[hparams.Metric(f"trials/{name}", display_name=name.replace("_", " ")) for name in self._best],
        )
        self._write(".", 0, [experiment])
        self._flush()

    def validated(self, events: Sequence[Validated]) -> None:
        """Written with others, every five seconds: one by one, each would find the caches full of images, 1.4 ms."""
        self._validations += [(time.time(), event) for event in events]
        if self._clock() - self._last_flush >= _SECONDS_BETWEEN_FLUSHES:
            self._write_validations()
            self._flush()

    def _write_validations(self) -> None:
        validations, self._validations = self._validations, []
        for at, event in validations:
            self._write_curves(at, event)

    def _write_curves(self, at: float, event: Validated) -> None:
        leader = event.leader
        if leader is None:
            return
        of_validation = {"cost": event.validation_cost, "error": event.validation_error}
        if event.balanced_error is not None:
            of_validation["error/balanced"] = event.balanced_error
        of_solver = {name: values[leader] for name, values in event.reports.items()}
        of_solver |= {name: value for name, value in self._settings[leader].items() if not isinstance(value, str)}
        curves = {
            "train": {
                # What it minimizes stands beside the cost of the other splits.
                **{name if name == "cost" else f"training/{name}": value for name, value in of_solver.items()},
                "training/patience_left": event.patience_left[leader],
                "training/examples_per_second": event.examples_per_second,
                "weights/norm": event.W_norm[leader],
            },
            "validation": {tag: values[leader] for tag, values in of_validation.items()},
            "test": {"error": event.test_error[leader]},
        }
        if len(event.validation_cost) > 1 and not np.isnan(event.validation_error).all():
            for run, extreme in (("lowest", np.nanmin), ("highest", np.nanmax)):
                curves[run] = {tag: extreme(values) for tag, values in of_validation.items()}
        for run, values in curves.items():
            # The leader may have stopped already, and is tested at a new best only.
            scalars = [_scalar_pb(tag, float(value)) for tag, value in values.items() if not math.isnan(value)]
            if scalars:
                self._write(run, event.iteration, scalars, at=at)

    def selected(self, event: Selected, of_model: Mapping[str, bytes]) -> None:
        """A new best model, and its pictures."""
        if event.made == self._last_model:
            return
        self._last_model = event.made
        model = event.model
        self._write("train", event.iteration, [histogram_pb("weights/W", model.W), histogram_pb("weights/b", model.b)])
        images = [_image_pb(f"error/{name}", picture) for name, picture in of_model.items()]
        if event.diagnosis:
            table = tables.worst_classes(model, event.diagnosis)
            self._write("test", event.iteration, [*images, text_pb("worst_classes", tables.markdown(table))])
        else:
            self._write("validation", event.iteration, images)
        self._flush()

    def finished(self, event: Finished, of_model: Mapping[str, bytes], of_grid: Mapping[str, bytes]) -> None:
        """The end: the selected model, the pictures and tables of the run, and the best values of each head."""
        self._write_validations()
        if event.selected:
            self.selected(event.selected, of_model)
        step = max(0, event.last)
        images = [_image_pb(f"error/{name}", picture) for name, picture in of_grid.items()]
        texts = [text_pb(name, tables.markdown(rows)) for name, rows in event.tables.items()]
        self._write("test" if event.report["test_examples"] else "validation", step, [*images, *texts])
        digits = len(str(len(event.report["grid"]) - 1))
        for n, head in enumerate(event.report["grid"]):
            number = f"{n:0{digits}}"  # TensorBoard sorts runs and trials by their letters.
            best = [_scalar_pb(f"trials/{name}", float(head[name])) for name in self._best if head[name] is not None]
            settings = {name: head[name] for name in self._settings[n]}
            status = api_pb2.STATUS_FAILURE if head["diverged"] else api_pb2.STATUS_SUCCESS
            session = [hparams.hparams_pb(settings, trial_id=number), *best, sessions.session_end_pb(status)]
            run = f"heads/{number}"
            self._write(run, step, session)
            with self._lock:  # Hundreds of heads would be as many open files.
                self._files.pop(run).close()

    def written(self) -> Written:
        """What the files hold so far."""
        self._write_validations()
        with self._lock:
            sizes = {}
            for file in self._files.values():
                file.flush()
                sizes[str(file.path.relative_to(self._folder))] = file.path.stat().st_size
            return Written({**self._written.events, **sizes}, self._last_model)

    def close(self) -> None:
        self._write_validations()
        with self._lock, contextlib.ExitStack() as stack:
            for file in self._files.values():
                stack.callback(file.close)  # Each, whatever comes of the others.

    def _write(
        self, run: str, step: int, summaries: Sequence[Summary], graph: bytes = b"", at: float | None = None
    ) -> None:
        event = Event(wall_time=time.time() if at is None else at, step=step)
        if graph:
            event.graph_def = graph
        for summary in summaries:
            event.summary.MergeFromString(summary.SerializeToString())  # TensorFlow's class, or TensorBoard's own.
        with self._lock:
            if run not in self._files:
                self._files[run] = _EventFile(self._folder / run)
            self._files[run].add(event)

    def _flush(self) -> None:
        with self._lock:
            self._last_flush = self._clock()
            for file in self._files.values():
                file.flush()


class _EventFile:
    """One file of events in `folder`."""

    def __init__(self, folder: pathlib.Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{event_files.PREFIX}.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = tf.io.TFRecordWriter(str(self.path))
        self.add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self.flush()
        self._writer.close()


def _scalar_pb(tag: str, value: float) -> Summary:
    """As TensorBoard's `scalar_pb`, in a sixth of the time: a run of small data has thousands of them."""
    summary = Summary()
    summary.CopyFrom(_zero(tag))
    summary.value[0].tensor.float_val[0] = np.float32(value)
    return summary


@functools.cache
def _zero(tag: str) -> Summary:
    return scalar_pb(tag, 0.0)


def _image_pb(tag: str, picture: bytes) -> Summary:
    """What TensorBoard's image plugin reads: width and height, in words, and the PNG."""
    width, height = pictures.size(picture)
    tensor = make_tensor_proto([str(width).encode(), str(height).encode(), picture], dtype=np.object_)
    metadata = create_summary_metadata(display_name=None, description=None)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])

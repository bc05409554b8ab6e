"""TensorBoard scalars: runs `train`, `validation` and `test`, tags `cost` and `error`, by iteration.

In a grid they follow the leading head: the one with the best validation error so far.
"""

import math
import pathlib

import tensorflow as tf

from tfpipe.monitor.events import Validated


class TensorBoard:
    """Writes event files below `folder`."""

    def __init__(self, folder: pathlib.Path):
        self._writers = {
            run: tf.summary.create_file_writer(str(folder / run)) for run in ("train", "validation", "test")
        }

    def validated(self, event: Validated) -> None:
        if event.leader is None:
            return
        scalars = (
            ("train", "cost", event.cost),
            ("validation", "cost", event.validation_cost),
            ("validation", "error", event.validation_error),
            ("test", "error", event.test_error),
        )
        for run, tag, values in scalars:
            value = float(values[event.leader])
            if not math.isnan(value):  # The leader may have stopped already, and is tested at a new best only.
                with self._writers[run].as_default(step=event.iteration):
                    tf.summary.scalar(tag, value)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

"""What can happen in a run, as values."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfpipe.data import Examples
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis


class Started(NamedTuple):
    """A run begins, or goes on.

    Attributes:
      flags: its hyper-parameters and those of the data, as lines of a flagfile.
      data: what it is trained on, in words.
      step: gives the graph of one training step, a serialized GraphDef; empty if there is none.
    """

    flags: list[str]
    data: str
    step: Callable[[], bytes]


class Trained(NamedTuple):
    """A span was trained.

    Attributes:
      iteration: the last one, from 0.
      place: where in the run that is, in words.
      end: the iteration before which the run ends, as far as is known: by epochs, or by patience if none improves.
      cost: mean cost over the span of the leading head, among those that trained to its end.
      examples_per_second: training examples, since the start of the span.
    """

    iteration: int
    place: str
    end: int
    cost: float
    examples_per_second: float


class Validated(NamedTuple):
    """The heads were validated. Arrays have one entry a head, `[H]` float64; NaN for a head that stands still.

    Attributes:
      iteration: the last one that was trained, from 0.
      epoch: the epoch it belongs to, from 1.
      seconds: since the training loop began.
      examples_per_second: training examples since the last validation, or since the start. Of validations that were
        made in one program, seconds and this are shared out evenly.
      patience_left: the iterations that the head will train if nothing improves any more.
      W_norm: the Euclidean norm of its W, all classes together.
      reports: what the solver reports besides, by name.
      validation_error: share of wrong predictions, in [0, 1].
      validation_cost: mean over the validation examples.
      test_error: share in [0, 1]; NaN also for a head whose validation is no new best.
      leader: the head with the best validation so far; None while there is none.
      best_error: the validation error of its best; infinity while there is none.
      balanced_error: the mean of the validation error over the classes; None: it was not measured.
    """

    iteration: int
    epoch: int
    seconds: float
    examples_per_second: float
    patience_left: np.ndarray
    W_norm: np.ndarray
    reports: Mapping[str, np.ndarray]
    validation_error: np.ndarray
    validation_cost: np.ndarray
    test_error: np.ndarray
    leader: int | None
    best_error: float
    balanced_error: np.ndarray | None = None


class Selected(NamedTuple):
    """The best model so far was looked at.

    Attributes:
      iteration: the last one that was trained when it was chosen, from 0.
      made: its head, and the iteration after which it was made.
      model: it.
      diagnosis: what it does on the test examples; None: there are none.
      examples: these.
      uncalibrated: what it did on them before it was calibrated; None: it was not.
    """

    iteration: int
    made: tuple[int, int]
    model: TrainedModel
    diagnosis: Diagnosis | None
    examples: Examples
    uncalibrated: Diagnosis | None = None


class Finished(NamedTuple):
    """A run has ended.

    Attributes:
      data: what it was trained on, in words.
      flags: its flags, as lines of a flagfile.
      last: the last iteration, from 0; -1 if there was none.
      report: the content of `report.json`.
      tables: its figures as tables, by name: rows of cells, the first of each the header.
      selected: the selected model; None if there is none.
    """

    data: str
    flags: list[str]
    last: int
    report: dict[str, Any]
    tables: dict[str, list[tuple[str, ...]]]
    selected: Selected | None


class Written(NamedTuple):
    """What the event files for TensorBoard held at some moment.

    Attributes:
      events: bytes of each, by its path below their folder.
      last_model: of which the pictures were written last: its head, and the iteration after which it was made.
    """

    events: dict[str, int]
    last_model: tuple[int, int] | None

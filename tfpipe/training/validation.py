"""The validation of the heads, which steers a run: in turn with the training, or beside it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.compute.workers import Workers
from tfpipe.solvers.objective import FIGURES
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.heads import Heads, Parameters, joined
from tfpipe.training.measurement import Findings, Measurement, Points, Stretch, measured_each
from tfpipe.training.measurement import joined as joined_findings
from tfpipe.training.shared_heads import SharedHeads


class Measured(NamedTuple):
    """What a validation found of h heads.

    Attributes:
      steps: after how many it was made.
      numbers: `[h]`, which heads.
      examples_per_second: that were trained since the last one.
      reports: what the solver reports, by name, `[h]` each.
      test_error: `[h]`, shares on the test examples; NaN if no head was better than ever.
      norm: `[h]`, the Euclidean norm of W.
      W: `[h, K, D]`, b: `[h, K]`: of a head that was better than ever, as it was then, or at a later validation that
        follows at once and was better still.
      error: `[h]`, shares of wrong predictions in [0, 1] on the validation examples.
      cost: `[h]`, mean costs there.
      balanced_error: `[h]`, the mean of the error over the classes; None: it was not measured.
    """

    steps: int
    numbers: np.ndarray
    examples_per_second: float
    reports: Mapping[str, np.ndarray]
    test_error: np.ndarray
    norm: np.ndarray
    W: Any
    b: Any
    error: np.ndarray
    cost: np.ndarray
    balanced_error: np.ndarray | None = None


class Validation:
    """Measures the heads on the validation split, and those that are better than ever on the test split.

    Where every core trains heads, each measures its own when it has trained them. Else a core that is idle measures
    them, beside the training of the next span, which need not wait for what is found as long as patience lasts.
    Splits that memory cannot hold are measured beside, one validation at a time.

    Args:
      validation, test: both splits.
      frequency: steps between two validations.
      validated: after how many steps the last one was made.
      select: the figure by which models are chosen, one of FIGURES.
      room: how many validations a span has at most.
      workers: who measure beside.

    Attributes:
      room: likewise.
      validated: likewise, by those that were taken in.
    """

    def __init__(
        self,
        validation: Evaluation,
        test: Evaluation,
        *,
        frequency: int,
        validated: int,
        select: str,
        room: int,
        workers: Workers,
    ):
        self._validation = validation
        self._test = test
        self._frequency = frequency
        self._select = select
        self._workers = workers
        self._under_way: tuple[Stretch, Callable[[], list[Measured]]] | None = None
        self.room = room
        self.validated = validated

    def compile(self, heads: Heads | SharedHeads) -> None:
        """Has the programs made that measure such heads."""
        nothing = heads.points(self.room)
        if not self.is_at_once:
            self._workers.map(lambda split: split.compile(_parameters(nothing)), (self._validation, self._test))
            return
        compile_measured(self._workers, nothing, self.by(np.zeros(len(heads))))

    def following(self, steps: int) -> int:
        """After how many steps the next one is due, if so many are done."""
        return steps // self._frequency * self._frequency + self._frequency

    def is_due(self, steps: int) -> bool:
        """Whether one follows the last of `steps`, and has not been made."""
        return steps % self._frequency == 0 and self.validated < steps

    @property
    def is_at_once(self) -> bool:
        """Whether both splits are measured at once, and not span by span."""
        return self._validation.whole is not None and self._test.whole is not None

    def by(self, to_beat: np.ndarray) -> Measurement:
        """How to measure heads at once, whose figure is to be below `to_beat`, `[h]`."""
        return measurement(self._validation, self._test, self._select, to_beat)

    def start(self, stretch: Stretch, to_beat: np.ndarray, examples_per_second: float) -> None:
        """Has a stretch measured, and tested where the figure of a head is below its `to_beat`, `[h]`.

        That goes on beside what follows, unless it is done already.
        """

        def measure() -> list[Measured]:
            findings = stretch.findings
            if findings is None and not self.is_at_once:
                return self._by_spans(stretch, to_beat, examples_per_second)
            if findings is None:
                by = self.by(to_beat)
                findings = joined_findings(stretch.points, measured_each(self._workers, stretch.points, by))
            return self._found(stretch, findings, examples_per_second)

        if not self.due(stretch):
            self._under_way = stretch, list
        elif stretch.findings is None:
            self._under_way = stretch, self._workers.start(measure).result
        else:
            self._under_way = stretch, measure

    def wait(self) -> tuple[Stretch, list[Measured]] | None:
        """The stretch that was measured last, if it was not yet taken in, and what is found: waits for it."""
        if self._under_way is None:
            return None
        (stretch, result), self._under_way = self._under_way, None
        if measured := result():
            self.validated = measured[-1].steps
        return stretch, measured

    def _found(self, stretch: Stretch, findings: Findings, examples_per_second: float) -> list[Measured]:
        """The validations of a stretch, in their order, by what was found where they were due."""
        return [
            Measured(
                steps,
                stretch.numbers,
                examples_per_second,
                stretch.reported(steps),
                self._test.figures(findings.test_sums[number], stretch.column)[0],
                findings.norm[number],
                findings.best_W,
                findings.best_b,
                *self._validation.figures(findings.sums[number], stretch.column),
            )
            for number, steps in enumerate(self.due(stretch))
        ]

    def due(self, stretch: Stretch) -> range:
        """After how many steps validations of a stretch are due."""
        first = -(-stretch.first // self._frequency) * self._frequency
        return range(first, stretch.done + 1, self._frequency)

    def _by_spans(self, stretch: Stretch, to_beat: np.ndarray, examples_per_second: float) -> list[Measured]:
        """As `_found`, of the one that is due at the end of a stretch."""
        parameters = _parameters(stretch.points)
        W, b = joined(parameters)
        norm = np.linalg.norm(W.astype(np.float64).reshape(len(W), -1), axis=1)
        figures, test_error = self._validation.measure(parameters), np.full(len(W), np.nan)
        if (figures[FIGURES.index(self._select)] < to_beat).any():
            test_error, _ = self._test.measure(parameters)
        numbers, reports = stretch.numbers, stretch.reported(stretch.done)
        return [Measured(stretch.done, numbers, examples_per_second, reports, test_error, norm, W, b, *figures)]


def measurement(validation: Evaluation, test: Evaluation, select: str, to_beat: np.ndarray) -> Measurement:
    """How to measure heads at once on both splits, whose figure `select` is to be below `to_beat`, `[h]`."""
    assert validation.whole is not None
    assert test.whole is not None
    own = validation.whole, validation.objective, test.whole, test.objective
    return Measurement(*own, tf.constant(FIGURES.index(select)), to_beat)


def compile_measured(workers: Workers, groups: Sequence[Points], by: Measurement) -> None:
    """Has the programs made that measure such groups."""
    none = tf.constant(0)
    measured_each(workers, [points._replace(kept=points.kept._replace(count=none)) for points in groups], by)


def _parameters(groups: Sequence[Points]) -> list[Parameters]:
    """Of each group, where its first validation is due."""
    return [Parameters(points.kept.W[0], points.kept.b[0], points.column, len(points.places)) for points in groups]

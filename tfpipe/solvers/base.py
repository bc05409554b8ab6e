"""What a solver is: it advances heads over spans. The loop that validates, saves, stops and reports is one for all."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.config import TrainConfig
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.objective import Objective

Tensors = tuple[tf.Tensor, ...]


class Group(NamedTuple):
    """H heads that one program trains side by side: one read of each minibatch, one matrix product for all.

    Attributes:
      W: variable `[H, K, D]`, zeros at the start.
      b: variable `[H, K]`, zeros at the start.
      settings: what each head is trained with, by name, `[H]` each.
      column: `[H]` int32, the column of weights of each.
      slots: the solver's own variables, by name, `[H, ...]` each.
    """

    W: tf.Variable
    b: tf.Variable
    settings: dict[str, tf.Tensor]
    column: tf.Tensor
    slots: dict[str, tf.Variable]


class Inside(NamedTuple):
    """What a solver needs to validate heads inside its program, where both splits are small.

    Attributes:
      validation, test: all minibatches of both splits.
      of_validation, of_test: how heads are measured on them.
      column: `[H]` int32, the columns of validation rows of the heads.
      figure: `[]` int32, by which of FIGURES models are chosen.
      to_beat: `[H]` float64, below which that of a head is better than ever: minus infinity for one that has ended.
    """

    validation: Span
    of_validation: Objective
    test: Span
    of_test: Objective
    column: tf.Tensor
    figure: tf.Tensor
    to_beat: tf.Tensor

    def measure(self, W: tf.Tensor, b: tf.Tensor, may_improve: tf.Tensor, best: Tensors) -> tuple[Tensors, Tensors]:
        """Measures heads, and tests them if one is better than ever.

        Args:
          W: `[H, K, D]`, of the heads.
          b: `[H, K]`, likewise.
          may_improve: `[H]` bool: those that still train, and have not diverged.
          best: the figure `[H]` float64, W and b, of each head at its best.

        Returns:
          `sums`, `test_sums` and `norm` as Advance has them, of this validation; and what is the best now.
        """
        to_beat, best_W, best_b = best
        sums = self.of_validation.sums(self.validation, W, b, self.column)
        figures = sums / tf.gather(self.of_validation.total, self.column)
        figure = tf.gather(figures, self.figure)
        improved = may_improve & tf.math.is_finite(figures[1]) & (figure < to_beat)
        test_sums = tf.cond(
            tf.reduce_any(improved),
            lambda: self.of_test.sums(self.test, W, b, tf.zeros_like(self.column)),
            lambda: tf.fill([self.of_test.n_figures, b.shape[0]], tf.constant(np.nan, tf.float64)),
        )
        norm = tf.norm(tf.cast(W, tf.float64), axis=(1, 2))
        to_beat = tf.where(improved, figure, to_beat)
        best_W = tf.where(improved[:, tf.newaxis, tf.newaxis], W, best_W)
        best_b = tf.where(improved[:, tf.newaxis], b, best_b)
        return (sums, test_sums, norm), (to_beat, best_W, best_b)


class Advance(NamedTuple):
    """What a program found while it advanced H heads over the T minibatches of a span, of which some count.

    Attributes:
      costs: `[T, H]`, the cost that was minimized, before each step, without any penalty. XLA drops assertions, so
        whether a cost is finite is the caller's to look at.
      reports: what the solver reports, by name: `[T, H]`, of which the rows at validations count.
      sums: `[T, F, H]` float64, see `Objective.sums`, on the validation split; of which the rows at validations count.
        None if they were not made inside.
      test_sums: the same on the test split, where a head was better than ever; elsewhere NaN.
      norm: `[T, H]` float64, the norm of W there.
      best_W: `[H, K, D]` at the last validation at which a head was better than ever, if there was one.
      best_b: `[H, K]` likewise.
    """

    costs: tf.Tensor
    reports: Mapping[str, tf.Tensor]
    sums: tf.Tensor | None = None
    test_sums: tf.Tensor | None = None
    norm: tf.Tensor | None = None
    best_W: tf.Tensor | None = None
    best_b: tf.Tensor | None = None


class Solver(abc.ABC):
    """How heads are trained. One object serves one run, and holds nothing that changes in it.

    Steps are counted as done, from 0. A validation is due whenever their number is a multiple of `frequency`.

    Attributes:
      name: as the report calls it.
      config: the hyper-parameters, settled: what they leave to the data has its value.
      reports: the names of what it reports of each head at a validation.
      validates_inside: whether `advance` can validate.
      remarks: lines for the log when a run begins: what was settled, and why.
      settings: what each head is trained with: mappings with the same names, in one order.
      batch_size: B, of its minibatches.
      steps: how many there are at most.
      frequency: steps between two validations.
      per_epoch: steps in a pass over the training examples.
      examples: how many examples such a pass takes.
    """

    name: ClassVar[str]
    reports: ClassVar[Sequence[str]] = ()
    validates_inside: ClassVar[bool] = False
    remarks: Sequence[str] = ()
    config: TrainConfig
    settings: Sequence[Mapping[str, float]]
    batch_size: int
    steps: int
    frequency: int
    per_epoch: int
    examples: int

    def slots(self, n_heads: int, n_out: int, n_in: int) -> dict[str, np.ndarray]:
        """What it has to remember of heads at the start: arrays `[H, ...]` by name, saved and resumed with the rest."""
        return {}

    @abc.abstractmethod
    def spans(self, train: Resident, *, first: int, period: int, length: int) -> Iterator[Span]:
        """The spans from step `first` on, of at most `length` minibatches, which end at multiples of `period` steps."""

    @abc.abstractmethod
    def advance(
        self, span: Span, objective: Objective, group: Group, last: tf.Tensor, inside: Inside | None
    ) -> Advance:
        """Advances the heads of `group` over the minibatches of `span` that count, one step each.

        Args:
          span: from `spans`.
          objective: on the training examples.
          group: whose W, b and slots are updated.
          last: `[H]` int64; after so many steps from the beginning of the run a head stands still.
          inside: to validate inside the program, if the solver can; else None.
        """

    def graph(self, span: Span, objective: Objective, group: Group) -> bytes:
        """TensorFlow's graph of one step, for TensorBoard: a serialized GraphDef; empty: none is shown."""
        return b""

    def advice(self) -> str:
        """What to try where every head diverged, for the end of a sentence."""
        return "a pixel_max that brings the images into [0, 1]"

    def warnings(self, reports: Mapping[str, np.ndarray], head: int) -> list[str]:
        """What the user must know of how the selected head was trained: lines.

        Args:
          reports: what the solver reported of it at each validation, `[V]` by name; NaN where it stood still.
          head: its number.
        """
        return []

    def epoch(self, steps: int) -> int:
        """The epoch, from 1, that holds the last of so many steps; 0 before the first."""
        return -(-steps // self.per_epoch)

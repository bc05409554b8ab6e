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


class Kept(NamedTuple):
    """The parameters of H heads after those steps of a span that a validation follows.

    Attributes:
      W: `[V, H, K, D]`, b: `[V, H, K]`: of which the first `count` are made.
      may_improve: `[V, H]` bool, the heads that did that step, and whose costs in the span were finite until then.
      count: scalar int32.
    """

    W: tf.Tensor
    b: tf.Tensor
    may_improve: tf.Tensor
    count: tf.Tensor


class Advance(NamedTuple):
    """What a program found while it advanced H heads over the T minibatches of a span, of which some count.

    Attributes:
      costs: `[T, H]`, the cost that was minimized, before each step, without any penalty. XLA drops assertions, so
        whether a cost is finite is the caller's to look at.
      reports: what the solver reports, by name: `[T, H]`, of which the rows at validations count.
      kept: what validations measure; None where a single one follows the span: it is the parameters as they are then.
    """

    costs: tf.Tensor
    reports: Mapping[str, tf.Tensor]
    kept: Kept | None = None


class Solver(abc.ABC):
    """How heads are trained. One object serves one run, and holds nothing that changes in it.

    Steps are counted as done, from 0. A validation is due whenever their number is a multiple of `frequency`.

    Attributes:
      name: as the report calls it.
      config: the hyper-parameters, settled: what they leave to the data has its value.
      reports: the names of what it reports of each head at a validation.
      keeps: whether `advance` keeps what several validations of a span measure: else a span ends where one is due.
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
    keeps: ClassVar[bool] = False
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
    def advance(self, span: Span, objective: Objective, group: Group, last: tf.Tensor, room: int) -> Advance:
        """Advances the heads of `group` over the minibatches of `span` that count, one step each.

        Args:
          span: from `spans`.
          objective: on the training examples.
          group: whose W, b and slots are updated.
          last: `[H]` int64; after so many steps from the beginning of the run a head stands still.
          room: V of what it keeps, if it does; no span has more validations, and a single one comes at its end.
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

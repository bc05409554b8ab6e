"""What is measured of heads over a span, and the program that does: many validations in one call."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import Program
from tfpipe.compute.workers import Workers
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.base import Kept
from tfpipe.solvers.objective import Objective


class Measurement(NamedTuple):
    """How heads are measured on both splits.

    Attributes:
      validation, test: all minibatches of both.
      of_validation, of_test: their examples.
      figure: `[]` int32, by which of FIGURES models are chosen.
      to_beat: `[H]` float64, below which that of a head is better than ever: minus infinity for one that has ended.
    """

    validation: Span
    of_validation: Objective
    test: Span
    of_test: Objective
    figure: tf.Tensor
    to_beat: tf.Tensor


class Findings(NamedTuple):
    """What was found of H heads at V points: tensors of a group, which may be filled up; else arrays of all heads.

    Attributes:
      sums: `[V, F, H]` float64, see `Objective.sums`, on the validation split.
      test_sums: the same on the test split, where a head was better than ever; elsewhere NaN.
      norm: `[V, H]` float64, the Euclidean norm of W.
      best_W: `[H, K, D]` at the last point at which a head was better than ever, if there was one.
      best_b: `[H, K]` likewise.
    """

    sums: Any
    test_sums: Any
    norm: Any
    best_W: Any
    best_b: Any


@Program
def measured(kept: Kept, column: tf.Tensor, by: Measurement) -> Findings:
    """Measures H heads, of these columns, where they were kept, and tests them where one is better than ever."""
    room, n_heads, *_ = kept.W.shape
    of_each = ([by.of_validation.n_figures, n_heads], [by.of_test.n_figures, n_heads], [n_heads])
    arrays = [tf.TensorArray(tf.float64, size=room, element_shape=shape) for shape in of_each]

    def measure(i: tf.Tensor, to_beat: tf.Tensor, best: Sequence[tf.Tensor], found: Sequence[tf.TensorArray]) -> Any:
        W, b, may_improve = (tf.gather(part, i) for part in (kept.W, kept.b, kept.may_improve))
        sums = by.of_validation.sums(by.validation, W, b, column)
        figures = sums / tf.gather(by.of_validation.total, column)
        figure = tf.gather(figures, by.figure)
        improved = may_improve & tf.math.is_finite(figures[1]) & (figure < to_beat)
        test_sums = tf.cond(
            tf.reduce_any(improved),
            lambda: by.of_test.sums(by.test, W, b, tf.zeros_like(column)),
            lambda: tf.fill([by.of_test.n_figures, n_heads], tf.constant(np.nan, tf.float64)),
        )
        norm = tf.norm(tf.cast(W, tf.float64), axis=(1, 2))
        best_W = tf.where(improved[:, tf.newaxis, tf.newaxis], W, best[0])
        best_b = tf.where(improved[:, tf.newaxis], b, best[1])
        found = [array.write(i, part) for array, part in zip(found, (sums, test_sums, norm), strict=True)]
        return i + 1, tf.where(improved, figure, to_beat), (best_W, best_b), found

    start = (tf.constant(0), by.to_beat, (tf.zeros_like(kept.W[0]), tf.zeros_like(kept.b[0])), arrays)
    _, _, best, arrays = tf.while_loop(lambda i, *_: i < kept.count, measure, start)
    return Findings(*(array.stack() for array in arrays), *best)


class Points(NamedTuple):
    """What is to be measured of a group.

    Attributes:
      kept: its parameters; the last heads may be none, where programs of few sizes fill up.
      column: `[H]` int32, the column of weights, and of validation rows, of each.
      places: `[h]`, where its heads are among all that train.
    """

    kept: Kept
    column: tf.Tensor
    places: np.ndarray

    def measured(self, by: Measurement) -> Findings:
        """What is found, by a measurement of all heads that train."""
        # Who fills up is never better.
        room = (0, len(self.column) - len(self.places))
        to_beat = tf.constant(np.pad(by.to_beat[self.places], room))
        return measured(self.kept, self.column, by._replace(to_beat=to_beat))


def measured_each(workers: Workers, groups: Sequence[Points], by: Measurement) -> list[Findings]:
    """What is found of each group: on the device of each, and on a single one by one core, as the others train."""
    side_by_side = workers.map if workers.device.others else map
    return list(side_by_side(Points.measured, groups, itertools.repeat(by, len(groups))))


class Stretch(NamedTuple):
    """What h heads came to over a span, of which t minibatches counted.

    Attributes:
      before: how many steps were done before.
      numbers: `[h]` int64, which heads.
      column: `[h]` int32, the column of weights of each.
      costs: `[t, h]`, of each step.
      reports: what the solver reports, by name, `[t, h]` each.
      points: what validations measure, of each group.
      findings: what they found, if they are made; else None.
      examples_per_second: that were trained.
    """

    before: int
    numbers: np.ndarray
    column: np.ndarray
    costs: np.ndarray
    reports: Mapping[str, np.ndarray]
    points: Sequence[Points]
    findings: Findings | None
    examples_per_second: float = math.nan

    @property
    def first(self) -> int:
        """How many steps were done after its first one; where it has none, before."""
        return self.before + min(1, len(self.costs))

    @property
    def done(self) -> int:
        """How many steps were done after it."""
        return self.before + len(self.costs)

    def reported(self, steps: int) -> dict[str, np.ndarray]:
        """What the solver reports after so many steps, `[h]` each."""
        return {name: array[steps - self.before - 1] for name, array in self.reports.items()}


def joined(groups: Sequence[Points], found: Sequence[Findings]) -> Findings:
    """What was found of all groups, of which the heads come in their order."""
    places = [own.places for own in groups]
    *figures, best_W, best_b = zip(*found, strict=True)
    of_points = [of_all(parts, places, axis=-1) for parts in figures]
    return Findings(*of_points, *(of_all(parts, places) for parts in (best_W, best_b)))


def of_all(parts: Sequence[tf.Tensor | tf.Variable], places: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """What the groups have, along `axis` one head after the other, without those that fill up."""
    cut = [np.take(part.numpy(), range(len(own)), axis) for part, own in zip(parts, places, strict=True)]
    return np.concatenate(cut, axis)

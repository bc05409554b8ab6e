"""Minibatch gradient descent, step by step as in the Theano tutorial: the gradients, then one assignment for each."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import Program, graph, padded
from tfpipe.config import TrainConfig, known
from tfpipe.data import Splits
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.pipeline import inputs
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import Span
from tfpipe.solvers import curvature
from tfpipe.solvers.base import Advance, Group, Kept, Solver
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.weights import example_weights


class Sgd(Solver):
    """Every learning rate with every L2 is a head: W <- W - learning_rate (g_W + l2 W), b <- b - learning_rate g_b.

    Without a learning rate the training data gives one, for all heads: `safe_rate`.

    Args:
      config: the hyper-parameters.
      splits: the data.

    Raises:
      ConfigError: the hyper-parameters do not fit the data.
      DataError: float32 can hold no learning rate that is small enough for the images.
    """

    name = "sgd"
    # The mean cost of the minibatches since the last validation; and the norm of the gradient in W of the last of them,
    # weight decay included.
    reports: ClassVar = ("cost", "gradient_norm")
    keeps = True

    def __init__(self, config: TrainConfig, splits: Splits):
        config = config.settled("sgd")
        if splits.config is not None:
            config.check_goes_with(splits.config)
        n_examples, patience, l2 = len(splits.train), known(config.patience), known(config.l2)
        batch_size, drop_remainder = known(config.batch_size), known(config.drop_remainder)
        if not drop_remainder:
            batch_size = min(batch_size, padded(n_examples))
        self._sampler = Sampler(
            n_examples, batch_size, drop_remainder=drop_remainder, shuffle=known(config.shuffle), seed=config.seed
        )
        self.batch_size = batch_size
        self.per_epoch, self.examples = self._sampler.per_epoch, self._sampler.examples
        self.steps = known(config.epochs) * self.per_epoch
        # The tutorial: min(n_train_batches, patience / 2).
        by_default = min(self.per_epoch, max(1, patience // 2))
        self.frequency = config.validation_frequency or by_default
        if not self.per_epoch:
            problem = f"{n_examples} training examples fill no minibatch, and drop_remainder drops what is not full"
            raise ConfigError("batch_size", config.batch_size, problem)
        if self.frequency > self.steps:
            problem = f"the run has {self.steps} iterations, so it would never validate; take at most as many"
            raise ConfigError("validation_frequency", self.frequency, problem)
        if self.frequency > patience + 1:
            problem = f"ends the run after {patience + 1} iterations, and the first validation is after "
            raise ConfigError(
                "patience", patience, f"{problem}{self.frequency}; take more patience, or validate earlier"
            )
        self._splits, self._l2, self._class_weight = splits, max(l2), config.class_weight
        rates = config.learning_rate
        if rates is None:
            rates, self.remarks = (self._rate_by_data(),), [self._why()]
        self.config = dataclasses.replace(config, learning_rate=rates)
        self.settings = [{"learning_rate": rate, "l2": l2} for rate, l2 in itertools.product(rates, l2)]

    @property
    def safe_rate(self) -> float:
        """The inverse of the largest curvature that minibatches have with the largest L2, to two digits.

        Half of what may raise a cost in one step. On 20 sets the training cost rose by more than 0.1 % in none of the
        epochs; at three quarters in up to 4.4 % of them, at the whole in up to 22 %. See docs/learning_rate.md.
        """
        return float(f"{1 / self._curvatures[0].max():.2g}")

    @functools.cached_property
    def _curvatures(self) -> tuple[np.ndarray, np.ndarray]:
        train, scaling = self._splits.train, self._splits.scaling
        weights = example_weights(train, self._class_weight, self._splits.n_out)[np.newaxis]
        return curvature.of_minibatches(train, self._sampler, weights, scaling, self._l2)

    def _rate_by_data(self) -> float:
        if self.safe_rate < np.finfo(np.float32).tiny:
            name = self._splits.train.name
            raise DataError(
                f"{name}: float32 holds no learning rate as small as these images need; scale them, by pixel_max or "
                "standardize"
            )
        return self.safe_rate

    def _why(self) -> str:
        found, counts = self._curvatures
        largest, of_full, several = found.max(), found[counts == counts.max()].max(), "es" * (len(found) > 1)
        words = f"the inverse of {largest:.3g}, the largest curvature of {len(found)} minibatch{several}"
        if largest > 2 * of_full:
            count = int(counts[found.argmax()])
            words += f", of one that has {count} example{'s' * (count > 1)}; full ones would allow {1 / of_full:.2g}"
        return f"learning rate {self.safe_rate:g}, by the data: {words}"

    def slots(self, n_heads: int, n_out: int, n_in: int) -> dict[str, np.ndarray]:
        """Of each head the sum of costs since the last validation, and of how many steps."""
        return {"cost_sum": np.zeros(n_heads), "cost_steps": np.zeros(n_heads)}

    def spans(self, train: Resident, *, first: int, period: int, length: int) -> Iterator[Span]:
        return inputs.training_spans(train, self._sampler, steps=self.steps, period=period, length=length, first=first)

    def advance(self, span: Span, objective: Objective, group: Group, last: tf.Tensor, room: int) -> Advance:
        program, arguments = self.program(span, objective, group, last, room)
        return program(*arguments)

    def program(
        self, span: Span, objective: Objective, group: Group, last: tf.Tensor, room: int
    ) -> tuple[Program, tuple[Any, ...]]:
        """What `advance` calls, and with what."""
        return _advance, (span, objective, group, last, tf.constant(self.frequency, tf.int64), room)

    def graph(self, span: Span, objective: Objective, group: Group) -> bytes:
        nothing = tf.zeros(group.b.shape[:1], tf.int64)
        return graph(_step, span, tf.constant(0), objective, group, nothing)

    def advice(self) -> str:
        smallest = min(setting["learning_rate"] for setting in self.settings)
        by_data = f"{self.safe_rate:g}, the default for this data"
        try_ = by_data if self.safe_rate < smallest else f"{smallest / 10:g}"
        return f"a smaller learning_rate (such as {try_}), or {super().advice()}"

    def warnings(self, reports: Mapping[str, np.ndarray], head: int) -> list[str]:
        # That it rises between two validations says little: 29 % of the time in `experiments/digits.flags`, where all
        # is well.
        costs = reports["cost"][np.isfinite(reports["cost"])]
        begin = math.log(len(np.unique(self._splits.train.labels)))
        above, rate = np.count_nonzero(costs > begin), self.settings[head]["learning_rate"]
        if 4 * above <= len(costs) or rate <= 2 * self.safe_rate:
            return []
        return [
            f"learning rate {rate:g} is too large for this data: at {above} of {len(costs)} validations the training "
            f"cost was above {begin:.3g}, where it began; at most {self.safe_rate:g} would be safe"
        ]


def _step(span: Span, i: tf.Tensor, objective: Objective, group: Group, last: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One step, on minibatch number i: the cost before it, `[H]`, and the gradient in W, weight decay included."""
    W, b = group.W, group.b
    with tf.GradientTape() as tape:
        cost = objective.cost(span, i, W, b, group.column)
    g_W, g_b = tape.gradient(cost, (W, b))

    trains = span.first + tf.cast(i, tf.int64) < last
    learning_rate = tf.where(trains, group.settings["learning_rate"], 0)[:, tf.newaxis]
    l2 = group.settings["l2"][:, tf.newaxis, tf.newaxis]
    g_W += l2 * W
    W.assign(W - learning_rate[..., tf.newaxis] * g_W)
    b.assign(b - learning_rate * g_b)
    return cost, g_W


@Program
def _advance(
    span: Span, objective: Objective, group: Group, last: tf.Tensor, frequency: tf.Tensor, room: int
) -> Advance:
    """A step on each minibatch of `span` that counts, up to one validation after the other; see `Solver.advance`."""
    n_heads, dtype = group.b.shape[0], group.W.dtype
    length = span.rows.shape[0]
    costs, *reported = (tf.TensorArray(dtype, size=length, element_shape=[n_heads]) for _ in range(3))
    of_kept = (dtype, group.W.shape), (dtype, group.b.shape), (tf.bool, [n_heads])
    kept = [tf.TensorArray(of, size=room, element_shape=shape) for of, shape in of_kept] if room > 1 else []
    numbers = tf.range(length)[:, tf.newaxis]
    trains = span.first + tf.cast(numbers, tf.int64) < last

    def take(i: tf.Tensor, costs: tf.TensorArray) -> tuple[Any, ...]:
        cost, gradient = _step(span, i, objective, group, last)
        return i + 1, costs.write(i, cost), gradient

    def interval(
        begin: tf.Tensor,
        count: tf.Tensor,
        sound: tf.Tensor,
        costs: tf.TensorArray,
        reported: Sequence[tf.TensorArray],
        kept: Sequence[tf.TensorArray],
    ) -> tuple[Any, ...]:
        """The steps up to the next validation, or to the end of the span."""
        before = span.first + tf.cast(begin, tf.int64)
        end = tf.minimum(begin + tf.cast(frequency - before % frequency, tf.int32), span.end)
        # The last step is taken apart: the norm of its gradient is wanted. At every step it took 7 % of a grid's time.
        carried = tf.while_loop(lambda i, _: i < end - 1, lambda i, costs: take(i, costs)[:2], (begin, costs))
        _, costs, gradient = take(*carried)
        counts = trains & (numbers >= begin) & (numbers < end)
        of_interval = tf.where(counts, tf.cast(costs.stack(), tf.float64), 0)
        sound &= tf.reduce_all(tf.math.is_finite(of_interval), axis=0)

        slots, done = group.slots, before + tf.cast(end - begin, tf.int64)
        validates = done % frequency == 0
        cost_sum = slots["cost_sum"] + tf.reduce_sum(of_interval, axis=0)
        cost_steps = slots["cost_steps"] + tf.math.count_nonzero(counts, axis=0, dtype=tf.float64)
        slots["cost_sum"].assign(tf.where(validates, tf.zeros_like(cost_sum), cost_sum))
        slots["cost_steps"].assign(tf.where(validates, tf.zeros_like(cost_steps), cost_steps))
        figures = tf.cast(cost_sum / cost_steps, dtype), tf.norm(gradient, axis=(1, 2))
        reported = [array.write(end - 1, figure) for array, figure in zip(reported, figures, strict=True)]
        # Where none is due, the next one takes its place: so there is room for this one too.
        now = tf.convert_to_tensor(group.W), tf.convert_to_tensor(group.b), sound & (done <= last)
        kept = [array.write(count, part) for array, part in zip(kept, now, strict=False)]
        return end, count + tf.cast(validates, tf.int32), sound, costs, reported, kept

    start = (span.begin, tf.constant(0), tf.ones([n_heads], tf.bool), costs, reported, kept)
    _, count, _, costs, reported, kept = tf.while_loop(lambda i, *_: i < span.end, interval, start)
    mean, norm = (array.stack() for array in reported)
    found = Advance(costs.stack(), {"cost": mean, "gradient_norm": norm})
    if not kept:
        return found
    W, b, may_improve = (array.stack() for array in kept)
    return found._replace(kept=Kept(W, b, may_improve, count))

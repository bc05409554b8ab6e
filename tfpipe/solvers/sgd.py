"""Minibatch gradient descent, step by step as in the Theano tutorial: the gradients, then one assignment for each."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import Program, graph, padded
from tfpipe.config import TrainConfig
from tfpipe.exceptions import ConfigError
from tfpipe.pipeline import inputs
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.base import Advance, Group, Inside, Solver, Tensors
from tfpipe.solvers.objective import Objective


class Sgd(Solver):
    """Every learning rate with every L2 is a head: W <- W - learning_rate (g_W + l2 W), b <- b - learning_rate g_b.

    Args:
      config: the hyper-parameters.
      n_examples: how many there are for training.

    Raises:
      ConfigError: the hyper-parameters do not fit so many examples.
    """

    name = "sgd"
    # The mean cost of the minibatches since the last validation; and the norm of the gradient in W of the last of them,
    # weight decay included.
    reports: ClassVar = ("cost", "gradient_norm")
    validates_inside = True

    def __init__(self, config: TrainConfig, n_examples: int):
        pairs = itertools.product(config.learning_rate, config.l2)
        self.settings = [{"learning_rate": rate, "l2": l2} for rate, l2 in pairs]
        batch_size = config.batch_size if config.drop_remainder else min(config.batch_size, padded(n_examples))
        self._sampler = Sampler(
            n_examples, batch_size, drop_remainder=config.drop_remainder, shuffle=config.shuffle, seed=config.seed
        )
        self.batch_size = batch_size
        self.per_epoch, self.examples = self._sampler.per_epoch, self._sampler.examples
        self.steps = config.epochs * self.per_epoch
        # The tutorial: min(n_train_batches, patience / 2).
        by_default = min(self.per_epoch, max(1, config.patience // 2))
        self.frequency = config.validation_frequency or by_default
        if not self.per_epoch:
            problem = f"{n_examples} training examples fill no minibatch, and drop_remainder drops what is not full"
            raise ConfigError("batch_size", config.batch_size, problem)
        if self.frequency > self.steps:
            problem = f"the run has {self.steps} iterations, so it would never validate; take at most as many"
            raise ConfigError("validation_frequency", self.frequency, problem)
        if self.frequency > config.patience + 1:
            problem = f"ends the run after {config.patience + 1} iterations, and the first validation is after "
            raise ConfigError(
                "patience", config.patience, f"{problem}{self.frequency}; take more patience, or validate earlier"
            )

    def slots(self, n_heads: int, n_out: int, n_in: int) -> dict[str, np.ndarray]:
        """Of each head the sum of costs since the last validation, and of how many steps."""
        return {"cost_sum": np.zeros(n_heads), "cost_steps": np.zeros(n_heads)}

    def spans(self, train: Resident, *, first: int, period: int, length: int) -> Iterator[Span]:
        return inputs.training_spans(train, self._sampler, steps=self.steps, period=period, length=length, first=first)

    def advance(
        self, span: Span, objective: Objective, group: Group, last: tf.Tensor, inside: Inside | None
    ) -> Advance:
        return _advance(span, objective, group, last, tf.constant(self.frequency, tf.int64), inside)

    def graph(self, span: Span, objective: Objective, group: Group) -> bytes:
        nothing = tf.zeros(group.b.shape[:1], tf.int64)
        return graph(_step, span, tf.constant(0), objective, group, nothing)

    def advice(self) -> str:
        smallest = min(setting["learning_rate"] for setting in self.settings)
        try_ = min(smallest / 10, TrainConfig.learning_rate[0])
        return f"a smaller learning_rate (such as {try_:g}), or {super().advice()}"


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
    span: Span, objective: Objective, group: Group, last: tf.Tensor, frequency: tf.Tensor, inside: Inside | None
) -> Advance:
    """A step on each minibatch of `span` that counts, up to one validation after the other; see `Solver.advance`."""
    n_heads, dtype = group.b.shape[0], group.W.dtype
    heads = (dtype, [n_heads])
    sums = (tf.float64, [2, n_heads])
    of_validations = [] if inside is None else [sums, sums, (tf.float64, [n_heads])]
    best: Tensors = ()
    if inside is not None:
        best = inside.best_error, tf.convert_to_tensor(group.W), tf.convert_to_tensor(group.b)
    costs, *found = (
        tf.TensorArray(of, size=span.rows.shape[0], element_shape=shape) for of, shape in [heads] * 3 + of_validations
    )

    numbers = tf.range(span.rows.shape[0])[:, tf.newaxis]
    trains = span.first + tf.cast(numbers, tf.int64) < last

    def take(i: tf.Tensor, costs: tf.TensorArray) -> tuple[Any, ...]:
        cost, gradient = _step(span, i, objective, group, last)
        return i + 1, costs.write(i, cost), gradient

    def interval(
        begin: tf.Tensor, sound: tf.Tensor, best: Tensors, costs: tf.TensorArray, found: Sequence[tf.TensorArray]
    ) -> tuple[Any, ...]:
        """The steps up to the next validation, or to the end of the span, and the validation."""
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
        figures: Tensors = (tf.cast(cost_sum / cost_steps, dtype), tf.norm(gradient, axis=(1, 2)))
        if inside is not None:
            nothing = tuple(tf.zeros(shape, of) for of, shape in of_validations)
            W, b = tf.convert_to_tensor(group.W), tf.convert_to_tensor(group.b)
            measured, best = tf.cond(
                validates, lambda: inside.measure(W, b, sound & (done <= last), best), lambda: (nothing, best)
            )
            figures += measured
        written = [array.write(end - 1, figure) for array, figure in zip(found, figures, strict=True)]
        return end, sound, best, costs, written

    start = (span.begin, tf.ones([n_heads], tf.bool), best, costs, found)
    *_, best, costs, found = tf.while_loop(lambda i, *_: i < span.end, interval, start)
    mean, norm, *measured = (array.stack() for array in found)
    return Advance(costs.stack(), {"cost": mean, "gradient_norm": norm}, *measured, *best[1:])

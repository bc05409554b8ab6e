"""Minibatch gradient descent, step by step as in the Theano tutorial: the gradients, then one assignment for each."""

import itertools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import Program, graph
from tfpipe.config import TrainConfig
from tfpipe.exceptions import ConfigError
from tfpipe.pipeline import inputs
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.base import Advance, Group, Inside, Solver
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
        batch_size = config.batch_size if config.drop_remainder else min(config.batch_size, n_examples)
        self._sampler = Sampler(
            n_examples, batch_size, drop_remainder=config.drop_remainder, shuffle=config.shuffle, seed=config.seed
        )
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
        return graph(_step, span, tf.constant(0), objective, group, nothing, tf.constant(False))

    def advice(self) -> str:
        smallest = min(setting["learning_rate"] for setting in self.settings)
        try_ = min(smallest / 10, TrainConfig.learning_rate[0])
        return f"a smaller learning_rate (such as {try_:g}), or {super().advice()}"


def _step(
    span: Span, i: tf.Tensor, objective: Objective, group: Group, last: tf.Tensor, validates: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step, on minibatch number i: the cost before it, `[H]`, and if a validation follows its gradient's norm."""
    W, b = group.W, group.b
    with tf.GradientTape() as tape:
        cost = objective.cost(span, i, W, b, group.column)
    g_W, g_b = tape.gradient(cost, (W, b))

    trains = span.first + tf.cast(i, tf.int64) < last
    learning_rate = tf.where(trains, group.settings["learning_rate"], 0)[:, tf.newaxis]
    l2 = group.settings["l2"][:, tf.newaxis, tf.newaxis]
    # At validations alone: at every step it took 7 % of a grid's time.
    norm = tf.cond(validates, lambda: tf.norm(g_W + l2 * W, axis=(1, 2)), lambda: tf.zeros_like(cost))
    W.assign(W - learning_rate[..., tf.newaxis] * (g_W + l2 * W))
    b.assign(b - learning_rate * g_b)

    counted = tf.cast(trains, tf.float64)
    group.slots["cost_sum"].assign_add(tf.where(trains, tf.cast(cost, tf.float64), 0))
    group.slots["cost_steps"].assign_add(counted)
    return cost, norm


def _validate(
    inside: Inside, W: tf.Tensor, b: tf.Tensor, may_improve: tf.Tensor, best: tuple[tf.Tensor, ...]
) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
    """Measures the heads, and tests them if one is better than ever: the figures, and the best so far.

    Args:
      inside: on what.
      W: `[H, K, D]`, of the heads.
      b: `[H, K]`, likewise.
      may_improve: `[H]` bool: those that still train, and have not diverged.
      best: error `[H]` float64, W and b, of each head at its best.
    """
    best_error, best_W, best_b = best
    sums = inside.of_validation.sums(inside.validation, W, b, inside.column)
    total = tf.gather(inside.of_validation.total, inside.column)
    error, cost = sums[0] / total, sums[1] / total
    improved = may_improve & tf.math.is_finite(cost) & (error < best_error)
    test_sums = tf.cond(
        tf.reduce_any(improved),
        lambda: inside.of_test.sums(inside.test, W, b, inside.column),
        lambda: tf.fill([2, b.shape[0]], tf.constant(np.nan, tf.float64)),
    )
    norm = tf.norm(tf.cast(W, tf.float64), axis=(1, 2))
    best_error = tf.where(improved, error, best_error)
    best_W = tf.where(improved[:, tf.newaxis, tf.newaxis], W, best_W)
    best_b = tf.where(improved[:, tf.newaxis], b, best_b)
    return (sums, test_sums, norm), (best_error, best_W, best_b)


@Program
def _advance(
    span: Span, objective: Objective, group: Group, last: tf.Tensor, frequency: tf.Tensor, inside: Inside | None
) -> Advance:
    """A step on each minibatch of `span` that counts; see `Solver.advance`."""
    n_heads, dtype = group.b.shape[0], group.W.dtype
    shapes = [(dtype, [n_heads])] * 3
    best: tuple[tf.Tensor, ...] = ()
    if inside is not None:
        shapes += [(tf.float64, [2, n_heads]), (tf.float64, [2, n_heads]), (tf.float64, [n_heads])]
        best = inside.best_error, tf.convert_to_tensor(group.W), tf.convert_to_tensor(group.b)
    size = span.rows.shape[0]
    found = tuple(tf.TensorArray(of, size=size, element_shape=shape) for of, shape in shapes)

    def step(
        i: tf.Tensor, sound: tf.Tensor, best: tuple[tf.Tensor, ...], found: tuple[tf.TensorArray, ...]
    ) -> tuple[object, ...]:
        done = span.first + tf.cast(i, tf.int64) + 1
        validates = done % frequency == 0
        cost, norm = _step(span, i, objective, group, last, validates)
        sound &= tf.math.is_finite(cost) | (done > last)
        cost_sum, cost_steps = group.slots["cost_sum"], group.slots["cost_steps"]
        figures = (cost, tf.cast(cost_sum / cost_steps, dtype), norm)
        kept = tf.cast(~validates, tf.float64)
        cost_sum.assign(tf.where(validates, tf.zeros_like(cost_sum), cost_sum))
        cost_steps.assign(cost_steps * kept)
        if inside is not None:
            nothing = tuple(tf.zeros(shape, of) for of, shape in shapes[3:])
            measured, best = tf.cond(
                validates,
                lambda: _validate(
                    inside, tf.convert_to_tensor(group.W), tf.convert_to_tensor(group.b), sound & (done <= last), best
                ),
                lambda: (nothing, best),
            )
            figures += measured
        return i + 1, sound, best, tuple(array.write(i, part) for array, part in zip(found, figures, strict=True))

    start = (span.begin, tf.ones([n_heads], tf.bool), best, found)
    *_, best, found = tf.while_loop(lambda i, *_: i < span.end, step, start)
    costs, mean, norm, *of_validations = (array.stack() for array in found)
    return Advance(costs, {"cost": mean, "gradient_norm": norm}, *of_validations, *best[1:])

"""The XLA programs: train a chunk of minibatches, count its errors, predict its classes."""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe import model
from tfpipe.config import Head
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline import Chunk

# For few heads a minibatch beyond this size trains in three parts. An epoch of MNIST in minibatches of 600 (1.8 MiB),
# shuffled, on 2 cores of an AMD EPYC: 17.8 ms as a whole, 11.8 in 2 parts, 12.1 in 3, 12.7 in 4; on 2 of an Intel Xeon:
# 33.5, 33.1, 27.8, 28.9. Of 200: 16.3 ms as a whole, 16.5 in 2 parts. With 40 rows of W 48 and 46, with 80 72 and 76.
_LARGEST_WHOLE = 1 << 20
_MOST_ROWS_IN_PARTS = 40


class _Types(NamedTuple):
    """What is computed in which type: the inputs, and all else (parameters, costs, gradients)."""

    inputs: tf.DType
    others: tf.DType


_TYPES = {
    "float32": _Types(tf.float32, tf.float32),
    "float64": _Types(tf.float64, tf.float64),
    "bfloat16": _Types(tf.bfloat16, tf.float32),
}


class Heads:
    """H softmax regressions that train side by side: one read of each minibatch, one matrix product for all.

    `train_chunk` is compiled once: chunks have one shape, and all that varies from call to call is a tensor.

    Attributes:
      W: variable `[H, K, D]`, zeros at the start; float64 if that is the precision, else float32.
      b: variable `[H, K]`, of the same type, zeros at the start.
    """

    def __init__(self, heads: list[Head], n_in: int, n_out: int, scaling: Scaling, precision: str = "float32"):
        self._type = _TYPES[precision].others
        self.W = tf.Variable(tf.zeros([len(heads), n_out, n_in], self._type), name="W")
        self.b = tf.Variable(tf.zeros([len(heads), n_out], self._type), name="b")
        self._heads = heads
        self._scaling = scaling
        self._precision = precision
        self._learning_rate = tf.constant([head.learning_rate for head in heads], self._type)
        self._l2 = tf.constant([head.l2 for head in heads], self._type)
        self._inputs = _Inputs(scaling, precision)
        # Not as decorators: those count the traces of all objects together, and TensorFlow warns of retracing.
        self.train_chunk = tf.function(self._train_chunk, jit_compile=True)

    def __len__(self) -> int:
        return len(self._heads)

    def only(self, numbers: np.ndarray) -> "Heads":
        """Heads of these numbers, as they are now."""
        _, n_out, n_in = self.W.shape
        heads = Heads([self._heads[number] for number in numbers], n_in, n_out, self._scaling, self._precision)
        heads.W.assign(tf.gather(self.W, numbers))
        heads.b.assign(tf.gather(self.b, numbers))
        return heads

    def _n_parts(self, chunk: Chunk) -> int:
        heads, n_out, n_in = self.W.shape
        batch_size = chunk.rows.shape[1]
        is_large = batch_size * n_in * self._type.size > _LARGEST_WHOLE
        return min(3, batch_size) if is_large and heads * n_out <= _MOST_ROWS_IN_PARTS else 1

    def _train_chunk(self, chunk: Chunk, last_iteration: tf.Tensor) -> tf.Tensor:
        """Gradient descent on the minibatches of `chunk`, one step each.

        Args:
          chunk: minibatch number i is iteration `chunk.first + i`.
          last_iteration: `[H]` int64; in later iterations a head stands still.

        Returns:
          `[T, H]`: the cost of each minibatch, measured before its step, the L2 penalty not included; 0 where
          `chunk.steps` ends. XLA drops assertions, so whether a cost is finite is the caller's to look at.
        """
        costs = tf.TensorArray(self._type, size=chunk.rows.shape[0], element_shape=[len(self)])
        i = tf.constant(0)
        while i < chunk.steps:
            with tf.GradientTape() as tape:
                loss, weights = tf.zeros(len(self), self._type), tf.zeros([], self._type)
                for x, y, weight in self._inputs.minibatch(chunk, i, self._n_parts(chunk)):
                    loss += tf.reduce_sum(weight * model.log_losses(model.logits(x, self.W, self.b), y), axis=1)
                    weights += tf.reduce_sum(weight)
                cost = loss / weights
            g_W, g_b = tape.gradient(cost, (self.W, self.b))

            iteration = chunk.first + tf.cast(i, tf.int64)
            learning_rate = tf.where(iteration <= last_iteration, self._learning_rate, 0)[:, tf.newaxis]
            l2 = self._l2[:, tf.newaxis, tf.newaxis]
            self.W.assign(self.W - learning_rate[..., tf.newaxis] * (g_W + l2 * self.W))
            self.b.assign(self.b - learning_rate * g_b)
            costs = costs.write(i, cost)
            i += 1
        return costs.stack()


class Evaluator:
    """Measures softmax regressions that lie side by side, `W` `[H, K, D]` and `b` `[H, K]`; changes nothing.

    Each method is compiled once for each shape of `W` and of the tensor that holds the images.
    """

    def __init__(self, scaling: Scaling, precision: str = "float32"):
        self._type = _TYPES[precision].others
        self._inputs = _Inputs(scaling, precision)
        self.evaluate_chunk = tf.function(self._evaluate_chunk, jit_compile=True)
        self.predict_chunk = tf.function(self._predict_chunk, jit_compile=True)

    def _evaluate_chunk(self, chunk: Chunk, W: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The wrong predictions (int32) and the sum of the log losses of each minibatch: `[T, H]` both."""
        heads = len(b)
        wrong = tf.TensorArray(tf.int32, size=chunk.rows.shape[0], element_shape=[heads])
        losses = tf.TensorArray(self._type, size=chunk.rows.shape[0], element_shape=[heads])
        i = tf.constant(0)
        while i < chunk.steps:
            ((x, y, weight),) = self._inputs.minibatch(chunk, i)
            z = model.logits(x, W, b)
            mistaken = tf.logical_and(model.predictions(z) != y, weight > 0)
            wrong = wrong.write(i, tf.math.count_nonzero(mistaken, axis=1, dtype=tf.int32))
            losses = losses.write(i, tf.reduce_sum(weight * model.log_losses(z, y), axis=1))
            i += 1
        return wrong.stack(), losses.stack()

    def _predict_chunk(self, chunk: Chunk, W: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """The predicted classes: `[T, H, B]` int32."""
        classes = tf.TensorArray(tf.int32, size=chunk.rows.shape[0], element_shape=[len(b), chunk.rows.shape[1]])
        i = tf.constant(0)
        while i < chunk.steps:
            ((x, _, _),) = self._inputs.minibatch(chunk, i)
            classes = classes.write(i, model.predictions(model.logits(x, W, b)))
            i += 1
        return classes.stack()


class _Inputs:
    """From the rows of a chunk to what the model takes."""

    def __init__(self, scaling: Scaling, precision: str):
        self._types = _TYPES[precision]
        self._shift = None if scaling.shift is None else tf.constant(scaling.shift, self._types.others)
        self._factor = tf.constant(scaling.factor, self._types.others)

    def minibatch(self, chunk: Chunk, i: tf.Tensor, n_parts: int = 1) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Minibatch number i, in parts of n examples: inputs `[n, D]`, labels `[n]` and weight `[n]`.

        By `tf.gather`: `rows[i]` compiles anew for every chunk length in some forms, and in one gives wrong rows.
        """
        rows, labels, weight = (tf.gather(part, i) for part in (chunk.rows, chunk.labels, chunk.weight))
        weight = tf.cast(weight, self._types.others)
        images = tf.gather(chunk.images, rows)
        # What several parts take from, XLA stores as it is: copied row by row, at the rate of memory. For a single one
        # it would cast every value as it is fetched, and wait for each row that lies far from the one before.
        bounds = [number * images.shape[0] // n_parts for number in range(n_parts + 1)]
        parts = [slice(begin, end) for begin, end in itertools.pairwise(bounds)]
        return [(self._scaled(images[part]), labels[part], weight[part]) for part in parts]

    def _scaled(self, images: tf.Tensor) -> tf.Tensor:
        x = tf.cast(images, self._types.others)
        if self._shift is not None:
            x -= self._shift
        return tf.cast(x * self._factor, self._types.inputs)

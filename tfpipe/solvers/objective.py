"""What heads minimize, and what they are measured by. It alone knows bytes, scales and weights.

Conventions as in `model.softmax`. With w[h, n] the weight of example n for head h,

    cost of a minibatch = sum_n w[h, n] loss[h, n] / (examples in it * mean w[h])
    cost on a split     = sum_n w[h, n] loss[h, n] / sum_n w[h, n]
    error on a split    = the same with 1 for a wrong prediction and 0 for a right one in the place of the loss
    balanced error      = the error with balance[n] w[h, n] in the place of the weights in the upper sum

So the mean of the first over an epoch of full minibatches is the second, and l2 means the same for all weights. On a
split, examples of a class that heads leave out are wrong, and have no part in the cost.
"""

import itertools
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf

from tfpipe.compute import cpu, int8
from tfpipe.compute.programs import padded
from tfpipe.data.scaling import Scaling
from tfpipe.model import softmax
from tfpipe.pipeline.spans import Span

# For few heads a minibatch beyond this size trains in three parts. An epoch of MNIST in minibatches of 600 (1.8 MiB),
# shuffled, on 2 cores of an AMD EPYC: 17.8 ms as a whole, 11.8 in 2 parts, 12.1 in 3, 12.7 in 4; on 2 of an Intel Xeon:
# 33.5, 33.1, 27.8, 28.9. Of 200: 16.3 ms as a whole, 16.5 in 2 parts. With 40 rows of W 48 and 46, with 80 72 and 76.
_LARGEST_WHOLE = 1 << 20
_MOST_ROWS_IN_PARTS = 40

# What is measured on a split, in the order of `Objective.sums`; the last where there is a balance.
FIGURES = ("error", "cost", "balanced_error")

# What is computed in which type: the inputs, and all else (parameters, costs, gradients).
_TYPES = {
    "int8": (tf.float32, tf.float32),
    "float32": (tf.float32, tf.float32),
    "float64": (tf.float64, tf.float64),
    "bfloat16": (tf.bfloat16, tf.float32),
}


def arithmetic(precision: str, scaling: Scaling, dtype: np.dtype, batch_size: int, n_in: int, *, has_int8: bool) -> str:
    """In what type a run multiplies matrices: decided here, once. Computes nothing.

    Args:
      precision: float32, float64 or bfloat16.
      scaling: from images as stored to inputs.
      dtype: of the images as they are stored.
      batch_size: B, of the largest minibatch.
      n_in: D.
      has_int8: whether three products of int8 are faster here than one of float32.

    Returns:
      int8, where bytes are multiplied as bytes; else `precision`.
    """
    # A shift would have to be taken off sums, not off pixels: less exact for columns that hardly vary.
    stay_bytes = has_int8 and precision == "float32" and dtype == np.uint8 and scaling.shift is None
    return "int8" if stay_bytes and int8.pay(batch_size, n_in) else precision


def parameter_type(arithmetic: str) -> tf.DType:
    """Of W and b: float64 if that is what is multiplied, else float32."""
    return _TYPES[arithmetic][1]


class Objective(NamedTuple):
    """The examples of one split as heads see them: inputs, labels, weights. An argument of XLA programs.

    Attributes:
      shift: `[D]`, what is taken off each image; None: nothing.
      factor: `[]` or `[D]`, what it is multiplied with then.
      labels: `[N]` int32, in [0, K). N is padded: no minibatch takes the last ones.
      weights: `[C, N]` float32, at least 0: columns of weights, of which each head has one.
      total: `[C]` float64, the sums of the weights of those examples that count where it measures.
      mean: `[C]`, the mean weights of all examples.
      arithmetic: see there.
      widest: float32 or float64, to which images are rounded before all else: those of a run are float32 at most,
        wherever they lie.
      balance: `[N]` float64, by which a wrong prediction counts in the balanced error; None: that is not measured.
      is_known: `[N]` bool, whether heads have the class of an example in their softmax; None: they have all.
    """

    shift: tf.Tensor | None
    factor: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    total: tf.Tensor
    mean: tf.Tensor
    arithmetic: str
    widest: str
    balance: tf.Tensor | None
    is_known: tf.Tensor | None

    @classmethod
    def of(
        cls,
        scaling: Scaling,
        labels: np.ndarray,
        weights: np.ndarray,
        examples: int,
        arithmetic: str,
        widest: str = "float32",
        balance: np.ndarray | None = None,
        is_known: np.ndarray | None = None,
    ) -> Self:
        """The objective on labels `[n]` with weights `[C, n]`; where it measures, the first `examples` count.

        `balance` and `is_known` are of these, `[examples]`.
        """
        dtype = parameter_type(arithmetic)
        total = weights[:, :examples].sum(axis=1, dtype=np.float64)
        room = padded(len(labels)) - len(labels)

        def of_these(values: np.ndarray | None) -> tf.Tensor | None:
            return None if values is None else tf.constant(np.pad(values, (0, padded(len(labels)) - examples)))

        return cls(
            None if scaling.shift is None else tf.constant(scaling.shift, tf.float64),
            tf.constant(scaling.factor, tf.float64),
            tf.constant(np.pad(labels, (0, room))),
            tf.constant(np.pad(weights, ((0, 0), (0, room)))),
            tf.constant(total),
            tf.constant(weights.mean(axis=1, dtype=np.float64), dtype),
            arithmetic,
            widest,
            of_these(balance),
            of_these(is_known),
        )

    @property
    def n_figures(self) -> int:
        """F: how many of FIGURES it measures."""
        return len(FIGURES) - (self.balance is None)

    def cost(self, span: Span, i: tf.Tensor, W: tf.Tensor, b: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """`[H]`, the costs of minibatch number i, without any penalty: differentiable in W and b.

        Args:
          span: holds the minibatch.
          i: scalar, its number there.
          W: `[H, K, D]`.
          b: `[H, K]`.
          column: `[H]` int32, the column of weights of each head.
        """
        examples = tf.cast(tf.gather(span.counts, i), W.dtype) * tf.gather(self.mean, column)
        return self.loss(span, i, W, b, column) / examples

    def loss(self, span: Span, i: tf.Tensor, W: tf.Tensor, b: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """`[H]`, the weighted sums of the log losses of minibatch number i: as `cost` takes and gives it."""
        n_heads, n_out, _ = W.shape
        loss = tf.zeros(n_heads, W.dtype)
        for x, y, weight in self._minibatch(span, i, column, self._n_parts(span, n_heads * n_out)):
            loss += tf.reduce_sum(weight * softmax.log_losses(self.logits(x, W, b), y), axis=1)
        return loss

    def rows(self, span: Span, i: tf.Tensor, column: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Minibatch number i: inputs `[B, D]`, labels `[B]` and weights `[H or 1, B]`, 0 in places that none fills."""
        (whole,) = self._minibatch(span, i, column)
        return whole

    def sums(self, span: Span, W: tf.Tensor, b: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """`[F, H]` float64, over a span: sums by which FIGURES, times the total, are found.

        The weights of wrong predictions, the weighted log losses, and, with a balance, the former times that.
        """
        _, sums = tf.while_loop(
            lambda i, _: i < span.end,
            lambda i, sums: (i + 1, sums + _sums_of_minibatch(self, span, i, W, b, column)),
            (span.begin, tf.zeros([self.n_figures, b.shape[0]], tf.float64)),
        )
        return sums

    def predictions(self, span: Span, W: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The predicted classes (int32) and their probabilities over a span: `[T, H, B]` both."""
        shape = [b.shape[0], span.rows.shape[1]]
        classes = tf.TensorArray(tf.int32, size=span.rows.shape[0], element_shape=shape)
        confidences = tf.TensorArray(W.dtype, size=span.rows.shape[0], element_shape=shape)

        def predict(i: tf.Tensor, *found: tf.TensorArray) -> tuple[Any, ...]:
            of_minibatch = _predictions_of_minibatch(self, span, i, W, b)
            return i + 1, *(array.write(i, part) for array, part in zip(found, of_minibatch, strict=True))

        _, *found = tf.while_loop(lambda i, *_: i < span.end, predict, (span.begin, classes, confidences))
        return tuple(array.stack() for array in found)

    def logits(self, x: tf.Tensor, W: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`[H, K, n]` logits of `[H, K, D]` and `[H, K]` parameters for x as minibatches give it."""
        return softmax.logits(x, W * tf.cast(self.factor, W.dtype) if self._scales_W else W, b)

    @property
    def _scales_W(self) -> bool:
        """Whether W is scaled in the place of images: so bytes stay bytes, all of which bfloat16 holds too."""
        return self.arithmetic == "int8" or (self.arithmetic == "bfloat16" and self.shift is None)

    def _n_parts(self, span: Span, n_rows: int) -> int:
        """In how many parts a minibatch trains with `n_rows` rows of W."""
        batch_size = span.rows.shape[1]
        is_large = batch_size * span.images.shape[1] * parameter_type(self.arithmetic).size > _LARGEST_WHOLE
        # Bytes that stay bytes need no parts: 10.7 ms an epoch of MNIST, shuffled 12.1. Nor does what a single thread
        # takes in order: 12.2 ms, in parts 14.5 (EPYC).
        in_parts = is_large and n_rows <= _MOST_ROWS_IN_PARTS and self.arithmetic != "int8" and cpu.threads() > 1
        return min(3, batch_size) if in_parts else 1

    def _minibatch(
        self, span: Span, i: tf.Tensor, column: tf.Tensor, n_parts: int = 1
    ) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Minibatch number i, in parts of n examples: x `[n, D]` for `logits`, labels `[n]` and weights `[H or 1, n]`.

        By `tf.gather`: `rows[i]` compiles anew for every length in some forms, and in one gives wrong rows.
        """
        rows, examples = tf.gather(span.rows, i), tf.gather(span.examples, i)
        fills = tf.range(span.rows.shape[1]) < tf.gather(span.counts, i)
        labels, columns = tf.gather(self.labels, examples), tf.gather(self.weights, examples, axis=1)
        weights = columns if columns.shape[0] == 1 else tf.gather(columns, column)
        weights = tf.where(fills, tf.cast(weights, parameter_type(self.arithmetic)), 0)
        images = tf.gather(span.images, rows)
        prepare = int8.centered if self.arithmetic == "int8" else self._scaled
        # What several parts take from, XLA stores as it is: copied row by row, at the rate of memory. For a single one
        # it would cast every value as it is fetched, and wait for each row that lies far from the one before.
        bounds = [number * images.shape[0] // n_parts for number in range(n_parts + 1)]
        parts = [slice(begin, end) for begin, end in itertools.pairwise(bounds)]
        return [(prepare(images[part]), labels[part], weights[:, part]) for part in parts]

    def _scaled(self, images: tf.Tensor) -> tf.Tensor:
        inputs, others = _TYPES[self.arithmetic]
        if images.dtype == tf.float64:
            images = tf.cast(images, self.widest)
        # float64 is kept until the shift is off: a column may lie far from 0.
        if self._scales_W:
            return tf.cast(images, inputs)
        x = images if images.dtype == tf.float64 else tf.cast(images, others)
        if self.shift is not None:
            x -= tf.cast(self.shift, x.dtype)
        return tf.cast(x * tf.cast(self.factor, x.dtype), inputs)


def _sums_of_minibatch(
    objective: Objective, span: Span, i: tf.Tensor, W: tf.Tensor, b: tf.Tensor, column: tf.Tensor
) -> tf.Tensor:
    ((x, y, weights),) = objective._minibatch(span, i, column)
    z = objective.logits(x, W, b)
    wrong = tf.where(softmax.predictions(z) != y, weights, tf.zeros([b.shape[0], y.shape[0]], weights.dtype))
    # An example that does not count has no part in it, even if its loss is infinite.
    counts = weights
    if objective.is_known is not None:
        known = tf.gather(objective.is_known, tf.gather(span.examples, i))
        counts = tf.where(known, weights, tf.zeros([], weights.dtype))
    losses = tf.math.multiply_no_nan(softmax.log_losses(z, y), tf.broadcast_to(counts, wrong.shape))
    # Each summed apart: stacked first, 600 images and 32 heads took 1.60 ms in the place of 1.49 (EPYC).
    sums = tf.stack([tf.cast(tf.reduce_sum(of_each, axis=1), tf.float64) for of_each in (wrong, losses)])
    if objective.balance is None:
        return sums
    balance = tf.gather(objective.balance, tf.gather(span.examples, i))
    balanced = tf.reduce_sum(tf.cast(wrong, tf.float64) * balance, axis=1)
    return tf.concat([sums, balanced[tf.newaxis]], axis=0)


def _predictions_of_minibatch(
    objective: Objective, span: Span, i: tf.Tensor, W: tf.Tensor, b: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    ((x, _, _),) = objective._minibatch(span, i, tf.zeros(b.shape[0], tf.int32))
    z = objective.logits(x, W, b)
    return softmax.predictions(z), softmax.confidences(z)

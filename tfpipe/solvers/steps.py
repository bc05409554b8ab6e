"""The XLA programs: train a chunk of minibatches, count its errors, predict its classes."""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfpipe.compute import int8
from tfpipe.config import Head
from tfpipe.data.scaling import Scaling
from tfpipe.model import softmax
from tfpipe.pipeline.inputs import Chunk

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


def takes_bytes(scaling: Scaling, precision: str, *, multiplies_int8: bool) -> bool:
    """Whether bytes are multiplied as such. Computes nothing, so that TensorFlow can still be configured."""
    # A shift would have to be taken off sums, not off pixels: less exact for columns that hardly vary.
    return multiplies_int8 and scaling.shift is None and precision == "float32"


class Inputs:
    """From the rows of a chunk to what the model takes, and to its logits.

    Bytes stay bytes where the processor multiplies them fast: their scaling is then applied to W instead.

    Args:
      scaling: from images as stored to inputs.
      precision: float32, float64, or bfloat16.
      multiplies_int8: see Device.

    Attributes:
      parameter_type: of W and b: float64 if that is the precision, else float32.
    """

    def __init__(self, scaling: Scaling, precision: str = "float32", *, multiplies_int8: bool = False):
        self._types = _TYPES[precision]
        self.parameter_type = self._types.others
        self._shift = None if scaling.shift is None else tf.constant(scaling.shift, self._types.others)
        self._factor = tf.constant(scaling.factor, self._types.others)
        self._takes_bytes = takes_bytes(scaling, precision, multiplies_int8=multiplies_int8)

    def _stay_bytes(self, chunk: Chunk) -> bool:
        is_bytes = self._takes_bytes and chunk.images.dtype == tf.uint8
        return is_bytes and int8.pay(chunk.rows.shape[1], chunk.images.shape[1])

    def n_parts(self, chunk: Chunk, n_rows: int) -> int:
        """In how many parts a minibatch trains with `n_rows` rows of W."""
        if self._stay_bytes(chunk):
            return 1
        batch_size = chunk.rows.shape[1]
        is_large = batch_size * chunk.images.shape[1] * self._types.others.size > _LARGEST_WHOLE
        return min(3, batch_size) if is_large and n_rows <= _MOST_ROWS_IN_PARTS else 1

    def minibatch(self, chunk: Chunk, i: tf.Tensor, n_parts: int = 1) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Minibatch number i, in parts of n examples: x `[n, D]` for `logits`, labels `[n]` and weight `[n]`.

        By `tf.gather`: `rows[i]` compiles anew for every chunk length in some forms, and in one gives wrong rows.
        """
        rows, labels, weight = (tf.gather(part, i) for part in (chunk.rows, chunk.labels, chunk.weight))
        weight = tf.cast(weight, self._types.others)
        images = tf.gather(chunk.images, rows)
        prepare = int8.centered if self._stay_bytes(chunk) else self._scaled
        # What several parts take from, XLA stores as it is: copied row by row, at the rate of memory. For a single one
        # it would cast every value as it is fetched, and wait for each row that lies far from the one before. Bytes
        # that stay bytes need no parts: 10.7 ms an epoch of MNIST, shuffled 12.1.
        bounds = [number * images.shape[0] // n_parts for number in range(n_parts + 1)]
        parts = [slice(begin, end) for begin, end in itertools.pairwise(bounds)]
        return [(prepare(images[part]), labels[part], weight[part]) for part in parts]

    def _scaled(self, images: tf.Tensor) -> tf.Tensor:
        x = tf.cast(images, self._types.others)
        if self._shift is not None:
            x -= self._shift
        return tf.cast(x * self._factor, self._types.inputs)

    def logits(self, x: tf.Tensor, W: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """`[H, K, n]` logits of `[H, K, D]` and `[H, K]` parameters for x as `minibatch` gives it."""
        return softmax.logits(x, W * self._factor if x.dtype == tf.int8 else W, b)


def _of_minibatch(compute: Callable[..., Any]) -> Any:
    """What is computed of one minibatch, as a function in the graph of a program's loop.

    No `if` or `while` in it depends on a tensor, so AutoGraph need not read it: a step is traced in 0.12 s instead of
    0.36.
    """
    return tf.function(compute, autograph=False)


# One at a time: Python could not do more, and the first to be traced is the first to compile.
_tracing = threading.Lock()


class _Program:
    """An XLA program, compiled once for each set of shapes and types.

    Attributes:
      function: it, as TensorFlow has it.
    """

    def __init__(self, compute: Callable[..., Any]):
        self.function = tf.function(compute, jit_compile=True)
        self._traced: set[tuple[tuple[tf.TensorShape, tf.DType], ...]] = set()

    def __call__(self, *arguments: Any) -> Any:
        types = tuple((part.shape, part.dtype) for part in tf.nest.flatten(arguments))
        if types not in self._traced:
            # Threads that make a first call at once would all be taken for causes of tracing, of which TensorFlow
            # warns. What was traced, they compile side by side.
            with _tracing:
                self.function.get_concrete_function(*arguments)
            self._traced.add(types)
        return self.function(*arguments)


class Heads(NamedTuple):
    """H softmax regressions that train side by side: one read of each minibatch, one matrix product for all.

    Attributes:
      W: variable `[H, K, D]`, zeros at the start.
      b: variable `[H, K]`, zeros at the start.
      learning_rate: `[H]`.
      l2: `[H]`.
    """

    W: tf.Variable
    b: tf.Variable
    learning_rate: tf.Tensor
    l2: tf.Tensor


class Trainer:
    """Trains heads. All that varies from call to call is a tensor, and chunks have one shape.

    So `train_chunk` is compiled once for each number of heads.
    """

    def __init__(self, inputs: Inputs):
        self._inputs = inputs
        self._step = _of_minibatch(self._take_step)
        self.train_chunk = _Program(self._train_chunk)

    def at_zero(self, heads: Sequence[Head], n_in: int, n_out: int) -> Heads:
        """New heads of these settings."""
        dtype = self._inputs.parameter_type
        return Heads(
            tf.Variable(tf.zeros([len(heads), n_out, n_in], dtype), name="W"),
            tf.Variable(tf.zeros([len(heads), n_out], dtype), name="b"),
            tf.constant([head.learning_rate for head in heads], dtype),
            tf.constant([head.l2 for head in heads], dtype),
        )

    def _train_chunk(self, chunk: Chunk, heads: Heads, last_iteration: tf.Tensor) -> tf.Tensor:
        """Gradient descent on the minibatches of `chunk`, one step each.

        Args:
          chunk: minibatch number i is iteration `chunk.first + i`.
          heads: whose W and b are updated.
          last_iteration: `[H]` int64; in later iterations a head stands still.

        Returns:
          `[T, H]`: the cost of each minibatch, measured before its step, the L2 penalty not included; 0 where
          `chunk.steps` ends. XLA drops assertions, so whether a cost is finite is the caller's to look at.
        """
        costs = tf.TensorArray(heads.W.dtype, size=chunk.rows.shape[0], element_shape=heads.b.shape[:1])
        i = tf.constant(0)
        while i < chunk.steps:
            costs = costs.write(i, self._step(chunk, i, heads, last_iteration))
            i += 1
        return costs.stack()

    def _take_step(self, chunk: Chunk, i: tf.Tensor, heads: Heads, last_iteration: tf.Tensor) -> tf.Tensor:
        """One step, on minibatch number i: its cost, `[H]`."""
        W, b = heads.W, heads.b
        n_heads, n_out, _ = W.shape
        with tf.GradientTape() as tape:
            loss, count = tf.zeros(n_heads, W.dtype), tf.zeros([], W.dtype)
            for x, y, weight in self._inputs.minibatch(chunk, i, self._inputs.n_parts(chunk, n_heads * n_out)):
                loss += tf.reduce_sum(weight * softmax.log_losses(self._inputs.logits(x, W, b), y), axis=1)
                count += tf.reduce_sum(tf.cast(weight > 0, W.dtype))
            cost = loss / count
        g_W, g_b = tape.gradient(cost, (W, b))

        iteration = chunk.first + tf.cast(i, tf.int64)
        learning_rate = tf.where(iteration <= last_iteration, heads.learning_rate, 0)[:, tf.newaxis]
        l2 = heads.l2[:, tf.newaxis, tf.newaxis]
        W.assign(W - learning_rate[..., tf.newaxis] * (g_W + l2 * W))
        b.assign(b - learning_rate * g_b)
        return cost

    def graph(self, chunk: Chunk, heads: Heads, last_iteration: tf.Tensor) -> bytes:
        """TensorFlow's graph of one step, before XLA makes a program of it: a serialized GraphDef."""
        with _tracing:  # Nothing is traced if the program is there already.
            step = self._step.get_concrete_function(chunk, tf.constant(0), heads, last_iteration)
        return step.graph.as_graph_def().SerializeToString()


class Evaluator:
    """Measures softmax regressions that lie side by side, `W` `[H, K, D]` and `b` `[H, K]`; changes nothing.

    Each method is compiled once for each shape of `W` and of the tensor that holds the images.
    """

    def __init__(self, inputs: Inputs):
        self._inputs = inputs
        self._evaluate = _of_minibatch(self._evaluate_minibatch)
        self._predict = _of_minibatch(self._predict_minibatch)
        self.evaluate_chunk = _Program(self._evaluate_chunk)
        self.predict_chunk = _Program(self._predict_chunk)

    def _evaluate_chunk(self, chunk: Chunk, W: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The wrong predictions (int32) and the sum of the log losses of each minibatch: `[T, H]` both."""
        heads = len(b)
        wrong = tf.TensorArray(tf.int32, size=chunk.rows.shape[0], element_shape=[heads])
        losses = tf.TensorArray(W.dtype, size=chunk.rows.shape[0], element_shape=[heads])
        i = tf.constant(0)
        while i < chunk.steps:
            of_minibatch = self._evaluate(chunk, i, W, b)
            wrong = wrong.write(i, of_minibatch[0])
            losses = losses.write(i, of_minibatch[1])
            i += 1
        return wrong.stack(), losses.stack()

    def _evaluate_minibatch(
        self, chunk: Chunk, i: tf.Tensor, W: tf.Tensor, b: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        ((x, y, weight),) = self._inputs.minibatch(chunk, i)
        z = self._inputs.logits(x, W, b)
        mistaken = tf.logical_and(softmax.predictions(z) != y, weight > 0)
        wrong = tf.math.count_nonzero(mistaken, axis=1, dtype=tf.int32)
        return wrong, tf.reduce_sum(weight * softmax.log_losses(z, y), axis=1)

    def _predict_chunk(self, chunk: Chunk, W: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The predicted classes (int32) and their probabilities: `[T, H, B]` both."""
        shape = [len(b), chunk.rows.shape[1]]
        classes = tf.TensorArray(tf.int32, size=chunk.rows.shape[0], element_shape=shape)
        confidences = tf.TensorArray(W.dtype, size=chunk.rows.shape[0], element_shape=shape)
        i = tf.constant(0)
        while i < chunk.steps:
            of_minibatch = self._predict(chunk, i, W, b)
            classes = classes.write(i, of_minibatch[0])
            confidences = confidences.write(i, of_minibatch[1])
            i += 1
        return classes.stack(), confidences.stack()

    def _predict_minibatch(self, chunk: Chunk, i: tf.Tensor, W: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ((x, _, _),) = self._inputs.minibatch(chunk, i)
        z = self._inputs.logits(x, W, b)
        return softmax.predictions(z), softmax.confidences(z)

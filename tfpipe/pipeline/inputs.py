"""From the number of a minibatch to the minibatch: the input pipeline.

The tutorial's `givens` replace `x` and `y` by slice number `index` of the data. Here `index` is an element of
`tf.data.Dataset.range`, and its minibatch is a pure function of `(seed, index)`. So there is no shuffle buffer whose
state matters: any iteration can be computed from its number alone. For speed the numbers travel in chunks: the rows of
T consecutive minibatches go to one call of an XLA program, which takes the images from where they lie; or with the
images, where those come from a file that is larger than memory.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.pipeline.residency import HOST, Stored

# What travels at once: of data that is not at hand 22.3 ms an epoch of MNIST with its validation, where chunks of 8 MiB
# took 25.2 and chunks of 64 no less than 22.3.
_CHUNK_BYTES = 32 << 20
# Bounds the time of a chunk to about a second where the matrices are large.
_CHUNK_FLOPS = 100e9

# Functions of the data sets have no `if` and no `while` for AutoGraph, which would look for them for 0.1 s.
_as_written = tf.autograph.experimental.do_not_convert


class Chunk(NamedTuple):
    """T consecutive minibatches, of which the first `steps` count.

    Attributes:
      images: `[M, D]`, as stored: all of them, or those of this chunk.
      rows: `[T, B]` int64, the images of each minibatch.
      labels: `[T, B]` int32.
      weight: `[T, B]` float32: 0 for the rows that fill up a minibatch that is not full; for others 1, or what their
        class weighs in the training.
      first: scalar int64, the index of the first minibatch.
      steps: scalar int32 in [1, T].
    """

    images: tf.Tensor
    rows: tf.Tensor
    labels: tf.Tensor
    weight: tf.Tensor
    first: tf.Tensor
    steps: tf.Tensor

    def limited(self, steps: int) -> "Chunk":
        """The same chunk with another number of minibatches that count; 0 lets a program compile and do nothing."""
        return self._replace(steps=tf.constant(steps))


class MinibatchRows:
    """Which rows of N examples make minibatch `index`, for every `index` from 0.

    Minibatches are numbered through: with M of them in an epoch, number `index` is minibatch `index % M` of epoch
    `index // M`. Without `shuffle` each epoch goes through the examples in their order; with it, in an order that is
    drawn by NumPy's Philox generator from `(seed, epoch)`.

    Attributes:
      batch_size: B.
      shuffle: whether the order is drawn.
      per_epoch: M, the number of minibatches in an epoch; 0 if `drop_remainder` leaves none.
      examples: how many of the N examples an epoch counts.
    """

    def __init__(self, n_examples: int, batch_size: int, *, drop_remainder: bool, shuffle: bool = False, seed: int = 0):
        self.batch_size = batch_size
        full = n_examples // batch_size
        self.per_epoch = full if drop_remainder else -(-n_examples // batch_size)
        self.examples = full * batch_size if drop_remainder else n_examples
        self._total = n_examples
        self.shuffle = shuffle
        self._seed = seed
        self._weight = (np.arange(self.per_epoch * batch_size) < self.examples).astype(np.float32)
        self._weight.shape = (self.per_epoch, batch_size)
        # Two epochs: a chunk may straddle their border.
        self._rows_of = functools.lru_cache(maxsize=2)(self._draw)

    def _draw(self, epoch: int) -> np.ndarray:
        """The rows of an epoch, `[M, B]`."""
        order = np.arange(self._total)
        if self.shuffle:
            order = np.random.Generator(np.random.Philox(key=[self._seed, epoch])).permutation(self._total)
        # As many as M minibatches hold: cut, or filled up with the last.
        return np.pad(order[: self._weight.size], (0, max(0, self._weight.size - self._total)), "edge").reshape(
            self._weight.shape
        )

    def take(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows `[count, B]` int64 and their weights `[count, B]` float32, for minibatches `first`, `first + 1`, ...

        Places of a minibatch that no example fills point to a row that exists, with weight 0.
        """
        epoch, number = np.divmod(np.arange(first, first + count), self.per_epoch)
        # Every epoch in its order is the first.
        rows = [self._rows_of(int(e) if self.shuffle else 0)[number[epoch == e]] for e in np.unique(epoch)]
        return np.concatenate(rows), self._weight[number]


def chunk_size(iterations: int, batch_size: int, bytes_per_image: int, n_parameters: int) -> int:
    """T, such that chunks of T divide `iterations` with little waste and stay small in memory and time.

    Args:
      iterations: minibatches between two points at which the program looks up: validations, or one pass.
      batch_size: B.
      bytes_per_image: that travel with a chunk; 0 if the images are at hand.
      n_parameters: numbers in W, of all heads.
    """
    row = tf.int64.size + tf.int32.size + tf.float32.size  # Its number, its label, its weight.
    by_memory = _CHUNK_BYTES // (batch_size * (bytes_per_image + row))
    by_time = int(_CHUNK_FLOPS / (4 * batch_size * n_parameters))
    chunks = -(-iterations // max(1, min(by_memory, by_time)))
    return -(-iterations // chunks)


def training_chunks(
    stored: Stored,
    rows: MinibatchRows,
    *,
    iterations: int,
    validation_frequency: int,
    chunk: int,
    first: int = 0,
    class_weight: np.ndarray | None = None,
) -> Iterator[Chunk]:
    """Minibatches `first` to `iterations` - 1, in chunks that end at validations: every `validation_frequency`.

    With `class_weight`, `[K]` float32 above 0, that is the weight of an example, where it would be 1.
    """

    @_as_written
    def interval(start: tf.Tensor) -> tf.data.Dataset:
        begin = tf.maximum(start, tf.constant(first, tf.int64))
        return _spans(begin, tf.minimum(start + validation_frequency, tf.constant(iterations, tf.int64)), chunk)

    with tf.device(HOST):
        start = first // validation_frequency * validation_frequency
        spans = tf.data.Dataset.range(start, iterations, validation_frequency).flat_map(interval)
        return _chunks(stored, _numbered(stored, rows, spans, chunk, class_weight))


def evaluation_chunks(stored: Stored, rows: MinibatchRows, *, chunk: int) -> Iterator[Chunk]:
    """All minibatches of an epoch, over and over: the first chunk of the next pass is ready when it is asked for."""
    with tf.device(HOST):
        spans = _spans(tf.constant(0, tf.int64), tf.constant(rows.per_epoch, tf.int64), chunk)
        return _chunks(stored, _numbered(stored, rows, spans, chunk).cache().repeat())


def _spans(start: tf.Tensor, end: tf.Tensor, chunk: int) -> tf.data.Dataset:
    """`(first, steps)` of the chunks that cover minibatches `start` to `end` - 1."""

    @_as_written
    def span(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return first, tf.cast(tf.minimum(tf.constant(chunk, tf.int64), end - first), tf.int32)

    return tf.data.Dataset.range(start, end, chunk).map(span)


def _numbered(
    stored: Stored,
    rows: MinibatchRows,
    spans: tf.data.Dataset,
    chunk: int,
    class_weight: np.ndarray | None = None,
) -> tf.data.Dataset:
    """The fields of the chunks that `spans` describes, but for the images: in whose place are the rows of all."""
    labels = tf.constant(stored.labels)
    announce = stored.announcer(shuffle=rows.shuffle)

    def take(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, weight = rows.take(int(first), chunk)
        if announce:
            announce(row)
        return row, weight if class_weight is None else weight * class_weight[stored.labels[row]]

    @_as_written
    def number(first: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        row, weight = tf.numpy_function(take, [first], [tf.int64, tf.float32], stateful=False)
        row = tf.ensure_shape(row, [chunk, rows.batch_size])
        weight = tf.ensure_shape(weight, [chunk, rows.batch_size])
        return row + stored.first, tf.gather(labels, row), weight, first, steps

    return spans.map(number)


def _chunks(stored: Stored, numbered: tf.data.Dataset) -> Iterator[Chunk]:
    """The chunks, complete: with all images where these are at hand, else with their own."""
    if stored.at_hand:
        elements = _started(numbered)
        return (Chunk(stored.images, *element) for element in elements)

    @_as_written
    def bring(row: tf.Tensor, *others: tf.Tensor) -> Chunk:
        images = tf.gather(stored.images, tf.reshape(row, [-1]))
        return Chunk(
            tf.cast(images, stored.travel_type), tf.reshape(tf.range(tf.size(row, tf.int64)), row.shape), *others
        )

    return _started(numbered.map(bring))


def _started(chunks: tf.data.Dataset) -> Iterator[Any]:
    """Iterates over `chunks`, preparing one while another is in use."""
    options = tf.data.Options()
    # The autotuner has nothing to tune here, and its thread holds up the end of every run by a second. The optimizers
    # have nothing to improve, and copy the whole data set: 3.5 GB for a mapped file of 3, and 0.5 without them.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return iter(chunks.prefetch(1).with_options(options))

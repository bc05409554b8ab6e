"""From the number of a minibatch to the minibatch: the input pipeline.

The tutorial's `givens` replace `x` and `y` by slice number `index` of the data. Here `index` is an element of
`tf.data.Dataset.range`, and its minibatch is a pure function of `(seed, index)`. So there is no shuffle buffer whose
state matters: any iteration can be computed from its number alone. For speed the numbers travel in chunks: T
consecutive minibatches are gathered at once and go to one call of an XLA program.
"""

import functools
import mmap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from tfpipe.data import Examples
from tfpipe.data.arrays import ALIGNMENT
from tfpipe.data.limits import available_memory

# MNIST on 2 cores, chunks of at most 8, 16, 32, 64 MiB: 25.2, 23.6, 22.3, 22.3 ms an epoch with its validation.
_CHUNK_BYTES = 32 << 20
# Bounds the time of a chunk to about a second where the matrices are large.
_CHUNK_FLOPS = 100e9
# Evaluation comes back to the same chunks: up to this size of the split they are kept, which saves MNIST 1 ms of 3 a
# pass and takes no more memory than to prepare them again.
_CACHE_BYTES = 64 << 20
# Input is prepared on the host, whatever device trains.
_HOST = "/CPU:0"


class Chunk(NamedTuple):
    """T consecutive minibatches, of which the first `steps` count.

    Attributes:
      images: `[T, B, D]`, as stored.
      labels: `[T, B]` int32.
      weight: `[T, B]` float32: 1, or 0 for the rows that fill up a minibatch that is not full.
      first: scalar int64, the index of the first minibatch.
      steps: scalar int32 in [1, T].
    """

    images: tf.Tensor
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
        # Two epochs: a chunk may straddle their border.
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)

    def _draw_order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self._total)
        return np.random.Generator(np.random.Philox(key=[self._seed, epoch])).permutation(self._total)

    def take(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows `[count, B]` int64 and their weights `[count, B]` float32, for minibatches `first`, `first + 1`, ...

        Places of a minibatch that no example fills point to a row that exists, with weight 0.
        """
        index = np.arange(first, first + count)
        position = (index % self.per_epoch)[:, np.newaxis] * self.batch_size + np.arange(self.batch_size)
        counts = position < self.examples
        rows = np.empty_like(position)
        for epoch in np.unique(index // self.per_epoch):
            of_epoch = index // self.per_epoch == epoch
            rows[of_epoch] = self._order(int(epoch))[np.minimum(position[of_epoch], self.examples - 1)]
        return rows, counts.astype(np.float32)


def chunk_size(iterations: int, batch_size: int, bytes_per_image: int, n_parameters: int) -> int:
    """T, such that chunks of T divide `iterations` with little waste and stay small in memory and time.

    Args:
      iterations: minibatches between two points at which the program looks up: validations, or one pass.
      batch_size: B.
      bytes_per_image: of one image as stored.
      n_parameters: numbers in W, of all heads.
    """
    by_memory = _CHUNK_BYTES // (batch_size * bytes_per_image)
    by_time = int(_CHUNK_FLOPS / (4 * batch_size * n_parameters))
    chunks = -(-iterations // max(1, min(by_memory, by_time)))
    return -(-iterations // chunks)


def training_chunks(
    examples: Examples, rows: MinibatchRows, *, iterations: int, validation_frequency: int, chunk: int
) -> Iterator[Chunk]:
    """The first `iterations` minibatches, in chunks that end at validations: every `validation_frequency`."""

    def interval(start: tf.Tensor) -> tf.data.Dataset:
        return _spans(start, tf.minimum(start + validation_frequency, tf.constant(iterations, tf.int64)), chunk)

    with tf.device(_HOST):
        spans = tf.data.Dataset.range(0, iterations, validation_frequency).flat_map(interval)
        return _started(_gathered(examples, rows, spans, chunk))


def evaluation_chunks(examples: Examples, rows: MinibatchRows, *, chunk: int) -> Iterator[Chunk]:
    """All minibatches of an epoch, over and over: the first chunk of the next pass is ready when it is asked for."""
    with tf.device(_HOST):
        spans = _spans(tf.constant(0, tf.int64), tf.constant(rows.per_epoch, tf.int64), chunk)
        chunks = _gathered(examples, rows, spans, chunk)
        if examples.images.nbytes <= _CACHE_BYTES:
            chunks = chunks.cache()
        return _started(chunks.repeat())


def _spans(start: tf.Tensor, end: tf.Tensor, chunk: int) -> tf.data.Dataset:
    """`(first, steps)` of the chunks that cover minibatches `start` to `end` - 1."""

    def span(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return first, tf.cast(tf.minimum(tf.constant(chunk, tf.int64), end - first), tf.int32)

    return tf.data.Dataset.range(start, end, chunk).map(span)


def _gathered(examples: Examples, rows: MinibatchRows, spans: tf.data.Dataset, chunk: int) -> tf.data.Dataset:
    """The chunks that `spans` describes."""
    fetch = _fetcher(examples.images)
    labels = tf.constant(examples.labels)
    announce = _announcer(examples.images, shuffle=rows.shuffle)

    def take(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, weight = rows.take(int(first), chunk)
        if announce:
            announce(row)
        return row, weight

    def gather(first: tf.Tensor, steps: tf.Tensor) -> Chunk:
        row, weight = tf.numpy_function(take, [first], [tf.int64, tf.float32], stateful=False)
        row = tf.ensure_shape(row, [chunk, rows.batch_size])
        weight = tf.ensure_shape(weight, [chunk, rows.batch_size])
        return Chunk(fetch(row), tf.gather(labels, row), weight, first, steps)

    return spans.map(gather)


def _fetcher(images: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """How the images of rows `[T, B]` are fetched, `[T, B, D]`: from memory, or from a file that is mapped into it."""
    dtype = row_type(images)
    # A split is shared as the whole that it is a part of, because only that begins where TensorFlow wants a tensor to;
    # its rows are counted from there.
    whole = next((array for array in _maps(images) if _same_rows(array, images) and _can_be_shared(array)), None)
    # In bytes. A view that does not begin with a row of the whole is none of its rows.
    begin = 0 if whole is None else images.ctypes.data - whole.ctypes.data
    if whole is None or not images.flags.c_contiguous or begin % images[0].nbytes:
        if next(_maps(images), None) is not None:
            logging.info("a memory map that cannot be shared is copied into memory; open it in mode 'c', in C order")
        in_memory = tf.constant(np.asarray(images.reshape(len(images), -1), dtype))
        return lambda row: tf.gather(in_memory, row)

    first = begin // images[0].nbytes
    # A tensor that is the mapped file itself: tf.constant would copy it.
    mapped = tf.experimental.dlpack.from_dlpack(whole.reshape(len(whole), -1).__dlpack__())
    return lambda row: tf.cast(tf.gather(mapped, row + first), dtype)


def _announcer(images: np.ndarray, *, shuffle: bool) -> Callable[[np.ndarray], None] | None:
    """For a file that memory cannot hold: what tells the kernel which rows will be read; None for other data or orders.

    Rows of 3 kB in random order from a disk, with a cold cache: 1 MB/s as the kernel reads, which brings 128 kB around
    each row; 30 MB/s without that; 180 MB/s if it is told beforehand, so that it can read many rows at once.
    """
    whole = next(_maps(images), None)
    if whole is None or not images.flags.c_contiguous:
        return None
    file = whole._mmap  # type: ignore[attr-defined]
    begin = images.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data
    page, size = mmap.PAGESIZE, images[0].nbytes
    first_page = begin // page * page
    is_needed = shuffle and whole.nbytes >= available_memory()
    # Said in any case: the map may have served another run before.
    order = mmap.MADV_RANDOM if is_needed else mmap.MADV_NORMAL
    file.madvise(order, first_page, begin + images.nbytes - first_page)

    def announce(rows: np.ndarray) -> None:
        starts = begin + np.sort(rows, axis=None) * size
        firsts = starts // page * page
        for first, length in zip(firsts.tolist(), (starts + size - firsts).tolist(), strict=True):
            file.madvise(mmap.MADV_WILLNEED, first, length)

    return announce if is_needed else None


def _maps(images: np.ndarray) -> Iterator[np.ndarray]:
    """The memory maps that `images` is a view of, the whole file's first."""
    maps = []
    array: Any = images
    while isinstance(array, np.memmap) and array._mmap is not None:  # type: ignore[attr-defined]
        maps.append(array)
        array = array.base
    return reversed(maps)


def _same_rows(array: np.ndarray, other: np.ndarray) -> bool:
    return array.shape[1:] == other.shape[1:] and array.dtype == other.dtype


def _can_be_shared(array: np.ndarray) -> bool:
    """Whether TensorFlow can use the array where it lies; from_dlpack ends the process where the alignment is wrong."""
    flags = array.flags
    return flags.c_contiguous and flags.writeable and array.dtype.isnative and array.ctypes.data % ALIGNMENT == 0


def row_type(images: np.ndarray) -> np.dtype:
    """The type in which minibatches of `images` travel: as stored, in the machine's byte order, float32 at most."""
    return np.dtype(np.float32) if images.dtype.itemsize > 4 else images.dtype.newbyteorder("=")


def _started(chunks: tf.data.Dataset) -> Iterator[Chunk]:
    """Iterates over `chunks`, preparing one while another is in use."""
    options = tf.data.Options()
    # The autotuner has nothing to tune here, and its thread holds up the end of every run by a second. The optimizers
    # have nothing to improve, and copy the whole data set: 3.5 GB for a mapped file of 3, and 0.5 without them.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return iter(chunks.prefetch(1).with_options(options))

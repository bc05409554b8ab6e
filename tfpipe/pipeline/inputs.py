"""From the number of a minibatch to the minibatch: the input pipeline.

The tutorial's `givens` replace `x` and `y` by slice number `index` of the data. Here `index` is an element of
`tf.data.Dataset.range`, and its minibatch is a pure function of `(seed, index)`: see `sampler`. So any iteration can be
computed from its number alone. For speed the numbers travel in spans: the rows of T consecutive minibatches go to one
call of an XLA program, which takes the images from where they lie; or with the images, where those come from a file
that is larger than memory.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import padded
from tfpipe.pipeline.residency import HOST, Resident
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import Span

# Functions of the data sets have no `if` and no `while` for AutoGraph, which would look for them for 0.1 s.
_as_written = tf.autograph.experimental.do_not_convert
_TYPES = (tf.int64, tf.int64, tf.int32, tf.int64, tf.int32, tf.int32)


def training_spans(
    split: Resident, sampler: Sampler, *, steps: int, period: int, length: int, first: int = 0
) -> Iterator[Span]:
    """Minibatches `first` to `steps` - 1, in spans of at most `length` that end at multiples of `period`.

    They end where they would end from the beginning on: the first one may have minibatches that do not count any more.
    """
    a_period = -(-period // length)

    def bounds(number: int) -> tuple[int, int, int]:
        periods, part = divmod(number, a_period)
        start = periods * period + part * length
        return start, max(0, first - start), min(length, (periods + 1) * period - start, steps - start)

    periods, rest = divmod(first, period)
    start = periods * a_period + rest // length
    end = steps // period * a_period + -(-(steps % period) // length)
    return _started(split, sampler, tf.data.Dataset.range(start, end), bounds, length)


def evaluation_spans(split: Resident, sampler: Sampler, *, length: int) -> Iterator[Span]:
    """All minibatches of an epoch, over and over: the first span of the next pass is ready when it is asked for."""

    def bounds(number: int) -> tuple[int, int, int]:
        return number * length, 0, min(length, sampler.per_epoch - number * length)

    a_pass = -(-sampler.per_epoch // length)
    return _started(split, sampler, tf.data.Dataset.range(a_pass), bounds, length, repeats=True)


def _started(
    split: Resident, sampler: Sampler, numbers: tf.data.Dataset, bounds: Any, length: int, *, repeats: bool = False
) -> Iterator[Span]:
    """Iterates over the spans of these `numbers`, and prepares one while another is in use."""
    read_ahead = split.read_ahead(shuffle=sampler.shuffle)
    # Spans of about as many minibatches are of one shape, and one program's; but images do not travel for nothing.
    room = padded(length) - length if split.is_resident else 0

    def take(number: np.ndarray) -> tuple[np.ndarray, ...]:
        first, begin, end = bounds(int(number))
        examples, counts = sampler.take(first, length)
        rows = split.rows[examples]
        if read_ahead:
            read_ahead(rows)
        filled = (np.pad(part, [(0, room)] + [(0, 0)] * (part.ndim - 1)) for part in (rows, examples, counts))
        return *filled, np.array(first), np.array(begin, np.int32), np.array(end, np.int32)

    shape = [length + room, sampler.batch_size]
    shapes: tuple[list[int], ...] = (shape, shape, shape[:1], [], [], [])

    @_as_written
    def span(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = tf.numpy_function(take, [number], _TYPES, stateful=False)
        return tuple(tf.ensure_shape(part, of_part) for part, of_part in zip(parts, shapes, strict=True))

    @_as_written
    def with_images(rows: tf.Tensor, *others: tf.Tensor) -> Span:
        images = tf.gather(split.images, tf.reshape(rows, [-1]))
        return Span(tf.cast(images, split.travel_type), tf.reshape(tf.range(tf.size(rows, tf.int64)), shape), *others)

    with tf.device(HOST):
        spans = numbers.map(span)
        if repeats:
            spans = spans.cache().repeat()
        if split.is_resident:
            return (Span(split.images, *parts) for parts in _iterator(spans))
        return _iterator(spans.map(with_images))


def _iterator(spans: tf.data.Dataset) -> Iterator[Any]:
    options = tf.data.Options()
    # The autotuner has nothing to tune here, and its thread holds up the end of every run by a second. The optimizers
    # have nothing to improve, and copy the whole data set: 3.5 GB for a mapped file of 3, and 0.5 without them.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return iter(spans.prefetch(1).with_options(options))

"""From the number of a minibatch to the minibatch: the input pipeline.

The tutorial's `givens` replace `x` and `y` by slice number `index` of the data. Here `index` is an element of
`tf.data.Dataset.range`, and its minibatch is a pure function of `(seed, index)`: see `sampler`. So any iteration can be
computed from its number alone. For speed the numbers travel in spans: the rows of T consecutive minibatches go to one
call of an XLA program, which takes the images from where they lie; or with the images, where those come from a file
that is larger than memory.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

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

    def take(number: np.ndarray) -> tuple[np.ndarray, ...]:
        return _parts(split, sampler, length, *bounds(int(number)))

    with tf.device(HOST):
        span = _from_numpy(split, sampler, length, take, shuffle=sampler.shuffle)
        return _spans(split, tf.data.Dataset.range(start, end).map(span))


def evaluation_spans(
    split: Resident, sampler: Sampler, *, length: int, bounds: Sequence[tuple[int, int]] | None = None
) -> Iterator[Span]:
    """Minibatches of an epoch, over and over: the first span of the next pass is ready when it is asked for.

    Args:
      split: where the images are.
      sampler: which examples make a minibatch.
      length: T.
      bounds: of each span its first minibatch, and how many from there on count, at most T; None: all of the epoch,
        one after the other.
    """
    if bounds is None:
        firsts = range(0, sampler.per_epoch, length)
        bounds = [(first, min(length, sampler.per_epoch - first)) for first in firsts]

    def take(first: int, count: int) -> tuple[np.ndarray, ...]:
        return _parts(split, sampler, length, first, 0, count)

    with tf.device(HOST):
        if split.is_resident:
            every = tuple(map(np.stack, zip(*itertools.starmap(take, bounds), strict=True)))
            return _spans(split, tf.data.Dataset.from_tensor_slices(every).repeat())
        # Span by span: of ten million rows their numbers alone would be several times 160 MB.
        numbers = tf.data.Dataset.from_tensor_slices(np.array(bounds))
        of_span = _from_numpy(split, sampler, length, lambda pair: take(*pair.tolist()), shuffle=False)
        return _spans(split, numbers.map(of_span).repeat())


def _from_numpy(
    split: Resident,
    sampler: Sampler,
    length: int,
    take: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    *,
    shuffle: bool,
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """What `take` gives, as a function of tensors, which tells the kernel of the rows where that helps."""
    read_ahead = split.read_ahead(shuffle=shuffle)
    shape = [_room(split, length), sampler.batch_size]
    shapes: tuple[list[int], ...] = (shape, shape, shape[:1], [], [], [])

    def told(number: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = take(number)
        if read_ahead:
            read_ahead(parts[0])
        return parts

    @_as_written
    def span(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = tf.numpy_function(told, [number], _TYPES, stateful=False)
        return tuple(tf.ensure_shape(part, of_part) for part, of_part in zip(parts, shapes, strict=True))

    return span


def _room(split: Resident, length: int) -> int:
    """T: spans of about as many minibatches are one program's; but images do not travel for nothing."""
    return padded(length) if split.is_resident else length


def _parts(split: Resident, sampler: Sampler, length: int, first: int, begin: int, end: int) -> tuple[np.ndarray, ...]:
    """What a span of minibatches `first` to `first + length` - 1 consists of, but for the images: `rows` are in all."""
    examples, counts = sampler.take(first, length)
    room = _room(split, length) - length
    filled = (
        np.pad(part, [(0, room)] + [(0, 0)] * (part.ndim - 1)) for part in (split.rows[examples], examples, counts)
    )
    return *filled, np.array(first), np.array(begin, np.int32), np.array(end, np.int32)


def _spans(split: Resident, numbered: tf.data.Dataset) -> Iterator[Span]:
    """Iterates over the spans, with all images where these are resident, else with their own; prepares one ahead."""

    @_as_written
    def with_images(rows: tf.Tensor, *others: tf.Tensor) -> Span:
        images = tf.gather(split.images, tf.reshape(rows, [-1]))
        own_rows = tf.reshape(tf.range(tf.size(rows, tf.int64)), rows.shape)
        return Span(tf.cast(images, split.travel_type), own_rows, *others)

    spans = numbered if split.is_resident else numbered.map(with_images)
    options = tf.data.Options()
    # The autotuner has nothing to tune here, and its thread holds up the end of every run by a second. The optimizers
    # have nothing to improve, and copy the whole data set: 3.5 GB for a mapped file of 3, and 0.5 without them.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    elements = iter(spans.prefetch(1).with_options(options))
    return (Span(split.images, *parts) for parts in elements) if split.is_resident else elements

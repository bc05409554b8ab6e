"""Spans: consecutive minibatches that are trained, or measured, in one call of an XLA program."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import tensorflow as tf

# What travels at once: of data that is not resident 22.3 ms an epoch of MNIST with its validation, where spans of 8 MiB
# took 25.2 and spans of 64 no less than 22.3.
SPAN_BYTES = 32 << 20
# Bounds the time of a span to about a second where the matrices are large.
SPAN_FLOPS = 100e9
# Of the parameters that are kept for the validations of a span, with what fills up.
SPAN_KEPT_BYTES = 16 << 20


class Span(NamedTuple):
    """T consecutive minibatches, of which those from `begin` to before `end` count.

    Attributes:
      images: `[M, D]`, as stored: all of them, or those of this span.
      rows: `[T, B]` int64, the rows of each minibatch in `images`.
      examples: `[T, B]` int64, the numbers of the same in their split, by which labels and weights are found.
      counts: `[T]` int32, how many of a minibatch's B places an example fills; the others repeat one.
      first: scalar int64, how many minibatches come before the first of these.
      begin, end: scalars int32, 0 <= begin <= end <= T.
    """

    images: tf.Tensor
    rows: tf.Tensor
    examples: tf.Tensor
    counts: tf.Tensor
    first: tf.Tensor
    begin: tf.Tensor
    end: tf.Tensor

    def part(self, begin: int, end: int) -> Self:
        """The same span with other minibatches that count; where there are none a program compiles and does nothing."""
        return self._replace(begin=tf.constant(begin), end=tf.constant(end))


def span_length(
    minibatches: int, batch_size: int, bytes_per_image: int, n_parameters: int, most_bytes: int, most_flops: float
) -> int:
    """T, such that spans of T divide `minibatches` with little waste and stay small in memory and time.

    Args:
      minibatches: those between two points at which the program looks up: validations, or one pass.
      batch_size: B.
      bytes_per_image: that travel with a span; 0 if the images are resident.
      n_parameters: numbers in W, of all heads.
      most_bytes: of what travels.
      most_flops: floating-point operations of a span.
    """
    row = 2 * tf.int64.size  # Its number in the images and in the split.
    by_memory = most_bytes // (batch_size * (bytes_per_image + row))
    by_time = int(most_flops / (4 * batch_size * n_parameters))
    spans = -(-minibatches // max(1, min(by_memory, by_time)))
    return -(-minibatches // spans)


class Spans:
    """Spans one after the other, cut where the program wants to look up.

    Args:
      spans: in their order.
      steps: how many minibatches come before the first one that counts.
    """

    def __init__(self, spans: Iterator[Span], steps: int):
        self._spans = spans
        self._span = next(spans, None)
        self._end = 0
        self._read(steps)

    def _read(self, steps: int) -> None:
        """Brings forward the span that holds the next minibatch."""
        while self._span is not None and (end := int(self._span.first) + int(self._span.end)) <= steps:
            self._span = next(self._spans, None)
        if self._span is not None:
            self._first, self._end = int(self._span.first), end

    @property
    def nothing(self) -> Span | None:
        """A span of which no minibatch counts, to compile programs on; None: no minibatch is left."""
        return None if self._span is None else self._span.part(0, 0)

    def end_after(self, steps: int) -> int:
        """After how many steps the span ends that holds the next one after `steps`; 0 if there is none."""
        self._read(steps)
        return 0 if self._span is None else self._end

    def take(self, steps: int, until: int) -> Span:
        """The minibatches after `steps`, up to `until` steps at most; there must be one."""
        self._read(steps)
        assert self._span is not None
        return self._span.part(steps - self._first, min(until, self._end) - self._first)

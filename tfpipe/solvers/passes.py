"""Passes over all training rows: what heads lose on them, and how that changes with W and b.

The rows are cut into sixteen blocks, or fewer where these would be small, whose sums are added two by two, as in a
binary tree. So the sums are the same to the bit however many threads, or machines, have a part of the blocks.
Rows of a file that memory cannot hold come span by span: several blocks, or a piece of a block, which begins with the
sums of the piece before.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import Program, padded
from tfpipe.compute.workers import Workers
from tfpipe.model import softmax
from tfpipe.pipeline import inputs
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import SPAN_BYTES, Span
from tfpipe.solvers.objective import Objective, parameter_type

BLOCKS = 16
# Of a block: it takes longer to add the gradients of fewer than to find them.
_FEWEST_ROWS = 64
# So many numbers, rows times columns times classes times heads, take no longer than a call of a program; and of a head
# alone no longer in float64 than in float32.
SMALL = 50_000_000
# Minibatches up to so many rows have one of few sizes, so that programs for about as many rows are one; larger ones are
# a multiple of so many: MNIST's 625 as 768 left the last three of the blocks empty, and one of two threads idle for a
# third of its time.
_MOST_OF_FEW_SIZES, _STEP = 256, 16
# A loss beyond has a class that the head leaves out.
LEFT_OUT = 1e29
# A minibatch that stays in a core's cache, with what is computed of it. But of about so many rows at least, where a
# block has them: each minibatch goes through W and its gradient.
MINIBATCH_BYTES, FEWEST_IN_A_MINIBATCH = 2 << 20, 64
# Of the logits of a minibatch, in float64: short rows are many in a minibatch, of which each has a logit for each class
# of each head.
LOGITS_BYTES = 64 << 20


class Sums(NamedTuple):
    """Of the rows of a pass, weighted, for each of H heads.

    Attributes:
      loss: `[H]` float64, of the log losses.
      G: `[H, K, D]` float64, its gradient in W: the sum of (p - y) x.
      r: `[H, K]` float64, its gradient in b: the sum of p - y.
    """

    loss: np.ndarray
    G: np.ndarray
    r: np.ndarray

    def joined(self, other: Self) -> Self:
        """Of these rows and others."""
        return type(self)(*(a + b for a, b in zip(self, other, strict=True)))


class Cut(NamedTuple):
    """How rows are cut into blocks, and these into minibatches: by their number and sizes alone.

    Attributes:
      n: how many rows.
      blocks: how many blocks, a power of two; the last ones may be empty.
      per_block: minibatches in a block.
      batch_size: rows in a minibatch; the last one may have fewer.
    """

    n: int
    blocks: int
    per_block: int
    batch_size: int

    @classmethod
    def of(cls, n: int, n_in: int, n_columns: int) -> Self:
        """Of n rows of D columns; `n_columns` is the number of heads that are measured side by side, times classes."""
        blocks = BLOCKS
        while blocks > 1 and n < blocks * _FEWEST_ROWS:
            blocks //= 2
        of_block = -(-n // blocks)
        by_logits = -(-of_block * n_columns * tf.float64.size // LOGITS_BYTES)
        by_rows = min(
            round(of_block * n_in * tf.float32.size / MINIBATCH_BYTES), round(of_block / FEWEST_IN_A_MINIBATCH)
        )
        per_block = max(1, by_rows, by_logits)
        batch_size = -(-of_block // per_block)
        few_sizes = padded(batch_size) if batch_size <= _MOST_OF_FEW_SIZES else -(-batch_size // _STEP) * _STEP
        return cls(n, blocks, per_block, few_sizes)

    def branch(self, begin: int, end: int) -> tuple[Self, slice]:
        """Blocks `begin` to `end`, a branch of the tree, as if they were all; and which of the rows those are."""
        bounds = (min(block * self.per_block * self.batch_size, self.n) for block in (begin, end))
        rows = slice(*bounds)
        return self._replace(n=rows.stop - rows.start, blocks=end - begin), rows


class Passes:
    """Sums over the training rows, minibatch by minibatch, by as many threads as the device runs programs.

    Args:
      split: the training rows.
      workers: who run the programs.
      cut: how the rows are cut.
      span_bytes: of images that travel at once, at most, or a minibatch.

    Attributes:
      n: how many rows.
      workers: likewise.
    """

    def __init__(self, split: Resident, workers: Workers, cut: Cut, span_bytes: int = SPAN_BYTES):
        blocks = cut.blocks
        self._per_block = cut.per_block
        sampler = Sampler(cut.n, cut.batch_size, drop_remainder=False)
        self.n = cut.n
        self.workers = workers
        bytes_of_minibatch = split.bytes_per_image * sampler.batch_size
        # A power of two, so that each span is a branch of the tree.
        while blocks > 1 and blocks * self._per_block * bytes_of_minibatch > span_bytes:
            blocks //= 2
        self._blocks = blocks
        self._per_epoch, self._batch_size = sampler.per_epoch, sampler.batch_size
        length, bounds = blocks * self._per_block, None
        self._pieces = 1
        if length * bytes_of_minibatch > span_bytes:  # Of a single block.
            self._pieces = -(-self._per_block // max(1, span_bytes // bytes_of_minibatch))
            length = -(-self._per_block // self._pieces)
            bounds = [self._bounds_of_piece(*piece, length) for piece in self._order()]
        self._length = length
        self._n_spans = len(bounds) if bounds else -(-sampler.per_epoch // length)
        self._spans: Iterator[Span] = inputs.evaluation_spans(split, sampler, length=length, bounds=bounds)
        self._whole = next(self._spans) if self._n_spans == 1 else None

    def _order(self) -> Iterator[tuple[int, int]]:
        """Blocks and their pieces: in turn those of a block for each thread."""
        blocks = range(-(-self._per_epoch // self._per_block))
        for begin in range(0, len(blocks), self._n_threads):
            for piece in range(self._pieces):
                yield from ((block, piece) for block in blocks[begin : begin + self._n_threads])

    def _bounds_of_piece(self, block: int, piece: int, length: int) -> tuple[int, int]:
        """Where a piece of `length` minibatches begins, and how many of them count."""
        end = min((block + 1) * self._per_block, self._per_epoch)
        first = min(block * self._per_block + piece * length, end)
        return first, min(length, end - first)

    @property
    def _n_threads(self) -> int:
        """As many as work side by side: a power of two."""
        return 1 << (self.workers.device.programs.bit_length() - 1)

    def sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> Sums:
        """The sums for heads with parameters `[H, K, D]` and `[H, K]`, and columns of weights `[H]` int32."""
        arguments = objective, *_parameters(objective, W, b), tf.constant(column)
        branches = self._of_pieces(*arguments) if self._pieces > 1 else self._of_blocks(*arguments)
        return Sums(*(_tree(np.stack(of_branches)) for of_branches in zip(*branches, strict=True)))

    def _of_blocks(self, *arguments: Any) -> list[list[np.ndarray]]:
        """The sums of branches of the tree, one after the other."""
        branches: list[list[np.ndarray]] = []
        for parts in self._rounds():
            shape = self._blocks // len(parts), tf.constant(self._per_block)
            calls = self.workers.map(lambda part, of=shape: _sums(part, *of, None, *arguments), parts)
            branches += [[_tree(array.numpy()) for array in call] for call in calls]
        return branches

    def _of_pieces(self, *arguments: Any) -> list[list[np.ndarray]]:
        """The sums of blocks: of each piece by piece."""
        _, W, b, _ = arguments
        shape = 1, tf.constant(self._length)
        nothing = [tf.zeros((1, *of), tf.float64) for of in (b.shape[:1], W.shape, b.shape)]
        calls: dict[int, Future[Any]] = {}  # Of each block, for the last of its pieces so far.
        for block, piece in self._order():
            # Rows come when the thread that takes them has ended: no more are held than threads work with.
            sums = nothing
            if piece:
                sums = calls[block].result()
            elif block >= self._n_threads:
                calls[block - self._n_threads].result()
            calls[block] = self.workers.start(_sums, next(self._spans), *shape, sums, *arguments)
        return [[array[0].numpy() for array in call.result()] for call in calls.values()]

    def _rounds(self) -> Iterator[list[Span]]:
        """All rows: spans, or parts of one, that the threads have side by side."""
        left = self._n_spans
        while left:
            if self._pieces > 1:
                parts = [next(self._spans) for _ in range(min(self._n_threads, left))]
                left -= len(parts)
            else:
                parts = self._parts(self._whole or next(self._spans))
                left -= 1
            yield parts
            parts.clear()  # Not held while the next ones come.

    def compile_sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> None:
        """Has XLA begin with the program of `sums` for such heads, beside what follows.

        Where the rows go through memory span by span, that is left to the first call.
        """
        if self._whole:
            shape = self._blocks // len(self._parts(self._whole)), tf.constant(self._per_block)
            self._begin(_sums, *shape, None, objective, *_parameters(objective, W, b), tf.constant(column))

    def program(
        self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray
    ) -> tuple[Program, tuple[Any, ...]]:
        """What one thread calls for `sums`, and with what, where all rows are on the device."""
        assert self._whole
        shape = self._blocks, tf.constant(self._per_block)
        return _sums, (self._whole, *shape, None, objective, *_parameters(objective, W, b), tf.constant(column))

    def compile_losses(self, objective: Objective, W: np.ndarray, b: np.ndarray) -> None:
        """As `compile_sums`, for `losses`."""
        if self._whole:
            self._begin(_losses, objective, *_parameters(objective, W, b))

    def _begin(self, program: Program, *arguments: Any) -> None:
        """Traces a program, and has a thread compile it, by a call on no minibatch."""
        assert self._whole
        nothing = self._whole.part(0, 0)
        self.workers.start(program.traced(nothing, *arguments), nothing, *arguments)

    def losses(self, objective: Objective, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each head, as in `sums`, loses on each of the n rows, and whether it is wrong there.

        Returns:
          `[H, n]` float32 log losses, NaN for a class that the head leaves out; `[H, n]` bool.
        """
        arguments = _parameters(objective, W, b)
        n = self._per_epoch * self._batch_size
        loss, wrong = np.empty((len(W), n), np.float32), np.empty((len(W), n), bool)

        def take(part: Span) -> None:
            begin, end = int(part.begin), int(part.end)
            of_part = slice(*((int(part.first) + i) * self._batch_size for i in (begin, end)))
            for found, array in zip((loss, wrong), _losses(part, objective, *arguments), strict=True):
                found[:, of_part] = np.moveaxis(array.numpy()[begin:end], 1, 0).reshape(len(W), -1)

        for parts in self._rounds():
            self.workers.map(take, parts)
        return loss[:, : self.n], wrong[:, : self.n]

    def _parts(self, span: Span) -> list[Span]:
        """The span in branches of the tree, one for each thread."""
        n_parts = min(self._n_threads, self._blocks)
        length = self._blocks // n_parts * self._per_block
        end = int(span.end)
        return [span.part(min(i * length, end), min((i + 1) * length, end)) for i in range(n_parts)]


@Program
def _sums(
    span: Span,
    n_blocks: int,
    per_block: tf.Tensor,
    before: list[tf.Tensor] | None,
    objective: Objective,
    W: tf.Tensor,
    b: tf.Tensor,
    column: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """Of each block, `[n_blocks, ...]`: loss, and its gradients in W and b; added to those of a piece `before`."""

    def of_minibatch(i: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch((W, b))
            loss = objective.loss(span, i, W, b, column)
        return loss, *tape.gradient(loss, (W, b))

    def block(j: tf.Tensor, *found: tf.TensorArray) -> tuple[Any, ...]:
        begin = span.begin + j * per_block
        end = tf.minimum(begin + per_block, span.end)
        _, *sums = tf.while_loop(
            lambda i, *_: i < end,
            lambda i, *sums: (i + 1, *(a + b for a, b in zip(sums, of_minibatch(i), strict=True))),
            (begin, *start),
        )
        return j + 1, *(a.write(j, tf.cast(b, tf.float64)) for a, b in zip(found, sums, strict=True))

    if before is None:
        start = tf.zeros(b.shape[:1], W.dtype), W * 0, b * 0
    else:
        start = tuple(tf.cast(part[0], W.dtype) for part in before)
    arrays = [tf.TensorArray(tf.float64, size=n_blocks, element_shape=part.shape) for part in start]
    _, *found = tf.while_loop(lambda j, *_: j < n_blocks, block, (tf.constant(0), *arrays))
    return tuple(array.stack() for array in found)


@Program
def _losses(span: Span, objective: Objective, W: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each minibatch, `[T, H, B]`: float32 losses, NaN where the head leaves out the class; and who is wrong."""
    shape = [W.shape[0], span.rows.shape[1]]

    def of_minibatch(i: tf.Tensor, *found: tf.TensorArray) -> tuple[Any, ...]:
        x, y, _ = objective.rows(span, i, tf.zeros(1, tf.int32))
        z = objective.logits(x, W, b)
        loss = softmax.log_losses(z, y)
        loss = tf.cast(tf.where(loss < LEFT_OUT, loss, np.nan), tf.float32)
        return i + 1, *(a.write(i, part) for a, part in zip(found, (loss, softmax.predictions(z) != y), strict=True))

    arrays = [tf.TensorArray(of, size=span.rows.shape[0], element_shape=shape) for of in (tf.float32, tf.bool)]
    _, *found = tf.while_loop(lambda i, *_: i < span.end, of_minibatch, (span.begin, *arrays))
    loss, wrong = (array.stack() for array in found)
    return loss, wrong


def _parameters(objective: Objective, W: np.ndarray, b: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    dtype = parameter_type(objective.arithmetic)
    return tf.constant(W, dtype), tf.constant(b, dtype)


def _tree(array: np.ndarray) -> np.ndarray:
    """The sum along the first axis, two by two; its length is a power of two, or what is missing counts nothing."""
    while len(array) > 1:
        if len(array) % 2:
            array = np.concatenate([array, np.zeros_like(array[:1])])
        array = array[0::2] + array[1::2]
    return array[0]

"""The heads of a run in groups: as many as the device has cores, each trained and measured by a program of its own.

Heads have nothing to do with each other, so their cores have neither: none waits for another before a chunk ends, where
the threads of one program meet after each product. 64 heads on MNIST, two cores of an Intel Xeon: 195 ms an epoch in
two groups, 300 in one.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.compute import int8
from tfpipe.compute.device import Device, Workers
from tfpipe.config import Head, TrainConfig
from tfpipe.data import Splits
from tfpipe.pipeline import residency
from tfpipe.pipeline.inputs import Chunk
from tfpipe.solvers.steps import Trainer, takes_bytes

# Products of fewer operations are faster with one thread: to wake a second one takes 35 microseconds on an Intel Xeon,
# and what each multiplies lies in the other's cache. Microseconds a step of one head, with one thread and with two:
# bytes, 9e6 operations 151 and 221, 28e6 327 and 386, 38e6 558 and 450; float32, 0.13e6 24 and 40, 9e6 584 and 454.
_FLOPS_OF_ONE_THREAD = {"bytes": 30e6, "floats": 3e6}


def multiplies_bytes(config: TrainConfig, splits: Splits, place: Device) -> bool:
    """Whether a run on `place` trains on bytes as they are: see `products`."""
    if not takes_bytes(splits.scaling, config.precision, multiplies_int8=place.multiplies_int8):
        return False
    return splits.train.images.dtype == np.uint8 and int8.pay(min(config.batch_size, len(splits.train)), splits.n_in)


def wants_one_thread(config: TrainConfig, splits: Splits, place: Device) -> bool:
    """Whether the programs of a run on `place` are so small that they do best with one thread each.

    The tutorial's run on two cores of an Intel Xeon: 1.16 s, with two threads 1.52.
    """
    kind = "bytes" if multiplies_bytes(config, splits, place) else "floats"
    heads = -(-len(config.heads) // min(place.programs, len(config.heads)))
    flops = 2.0 * min(config.batch_size, len(splits.train)) * splits.n_in * splits.n_out * heads
    # Rows of a file that memory cannot hold come faster by several threads.
    return "CPU" in place.place and flops <= _FLOPS_OF_ONE_THREAD[kind] and not residency.is_too_large(splits.train)


class Parameters(NamedTuple):
    """The parameters of a group of heads, as they were at some time: `[H, K, D]` and `[H, K]`."""

    W: tf.Tensor
    b: tf.Tensor


class Grid:
    """H heads, in groups of consecutive ones.

    Args:
      heads: the settings of each.
      n_in: D.
      n_out: K.
      trainer: the program.
      workers: who run it.
    """

    def __init__(self, heads: Sequence[Head], n_in: int, n_out: int, trainer: Trainer, workers: Workers):
        self._heads = heads
        self._trainer = trainer
        self._workers = workers
        # Of two sizes at most: each takes a program of its own.
        groups = np.array_split(np.arange(len(heads)), min(workers.device.programs, len(heads)))
        self._groups = [trainer.at_zero([heads[number] for number in numbers], n_in, n_out) for numbers in groups]
        self._bounds = np.cumsum([len(numbers) for numbers in groups])[:-1]

    def __len__(self) -> int:
        return len(self._heads)

    @property
    def n_groups(self) -> int:
        return len(self._groups)

    def parameters(self) -> list[Parameters]:
        """Of each group, as they are now; they stay as they are when training goes on."""
        return [Parameters(tf.convert_to_tensor(group.W), tf.convert_to_tensor(group.b)) for group in self._groups]

    def assign(self, W: np.ndarray, b: np.ndarray) -> None:
        """Gives the heads the parameters `[H, K, D]` and `[H, K]`."""
        parts = zip(self._groups, np.split(W, self._bounds), np.split(b, self._bounds), strict=True)
        for group, group_W, group_b in parts:
            group.W.assign(group_W)
            group.b.assign(group_b)

    def train_chunk(self, chunk: Chunk, last_iteration: np.ndarray) -> np.ndarray:
        """Trains all heads, each to its `last_iteration`, `[H]`: the costs `[T, H]`. See Trainer."""
        last = [tf.constant(part) for part in np.split(last_iteration, self._bounds)]
        costs = self._workers.map(functools.partial(self._trainer.train_chunk, chunk), self._groups, last)
        return np.concatenate(costs, axis=1)

    def graph(self, chunk: Chunk) -> bytes:
        """Of one step of the first group; see Trainer."""
        heads = self._groups[0]
        return self._trainer.graph(chunk, heads, tf.zeros(heads.b.shape[:1], tf.int64))

    def only(self, numbers: np.ndarray) -> "Grid":
        """A grid of the heads of these numbers, as they are now."""
        _, n_out, n_in = self._groups[0].W.shape
        smaller = Grid([self._heads[n] for n in numbers], n_in, n_out, self._trainer, self._workers)
        W, b = joined(self.parameters())
        smaller.assign(W[numbers], b[numbers])
        return smaller


def joined(groups: Sequence[Parameters]) -> tuple[np.ndarray, np.ndarray]:
    """The parameters of all groups, copied: `[H, K, D]` and `[H, K]`."""
    return np.concatenate([group.W.numpy() for group in groups]), np.concatenate([group.b.numpy() for group in groups])

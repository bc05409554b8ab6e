"""Passes over all training rows of which several devices of the process each make a part."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import tensorflow as tf

from tfpipe.compute.copies import Copies
from tfpipe.compute.workers import Workers
from tfpipe.pipeline import residency
from tfpipe.pipeline.residency import Resident
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.passes import Blocks, Passes, Sums, tree

T = TypeVar("T")
# More branches are dealt where a device would have by so much more to do than with most branches: each takes calls of
# its own. MNIST, an evaluation of one head, two devices of a CPU (EPYC): by 2 branches, of 40 and 26 minibatches, as
# long as one device with two programs; by 8, which make that 36 and 30, 15.3 ms in the place of 10.6.
_UNEVEN = 1.2


class SharedPasses:
    """As Passes, by the workers of several devices: the sums are those of a single device, to the bit.

    Branches of the tree are dealt to the devices in turn: one each, or more where that is more even. Where there are
    fewer blocks than devices, the last devices have none. A device holds the images of its branches alone, and labels
    and weights of all rows.

    Args:
      split: the training rows, on the host.
      workers: of all devices.
      n_columns: see Passes.

    Attributes:
      workers: likewise.
    """

    def __init__(self, split: Resident, workers: Workers, n_columns: int):
        self.workers = workers
        self._copies = Copies(workers.device)
        blocks, n_devices = Blocks.of(split, n_columns), len(workers.each)
        branches = _branches(blocks, n_devices)
        rows = blocks.n_blocks // branches * blocks.per_block * blocks.sampler.batch_size
        self._parts: list[Passes] = []
        for number, _ in enumerate(_minibatches(blocks, branches)):
            own = workers.each[number % n_devices]
            with tf.device(own.device.name):
                share = residency.share(split, number * rows, (number + 1) * rows)
            self._parts.append(Passes(share, own, n_columns, share=(number, branches)))

    def sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> Sums:
        """See `Passes.sums`."""
        branches = self._of_parts(objective, lambda part, own: part.sums(own, W, b, column))
        return Sums(*(tree(np.stack(of_branches)) for of_branches in zip(*branches, strict=True)))

    def losses(self, objective: Objective, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Passes.losses`."""
        losses, wrong = zip(*self._of_parts(objective, lambda part, own: part.losses(own, W, b)), strict=True)
        return np.concatenate(losses, axis=1), np.concatenate(wrong, axis=1)

    def compile_sums(self, objective: Objective, W: np.ndarray, b: np.ndarray, column: np.ndarray) -> None:
        """See `Passes.compile_sums`."""
        self._of_parts(objective, lambda part, own: part.compile_sums(own, W, b, column))

    def compile_losses(self, objective: Objective, W: np.ndarray, b: np.ndarray) -> None:
        """See `Passes.compile_losses`."""
        self._of_parts(objective, lambda part, own: part.compile_losses(own, W, b))

    def _of_parts(self, objective: Objective, function: Callable[[Passes, Objective], T]) -> list[T]:
        """What a function gives of each part, with the objective as it lies there: a thread a device."""
        self._copies.make(objective)
        n_devices = len(self.workers.each)

        def of_device(number: int) -> list[T]:
            own = self._copies.on(number, objective)
            return [function(part, own) for part in self._parts[number::n_devices]]

        calls = [own.start(of_device, number) for number, own in enumerate(self.workers.each)]
        found = [call.result() for call in calls]
        return [found[number % n_devices][number // n_devices] for number in range(len(self._parts))]


def _minibatches(blocks: Blocks, branches: int) -> list[int]:
    """How many each of so many branches has: the last ones, which may have none, are not among them."""
    of_branch, of_all = blocks.n_blocks // branches * blocks.per_block, blocks.sampler.per_epoch
    return [min(of_branch, of_all - begin) for begin in range(0, of_all, of_branch)]


def _branches(blocks: Blocks, n_devices: int) -> int:
    """How many are dealt: as few as leave no device with many more minibatches than it need have."""
    counts = [1 << power for power in range(blocks.n_blocks.bit_length())]
    most = [max(sum(_minibatches(blocks, count)[number::n_devices]) for number in range(n_devices)) for count in counts]
    return next(count for count, own in zip(counts, most, strict=True) if own <= _UNEVEN * min(most))


def passes_over(split: Resident, workers: Workers, n_columns: int) -> Passes | SharedPasses:
    """Passes over the training rows, by the device of the workers, or by all of them: see Passes."""
    if workers.device.others:
        return SharedPasses(split, workers, n_columns)
    return Passes(split, workers, n_columns)

"""Which examples make a minibatch: a pure function of the seed and of the minibatch's number. NumPy only."""

import functools

import numpy as np


class Sampler:
    """Which of N examples make minibatch `index`, for every `index` from 0.

    Minibatches are numbered through: with M of them in an epoch, number `index` is minibatch `index % M` of epoch
    `index // M`. Without `shuffle` each epoch goes through the examples in their order; with it, in an order that is
    drawn by NumPy's Philox generator from `(seed, epoch)`. So there is no shuffle buffer whose state matters.

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
        # Two epochs: what is taken at once may straddle their border.
        self._epoch = functools.lru_cache(maxsize=2)(self._draw)

    def _draw(self, epoch: int) -> np.ndarray:
        """The examples of an epoch, `[M, B]`."""
        order = np.arange(self._total)
        if self.shuffle:
            order = np.random.Generator(np.random.Philox(key=[self._seed, epoch])).permutation(self._total)
        # As many as M minibatches hold: cut, or filled up with the last.
        places = self.per_epoch * self.batch_size
        filled = np.pad(order[:places], (0, max(0, places - self._total)), "edge")
        return filled.reshape(self.per_epoch, self.batch_size)

    def take(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Minibatches `first`, `first + 1`, ...: `[count, B]` int64, the numbers of their examples, from 0; and
        `[count]` int32, how many of the B places an example fills. The others repeat the last one.
        """
        epoch, number = np.divmod(np.arange(first, first + count), self.per_epoch)
        # Every epoch in its order is the first.
        parts = [self._epoch(int(e) if self.shuffle else 0)[number[epoch == e]] for e in np.unique(epoch)]
        filled = np.minimum(self.examples - number * self.batch_size, self.batch_size)
        return np.concatenate(parts), filled.astype(np.int32)

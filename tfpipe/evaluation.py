"""Errors and cost of all heads on one split."""

import itertools
from collections.abc import Iterator

import numpy as np

from tfpipe import pipeline
from tfpipe.pipeline import Chunk, MinibatchRows
from tfpipe.steps import Heads
from tfpipe.storage import Stored


class Evaluation:
    """The tutorial's `validate_model` and `test_model`, over all minibatches of a split.

    Attributes:
      labels: `[n]` int32, the labels of the examples that count.
    """

    def __init__(self, heads: Heads, stored: Stored, rows: MinibatchRows, chunk: int):
        self.labels = stored.labels[: rows.examples]
        self._heads = heads
        self._chunks_per_pass = -(-rows.per_epoch // chunk)
        self._chunks = pipeline.evaluation_chunks(stored, rows, chunk=chunk)

    def compile(self) -> None:
        """Has the XLA program made, if it is not yet there."""
        for chunk in self._one_pass():
            self._heads.evaluate_chunk(chunk.limited(0))

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """`[H]` shares of wrong predictions in [0, 1] and `[H]` mean costs: sums over all examples, divided once."""
        # The sums of minibatches are added in float64: exact for the counts, and 1e-7 for the costs.
        wrong, losses = np.zeros(len(self._heads)), np.zeros(len(self._heads))
        for chunk in self._one_pass():
            chunk_wrong, chunk_losses = self._heads.evaluate_chunk(chunk)
            wrong += chunk_wrong.numpy().sum(axis=0)
            losses += chunk_losses.numpy().sum(axis=0, dtype=np.float64)
        return wrong / len(self.labels), losses / len(self.labels)

    def predictions(self, head: int) -> np.ndarray:
        """The classes that `head` predicts, `[n]` int32."""
        classes = [self._heads.predict_chunk(chunk).numpy()[:, head].ravel() for chunk in self._one_pass()]
        return np.concatenate(classes)[: len(self.labels)]

    def _one_pass(self) -> Iterator[Chunk]:
        return itertools.islice(self._chunks, self._chunks_per_pass)

"""Errors and costs of heads on one split."""

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfpipe import pipeline
from tfpipe.pipeline import Chunk, MinibatchRows
from tfpipe.steps import Evaluator
from tfpipe.storage import Stored


class Evaluation:
    """The tutorial's `validate_model` and `test_model`, over all minibatches of a split.

    Its methods take the parameters of heads, `W` `[H, K, D]` and `b` `[H, K]`.

    Attributes:
      labels: `[n]` int32, the labels of the examples that count.
    """

    def __init__(self, evaluator: Evaluator, stored: Stored, rows: MinibatchRows, chunk: int):
        self.labels = stored.labels[: rows.examples]
        self._evaluator = evaluator
        self._chunks_per_pass = -(-rows.per_epoch // chunk)
        self._chunks = pipeline.evaluation_chunks(stored, rows, chunk=chunk)

    def compile(self, W: tf.Tensor, b: tf.Tensor) -> None:
        """Has the XLA program made, if it is not yet there."""
        for chunk in self._one_pass():
            self._evaluator.evaluate_chunk(chunk.limited(0), W, b)

    def measure(self, W: tf.Tensor, b: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """`[H]` shares of wrong predictions in [0, 1] and `[H]` mean costs: sums over all examples, divided once."""
        # The sums of minibatches are added in float64: exact for the counts, and 1e-7 for the costs.
        wrong, losses = np.zeros(len(b)), np.zeros(len(b))
        for chunk in self._one_pass():
            chunk_wrong, chunk_losses = self._evaluator.evaluate_chunk(chunk, W, b)
            wrong += chunk_wrong.numpy().sum(axis=0)
            losses += chunk_losses.numpy().sum(axis=0, dtype=np.float64)
        return wrong / len(self.labels), losses / len(self.labels)

    def predictions(self, W: tf.Tensor, b: tf.Tensor) -> np.ndarray:
        """The classes that each head predicts, `[H, n]` int32."""
        classes = [self._evaluator.predict_chunk(chunk, W, b).numpy() for chunk in self._one_pass()]
        in_order = np.concatenate(classes).swapaxes(0, 1).reshape(len(b), -1)
        return in_order[:, : len(self.labels)]

    def _one_pass(self) -> Iterator[Chunk]:
        return itertools.islice(self._chunks, self._chunks_per_pass)

"""Errors and costs of heads on one split."""

import collections
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfpipe.compute.device import Workers
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.pipeline import inputs
from tfpipe.pipeline.inputs import Chunk, MinibatchRows
from tfpipe.pipeline.residency import Stored
from tfpipe.solvers.steps import Evaluator
from tfpipe.training.grid import Parameters


class Evaluation:
    """The tutorial's `validate_model` and `test_model`, over all minibatches of a split.

    Its methods take the parameters of heads, group by group; what they give has all heads in their order. A pass over
    the split waits for the one before it to end.

    Attributes:
      labels: `[n]` int32, the labels of the examples that count.
    """

    def __init__(self, evaluator: Evaluator, stored: Stored, rows: MinibatchRows, chunk: int, workers: Workers):
        self.labels = stored.labels[: rows.examples]
        self._evaluator = evaluator
        self._workers = workers
        self._chunks_per_pass = -(-rows.per_epoch // chunk)
        self._pass = threading.Lock()
        self._chunks: Iterator[Chunk] = inputs.evaluation_chunks(stored, rows, chunk=chunk)

    def compile(self, to_measure: Sequence[Parameters], to_diagnose: Sequence[Parameters] = ()) -> None:
        """Has the XLA programs made, if they are not yet there: to measure such groups, and to diagnose such heads."""
        first = next(self._chunks)
        self._chunks = itertools.chain([first], self._chunks)
        calls = [(self._evaluator.evaluate_chunk, group) for group in to_measure]
        calls += [(self._evaluator.predict_chunk, group) for group in to_diagnose]
        self._workers.map(lambda program, group: program(first.limited(0), *group), *zip(*calls, strict=True))

    def measure(self, groups: Sequence[Parameters]) -> tuple[np.ndarray, np.ndarray]:
        """`[H]` shares of wrong predictions in [0, 1] and `[H]` mean costs: sums over all examples, divided once."""
        # The sums of minibatches are added in float64: exact for the counts, and 1e-7 for the costs.
        wrong, losses = np.zeros((2, sum(len(group.b) for group in groups)))
        with self._one_pass() as chunks:
            for chunk in chunks:
                parts = self._of_groups(self._evaluator.evaluate_chunk, chunk, groups)
                wrong += np.concatenate([part.numpy().sum(axis=0) for part, _ in parts])
                losses += np.concatenate([part.numpy().sum(axis=0, dtype=np.float64) for _, part in parts])
        return wrong / len(self.labels), losses / len(self.labels)

    def diagnose(self, model: Parameters) -> Diagnosis:
        """What a single head, `[1, K, D]` and `[1, K]`, does on each example."""
        parts = []
        with self._one_pass() as chunks:
            for chunk in chunks:
                parts.append([part.numpy().ravel() for part in self._evaluator.predict_chunk(chunk, *model)])
        predicted, confidence = (np.concatenate(part)[: len(self.labels)] for part in zip(*parts, strict=True))
        return Diagnosis(self.labels, predicted, confidence, model.b.shape[1])

    def _of_groups(self, program: Callable[..., Any], chunk: Chunk, groups: Sequence[Parameters]) -> list[Any]:
        return self._workers.map(lambda group: program(chunk, *group), groups)

    @contextlib.contextmanager
    def _one_pass(self) -> Iterator[Iterator[Chunk]]:
        with self._pass:
            chunks = itertools.islice(self._chunks, self._chunks_per_pass)
            try:
                yield chunks
            finally:
                collections.deque(chunks, maxlen=0)  # After a failure too, the next pass begins at the beginning.

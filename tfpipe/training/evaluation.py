"""Errors and costs of heads on one split: the tutorial's `validate_model` and `test_model`."""

import collections
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from tfpipe.compute.programs import Program
from tfpipe.compute.workers import Workers
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.pipeline import inputs
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.objective import FIGURES, Objective
from tfpipe.training.heads import Parameters

_sums = Program(Objective.sums)
_predictions = Program(Objective.predictions)


class Evaluation:
    """Measures heads over all minibatches of a split.

    Its methods take the parameters of heads, group by group; what they give has all heads in their order. A pass over
    the split waits for the one before it to end.

    Args:
      split: the examples.
      objective: of them.
      sampler: their minibatches.
      length: minibatches in a span.
      workers: who run the programs.

    Attributes:
      objective: of the examples.
      labels: `[n]` int32, the labels of the examples that count.
      whole: all minibatches, where one span holds them; else None.
    """

    def __init__(self, split: Resident, objective: Objective, sampler: Sampler, length: int, workers: Workers):
        self.objective = objective
        self.labels = split.labels[: sampler.examples]
        known = objective.is_known
        self._per_known = np.ones(1) if known is None else _per_known(objective, known.numpy())
        self._workers = workers
        self._spans_per_pass = -(-sampler.per_epoch // length)
        self._pass = threading.Lock()
        self._spans: Iterator[Span] = inputs.evaluation_spans(split, sampler, length=length)
        first = next(self._spans)
        self._spans = itertools.chain([first], self._spans)
        self._nothing = first.part(0, 0)
        self.whole = first if self._spans_per_pass == 1 else None
        workers.copies.make((objective, self.whole))

    def compile(self, to_measure: Sequence[Parameters]) -> None:
        """Has the XLA programs made that measure such groups, if they are not yet there.

        That of `diagnose` is made when it is first called: a run that is not drawn on its way does without.
        """
        self._sums_of_each(self._nothing, to_measure)

    def measure(self, groups: Sequence[Parameters]) -> np.ndarray:
        """`[F, H]`, as FIGURES names them, errors as shares in [0, 1]: sums over all examples, divided once."""
        with self._one_pass() as spans:
            parts = [np.concatenate(self._sums_of_each(span, groups), axis=1) for span in spans]
        column = np.concatenate([group.column.numpy()[: group.n_heads] for group in groups])
        return self.figures(np.sum(parts, axis=0), column)

    def figures(self, sums: np.ndarray, column: np.ndarray) -> np.ndarray:
        """`[F, H]`, of sums as `Objective.sums` gives them for heads of these columns, `[H]`."""
        total, per_known = (
            of[column] if len(of) > 1 else of  # A single column is that of all.
            for of in (self.objective.total.numpy(), self._per_known)
        )
        with np.errstate(invalid="ignore"):  # Where no example has weight, nothing is known.
            found = sums / total
        found[FIGURES.index("cost")] *= per_known
        return found

    def diagnose(self, model: Parameters) -> Diagnosis:
        """What a single head, `[1, K, D]` and `[1, K]`, does on each example."""
        with self._one_pass() as spans:
            parts = [
                [part.numpy()[: int(span.end)].ravel() for part in _predictions(self.objective, span, model.W, model.b)]
                for span in spans
            ]
        predicted, confidence = (np.concatenate(part)[: len(self.labels)] for part in zip(*parts, strict=True))
        return Diagnosis(self.labels, predicted, confidence, model.b.shape[1])

    def _sums_of_each(self, span: Span, groups: Sequence[Parameters]) -> list[np.ndarray]:
        def of_group(objective: Objective, span: Span, group: Parameters) -> np.ndarray:
            return _sums(objective, span, group.W, group.b, group.column).numpy()[:, : group.n_heads]

        of_all = (itertools.repeat(part, len(groups)) for part in (self.objective, span))
        return self._workers.map(of_group, *of_all, groups)

    @contextlib.contextmanager
    def _one_pass(self) -> Iterator[Iterator[Span]]:
        with self._pass:
            spans = itertools.islice(self._spans, self._spans_per_pass)
            try:
                yield spans
            finally:
                collections.deque(spans, maxlen=0)  # After a failure too, the next pass begins at the beginning.


def _per_known(objective: Objective, known: np.ndarray) -> np.ndarray:
    """`[C]`, by how much the weight of all examples exceeds that of those of known classes, whose mean the cost is."""
    of_known = objective.weights.numpy().astype(np.float64) @ known
    return objective.total.numpy() / np.where(of_known > 0, of_known, 1.0)

"""The validation of the heads, which steers a run: inside the solver's program, or beside the training."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, NamedTuple

import numpy as np

from tfpipe.compute.workers import Workers
from tfpipe.solvers.base import Advance, Inside
from tfpipe.solvers.objective import FIGURES
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.heads import Heads, Parameters, joined

InsideWhen = Literal["always", "where no core is idle", "never"]


class Measured(NamedTuple):
    """What a validation found of h heads.

    Attributes:
      steps: after how many it was made.
      numbers: `[h]`, which heads.
      examples_per_second: that were trained since the last one.
      reports: what the solver reports, by name, `[h]` each.
      test_error: `[h]`, shares on the test examples; NaN if no head was better than ever.
      norm: `[h]`, the Euclidean norm of W.
      W: `[h, K, D]`, b: `[h, K]`: of a head that was better than ever, as it was then, or at a later validation that
        follows at once and was better still.
      error: `[h]`, shares of wrong predictions in [0, 1] on the validation examples.
      cost: `[h]`, mean costs there.
      balanced_error: `[h]`, the mean of the error over the classes; None: it was not measured.
    """

    steps: int
    numbers: np.ndarray
    examples_per_second: float
    reports: Mapping[str, np.ndarray]
    test_error: np.ndarray
    norm: np.ndarray
    W: Any
    b: Any
    error: np.ndarray
    cost: np.ndarray
    balanced_error: np.ndarray | None = None


class Validation:
    """Measures the heads on the validation split, and those that are better than ever on the test split.

    Small splits are measured inside the solver's program, many times in one call; so are others where every core
    trains. Else they are measured beside the training of the next span, which need not wait for what is found as long
    as patience lasts. A core that trains and one that validates leave each other in peace, but a call for each takes
    3 to 7 ms beyond. Milliseconds an epoch on two cores of an AMD EPYC, validated, beside and inside: 40,000 images,
    one head 19.4 and 12.1; 20,000, one head 11.9 and 6.1; 5,000, 4 heads 10.2 and 3.5; the digits, 6 heads 5.2 and 0.4.

    Args:
      validation, test: both splits.
      frequency: steps between two validations.
      validated: after how many steps the last one was made.
      select: the figure by which models are chosen, one of FIGURES.
      inside: when the solver's program validates.
      workers: who measure beside.
    """

    def __init__(
        self,
        validation: Evaluation,
        test: Evaluation,
        *,
        frequency: int,
        validated: int,
        select: str,
        inside: InsideWhen,
        workers: Workers,
    ):
        self._validation = validation
        self._test = test
        self._frequency = frequency
        self._figure = FIGURES.index(select)
        self._workers = workers
        self._under_way: Future[Measured] | None = None
        self._inside = inside
        self.validated = validated

    def compile(self, groups: Sequence[Parameters]) -> None:
        """Has the programs made that measure such groups."""
        self._validation.compile(groups)

    def following(self, steps: int) -> int:
        """After how many steps the next one is due, if so many are done."""
        return steps // self._frequency * self._frequency + self._frequency

    def is_due(self, steps: int) -> bool:
        """Whether one follows the last of `steps`, and has not been made."""
        return steps % self._frequency == 0 and self.validated < steps

    def start(self, steps: int, heads: Heads, to_beat: np.ndarray, examples_per_second: float) -> None:
        """Has the heads measured in the background, and tested if the figure of one is below its `to_beat`, `[h]`."""
        self.validated = steps
        numbers, reports, parameters = heads.numbers, heads.reports, heads.parameters()

        def measure() -> Measured:
            W, b = joined(parameters)
            norm = np.linalg.norm(W.astype(np.float64).reshape(len(W), -1), axis=1)
            figures = self._validation.measure(parameters)
            test_error = np.full(len(W), np.nan)
            if (figures[self._figure] < to_beat).any():
                test_error, _ = self._test.measure(parameters)
            return Measured(steps, numbers, examples_per_second, reports, test_error, norm, W, b, *figures)

        self._under_way = self._workers.start(measure)

    def wait(self) -> Measured | None:
        """What the one that is under way finds, if there is one: waits for it."""
        under_way, self._under_way = self._under_way, None
        return under_way.result() if under_way else None

    def inside(self, heads: Heads, to_beat: np.ndarray) -> Inside | None:
        """What it takes to validate heads inside the program, see Inside; None: they are validated beside."""
        is_inside = self._inside == "always" or (self._inside == "where no core is idle" and heads.fill_cores)
        validation, test = self._validation, self._test
        if not is_inside or validation.whole is None or test.whole is None:
            return None
        own = validation.whole, validation.objective, test.whole, test.objective
        return Inside(*own, heads.column, np.array(self._figure, np.int32), to_beat)

    def take_inside(
        self, numbers: np.ndarray, column: np.ndarray, first: int, advance: Advance, examples_per_second: float
    ) -> list[Measured]:
        """What the program found while it advanced these heads, one validation after the other.

        Args:
          numbers: `[h]`, which heads.
          column: `[h]`, the column of weights of each.
          first: how many steps were done before.
          advance: over the steps that follow, all of which count.
          examples_per_second: that were trained.
        """
        if advance.sums is None:
            return []
        assert advance.test_sums is not None
        assert advance.norm is not None
        measured = []
        for row in range(self.following(first) - first - 1, len(advance.costs), self._frequency):
            figures = self._validation.figures(advance.sums[row], column)
            test_error, _ = self._test.figures(advance.test_sums[row], column)
            reports = {name: array[row] for name, array in advance.reports.items()}
            measured.append(
                Measured(
                    first + row + 1, numbers, examples_per_second, reports, test_error, advance.norm[row],
                    advance.best_W, advance.best_b, *figures,
                )
            )  # fmt: skip
        if measured:
            self.validated = measured[-1].steps
        return measured

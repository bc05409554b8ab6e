"""The heads that train, in groups: as many as the device has cores, each advanced and measured by a program of its own.

Heads have nothing to do with each other, so their cores have neither: none waits for another before a span ends, where
the threads of one program meet after each product. 64 heads on MNIST, two cores of an Intel Xeon: 195 ms an epoch in
two groups, 300 in one. Several devices have the groups in turn, each with the variables of its own.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import padded
from tfpipe.compute.workers import Workers
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.base import Advance, Group, Kept, Solver
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.problem import FAR_BELOW
from tfpipe.training.measurement import Findings, Measurement, Points, Stretch, of_all
from tfpipe.training.measurement import joined as joined_findings
from tfpipe.training.state import State


class Parameters(NamedTuple):
    """The parameters of a group of heads, as they were at some time.

    Attributes:
      W: `[H, K, D]`, b: `[H, K]`; the last ones may be of no head, where programs of few sizes fill up.
      column: `[H]` int32, the column of weights of each.
      n_heads: how many are of heads.
    """

    W: tf.Tensor
    b: tf.Tensor
    column: tf.Tensor
    n_heads: int


class Heads:
    """The heads that train: what they are trained with, W and b, and what the solver remembers of them.

    Args:
      solver: what advances them.
      column: `[H]` int32, the column of weights of each head of the run.
      sizes: H, K and D of the run.
      left_out: `[K]` bool, the classes without weight: heads begin, and stay, with a probability of 0 for them.
      begins: `[H]` bool, which of them train.
      dtype: of W and b.
      state: from which they go on.
      workers: who run the programs.

    Attributes:
      numbers: `[h]` int64, which heads of the run they are, ascending: all, until those that stopped leave.
      reports: what the solver reported of them after the last step, by name, `[h]` each.
    """

    def __init__(
        self,
        solver: Solver,
        column: np.ndarray,
        sizes: tuple[int, int, int],
        left_out: np.ndarray,
        begins: np.ndarray,
        dtype: np.dtype,
        state: State,
        workers: Workers,
    ):
        self._solver = solver
        self._column = column
        self._workers = workers
        if state.steps:
            self._begin(state.numbers, state.reports, {"W": state.W, "b": state.b, **state.slots})
            return
        numbers = np.flatnonzero(begins)
        sizes = (len(numbers), *sizes[1:])
        W, b = np.zeros(sizes, dtype), np.zeros(sizes[:2], dtype)
        b[:, left_out] = -FAR_BELOW  # No gradient is left in the softmax then.
        reports = {name: np.full(len(numbers), np.nan) for name in solver.reports}
        self._begin(numbers, reports, {"W": W, "b": b, **solver.slots(*sizes)})

    def _begin(self, numbers: np.ndarray, reports: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> None:
        """Makes the groups of these heads, whose arrays are `[h, ...]` each."""
        self.numbers, self.reports = numbers, dict(reports)
        # Of two sizes at most: each takes programs of its own.
        self._places = np.array_split(np.arange(len(numbers)), min(self._workers.device.programs, len(numbers)))
        self._groups = self._workers.map(self._group, self._places, itertools.repeat(arrays, len(self._places)))

    def _group(self, places: np.ndarray, arrays: Mapping[str, np.ndarray]) -> Group:
        rows = np.append(places, np.repeat(places[:1], padded(len(places)) - len(places)))  # The first one fills up.
        settings = [self._solver.settings[number] for number in self.numbers[rows]]
        variables = {name: tf.Variable(array[rows], name=name) for name, array in arrays.items()}
        W, b = variables.pop("W"), variables.pop("b")
        named = {name: tf.constant([setting[name] for setting in settings], W.dtype) for name in settings[0]}
        return Group(W, b, named, tf.constant(self._column[self.numbers[rows]]), variables)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_groups(self) -> int:
        return len(self._groups)

    @property
    def fill_cores(self) -> bool:
        """Whether every core trains some of them, and none is left to validate beside."""
        device = self._workers.device
        return not device.is_gpu and self.n_groups == device.programs

    @property
    def column(self) -> np.ndarray:
        """`[h]` int32, the column of weights of each."""
        return self._column[self.numbers]

    def parameters(self) -> list[Parameters]:
        """Of each group, as they are now; they stay as they are when training goes on."""
        groups = zip(self._groups, self._places, strict=True)
        return [
            Parameters(tf.convert_to_tensor(group.W), tf.convert_to_tensor(group.b), group.column, len(places))
            for group, places in groups
        ]

    def arrays(self) -> dict[str, Any]:
        """All that is to be kept of them, copied: by name, as State has it."""
        W, b = joined(self.parameters())
        slots = {
            name: of_all([group.slots[name] for group in self._groups], self._places) for name in self._groups[0].slots
        }
        return {"numbers": self.numbers, "reports": self.reports, "W": W, "b": b, "slots": slots}

    def advance(
        self, span: Span, objective: Objective, last: np.ndarray, room: int, by: Measurement | None = None
    ) -> Callable[[], Stretch]:
        """Has all heads advanced over `span`, each to its `last` step, `[h]`, beside what follows: see Solver.

        Args:
          span: see there.
          objective: likewise.
          last: likewise.
          room: V, of which the span has as many validations at most.
          by: measures each group as soon as it is there; None: nothing is measured.

        Returns:
          What waits for the end; to be called before anything else is asked of the heads.
        """
        under_way = self._advance(span, objective, last, room, by)
        begin, end = int(span.begin), int(span.end)

        def rows(parts: Sequence[tf.Tensor]) -> np.ndarray:
            return of_all(parts, self._places, axis=-1)[begin:end]

        def wait() -> Stretch:
            found = under_way()
            reports = {name: rows([one.reports[name] for one, _, _ in found]) for name in self._solver.reports}
            self.reports = {name: array[-1] for name, array in reports.items()}
            points = [own for _, own, _ in found]
            findings = [one for *_, one in found if one is not None]
            return Stretch(
                int(span.first) + begin,
                self.numbers,
                self.column,
                rows([one.costs for one, _, _ in found]),
                reports,
                points,
                joined_findings(points, findings) if findings else None,
            )

        return wait

    def _advance(
        self, span: Span, objective: Objective, last: np.ndarray, room: int, by: Measurement | None
    ) -> Callable[[], list[tuple[Advance, Points, Findings | None]]]:
        def run(
            group: Group, places: np.ndarray, span: Span, objective: Objective, by: Measurement | None
        ) -> tuple[Advance, Points, Findings | None]:
            # Who fills up does no step.
            stop = tf.constant(np.pad(last[places], (0, len(group.column) - len(places))))
            advance = self._solver.advance(span, objective, group, stop, room)
            kept = _as_it_is(group, room) if advance.kept is None else advance.kept
            points = Points(kept, group.column, places)
            return advance, points, None if by is None else points.measured(by)

        of_all = (itertools.repeat(part, len(self._groups)) for part in (span, objective, by))
        return self._workers.start_all(run, self._groups, self._places, *of_all)

    def now(self, steps: int, room: int) -> Stretch:
        """No step, after so many, and the heads as they are: to be measured."""
        points = [
            Points(_as_it_is(group, room), group.column, places)
            for group, places in zip(self._groups, self._places, strict=True)
        ]
        reports = {name: array[np.newaxis] for name, array in self.reports.items()}
        nothing = np.zeros((0, len(self)))
        return Stretch(steps, self.numbers, self.column, nothing, reports, points, None)

    def compile(self, nothing: Span, objective: Objective, room: int) -> None:
        """Has the programs made that `advance` needs, on a span of which no minibatch counts."""
        self._advance(nothing, objective, np.zeros(len(self), np.int64), room, None)()

    def graph(self, nothing: Span, objective: Objective) -> bytes:
        """TensorFlow's graph of one step; see Solver."""
        return self._solver.graph(nothing, objective, self._groups[0])

    def leave_only(self, places: np.ndarray) -> None:
        """Leaves the heads at these places, as they are now; the others are gone."""
        kept = self.arrays()
        arrays = {"W": kept["W"], "b": kept["b"], **kept["slots"]}
        reports = {name: array[places] for name, array in self.reports.items()}
        self._begin(self.numbers[places], reports, {name: array[places] for name, array in arrays.items()})


def _as_it_is(group: Group, room: int) -> Kept:
    """What a single validation measures of a group: it holds `room` of them, so that programs for many serve."""
    # Where there is one it is no copy.
    W, b = (tf.repeat(part, room, axis=0) if room > 1 else part for part in (group.W[tf.newaxis], group.b[tf.newaxis]))
    return Kept(W, b, tf.ones([room, len(group.column)], tf.bool), tf.constant(1))


def joined(groups: Sequence[Parameters]) -> tuple[np.ndarray, np.ndarray]:
    """The parameters of all groups, copied: `[H, K, D]` and `[H, K]`."""
    W, b = ([part[name].numpy()[: part["n_heads"]] for part in map(Parameters._asdict, groups)] for name in ("W", "b"))
    return np.concatenate(W), np.concatenate(b)

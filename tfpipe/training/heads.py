"""The heads that train, in groups: as many as the device has cores, each advanced and measured by a program of its own.

Heads have nothing to do with each other, so their cores have neither: none waits for another before a span ends, where
the threads of one program meet after each product. 64 heads on MNIST, two cores of an Intel Xeon: 195 ms an epoch in
two groups, 300 in one. Several devices have the groups in turn, each with the variables of its own.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.compute.programs import padded
from tfpipe.compute.workers import Workers
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.base import Advance, Group, Kept, Solver
from tfpipe.solvers.objective import Objective
from tfpipe.training.measurement import Findings, Measurement, Points, Stretch, measured_each, of_all
from tfpipe.training.measurement import joined as joined_findings
from tfpipe.training.snapshot import Snapshot


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
      at: where they are.
      workers: who run the programs.

    Attributes:
      asks_late: whether `advance` asks by what to measure when the heads are trained, and not at once.
      numbers: `[h]` int64, which heads of the run they are, ascending: all, until those that stopped leave.
      reports: what the solver reported of them after the last step, by name, `[h]` each.
    """

    asks_late = True

    def __init__(self, solver: Solver, column: np.ndarray, at: Snapshot, workers: Workers):
        self._solver = solver
        self._column = column
        self._workers = workers
        self._begin(at)

    def _begin(self, at: Snapshot) -> None:
        """Makes the groups of these heads."""
        self.numbers, self.reports = at.numbers, dict(at.reports)
        # Of two sizes at most: each takes programs of its own.
        self._places = np.array_split(np.arange(len(self)), min(self._workers.device.programs, len(self)))
        self._groups = self._workers.map(self._group, self._places, itertools.repeat(at.arrays, len(self._places)))

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

    def snapshot(self) -> Snapshot:
        """All that is to be kept of them, copied."""
        W, b = joined(self.parameters())
        slots = {
            name: of_all([group.slots[name] for group in self._groups], self._places) for name in self._groups[0].slots
        }
        return Snapshot(self.numbers, self.reports, {"W": W, "b": b, **slots})

    def advance(
        self,
        span: Span,
        objective: Objective,
        last: np.ndarray,
        room: int,
        by: Callable[[], Measurement] | None = None,
    ) -> Callable[[], Stretch]:
        """Has all heads advanced over `span`, each to its `last` step, `[h]`, beside what follows: see Solver.

        Args:
          span: see there.
          objective: likewise.
          last: likewise.
          room: V, of which the span has as many validations at most.
          by: asked for as soon as a group is there, which is measured by it at once; None: nothing is measured.

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
        self, span: Span, objective: Objective, last: np.ndarray, room: int, by: Callable[[], Measurement] | None
    ) -> Callable[[], list[tuple[Advance, Points, Findings | None]]]:
        def run(
            number: int, group: Group, places: np.ndarray, span: Span, objective: Objective
        ) -> tuple[Advance, Points, Findings | None]:
            # Who fills up does no step.
            stop = tf.constant(np.pad(last[places], (0, len(group.column) - len(places))))
            advance = self._solver.advance(span, objective, group, stop, room)
            kept = _as_it_is(group, room) if advance.kept is None else advance.kept
            points = Points(kept, group.column, places)
            return advance, points, None if by is None else points.measured(self._workers.as_dealt(number, by()))

        of_all = (itertools.repeat(part, len(self._groups)) for part in (span, objective))
        return self._workers.start_all(run, range(len(self._groups)), self._groups, self._places, *of_all)

    def points(self, room: int) -> list[Points]:
        """What is to be measured of them as they are now: see `as_they_are`."""
        return [
            Points(_as_it_is(group, room), group.column, places)
            for group, places in zip(self._groups, self._places, strict=True)
        ]

    def as_they_are(self, steps: int, room: int, by: Measurement | None = None) -> Stretch:
        """No step, after so many: to be measured, or measured already, as `advance` has it."""
        points = self.points(room)
        reports = {name: array[np.newaxis] for name, array in self.reports.items()}
        nothing = np.zeros((0, len(self)))
        findings = None if by is None else joined_findings(points, measured_each(self._workers, points, by))
        return Stretch(steps, self.numbers, self.column, nothing, reports, points, findings)

    def compile(self, nothing: Span, objective: Objective, room: int) -> None:
        """Has the programs made that `advance` needs, on a span of which no minibatch counts."""
        self._advance(nothing, objective, np.zeros(len(self), np.int64), room, None)()

    def graph(self, nothing: Span, objective: Objective) -> bytes:
        """TensorFlow's graph of one step; see Solver."""
        return self._solver.graph(nothing, objective, self._groups[0])

    def leave_only(self, places: np.ndarray) -> None:
        """Leaves the heads at these places, as they are now; the others are gone."""
        self._begin(self.snapshot().take(places))


def _as_it_is(group: Group, room: int) -> Kept:
    """What a single validation measures of a group: it holds `room` of them, so that programs for many serve."""
    # Where there is one it is no copy.
    W, b = (tf.repeat(part, room, axis=0) if room > 1 else part for part in (group.W[tf.newaxis], group.b[tf.newaxis]))
    return Kept(W, b, tf.ones([room, len(group.column)], tf.bool), tf.constant(1))


def joined(groups: Sequence[Parameters]) -> tuple[np.ndarray, np.ndarray]:
    """The parameters of all groups, copied: `[H, K, D]` and `[H, K]`."""
    W, b = ([part[name].numpy()[: part["n_heads"]] for part in map(Parameters._asdict, groups)] for name in ("W", "b"))
    return np.concatenate(W), np.concatenate(b)

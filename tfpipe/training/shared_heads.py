"""Heads that several processes train, each its share: as `Heads`, for the chief, which tells the others what to do.

Nothing passes between processes but what a span came to: costs, and the figures of its validations with the parameters
of heads that were better than ever. Each process measures its own heads when it has trained them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.base import Solver
from tfpipe.solvers.objective import Objective
from tfpipe.training.heads import Heads
from tfpipe.training.measurement import Findings, Measurement, Points, Stretch
from tfpipe.training.snapshot import Snapshot

_REPORT = "report."


class SharedHeads:
    """See `Heads`, whose place it takes; the heads of the chief are the first ones.

    Args:
      solver: what advances them.
      column: `[H]` int32, the column of weights of each head of the run.
      at: where they are.
      workers: who run the programs of the chief.
      cluster: the processes.
    """

    fill_cores = True
    asks_late = False  # It is sent along.

    def __init__(self, solver: Solver, column: np.ndarray, at: Snapshot, workers: Workers, cluster: Cluster):
        self._solver, self._column, self._workers, self._cluster = solver, column, workers, cluster
        self._begin(at)

    def _begin(self, at: Snapshot) -> None:
        others = self._cluster.call(Message("begin", arrays=at.packed()))
        self.numbers, self.reports = at.numbers, dict(at.reports)
        self._own = Heads(self._solver, self._column, at.take(share(len(self), 0, self._cluster.size)), self._workers)
        others()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_groups(self) -> int:
        """Of the chief."""
        return self._own.n_groups

    def snapshot(self) -> Snapshot:
        """See `Heads`."""
        others = self._cluster.call(Message("snapshot"))
        parts = [self._own.snapshot(), *(Snapshot.unpacked(answer.arrays) for answer in others() if answer.arrays)]
        return Snapshot.joined(parts)

    def advance(
        self,
        span: Span,
        objective: Objective,
        last: np.ndarray,
        room: int,
        by: Callable[[], Measurement] | None = None,
    ) -> Callable[[], Stretch]:
        """See `Heads`."""
        measurement = by() if by else None
        first = int(span.first)
        facts = {"first": first, "begin": int(span.begin), "end": int(span.end), "room": room}
        others = self._cluster.call(Message("advance", facts, {"last": last} | _to_beat(measurement)))
        own = share(len(self), 0, self._cluster.size)
        of_own = _of(measurement, own)
        wait_for_own = self._own.advance(span, objective, last[own], room, of_own and (lambda: of_own))

        def wait() -> Stretch:
            stretch = self._joined(wait_for_own(), others())
            self.reports = {name: array[-1] for name, array in stretch.reports.items()}
            return stretch

        return wait

    def as_they_are(self, steps: int, room: int, by: Measurement | None = None) -> Stretch:
        """See `Heads`."""
        others = self._cluster.call(Message("measure", {"steps": steps, "room": room}, _to_beat(by)))
        own = share(len(self), 0, self._cluster.size)
        return self._joined(self._own.as_they_are(steps, room, _of(by, own)), others())

    def points(self, room: int) -> list[Points]:
        """See `Heads`; those of the chief."""
        return self._own.points(room)

    def compile(self, nothing: Span, objective: Objective, room: int) -> None:
        """See `Heads`."""
        others = self._cluster.call(Message("compile", {"first": int(nothing.first), "room": room}))
        self._own.compile(nothing, objective, room)
        others()

    def graph(self, nothing: Span, objective: Objective) -> bytes:
        """See `Heads`."""
        return self._own.graph(nothing, objective)

    def leave_only(self, places: np.ndarray) -> None:
        """See `Heads`; those that remain are shared evenly again."""
        self._begin(self.snapshot().take(places))

    def _joined(self, own: Stretch, others: Sequence[Message]) -> Stretch:
        """What all heads came to."""
        arrays = [packed(own), *(answer.arrays for answer in others if answer.arrays)]
        reports = {name: _side_by_side(arrays, _REPORT + name) for name in self._solver.reports}
        findings = None
        if own.findings is not None:
            of_points = [_side_by_side(arrays, name) for name in Findings._fields[:3]]
            best = [np.concatenate([part[name] for part in arrays]) for name in Findings._fields[3:]]
            findings = Findings(*of_points, *best)
        column = self._column[self.numbers]
        costs = _side_by_side(arrays, "costs")
        return Stretch(own.before, self.numbers, column, costs, reports, own.points, findings)


def share(n_heads: int, rank: int, size: int) -> np.ndarray:
    """The places of the heads that process `rank` of `size` trains: as many as any other, or one more."""
    return np.array_split(np.arange(n_heads), size)[rank]


def packed(stretch: Stretch) -> dict[str, Any]:
    """A stretch as arrays by name, without what is there to be measured."""
    reports = {_REPORT + name: array for name, array in stretch.reports.items()}
    findings = {} if stretch.findings is None else stretch.findings._asdict()
    return {"costs": stretch.costs, **reports, **findings}


def _side_by_side(parts: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([part[name] for part in parts], axis=-1)


def _to_beat(by: Measurement | None) -> dict[str, np.ndarray]:
    return {} if by is None else {"to_beat": by.to_beat}


def _of(by: Measurement | None, places: np.ndarray) -> Measurement | None:
    return None if by is None else by._replace(to_beat=by.to_beat[places])

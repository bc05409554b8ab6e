"""What another process than the chief does where heads are shared: see `shared_heads`."""

import functools
from collections.abc import Mapping

import numpy as np

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.config import known
from tfpipe.pipeline.spans import Spans
from tfpipe.training.assembly import Placed
from tfpipe.training.heads import Heads
from tfpipe.training.measurement import Measurement
from tfpipe.training.plan import Plan
from tfpipe.training.shared_heads import SharedHeads, packed, share
from tfpipe.training.snapshot import Snapshot
from tfpipe.training.validation import compile_measured, measurement


class HeadsFollower:
    """Trains its share of the heads.

    Args:
      plan: of the run.
      workers: who run the programs.
      cluster: the processes.
    """

    def __init__(self, plan: Plan, workers: Workers, cluster: Cluster):
        self._plan, self._workers, self._cluster = plan, workers, cluster
        self._heads: Heads | None = None
        self._own = np.zeros(0, np.int64)
        self._spans: Spans | None = None

    @functools.cached_property
    def _placed(self) -> Placed:
        return Placed.of(self._plan, self._workers, at_once=True)

    def answer(self, message: Message) -> Message:
        """See `team.Follower`."""
        if message.name == "begin":
            self._begin(Snapshot.unpacked(message.arrays))
            return Message(message.name)
        if self._heads is None:  # There are fewer heads than processes.
            return Message(message.name)
        return Message(message.name, arrays=_ANSWERS[message.name](self, self._heads, message))

    def _begin(self, at: Snapshot) -> None:
        self._own = share(len(at.numbers), self._cluster.rank, self._cluster.size)
        own = at.take(self._own)
        self._heads = Heads(self._plan.solver, self._plan.column, own, self._workers) if len(self._own) else None

    def _snapshot(self, heads: Heads, message: Message) -> dict[str, np.ndarray]:
        return heads.snapshot().packed()

    def _compile(self, heads: Heads, message: Message) -> dict[str, np.ndarray]:
        room = message.facts["room"]
        nothing = self._spans_from(message.facts["first"]).nothing
        assert nothing is not None
        heads.compile(nothing, self._placed.objective, room)
        compile_measured(self._workers, heads.points(room), self._measurement(np.zeros(len(heads))))
        return {}

    def _advance(self, heads: Heads, message: Message) -> dict[str, np.ndarray]:
        first, begin, end, room = (message.facts[name] for name in ("first", "begin", "end", "room"))
        span = self._spans_from(first + begin).take(first + begin, first + end)
        assert (int(span.first), int(span.begin), int(span.end)) == (first, begin, end)
        by = self._by(message.arrays)
        last = message.arrays["last"][self._own]
        return packed(heads.advance(span, self._placed.objective, last, room, by and (lambda: by))())

    def _measure(self, heads: Heads, message: Message) -> dict[str, np.ndarray]:
        steps, room = message.facts["steps"], message.facts["room"]
        return packed(heads.as_they_are(steps, room, self._by(message.arrays)))

    def _by(self, arrays: Mapping[str, np.ndarray]) -> Measurement | None:
        to_beat = arrays.get("to_beat")
        return None if to_beat is None else self._measurement(to_beat[self._own])

    def _measurement(self, to_beat: np.ndarray) -> Measurement:
        return measurement(self._placed.validation, self._placed.test, known(self._plan.config.select), to_beat)

    def _spans_from(self, steps: int) -> Spans:
        """The chief's."""
        if self._spans is None:
            room = self._placed.room(self._plan, fill_cores=SharedHeads.fill_cores)
            self._spans = self._placed.spans(self._plan, room, steps)
        return self._spans


_ANSWERS = {
    "snapshot": HeadsFollower._snapshot,
    "compile": HeadsFollower._compile,
    "advance": HeadsFollower._advance,
    "measure": HeadsFollower._measure,
}

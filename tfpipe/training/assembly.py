"""The parts of a run, put together: data on the device, heads, what is known of them, and the programs compiled."""

import time
from typing import NamedTuple, Self

import numpy as np

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.programs import between_traces, padded
from tfpipe.compute.workers import Workers
from tfpipe.config import known
from tfpipe.data import Examples
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError
from tfpipe.log import log
from tfpipe.monitor import Monitor, Started
from tfpipe.pipeline import residency
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.sampler import Sampler
from tfpipe.pipeline.spans import SPAN_KEPT_BYTES, Spans, span_length
from tfpipe.solvers.objective import Objective, parameter_type
from tfpipe.solvers.weights import balance, measured_weights
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.heads import Heads
from tfpipe.training.meter import Meter
from tfpipe.training.pictures import Pictures
from tfpipe.training.plan import Plan
from tfpipe.training.record import Record
from tfpipe.training.saving import CheckpointManager
from tfpipe.training.shared_heads import SharedHeads
from tfpipe.training.snapshot import Snapshot
from tfpipe.training.state import State
from tfpipe.training.validation import Validation

# Of numbers of images, in a span with several validations.
_MOST_BYTES_OF_NUMBERS = 8 << 20


class Parts(NamedTuple):
    """What a run consists of.

    Attributes:
      spans: the minibatches.
      objective: on the training examples.
      heads: those that train, here or in all processes of a cluster.
      validation: what steers the run.
      record: what is known of all heads.
      pictures: the best model, for those who watch.
      meter: the clock of the loop.
      saving: state and model on the disk; None if there is no workdir.
      workers: who compute.
    """

    spans: Spans
    objective: Objective
    heads: Heads | SharedHeads
    validation: Validation
    record: Record
    pictures: Pictures
    meter: Meter
    saving: CheckpointManager | None
    workers: Workers


class Placed(NamedTuple):
    """The data of a run, on its device.

    Attributes:
      train: the training examples.
      objective: on them.
      validation, test: what measures on the other splits.
    """

    train: Resident
    objective: Objective
    validation: Evaluation
    test: Evaluation

    @classmethod
    def of(cls, plan: Plan, workers: Workers, *, at_once: bool = False) -> Self:
        """Brings the data of a run to its device; `at_once`: splits that lie there are measured so, however long."""
        splits = plan.splits
        train, *others = residency.place([splits.train, splits.validation, splits.test], workers.copies)
        objective = Objective.of(splits.scaling, train.labels, plan.weights, plan.solver.examples, plan.arithmetic)
        workers.copies.make(objective)
        return cls(train, objective, *_evaluations(plan, others, plan.left_out, workers, at_once=at_once))

    def room(self, plan: Plan, *, fill_cores: bool) -> int:
        """How many validations a span has at most; whether the heads fill all cores."""
        keeps = plan.solver.keeps and self.train.is_resident and bool(self.validation.whole and self.test.whole)
        return _validations_of_a_span(plan, fill_cores=fill_cores) if keeps else 1

    def spans(self, plan: Plan, room: int, steps: int) -> Spans:
        """The minibatches after so many steps, in spans of at most `room` validations.

        They come after the evaluations: of a page of a mapped file that holds rows of both, the kernel believes what it
        is told last.
        """
        solver, period = plan.solver, plan.solver.frequency * room
        length = _length(plan, period, solver.batch_size, self.train.bytes_per_image)
        return Spans(solver.spans(self.train, first=steps, period=period, length=length), steps)


def assembled(
    plan: Plan, files: Workdir | None, state: State, monitor: Monitor, workers: Workers, cluster: Cluster | None
) -> Parts:
    """Puts the parts of a run together that goes on from `state`, and compiles its programs; then its clock starts."""
    solver, pace = plan.solver, plan.pace
    placed = Placed.of(plan, workers, at_once=cluster is not None)
    if cluster and (placed.validation.whole is None or placed.test.whole is None):
        raise ConfigError("strategy", plan.config.strategy, "shares no splits that memory cannot hold; give none")
    validation, test, objective = placed.validation, placed.test, placed.objective
    dtype = parameter_type(plan.arithmetic).as_numpy_dtype
    sizes = plan.n_heads, plan.splits.n_out, plan.splits.n_in
    at = Snapshot.at_first(solver, sizes, plan.left_out, plan.begins, dtype)
    if state.steps:
        at = Snapshot.of(state)
    heads: Heads | SharedHeads = (
        SharedHeads(solver, plan.column, at, workers, cluster) if cluster else Heads(solver, plan.column, at, workers)
    )
    room = placed.room(plan, fill_cores=heads.fill_cores)
    spans = placed.spans(plan, room, state.steps)
    steering = Validation(
        validation,
        test,
        frequency=solver.frequency,
        validated=state.validated,
        select=known(plan.config.select),
        room=padded(room),
        workers=workers,
    )
    saving = (
        CheckpointManager(files, plan.identity, plan.config.checkpoint_every, workers, pace.clock) if files else None
    )
    _describe(plan, heads, state)
    _compile(plan, spans, objective, heads, steering, monitor, workers)
    meter = Meter(pace.clock, solver.examples / solver.per_epoch, state.steps, state.seconds)
    record = Record(plan, state, dtype, monitor, meter)
    pictures = Pictures(plan, test, monitor, workers)
    return Parts(spans, objective, heads, steering, record, pictures, meter, saving, workers)


def _evaluations(
    plan: Plan, placed: list[Resident], left_out: np.ndarray, workers: Workers, *, at_once: bool
) -> list[Evaluation]:
    samplers = (plan.validation, plan.test)
    minibatches = max(sampler.per_epoch for sampler in samplers)
    length = _length(plan, minibatches, plan.test.batch_size, max(split.bytes_per_image for split in placed))
    if at_once and all(split.is_resident for split in placed):
        length = minibatches

    def evaluation(
        split: Resident, sampler: Sampler, *, balanced: bool, weights: np.ndarray | None = None
    ) -> Evaluation:
        n = sampler.examples
        column = np.ones(len(split.labels), np.float32) if weights is None else weights.astype(np.float32)
        objective = Objective.of(
            plan.splits.scaling, split.labels, column[np.newaxis], n, plan.measured_in,
            balance=balance(split.labels[:n], None if weights is None else column[:n]) if balanced else None,
            is_known=~left_out[split.labels[:n]] if left_out.any() else None,
        )  # fmt: skip
        return Evaluation(split, objective, sampler, length, workers)

    (validation, test), by_balance = placed, plan.config.select == "balanced_error"
    return [
        evaluation(validation, plan.validation, balanced=by_balance, weights=measured_weights(plan.splits.validation)),
        evaluation(test, plan.test, balanced=False, weights=_of_test(plan.splits.test)),
    ]


def _of_test(examples: Examples) -> np.ndarray | None:
    """As `measured_weights`, of test examples, which may all count nothing."""
    has_none = examples.weights is not None and not examples.weights.any()
    return examples.weights if has_none else measured_weights(examples)


def _length(plan: Plan, minibatches: int, batch_size: int, bytes_per_image: int) -> int:
    most = plan.pace.span_bytes, plan.pace.span_flops
    return span_length(minibatches, batch_size, bytes_per_image, plan.n_parameters, *most)


def _flops_of_interval(plan: Plan) -> float:
    """Of the steps between two validations, and of a validation and a test."""
    solver = plan.solver
    examples = solver.frequency * solver.examples / solver.per_epoch
    measured = plan.validation.examples + plan.test.examples
    return (4 * examples + 2 * measured) * plan.n_parameters


def _validations_of_a_span(plan: Plan, *, fill_cores: bool) -> int:
    """How many validations a span has at most."""
    solver, pace = plan.solver, plan.pace
    # Beside the validations of the last span nothing trains any more.
    most_flops = pace.span_flops if fill_cores else pace.span_flops / 5
    most_bytes, minibatches = min(pace.span_bytes, _MOST_BYTES_OF_NUMBERS), pace.span_validations * solver.frequency
    length = span_length(minibatches, solver.batch_size, 0, plan.n_parameters, most_bytes, most_flops)
    by_time = int(most_flops / _flops_of_interval(plan))
    # Places and heads are filled up, by a third at most.
    by_memory = SPAN_KEPT_BYTES * 9 // (16 * parameter_type(plan.arithmetic).size * plan.n_parameters)
    return max(1, min(pace.span_validations, length // solver.frequency, by_time, by_memory))


def _describe(plan: Plan, heads: Heads | SharedHeads, state: State) -> None:
    """Says what is about to run."""
    solver = plan.solver
    for line in (plan.data, *solver.remarks):
        log.info("%s", line)
    log.info(
        "%d head%s in %d program%s on %s, products in %s: %d minibatches an epoch, a validation every %d iterations",
        len(heads),
        "s" * (len(heads) > 1),
        heads.n_groups,
        "s" * (heads.n_groups > 1),
        plan.device.words,
        plan.arithmetic,
        solver.per_epoch,
        solver.frequency,
    )
    if state.steps:
        log.info("goes on after iteration %d, in epoch %d", state.steps - 1, solver.epoch(state.steps))


def _compile(
    plan: Plan,
    spans: Spans,
    objective: Objective,
    heads: Heads | SharedHeads,
    validation: Validation,
    monitor: Monitor,
    workers: Workers,
) -> None:
    """Makes the XLA programs before the clock starts, on spans of which no minibatch counts."""
    begin = time.monotonic()
    nothing = spans.nothing
    if nothing is None:  # Nothing is left but to measure the heads.
        return
    # Side by side: the tutorial's run is ready after 1.5 s, and after 2.2 if one is made after the other.
    programs = [
        workers.start(heads.compile, nothing, objective, validation.room),
        workers.start(validation.compile, heads),
    ]
    monitor.started(Started(plan.flags, plan.data, lambda: heads.graph(nothing, objective)))
    with between_traces():
        monitor.prepare()
    for program in programs:
        program.result()
    log.info("compiled in %.1f s", time.monotonic() - begin)

"""The state of a run, and what happens to it: chunks, validations, the best models, the end."""

import itertools
import math
import time
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from tfpipe.compute import device
from tfpipe.config import TrainConfig
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import DivergedError
from tfpipe.model import artifact
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.monitor import Finished, Monitor, Selected, Started, Trained, Validated, warn
from tfpipe.pipeline import inputs as pipeline
from tfpipe.pipeline import residency
from tfpipe.solvers.steps import Evaluator, Inputs, Trainer
from tfpipe.training import report
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.grid import Grid, Parameters, joined
from tfpipe.training.patience import Patience
from tfpipe.training.plan import Plan
from tfpipe.training.saving import Keeper
from tfpipe.training.state import State
from tfpipe.training.validation import Interval, Validation

# Heads that stopped leave the grid if that saves so much: a new set of programs takes 1.3 s to compile on a CPU that
# computes 200 to 500e9 a second. By this rule, and not by a clock, a run that is repeated does the same again.
_FLOPS_WORTH_COMPILING = 250e9


class Result(NamedTuple):
    """What a run leaves.

    Attributes:
      model: the selected head at its best validation, for images as they are stored; None if the run was interrupted
        before its first validation.
      report: the content of `report.json`.
      history: every validation, in order.
    """

    model: SoftmaxRegression | None
    report: dict[str, Any]
    history: list[Validated]


class Run:
    """The state of a run, and what happens to it."""

    def __init__(self, plan: Plan, files: Workdir | None, state: State, listener: Monitor, workers: device.Workers):
        config, splits, schedule = self._config, self._splits, self._schedule = plan.config, plan.splits, plan.schedule
        self._plan = plan
        self._files = files
        self._keeper = Keeper(files, plan.origin, config.checkpoint_every, workers) if files else None
        self._listener = listener
        self._workers = workers
        inputs = Inputs(splits.scaling, config.precision, multiplies_int8=workers.device.multiplies_int8)
        self._grid = Grid(config.heads, splits.n_in, splits.n_out, Trainer(inputs), workers)
        # The numbers of the heads that are in the grid: all, until enough have stopped.
        self._in_grid = np.arange(len(config.heads))
        self._patience = Patience(
            len(config.heads),
            patience=config.patience,
            patience_increase=config.patience_increase,
            improvement_threshold=config.improvement_threshold,
        )
        train, validation, test = residency.store([splits.train, splits.validation, splits.test])
        n_parameters = len(config.heads) * splits.n_in * splits.n_out
        self._chunks = pipeline.training_chunks(
            train,
            schedule.train,
            first=state.iteration + 1,
            iterations=schedule.iterations,
            validation_frequency=schedule.validation_frequency,
            class_weight=plan.class_weight,
            chunk=pipeline.chunk_size(
                schedule.validation_frequency, schedule.train.batch_size, train.bytes_per_image, n_parameters
            ),
        )
        # Of one shape, so that one compiled program serves both splits where they are parts of one array.
        chunk = pipeline.chunk_size(
            max(schedule.validation.per_epoch, schedule.test.per_epoch),
            schedule.test.batch_size,
            max(validation.bytes_per_image, test.bytes_per_image),
            n_parameters,
        )
        evaluator = Evaluator(inputs)
        self._validation, self._test = (
            Evaluation(evaluator, stored, rows, chunk, workers)
            for stored, rows in ((validation, schedule.validation), (test, schedule.test))
        )
        self._iteration = state.iteration  # The last one that was trained.
        self._validated = state.validated
        self._seconds_before = state.seconds
        # Since the last validation: the sum of costs and of how many minibatches; and W as it was then, of the grid.
        self._cost_sum, self._count = np.zeros((2, len(config.heads)))
        self._W_before, _ = joined(self._grid.parameters())
        self._under_way: Validation | None = None
        # Of each head at its best validation.
        self._best_W, self._best_b = joined(self._grid.parameters())
        self._test_error = np.full(len(config.heads), np.nan)
        self._history = listener.history()
        self._drawn: Future[None] = workers.start(lambda: None)  # The pictures of a new best, perhaps under way.
        if state.iteration >= 0:
            self._restore(state)

    def _restore(self, state: State) -> None:
        logging.info("goes on after iteration %d, in epoch %d", self._iteration, self._schedule.epoch(self._iteration))
        arrays = state.arrays
        self._in_grid = arrays["in_grid"]
        self._grid = self._grid.only(self._in_grid)
        self._grid.assign(arrays["W"], arrays["b"])
        self._W_before = arrays["W_before"]
        self._cost_sum, self._count = arrays["cost_sum"], arrays["count"]
        self._best_W, self._best_b, self._test_error = arrays["best_W"], arrays["best_b"], arrays["test_error"]
        self._patience.restore(state.patience, state.iteration)

    def _state(self, *, finished: bool = False) -> State:
        """What this is now, and stays when training goes on."""
        W, b = joined(self._grid.parameters())
        arrays = {
            "in_grid": self._in_grid,
            "W": W,
            "b": b,
            "W_before": self._W_before,  # It is replaced, not changed: no copy is needed.
            "cost_sum": self._cost_sum.copy(),
            "count": self._count.copy(),
            "best_W": self._best_W.copy(),
            "best_b": self._best_b.copy(),
            "test_error": self._test_error.copy(),
        }
        written = self._listener.written()
        return State(
            self._iteration, self._validated, self._seconds(), finished, written, arrays, self._patience.arrays()
        )

    def compile(self) -> None:
        """Makes the XLA programs before the clock starts: on chunks of which no minibatch counts."""
        begin = time.monotonic()
        first = next(self._chunks, None)
        if first is None:  # Nothing is left but to measure the heads.
            return
        groups = self._grid.parameters()
        as_selected = Parameters(groups[0].W[:1], groups[0].b[:1])
        last_iteration = self._patience.last_iteration[self._in_grid]
        # Side by side: the tutorial's run is ready after 1.5 s, and after 2.2 if one is made after the other.
        programs = [
            self._workers.start(self._grid.train_chunk, first.limited(0), last_iteration),
            self._workers.start(self._validation.compile, groups),
            self._workers.start(self._test.compile, groups, [as_selected]),
        ]
        # Meanwhile: to import what draws takes 0.25 s of Python.
        self._listener.started(Started(self._plan.flags, self._plan.data, lambda: self._grid.graph(first)))
        for program in programs:
            program.result()
        self._chunks = itertools.chain([first], self._chunks)
        logging.info("compiled in %.1f s", time.monotonic() - begin)

    def describe(self) -> None:
        """Says what is about to run."""
        schedule = self._schedule
        logging.info("%s", self._plan.data)
        logging.info(
            "%d head%s in %d program%s on %s, products in %s: %d minibatches of %d an epoch, a validation every %d "
            "iterations",
            len(self._grid),
            "s" * (len(self._grid) > 1),
            self._grid.n_groups,
            "s" * (self._grid.n_groups > 1),
            self._workers.device.label,
            self._plan.products,
            schedule.train.per_epoch,
            schedule.train.batch_size,
            schedule.validation_frequency,
        )

    def start_clock(self) -> None:
        """The training loop begins."""
        self._begin = self._chunk_begin = time.monotonic()
        self._interval_begin = self._iteration, self._begin

    def _seconds(self) -> float:
        """That the training loop took, with what it took before it went on."""
        return self._seconds_before + time.monotonic() - self._begin

    def train_chunk(self) -> None:
        """Trains the next chunk: the heads go on until patience stops them, in the middle of it if need be."""
        chunk = next(self._chunks)
        first = self._iteration + 1
        steps = self._patience.steps(first, int(chunk.steps))
        last_iteration = self._patience.last_iteration[self._in_grid]
        costs = np.zeros((steps, len(self._config.heads)))
        costs[:, self._in_grid] = self._grid.train_chunk(chunk.limited(steps), last_iteration)[:steps]
        self._iteration += steps
        self._hear_validation()  # It may have found a head diverged that this chunk took along.

        trained = np.arange(first, first + steps)[:, np.newaxis] <= self._patience.last_iteration
        self._stop_diverged(first, trained & ~np.isfinite(costs))
        self._cost_sum += costs.sum(axis=0, where=trained, dtype=np.float64)
        self._count += trained.sum(axis=0)

        self._keep_model_if_new(self._patience.selected())
        begin, self._chunk_begin = self._chunk_begin, time.monotonic()
        following = self._iteration + 1
        candidates = trained[-1] & ~self._patience.diverged
        shown = self._patience.selected(among=candidates)
        self._listener.trained(
            Trained(
                self._iteration,
                self._schedule.epoch(self._iteration),
                following + self._patience.steps(following, self._schedule.iterations - following),
                float(costs[:, np.argmax(candidates) if shown is None else shown].mean()),
                self._examples(steps) / (self._chunk_begin - begin),
            )
        )

    def _examples(self, steps: int) -> float:
        """How many so many minibatches hold, on average."""
        return steps * self._schedule.train.examples / self._schedule.train.per_epoch

    def keep_state_if_due(self) -> None:
        """Has the state written in the background, every few seconds."""
        if self._keeper and self._keeper.wants_state():
            self._keeper.keep_state(self._state())

    def validation_is_due(self) -> bool:
        """Whether one follows the last iteration, and has not been made."""
        is_at_end = (self._iteration + 1) % self._schedule.validation_frequency == 0
        return is_at_end and self._validated < self._iteration

    def start_validation(self) -> None:
        """Has the heads validated as they are, and tested if one has a new best: in the background.

        Training need not wait for what is found, as long as patience lasts: see `is_over`. Two cores that train and
        validate at once leave each other in peace: 30.5 ms an epoch of MNIST in float32, where one after the other took
        40.4.
        """
        self._validated = self._iteration
        active = self._patience.active(self._iteration)
        best_error = np.where(active, self._patience.best_error, -np.inf)[self._in_grid]
        self._under_way = Validation.start(
            self._iteration,
            self._grid,
            self._interval(),
            best_error,
            validation=self._validation,
            test=self._test,
            workers=self._workers,
        )
        self._W_before = self._under_way.W
        self._cost_sum, self._count = np.zeros((2, len(self._config.heads)))

    def _interval(self) -> Interval:
        """What was trained since the last validation; the next interval begins."""
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as promised for a head that stands still.
            cost = self._cost_sum / self._count
        rates = np.array([head.learning_rate for head in self._config.heads])
        (first, begin), self._interval_begin = self._interval_begin, (self._iteration, time.monotonic())
        speed = self._examples(self._iteration - first) / (self._interval_begin[1] - begin)
        return Interval(self._W_before, (rates * self._count)[self._in_grid], cost, speed)

    def _hear_validation(self) -> None:
        """Takes in the validation that is under way, if there is one; heads with a new best are kept as they were."""
        if self._under_way is None:
            return
        under_way, self._under_way = self._under_way, None
        iteration = under_way.iteration
        error, cost, test_error = np.full((3, len(self._config.heads)), np.nan)
        norms = np.full((2, len(self._config.heads)), np.nan)
        error[self._in_grid], cost[self._in_grid], test_error[self._in_grid] = under_way.measured.result()
        norms[:, self._in_grid] = under_way.norms.result()
        self._stop_diverged(iteration, (self._patience.active(iteration) & ~np.isfinite(cost))[np.newaxis])
        active = self._patience.active(iteration)
        improved = self._patience.observe(iteration, error, cost)
        self._test_error[improved] = test_error[improved]
        if improved.any():
            among = improved[self._in_grid]
            self._best_W[improved], self._best_b[improved] = under_way.W[among], under_way.b[among]

        leader = self._patience.selected()
        self._keep_model_if_new(leader)
        W_norm, gradient_norm = np.where(active, norms, np.nan)
        end = np.minimum(self._patience.last_iteration, self._schedule.iterations - 1)
        event = Validated(
            iteration,
            self._schedule.epoch(iteration),
            self._seconds(),
            under_way.interval.examples_per_second,
            np.where(active, end - iteration, np.nan),
            _finite(W_norm),
            _finite(gradient_norm),
            _finite(under_way.interval.cost),
            np.where(active, error, np.nan),
            np.where(active, cost, np.nan),
            np.where(improved, test_error, np.nan),
            leader,
            math.inf if leader is None else float(self._patience.best_error[leader]),
        )
        self._history.append(event)
        self._listener.validated(event)
        if leader is not None and self._listener.wants_model(self._made(leader)):
            W, b = self._best_W[leader].copy(), self._best_b[leader].copy()
            self._drawn = self._workers.start(self._show_model, iteration, self._made(leader), W, b)
        self._compact()

    def _made(self, leader: int) -> tuple[int, int]:
        """Which model is a head's best: the head, and the iteration after which it was made."""
        return leader, int(self._patience.best_iteration[leader])

    def _show_model(self, iteration: int, made: tuple[int, int], W: np.ndarray, b: np.ndarray) -> None:
        self._listener.selected(lambda: self._selected(iteration, made, W, b))

    def _selected(self, iteration: int, made: tuple[int, int], W: np.ndarray, b: np.ndarray) -> Selected:
        """What a model, `[K, D]` and `[K]`, does on the test examples; see there."""
        diagnosis = self._test.diagnose(Parameters(tf.constant(W[np.newaxis]), tf.constant(b[np.newaxis])))
        return Selected(iteration, made, self._trained(made[0], W, b), diagnosis, self._splits.test)

    def is_over(self) -> bool:
        """Whether the epochs are over, or patience has stopped every head.

        Waits for a validation that is under way if patience might end before the next one: it may prolong it.
        """
        following = self._iteration + 1
        if following >= self._schedule.iterations:
            return True
        if self._under_way:
            active = self._patience.active(self._under_way.iteration)
            surely = following + self._schedule.validation_frequency
            if self._patience.last_iteration[active].min(initial=surely) < surely:
                self._hear_validation()
        return self._patience.steps(following, 1) == 0

    def _compact(self) -> None:
        """Takes the heads that stopped out of the grid, if they are half of it and worth it: log2(H) times at most.

        Those that remain are computed as before, but for the rounding of sums.
        """
        following = self._iteration + 1
        # Those that trained the last iteration have their validation before them.
        remain = self._patience.active(self._iteration)[self._in_grid]
        left = self._patience.steps(following, self._schedule.iterations - following)
        parameters = (len(remain) - remain.sum()) * self._splits.n_in * self._splits.n_out
        flops = 4.0 * parameters * self._schedule.train.batch_size * left
        if not remain.any() or 2 * remain.sum() > len(remain) or flops < _FLOPS_WORTH_COMPILING:
            return
        logging.info(
            "%d of %d heads have stopped: the others go on without them", len(remain) - remain.sum(), len(remain)
        )
        self._grid = self._grid.only(np.flatnonzero(remain))
        self._in_grid = self._in_grid[remain]
        self._W_before = self._W_before[remain]

    def _stop_diverged(self, first: int, not_finite: np.ndarray) -> None:
        """Stops the heads with an entry in `not_finite`, `[steps, H]` bool, whose row 0 is iteration `first`."""
        diverged = np.asarray(not_finite.any(axis=0))
        if not diverged.any():
            return
        at = first + not_finite.argmax(axis=0)
        self._patience.diverge(diverged, at)
        words = []
        for number in np.flatnonzero(diverged):
            head = self._config.heads[number]
            words.append(f"learning_rate={head.learning_rate:g}, l2={head.l2:g} at iteration {at[number]}")
            warn(f"a head diverged, its cost is no longer finite: {words[-1]}")
        if self._patience.diverged.all():
            smallest = min(self._config.learning_rate)
            raise DivergedError(
                f"every head diverged, the last with {words[-1]}: its cost is no longer finite; try a smaller "
                f"learning_rate (such as {min(smallest / 10, TrainConfig.learning_rate[0]):g}), or a pixel_max that "
                "brings the images into [0, 1]"
            )

    def _keep_model_if_new(self, leader: int | None) -> None:
        """Brings `model.npz` up to date in the background, if there is something new, every few seconds."""
        if leader is not None and self._keeper and self._keeper.wants_model(self._made(leader)):
            best = self._best_W[leader], self._best_b[leader]
            self._keeper.keep_model(self._made(leader), self._trained(leader, *best))

    def _trained(self, leader: int, W: np.ndarray, b: np.ndarray) -> artifact.TrainedModel:
        """The model `[K, D]` and `[K]` as it is kept: it carries the scaling, and takes images as they are stored."""
        splits, patience = self._splits, self._patience
        summary = self._config.heads[leader]._asdict() | {
            "validation_error": float(patience.best_error[leader]),
            "test_error": float(self._test_error[leader]),
            "best_iteration": int(patience.best_iteration[leader]),
            "train_examples": self._schedule.train.examples,
            "tfpipe": report.versions()["tfpipe"],
        }
        scaled = splits.scaling.fold(W.T, b)
        return artifact.TrainedModel(*scaled, splits.class_names, splits.image_shape, splits.white_pixel, summary)

    def finish(self, *, interrupted: bool) -> Result:
        """Keeps the last state and the selected head, and reports on all heads."""
        if interrupted:
            self._keep_last_state(finished=False)
            if self.validation_is_due():  # Not of the state: it will be made again, and the same.
                self.start_validation()
        self._hear_validation()
        seconds = self._seconds()
        if not interrupted:
            self._keep_last_state(finished=True)
        self._drawn.result()
        leader = self._patience.selected()
        model = selected = None
        if leader is not None:
            trained = self._trained(leader, self._best_W[leader], self._best_b[leader])
            if self._keeper:
                self._keeper.keep_last_model(trained)
            model = SoftmaxRegression.from_arrays(trained.W, trained.b)
            selected = self._selected(self._iteration, self._made(leader), self._best_W[leader], self._best_b[leader])

        content = report.build(
            self._config,
            self._splits,
            self._schedule,
            self._patience,
            last=self._iteration,
            test_error=self._test_error,
            confusion_matrix=selected.diagnosis.confusion_matrix() if selected else None,
            seconds=seconds,
            device=self._workers.device.label,
            products=self._plan.products,
            programs=self._grid.n_groups,
            workdir=self._files.path if self._files else None,
            interrupted=interrupted,
        )
        self._listener.finished(
            Finished(self._plan.data, self._plan.flags, self._iteration, content, report.tables(content), selected)
        )
        if self._files:
            with self._files.writing(self._files.report.name):  # After all else: it says that a run is finished.
                report.save(self._files.report, content)
        return Result(model, content, self._history)

    def _keep_last_state(self, *, finished: bool) -> None:
        if self._keeper:
            self._keeper.keep_last_state(self._state(finished=finished))


def _finite(values: np.ndarray) -> np.ndarray:
    """NaN in the place of infinities, as in `metrics.jsonl`: of a head that diverges."""
    return np.where(np.isfinite(values), values, np.nan)

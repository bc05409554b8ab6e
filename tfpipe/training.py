"""A training run, from top to bottom: as in the Theano tutorial, for one head or for a grid of them."""

import itertools
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from tfpipe import artifact, device, pipeline, report, storage
from tfpipe.config import TrainConfig, flag_lines
from tfpipe.data import Splits
from tfpipe.evaluation import Evaluation
from tfpipe.exceptions import DivergedError
from tfpipe.grid import Grid, Parameters, joined, multiplies_bytes
from tfpipe.model import SoftmaxRegression
from tfpipe.monitor import Finished, Monitor, Selected, Started, Trained, Validated, warn
from tfpipe.patience import Patience
from tfpipe.pipeline import Chunk
from tfpipe.schedule import Schedule
from tfpipe.steps import Evaluator, Inputs, Trainer
from tfpipe.workdir import Workdir

# Heads that stopped leave the grid if that saves so much: a new set of programs takes 1.3 s to compile on a CPU that
# computes 200 to 500e9 a second. By this rule, and not by a clock, a run that is repeated does the same again.
_FLOPS_WORTH_COMPILING = 250e9
_SPLITS = {"train": "training", "validation": "validation", "test": "test"}
# `model.npz` follows the best model at most this often: a write that is whole waits for the disk.
_SECONDS_BETWEEN_SAVES = 2.0
_SECONDS_BETWEEN_TRIES = 60.0


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


def train(
    config: TrainConfig,
    splits: Splits,
    workdir: pathlib.Path | str | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Trains every head of `config` on `splits` until patience or the epochs end, and selects the best.

    Args:
      config: the hyper-parameters.
      splits: the data.
      workdir: folder for all that is kept of the run, made if need be; None: nothing is written.
      should_stop: asked between chunks (a second at most); True ends the run with what it has.

    Returns:
      Result, of the head with the smallest validation error (of equals, the smaller validation cost).

    Raises:
      ConfigError: the hyper-parameters do not fit the data.
      DeviceError: the device cannot be used.
      OptionError: TensorBoard is wanted, and not installed.
      WorkdirError: the workdir cannot be written, or holds another run.
      DivergedError: the cost of every head stopped being finite.
    """
    schedule = Schedule(config, splits)
    place = device.select(config.device, tf32=config.tf32)
    place.check_precision(config.precision)
    files = Workdir(workdir) if workdir is not None else None
    if files:
        config.check_packages()
        # Without a value the flagfile asks for the data, rather than train on other data than this run did.
        files.claim(_flags(config, splits))

    with (
        place.scope(),
        Monitor(files, config) as listener,
        device.Workers(place) as workers,
    ):
        run = _Run(config, splits, schedule, files, listener, workers)
        run.describe()
        run.compile()
        interrupted = False
        for chunk in run.chunks():
            if interrupted := should_stop():
                break
            run.train(chunk)
            if run.validation_is_due():
                run.start_validation()
            if run.is_over():
                break
        return run.finish(interrupted=interrupted)


def _flags(config: TrainConfig, splits: Splits) -> list[str]:
    """The run as the lines of a flagfile."""
    return flag_lines(config) + (flag_lines(splits.config) if splits.config else ["--dataset="])


class _Validation(NamedTuple):
    """A validation that is under way, while the heads train on.

    Attributes:
      iteration: after which it was started.
      W: of the heads in the grid, then, `[h, K, D]`.
      b: likewise, `[h, K]`.
      cost: `[H]`, mean cost of the minibatches since the validation before.
      examples_per_second: trained since then.
      measured: will hold errors, costs and test errors of the heads in the grid.
      norms: will hold the norms of their W and of their gradients.
    """

    iteration: int
    W: np.ndarray
    b: np.ndarray
    cost: np.ndarray
    examples_per_second: float
    measured: Future[tuple[np.ndarray, np.ndarray, np.ndarray]]
    norms: Future[np.ndarray]


def _norms(before: np.ndarray, W: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """The norms of W, and of the mean gradient that led there from `before`, both `[h, K, D]`: `[2, h]`.

    Args:
      before: W some steps ago.
      W: W now.
      reach: `[h]`, the learning rate times the number of steps; 0 for a head that stood still, whose gradient is NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        moved, norm = (np.linalg.norm(part.astype(np.float64).reshape(len(W), -1), axis=1) for part in (W - before, W))
        return np.stack([norm, moved / reach])


class _Run:
    """The state of a run, and what happens to it."""

    def __init__(
        self,
        config: TrainConfig,
        splits: Splits,
        schedule: Schedule,
        files: Workdir | None,
        listener: Monitor,
        workers: device.Workers,
    ):
        self._config = config
        self._splits = splits
        self._schedule = schedule
        self._files = files
        self._listener = listener
        self._workers = workers
        inputs = Inputs(splits.scaling, config.precision, multiplies_int8=workers.device.multiplies_int8)
        self._products = "int8" if multiplies_bytes(config, splits, workers.device) else config.precision
        self._grid = Grid(config.heads, splits.n_in, splits.n_out, Trainer(inputs), workers)
        # The numbers of the heads that are in the grid: all, until enough have stopped.
        self._in_grid = np.arange(len(config.heads))
        self._patience = Patience(
            len(config.heads),
            patience=config.patience,
            patience_increase=config.patience_increase,
            improvement_threshold=config.improvement_threshold,
        )
        train, validation, test = storage.store([splits.train, splits.validation, splits.test])
        n_parameters = len(config.heads) * splits.n_in * splits.n_out
        self._chunks = pipeline.training_chunks(
            train,
            schedule.train,
            iterations=schedule.iterations,
            validation_frequency=schedule.validation_frequency,
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
        counts = ", ".join(f"{getattr(schedule, name).examples} {words}" for name, words in _SPLITS.items())
        self._data = f"{counts} examples of {splits.form}; {splits.n_out} classes"
        self._iteration = -1  # The last one that was trained.
        # Since the last validation: the sum of costs and of how many minibatches; and W as it was then, of the grid.
        self._cost_sum, self._count = np.zeros((2, len(config.heads)))
        self._W_before, _ = joined(self._grid.parameters())
        self._under_way: _Validation | None = None
        # Of each head at its best validation.
        self._best_W, self._best_b = joined(self._grid.parameters())
        self._test_error = np.full(len(config.heads), np.nan)
        self._history: list[Validated] = []
        self._drawn: Future[None] = workers.start(lambda: None)  # The pictures of a new best, perhaps under way.
        self._saved: tuple[int, int] | None = None  # The head in model.npz, and the iteration it is from.
        self._next_save = 0.0

    def compile(self) -> None:
        """Makes the XLA programs before the clock starts: on chunks of which no minibatch counts."""
        begin = time.monotonic()
        first = next(self._chunks)
        groups = self._grid.parameters()
        as_selected = Parameters(groups[0].W[:1], groups[0].b[:1])
        # Side by side: the tutorial's run is ready after 1.5 s, and after 2.2 if one is made after the other.
        programs = [
            self._workers.start(self._grid.train_chunk, first.limited(0), self._patience.last_iteration),
            self._workers.start(self._validation.compile, groups),
            self._workers.start(self._test.compile, groups, [as_selected]),
        ]
        self._introduce(first)  # Meanwhile: to import what draws takes 0.25 s of Python.
        for program in programs:
            program.result()
        self._chunks = itertools.chain([first], self._chunks)
        logging.info("compiled in %.1f s", time.monotonic() - begin)

    def describe(self) -> None:
        """Says what is about to run."""
        schedule = self._schedule
        logging.info("%s", self._data)
        logging.info(
            "%d head%s in %d program%s on %s, products in %s: %d minibatches of %d an epoch, a validation every %d "
            "iterations",
            len(self._grid),
            "s" * (len(self._grid) > 1),
            self._grid.n_groups,
            "s" * (self._grid.n_groups > 1),
            self._workers.device.label,
            self._products,
            schedule.train.per_epoch,
            schedule.train.batch_size,
            schedule.validation_frequency,
        )

    def _introduce(self, chunk: Chunk) -> None:
        flags = _flags(self._config, self._splits)
        self._listener.started(Started(flags, self._data, lambda: self._grid.graph(chunk)))

    def chunks(self) -> Iterator[Chunk]:
        """The training chunks; the clock of the training loop starts here."""
        self._begin = self._chunk_begin = self._interval_begin = time.monotonic()
        return self._chunks

    def train(self, chunk: Chunk) -> None:
        """Trains one chunk: the heads go on until patience stops them, in the middle of it if need be."""
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

        self._save_if_new(self._patience.selected())
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

    def validation_is_due(self) -> bool:
        return (self._iteration + 1) % self._schedule.validation_frequency == 0

    def start_validation(self) -> None:
        """Has the heads validated as they are, and tested if one has a new best: in the background.

        Training need not wait for what is found, as long as patience lasts: see `is_over`. Two cores that train and
        validate at once leave each other in peace: 30.5 ms an epoch of MNIST in float32, where one after the other took
        40.4.
        """
        parameters = self._grid.parameters()
        active = self._patience.active(self._iteration)
        best_error = np.where(active, self._patience.best_error, -np.inf)[self._in_grid]
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as promised for a head that stands still.
            cost = self._cost_sum / self._count
        rates = np.array([head.learning_rate for head in self._config.heads])
        reach = (rates * self._count)[self._in_grid]
        self._cost_sum[:] = self._count[:] = 0
        since, self._interval_begin = self._interval_begin, time.monotonic()
        speed = self._examples(self._schedule.validation_frequency) / (self._interval_begin - since)
        W, b = joined(parameters)
        before, self._W_before = self._W_before, W
        measured = self._workers.start(self._measure, parameters, best_error)
        norms = self._workers.start(_norms, before, W, reach)
        self._under_way = _Validation(self._iteration, W, b, cost, speed, measured, norms)

    def _measure(
        self, parameters: list[Parameters], best_error: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        error, cost = self._validation.measure(parameters)
        improved = (error < best_error).any()
        return error, cost, self._test.measure(parameters)[0] if improved else np.full(len(error), np.nan)

    def _hear_validation(self) -> None:
        """Takes in the validation that is under way, if there is one; heads with a new best are kept as they were."""
        if self._under_way is None:
            return
        under_way, self._under_way = self._under_way, None
        iteration = under_way.iteration
        error, cost, test_error = np.full((3, len(self._config.heads)), np.nan)
        norms = np.full((2, len(self._config.heads)), np.nan)
        error[self._in_grid], cost[self._in_grid], test_error[self._in_grid] = under_way.measured.result()
        self._stop_diverged(iteration, (self._patience.active(iteration) & ~np.isfinite(cost))[np.newaxis])
        active = self._patience.active(iteration)
        improved = self._patience.observe(iteration, error, cost)
        self._test_error[improved] = test_error[improved]
        if improved.any():
            among = improved[self._in_grid]
            self._best_W[improved], self._best_b[improved] = under_way.W[among], under_way.b[among]
        norms[:, self._in_grid] = under_way.norms.result()

        leader = self._patience.selected()
        self._save_if_new(leader)
        W_norm, gradient_norm = np.where(active, norms, np.nan)
        end = np.minimum(self._patience.last_iteration, self._schedule.iterations - 1)
        event = Validated(
            iteration,
            self._schedule.epoch(iteration),
            time.monotonic() - self._begin,
            under_way.examples_per_second,
            np.where(active, end - iteration, np.nan),
            W_norm,
            gradient_norm,
            under_way.cost,
            np.where(active, error, np.nan),
            np.where(active, cost, np.nan),
            np.where(improved, test_error, np.nan),
            leader,
            math.inf if leader is None else float(self._patience.best_error[leader]),
        )
        self._history.append(event)
        self._listener.validated(event)
        if leader is not None and self._listener.wants_model(self._made(leader)):
            self._drawn.result()
            W, b = self._best_W[leader].copy(), self._best_b[leader].copy()
            self._drawn = self._workers.start(self._show_model, iteration, self._made(leader), W, b)
        self._compact()

    def _made(self, leader: int) -> tuple[int, int]:
        """Which model is a head's best: the head, and the iteration after which it was made."""
        return leader, int(self._patience.best_iteration[leader])

    def _show_model(self, iteration: int, made: tuple[int, int], W: np.ndarray, b: np.ndarray) -> None:
        self._listener.selected(self._selected(iteration, made, W, b))

    def _selected(self, iteration: int, made: tuple[int, int], W: np.ndarray, b: np.ndarray) -> Selected:
        """What a model, `[K, D]` and `[K]`, does on the test examples; see there."""
        diagnosis = self._test.diagnose(Parameters(tf.constant(W[np.newaxis]), tf.constant(b[np.newaxis])))
        return Selected(iteration, made, self._trained(W, b), diagnosis, self._splits.test)

    def is_over(self) -> bool:
        """Whether patience has stopped every head. (The epochs end with the chunks.)

        Waits for a validation that is under way if patience might end before the next one: it may prolong it.
        """
        following = self._iteration + 1
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

    def _save_if_new(self, leader: int | None) -> None:
        """Brings `model.npz` up to date, if there is something new and the last time is long enough ago."""
        if leader is None or time.monotonic() < self._next_save:
            return
        if self._saved != self._made(leader):
            try:
                self._save(leader)
            except OSError as error:  # There may be room again before the end, where it must be written.
                self._next_save = time.monotonic() + _SECONDS_BETWEEN_TRIES
                again = f"tried again in {_SECONDS_BETWEEN_TRIES:.0f} s"
                warn(f"model.npz cannot be written now: {error.strerror or error}; {again}")

    def _trained(self, W: np.ndarray, b: np.ndarray) -> artifact.TrainedModel:
        """The model `[K, D]` and `[K]` as it is kept: it carries the scaling, and takes images as they are stored."""
        return artifact.TrainedModel(
            *self._splits.scaling.fold(W.T, b), self._splits.class_names, self._splits.image_shape
        )

    def _save(self, leader: int) -> artifact.TrainedModel:
        """Keeps `leader` in `model.npz`."""
        trained = self._trained(self._best_W[leader], self._best_b[leader])
        if self._files:
            artifact.save(self._files.model, trained)
        self._saved = self._made(leader)
        self._next_save = time.monotonic() + _SECONDS_BETWEEN_SAVES
        return trained

    def finish(self, *, interrupted: bool) -> Result:
        """Saves the selected head, and reports on all of them."""
        self._hear_validation()
        seconds = time.monotonic() - self._begin
        self._drawn.result()  # Raises what went wrong.
        leader = self._patience.selected()
        model = selected = None
        if leader is not None:
            trained = self._save(leader)
            model = SoftmaxRegression(self._splits.n_in, self._splits.n_out, tf.as_dtype(trained.W.dtype))
            model.W.assign(trained.W)
            model.b.assign(trained.b)
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
            products=self._products,
            programs=self._grid.n_groups,
            workdir=self._files.path if self._files else None,
            interrupted=interrupted,
        )
        if self._files:
            report.save(self._files.report, content)
        self._listener.finished(
            Finished(
                self._data,
                _flags(self._config, self._splits),
                self._iteration,
                content,
                report.tables(content),
                selected,
            )
        )
        return Result(model, content, self._history)

"""A search for the best optimum, from top to bottom: settings are tried, one is taken, and fitted again on all rows."""

import functools
import pathlib
from collections.abc import Callable

import numpy as np

from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.config import TrainConfig
from tfpipe.data import Splits
from tfpipe.disk.workdir import Workdir
from tfpipe.log import log
from tfpipe.model import tested
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.monitor import Finished, Monitor, Selected, Started, Validated, warn
from tfpipe.solvers.lbfgs import PAIRS
from tfpipe.solvers.optimum import Descent
from tfpipe.training import report
from tfpipe.training.fit import Fit
from tfpipe.training.interrupts import asked_to_stop
from tfpipe.training.meter import Meter
from tfpipe.training.plan import Pace
from tfpipe.training.result import Result, in_workdir
from tfpipe.training.resume import OTHERWISE
from tfpipe.training.saving import CheckpointManager
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.search_report import build, trained_model
from tfpipe.training.search_state import SearchState
from tfpipe.training.settings import Settings, Task

_OF_ALL = np.zeros(1, np.int32)


def search(
    config: TrainConfig,
    splits: Splits,
    workdir: pathlib.Path | str | None,
    *,
    resume: bool,
    overwrite: bool,
    should_stop: Callable[[], bool],
    device: Device,
    pace: Pace,
) -> Result:
    """Finds the optimum of each setting, takes the one that validates best, and fits it again; see `loop.train`."""
    plan = SearchPlan.of(config, splits, device, pace)
    with asked_to_stop(should_stop) as stops:
        return in_workdir(
            workdir,
            plan.config,
            plan.identity,
            plan.flags,
            lambda files, state: _search(plan, files, state, stops),
            begin=SearchState(),
            check_fits=lambda state: state.check_fits(splits.scales, len(plan.validating), plan.shape),
            resume=resume,
            overwrite=overwrite,
        )


def _search(plan: SearchPlan, files: Workdir | None, state: SearchState, stops: Callable[[], bool]) -> Result:
    """Goes on from `state`."""
    log.info("%s", plan.data)
    if plan.pairs < PAIRS[0]:
        log.info("memory allows %d pairs of L-BFGS a head, not %d: it may take more iterations", plan.pairs, PAIRS[0])
    with plan.device.scope(), Workers(plan.device) as workers:
        n_heads = plan.at_once * len(plan.columns)
        validation = None if plan.n_folds else plan.splits.validation
        fit = Fit(plan.examples, plan.weights, plan.splits, plan.config.precision, n_heads, workers, validation)
        settings = Settings(plan, fit)
        settings.restore(state)
        with _monitor(plan, files, settings, state) as monitor:
            monitor.started(Started(plan.flags, plan.data, lambda: b""))
            run = _Run(plan, workers, settings, stops, files, state, monitor)
            while task := settings.next():
                problems = settings.problems(task)
                way = run.begun(fit.descent(problems, settings.start(task, problems), plan.rough_exactness, plan.pairs))
                arrived = run.descend(fit, way, task.words)
                run.validate(fit, task, way)
                if not arrived:
                    return _finish(run, fit, None)
            log.info("%s", settings.why)
            last = _last_fit(plan, fit, n_heads, workers)
            problems = last.problems(settings.taken.standardize, [settings.taken.l2], _OF_ALL)
            way = run.begun(last.descent(problems, settings.start_of_taken(problems), plan.exactness, plan.pairs))
            run.descend(last, way, "the one that is taken, to the end")
            return _finish(run, last, way)


def _monitor(plan: SearchPlan, files: Workdir | None, settings: Settings, state: SearchState) -> Monitor:
    pace = plan.pace
    validated = state.validated - 1
    return Monitor(files, plan.config, settings.all, validated, state.written, clock=pace.clock, pace=pace.monitor)


class _Run:
    """A search while it goes on: heads are stepped, measured, and kept.

    Args:
      plan: what it is to do.
      workers: who compute.
      settings: what was tried, and what comes next.
      stops: whether the run is to end with what it has.
      files: its workdir, if there is one.
      state: from which it goes on.
      monitor: who is told.

    Attributes:
      interrupted: whether it is to end with what it has.
      history: the validations, in order.
    """

    def __init__(
        self,
        plan: SearchPlan,
        workers: Workers,
        settings: Settings,
        stops: Callable[[], bool],
        files: Workdir | None,
        state: SearchState,
        monitor: Monitor,
    ):
        clock = plan.pace.clock
        self.plan, self.settings, self.files, self.monitor = plan, settings, files, monitor
        self._workers, self._stops = workers, stops
        self.interrupted = False
        self.history: list[Validated] = monitor.history()
        self.meter = Meter(clock, len(plan.examples), state.steps, state.seconds)
        self.steps = state.steps
        self.saving: CheckpointManager | None = None
        if files:
            every = plan.config.checkpoint_every
            self.saving = CheckpointManager(files, plan.identity, every, workers, clock)
        self._on_the_way = state.descent

    def begun(self, way: Descent) -> Descent:
        """Heads that begin, or go on where the state has them. Raises WorkdirError if it has others."""
        if self._on_the_way:
            try:
                way.restore(self._on_the_way)
            except ValueError as error:
                assert self.files is not None
                raise self.files.error(f"the state is none of this search: {error}; {OTHERWISE}") from error
            self._on_the_way = {}
        return way

    def descend(self, fit: Fit, way: Descent, words: str) -> bool:
        """Steps until all heads have arrived; whether they have, or the run is to end before."""
        while way.active.size:
            if self._stops():
                if self.saving:
                    self.saving.save_last_state(self.state(way))
                self.interrupted = True
                return False
            fit.step(way)
            self.steps += 1
            speed = self.meter.lap("span", self.steps)
            self.monitor.trained(self.settings.progress(way, words, self.steps, speed))
            if self.saving:
                self.saving.save_state_if_due(functools.partial(self.state, way))
        return True

    def validate(self, fit: Fit, task: Task, way: Descent) -> None:
        """Measures the heads where they are, and takes in what that says of their settings."""
        settings = self.settings
        optimum, problems = way.optimum(), way.problems
        loss, wrong = fit.losses(problems, optimum.v)
        speed = self.meter.lap("validation", self.steps)
        is_new = self.steps > settings.validated
        settings.take(task, optimum, loss, wrong, self.steps)
        if is_new:  # A run that ends before a step would keep this validation, and make it again when it goes on.
            event = settings.event(task, optimum, self.meter.seconds, speed)
            self.history.append(event)
            self.monitor.validated([event])
        if self.saving and not self.interrupted:
            self.saving.save_state_if_due(functools.partial(self.state, None))

    def state(self, way: Descent | None, *, finished: bool = False) -> SearchState:
        """What the search is now, and stays when it goes on."""
        settings = self.settings
        descent = {} if way is None else {name: array.copy() for name, array in way.arrays().items()}
        return SearchState(
            self.steps, settings.validated, self.meter.seconds, finished, self.monitor.written(),
            **settings.arrays(), descent=descent,
        )  # fmt: skip


def _last_fit(plan: SearchPlan, fit: Fit, n_heads: int, workers: Workers) -> Fit:
    """The rows on which the setting that is taken is fitted; `fit` has those on which it was tried."""
    if plan.n_folds or not plan.refits:
        return fit
    splits = plan.splits
    examples = splits.train.joined(splits.validation)
    weights = plan.counted(np.ones((1, len(examples))), examples)
    return Fit(examples, weights, splits, plan.config.precision, n_heads, workers)


def _finish(run: _Run, fit: Fit, way: Descent | None) -> Result:
    """Keeps the model and the last state, and reports."""
    plan, settings, files = run.plan, run.settings, run.files
    seconds = run.meter.seconds
    refitted = way is not None and plan.refits
    if way is None:  # It ends before a setting was taken for good: the best one so far, as it is.
        problems = fit.problems(settings.taken.standardize, [settings.taken.l2], _OF_ALL)
        way = fit.descent(problems, settings.start_of_taken(problems), plan.exactness, plan.pairs)
        fit.step(way)
    optimum = way.optimum()
    saved = fit.saved(way.problems, optimum.v, plan.config.precision, plan.exactness.tolerance)
    model = trained_model(plan, settings.taken, saved, fit, refitted=refitted)
    test, diagnosis = tested.on_test(model, plan.splits, len(plan.splits.test))
    model = model._replace(summary=model.summary | tested.of_error(test))
    if run.saving and not run.interrupted:
        run.saving.save_last_state(run.state(way, finished=True))
    if run.saving:
        run.saving.save_last_model(model)
    content = build(
        plan, settings, fit.n, optimum, saved, test, diagnosis, steps=run.steps, seconds=seconds,
        workdir=files.path if files else None, interrupted=run.interrupted, refitted=refitted,
    )  # fmt: skip
    for warning in content["warnings"]:
        warn(warning)
    selected = Selected(max(0, run.steps - 1), (content["selected"], run.steps - 1), model, diagnosis, plan.splits.test)
    run.monitor.finished(Finished(plan.data, plan.flags, run.steps - 1, content, report.tables(content), selected))
    if files:
        with files.writing(files.report.name):  # After all else: it says that a run is finished.
            report.save(files.report, content)
    return Result(SoftmaxRegression.from_arrays(model.W, model.b), content, run.history)

"""A search for the best optimum, from top to bottom: settings are tried, one is taken, and fitted again on all rows."""

import functools
import pathlib
from collections.abc import Callable

import numpy as np

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.workers import Workers
from tfpipe.disk.workdir import Workdir
from tfpipe.log import log
from tfpipe.model import tested
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.monitor import Finished, Monitor, Selected, Started, warn
from tfpipe.solvers.lbfgs import PAIRS
from tfpipe.solvers.optimum import Descent, Optimum
from tfpipe.solvers.problem import Problems
from tfpipe.solvers.sharing import Shared
from tfpipe.training import report, team
from tfpipe.training.calibration import Calibration, calibrated, compared
from tfpipe.training.draw_fits import Apart
from tfpipe.training.fit import Fit
from tfpipe.training.resampling import Resampling
from tfpipe.training.result import Result, in_workdir
from tfpipe.training.rows_follower import RowsFollower
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.search_report import build, trained_model
from tfpipe.training.search_rows import LAST, SEARCH, fitted
from tfpipe.training.search_run import SearchRun
from tfpipe.training.search_state import SearchState
from tfpipe.training.settings import Settings
from tfpipe.training.shared_work import of_search, sharers

_OF_ALL = np.zeros(1, np.int32)


def search(
    plan: SearchPlan,
    workdir: pathlib.Path | str | Workdir | None,
    stops: Callable[[], bool],
    cluster: Cluster | None,
    *,
    resume: bool,
    overwrite: bool,
) -> Result:
    """Finds the optimum of each setting, takes the one that validates best, and fits it again; see `loop.train`."""
    resampling = Resampling(plan) if plan.draws else None
    if resampling:
        resampling.check()

    def lead(stops: Callable[[], bool]) -> Result:
        sharing = sharers(cluster, plan.config.distribute, of_search(plan), plan.device)
        return in_workdir(
            workdir,
            plan.config,
            plan.identity,
            plan.flags,
            lambda files, state: _search(plan, resampling, files, state, stops, sharing),
            begin=SearchState(),
            check_fits=lambda state: state.check_fits(plan.splits.scales, len(plan.validating), plan.shape),
            stops=stops,
            resume=resume,
            overwrite=overwrite,
        )

    return team.run(
        cluster, plan.identity, stops, lead, lambda workers, cluster: RowsFollower(plan, workers, cluster), plan.device
    )


def _search(
    plan: SearchPlan,
    resampling: Resampling | None,
    files: Workdir | None,
    state: SearchState,
    stops: Callable[[], bool],
    cluster: Cluster | None,
) -> Result:
    """Goes on from `state`."""
    log.info("%s", plan.data)
    if plan.pairs < PAIRS[0]:
        log.info("memory allows %d pairs of L-BFGS a head, not %d: it may take more iterations", plan.pairs, PAIRS[0])
    with plan.device.scope(), Workers(plan.device) as workers:
        n_heads = plan.at_once * len(plan.columns)
        fit = _fit(plan, SEARCH, n_heads, workers, cluster)
        settings = Settings(plan, fit)
        settings.restore(state)
        with _monitor(plan, files, settings, state) as monitor:
            fit.compile()
            monitor.started(Started(plan.flags, plan.data, lambda: b""))
            monitor.prepare()
            run = SearchRun(plan, workers, settings, stops, files, state, monitor, resampling)
            if not _try(run, fit):
                return _finish(run, fit, None, calibrated(plan, settings, fit))
            log.info("%s", settings.why)
            calibration = calibrated(plan, settings, fit)
            last = _last_fit(plan, fit, n_heads, workers, cluster)
            problems = last.problems(settings.taken.standardize, [settings.taken.l2], _OF_ALL)
            if run.fitted is None:
                way = run.begun(_last_descent(run, last, problems))
                run.descend(way, "the one that is taken, to the end")
                run.fitted = way.optimum()
            if resampling and not run.interrupted:
                _resample(run, resampling, last.raw(problems, run.fitted.v), workers)
            return _finish(run, last, run.fitted, calibration)


def _try(run: SearchRun, fit: Fit) -> bool:
    """Tries settings until nothing is worth it any more; False: the run is to end before."""
    plan, settings = run.plan, run.settings
    while task := settings.next():
        problems = settings.problems(task)
        way = run.begun(fit.descent(problems, settings.start(task, problems), plan.rough_exactness, plan.pairs))
        arrived = run.descend(way, task.words)
        run.validate(fit, task, problems, way.optimum())
        if not arrived:
            return False
    return True


def _resample(run: SearchRun, resampling: Resampling, model: tuple[np.ndarray, np.ndarray], workers: Workers) -> None:
    """Fits draws of the rows, from where the model is that is kept; with its setting, or with all that were tried."""
    plan = run.plan
    log.info("%s", resampling.words)
    for task in resampling.tasks(run.settings_of_draws, len(run.drawn)):
        fits = resampling.fits(task, workers)
        problems = fits.problems(task.scale, task.l2)
        start = problems.start() if plan.config.reselect else fits.coordinates(problems, *model)
        if task.goes_on:
            start = run.drawn_at
        if isinstance(fits, Apart):
            least = functools.partial(fits.minimize, problems, task.scale, start, plan.exactness, plan.pairs)
            optimum = run.minimize(least, fits.rows, task.words)
        else:
            run.meter.examples_per_step = fits.fit.n
            way = run.begun(fits.fit.descent(problems, start, plan.exactness, plan.pairs))
            optimum = way.optimum() if run.descend(way, task.words) else None
        if optimum is None:
            return
        run.take(resampling.measured(task, fits, problems, optimum, run.drawn), optimum)


def _monitor(plan: SearchPlan, files: Workdir | None, settings: Settings, state: SearchState) -> Monitor:
    pace = plan.pace
    validated = state.validated - 1
    return Monitor(files, plan.config, settings.all, validated, state.written, clock=pace.clock, pace=pace.monitor)


def _last_fit(plan: SearchPlan, fit: Fit, n_heads: int, workers: Workers, cluster: Cluster | None) -> Fit:
    """The rows on which the setting that is taken is fitted; `fit` has those on which it was tried."""
    if plan.n_folds or not plan.refits:
        return fit
    return _fit(plan, LAST, n_heads, workers, cluster)


def _fit(plan: SearchPlan, name: str, n_heads: int, workers: Workers, cluster: Cluster | None) -> Fit:
    shared = Shared(cluster, name) if cluster else None
    return Fit(fitted(plan, name), n_heads, workers, in_span=plan.in_span, shared=shared)


def _last_descent(run: SearchRun, fit: Fit, problems: Problems) -> Descent:
    """The head of the setting that is taken, on its way from the mean of those that ended on the rows of the search."""
    start = run.settings.heads_of_taken.mean(axis=0, keepdims=True)
    return fit.descent(problems, start, run.plan.exactness, run.plan.pairs)


def _finish(run: SearchRun, fit: Fit, fitted: Optimum | None, calibration: Calibration | None) -> Result:
    """Keeps the model and the last state, and reports."""
    plan, settings, files = run.plan, run.settings, run.files
    seconds = run.meter.seconds
    problems = fit.problems(settings.taken.standardize, [settings.taken.l2], _OF_ALL)
    refitted = fitted is not None and plan.refits
    if fitted is None:  # It ends before a setting was taken for good: the best one so far, as it is.
        way = _last_descent(run, fit, problems)
        way.step()
        fitted = way.optimum()
    temperature = None if calibration is None else calibration.temperature
    saved = fit.saved(problems, fitted.v, plan.config.precision, plan.exactness.tolerance, temperature or 1.0)
    model = trained_model(plan, settings.taken, saved, fit, temperature, refitted=refitted)
    examples = plan.splits.test
    test, diagnosis = tested.on_test(model, plan.splits, len(examples))
    there = problems.there[0]
    comparison = None if calibration is None else compared(calibration, model, examples, there)
    model = model._replace(summary=model.summary | tested.of_error(test))
    if run.saving and not run.interrupted:
        run.saving.save_last_state(run.state(None, finished=True))
    if run.saving:
        run.saving.save_last_model(model)
    content = build(
        plan, settings, fit, fitted, saved, model, test, diagnosis, comparison, steps=run.steps, seconds=seconds,
        workdir=files.name if files else None, interrupted=run.interrupted, refitted=refitted,
        drawn=run.whole_draws, n_draws=run.n_draws,
    )  # fmt: skip
    for warning in content["warnings"]:
        warn(warning)
    looked = model, diagnosis, examples, comparison.uncalibrated if comparison else None
    selected = Selected(max(0, run.steps - 1), (content["selected"], run.steps - 1), *looked)
    run.monitor.finished(Finished(plan.data, plan.flags, run.steps - 1, content, report.tables(content), selected))
    if files:
        with files.writing(files.report.name):  # After all else: it says that a run is finished.
            report.save(files.report, content)
    return Result(SoftmaxRegression.from_arrays(model.W, model.b), content, run.history)

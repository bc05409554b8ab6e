"""A training run, from top to bottom: as in the Theano tutorial, for one head or for many of them."""

import functools
import math
import pathlib
import threading
from collections.abc import Callable

import numpy as np

from tfpipe.compute import processes
from tfpipe.compute.cluster import Cluster
from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.config import TrainConfig
from tfpipe.data import Splits
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError
from tfpipe.monitor import Monitor
from tfpipe.solvers.base import Solver
from tfpipe.solvers.sgd import Sgd
from tfpipe.training import accelerator, team
from tfpipe.training.assembly import Parts, assembled
from tfpipe.training.ending import ended
from tfpipe.training.heads_follower import HeadsFollower
from tfpipe.training.interrupts import asked_to_stop
from tfpipe.training.measurement import Measurement, Stretch
from tfpipe.training.plan import Pace, Plan
from tfpipe.training.result import Result, in_workdir
from tfpipe.training.screen import screened
from tfpipe.training.search import search
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.shared_work import of_sgd, sharers
from tfpipe.training.state import State

__all__ = ["Pace", "Result", "train"]


def train(
    config: TrainConfig,
    splits: Splits,
    workdir: pathlib.Path | str | Workdir | None = None,
    *,
    solver: Callable[[TrainConfig, Splits], Solver] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    device: Device | None = None,
    cluster: Cluster | None = None,
    pace: Pace = Pace(),  # noqa: B008  # It is immutable.
) -> Result:
    """Trains every head of `config` on `splits` until it is done, and selects the best.

    With `sgd` that is when patience or the epochs end, with `lbfgs` at the optimum.

    A run that ended before its time, however that came about, goes on where its workdir holds its state; of one that is
    finished the result is given. Ctrl-C (KeyboardInterrupt) ends it as `should_stop` does: the state is saved, and the
    result so far returned; a second one is raised.

    Args:
      config: the hyper-parameters.
      splits: the data.
      workdir: folder, or address of an object store, for all that is kept of the run, made if need be; None: nothing is
        written.
      solver: makes, of the hyper-parameters (settled as for `sgd`) and the data, what trains; None: the
        hyper-parameters say what does.
      resume: False begins anew, and refuses a workdir that holds a run.
      overwrite: with resume=False: removes the run that the workdir holds.
      should_stop: asked between spans (a second at most); True ends the run with what it has.
      device: where to compute; None: as the hyper-parameters say.
      cluster: the processes that share the run, see `compute.cluster`; None: this one alone. Others than the chief
        write nothing: their workdir stays as it is, and their result is the chief's, without the history.
      pace: how much is done between two looks, and by which clock.

    Returns:
      Result, of the head that is best on validation, by the figure that `config.select` names.

    Raises:
      ClusterError: processes that share the run are not alike, or one of them is gone.
      ConfigError: the hyper-parameters do not fit the data.
      DataError: no learning rate is small enough for the images.
      DeviceError: the device cannot be used, or there is one where `strategy` wants several.
      OptionError: TensorBoard is wanted, and not installed; or a profile, and there is no workdir for it.
      ProcessError: the process was forked from one that had trained, in which TensorFlow would wait for ever.
      StoreError: the workdir is on a store that fails; the message says where all is.
      WorkdirError: the workdir cannot be written, is in use, or holds another run or a damaged one.
      DivergedError: the cost of every head stopped being finite.
    """
    processes.check_not_forked()
    if cluster is None and config.strategy == "multi_worker":
        raise ConfigError("strategy", "multi_worker", "wants the cluster, which tfpipe.train is to be given")
    with team.telling(cluster), asked_to_stop(should_stop) as stops:
        device = device or accelerator.selected(config, "none" if cluster else config.strategy)
        device.check_precision(config.precision)
        begin = {"resume": resume, "overwrite": overwrite}
        if solver is None and config.settled_solver == "lbfgs":
            sharing = cluster.size if cluster and config.distribute == "rows" else 1  # `auto` may leave it to one.
            return search(SearchPlan.of(config, splits, device, pace, sharing), workdir, stops, cluster, **begin)
        if cluster and config.precision == "screen":
            raise ConfigError(
                "precision", "screen", "is two runs, which are not shared; give strategy=none, or float32"
            )
        plan = Plan.of(splits, (solver or Sgd)(config.settled("sgd"), splits), device, pace)

        def lead(stops: Callable[[], bool]) -> Result:
            sharing = sharers(cluster, config.distribute, of_sgd(plan), device)
            return _in_workdir(plan, workdir, stops, sharing, **begin)

        return team.run(
            cluster, plan.identity, stops, lead, lambda workers, cluster: HeadsFollower(plan, workers, cluster), device
        )


def _in_workdir(
    plan: Plan,
    workdir: pathlib.Path | str | Workdir | None,
    should_stop: Callable[[], bool],
    cluster: Cluster | None,
    *,
    resume: bool,
    overwrite: bool,
) -> Result:
    """From the state that the workdir holds, or from the beginning."""
    train = functools.partial(_train, should_stop=should_stop, cluster=cluster)

    def run(files: Workdir | None, state: State) -> Result:
        return (
            screened(plan, files, state, train, should_stop)
            if plan.config.precision == "screen"
            else train(plan, files, state)
        )

    return in_workdir(
        workdir,
        plan.config,
        plan.identity,
        plan.flags,
        run,
        begin=State(),
        check_fits=plan.check_fits,
        stops=should_stop,
        resume=resume,
        overwrite=overwrite,
    )


def _train(
    plan: Plan, files: Workdir | None, state: State, should_stop: Callable[[], bool], cluster: Cluster | None
) -> Result:
    """Goes on from `state`."""
    solver, pace = plan.solver, plan.pace
    with (
        plan.device.scope(),
        Monitor(
            files, plan.config, solver.settings, state.validated - 1, state.written,
            clock=pace.clock, pace=pace.monitor,
        ) as monitor,
        Workers(plan.device) as workers,
    ):  # fmt: skip
        parts = assembled(plan, files, state, monitor, workers, cluster)
        validation, record, saving = parts.validation, parts.record, parts.saving
        steps = state.steps
        if validation.is_due(steps):  # After the last step of the state.
            is_in_turn = parts.heads.fill_cores and validation.is_at_once
            by = validation.by(record.to_beat(parts.heads.numbers, steps)) if is_in_turn else None
            _measure(parts, parts.heads.as_they_are(steps, validation.room, by))
        while not (interrupted := should_stop()):
            # What is being measured may prolong the patience of a head that would end in the next span.
            if not record.is_certain(steps, max(validation.following(steps), parts.spans.end_after(steps))):
                _take_measured(parts)
            if steps == solver.steps or record.patience.over(steps):
                break
            steps = _advance(parts, steps)
            parts.pictures.draw_if_due(record, steps)
            if saving:
                saving.save_model_if_due(record.made, record.model)
                saving.save_state_if_due(functools.partial(_state, parts, monitor, steps))
        _take_measured(parts)
        seconds = parts.meter.seconds
        if saving:
            saving.save_last_state(_state(parts, monitor, steps, finished=not interrupted))
        return ended(plan, parts, monitor, steps, seconds, files, interrupted=interrupted)


def _measure(parts: Parts, stretch: Stretch) -> None:
    """Has a stretch measured, beside what follows if that was not done in turn."""
    validation, steps = parts.validation, stretch.done
    to_beat = parts.record.to_beat(stretch.numbers, stretch.first)
    validation.start(stretch, to_beat, parts.meter.lap("validation", steps) if validation.due(stretch) else math.nan)


def _take_measured(parts: Parts) -> None:
    """Takes in the stretch that is being measured, if there is one."""
    if under_way := parts.validation.wait():
        parts.record.take_stretch(*under_way)


def _advance(parts: Parts, steps: int) -> int:
    """Trains the next span, as far as it is known which heads go on: the steps done."""
    heads, validation, record, patience = parts.heads, parts.validation, parts.record, parts.record.patience
    until = patience.certain(steps, validation.following(steps))
    numbers = heads.numbers
    span = parts.spans.take(steps, until)
    done = int(span.first) + int(span.end)
    is_in_turn = heads.fill_cores and validation.is_at_once and validation.following(steps) <= done
    taken = threading.Event()

    def by() -> Measurement:
        """To be asked for when the heads are trained: they are measured by what was found of them before."""
        taken.wait()
        return validation.by(record.to_beat(numbers, steps + 1))

    if is_in_turn and not heads.asks_late:
        _take_measured(parts)
        taken.set()
    wait = heads.advance(span, parts.objective, patience.allowed[numbers], validation.room, by if is_in_turn else None)
    try:
        _take_measured(parts)  # It may find that a head had diverged which this span takes along.
    finally:
        taken.set()
    parts.spans.end_after(done)  # So it is ready.
    stretch = wait()._replace(examples_per_second=parts.meter.lap("span", done))
    trained = stretch.costs[:, patience.active(steps + 1)[numbers]]
    _measure(parts, stretch)
    if not np.isfinite(trained).all():
        _take_measured(parts)  # If heads diverged, no span follows that would train none.
    if (remain := record.worth_going_on_with(numbers, done)) is not None:
        heads.leave_only(remain)
    return done


def _state(parts: Parts, monitor: Monitor, steps: int, *, finished: bool = False) -> State:
    """What the run is now, and stays when training goes on: after the validations so far."""
    _take_measured(parts)
    return State(
        steps,
        parts.validation.validated,
        parts.meter.seconds,
        finished,
        monitor.written(),
        **parts.heads.snapshot().as_state(),
        **parts.record.best.arrays(),
        **parts.record.patience.arrays(),
    )

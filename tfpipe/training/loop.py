"""A training run, from top to bottom: as in the Theano tutorial, for one head or for many of them."""

import functools
import math
import pathlib
from collections.abc import Callable

import numpy as np

from tfpipe.compute import device as devices
from tfpipe.compute import processes
from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.config import TrainConfig
from tfpipe.data import Splits
from tfpipe.disk.workdir import Workdir
from tfpipe.model import tested
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.monitor import Finished, Monitor, Selected, warn
from tfpipe.solvers.base import Solver
from tfpipe.solvers.sgd import Sgd
from tfpipe.training import coefficients, report, run_report
from tfpipe.training.assembly import Parts, assembled
from tfpipe.training.certificate import certificate
from tfpipe.training.interrupts import asked_to_stop
from tfpipe.training.measurement import Stretch
from tfpipe.training.plan import Pace, Plan
from tfpipe.training.result import Result, in_workdir
from tfpipe.training.run_warnings import warnings
from tfpipe.training.screen import of_screening, screened
from tfpipe.training.search import search
from tfpipe.training.state import State

__all__ = ["Pace", "Result", "train"]


def train(
    config: TrainConfig,
    splits: Splits,
    workdir: pathlib.Path | str | None = None,
    *,
    solver: Callable[[TrainConfig, Splits], Solver] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    device: Device | None = None,
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
      workdir: folder for all that is kept of the run, made if need be; None: nothing is written.
      solver: makes, of the hyper-parameters (settled as for `sgd`) and the data, what trains; None: the
        hyper-parameters say what does.
      resume: False begins anew, and refuses a workdir that holds a run.
      overwrite: with resume=False: removes the run that the workdir holds.
      should_stop: asked between spans (a second at most); True ends the run with what it has.
      device: where to compute; None: as the hyper-parameters say.
      pace: how much is done between two looks, and by which clock.

    Returns:
      Result, of the head that is best on validation, by the figure that `config.select` names.

    Raises:
      ConfigError: the hyper-parameters do not fit the data.
      DataError: no learning rate is small enough for the images.
      DeviceError: the device cannot be used, or there is one where `strategy` wants several.
      OptionError: TensorBoard is wanted, and not installed; or a profile, and there is no workdir for it.
      ProcessError: the process was forked from one that had trained, in which TensorFlow would wait for ever.
      WorkdirError: the workdir cannot be written, is in use, or holds another run or a damaged one.
      DivergedError: the cost of every head stopped being finite.
    """
    processes.check_not_forked()
    device = device or devices.select(config.device, tf32=config.tf32, strategy=config.strategy)
    device.check_precision(config.precision)
    if solver is None and config.settled_solver == "lbfgs":
        return search(
            config,
            splits,
            workdir,
            resume=resume,
            overwrite=overwrite,
            should_stop=should_stop,
            device=device,
            pace=pace,
        )
    plan = Plan.of(splits, (solver or Sgd)(config.settled("sgd"), splits), device, pace)
    with asked_to_stop(should_stop) as stops:

        def run(files: Workdir | None, state: State) -> Result:
            if plan.config.precision == "screen":
                return screened(plan, files, state, functools.partial(_train, should_stop=stops))
            return _train(plan, files, state, stops)

        return in_workdir(
            workdir,
            plan.config,
            plan.identity,
            plan.flags,
            run,
            begin=State(),
            check_fits=plan.check_fits,
            resume=resume,
            overwrite=overwrite,
        )


def _train(plan: Plan, files: Workdir | None, state: State, should_stop: Callable[[], bool]) -> Result:
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
        parts = assembled(plan, files, state, monitor, workers)
        validation, record, saving = parts.validation, parts.record, parts.saving
        steps = state.steps
        if validation.is_due(steps):  # After the last step of the state.
            _measure(parts, parts.heads.now(steps, validation.room))
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
        return _finish(plan, parts, monitor, steps, files, interrupted=interrupted)


def _measure(parts: Parts, stretch: Stretch) -> bool:
    """Has a stretch measured; whether that goes on beside what follows."""
    validation, steps = parts.validation, stretch.done
    to_beat = parts.record.to_beat(stretch.numbers, stretch.first)
    return validation.start(
        stretch, to_beat, parts.meter.lap("validation", steps) if validation.due(stretch) else math.nan
    )


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
    is_in_turn = heads.fill_cores and validation.following(steps) <= done
    in_turn = validation.by(record.to_beat(numbers, steps + 1)) if is_in_turn else None
    wait = heads.advance(span, parts.objective, patience.allowed[numbers], validation.room, in_turn)
    _take_measured(parts)  # It may find that a head had diverged which this span takes along.
    parts.spans.end_after(done)  # So it is ready.
    stretch = wait()._replace(examples_per_second=parts.meter.lap("span", done))
    trained = stretch.costs[:, patience.active(steps + 1)[numbers]]
    if not _measure(parts, stretch) or not np.isfinite(trained).all():
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
        **parts.heads.arrays(),
        **parts.record.best.arrays(),
        **parts.record.patience.arrays(),
    )


def _finish(
    plan: Plan, parts: Parts, monitor: Monitor, steps: int, files: Workdir | None, *, interrupted: bool
) -> Result:
    """Saves the last state and the selected head, and reports on all heads."""
    record, saving = parts.record, parts.saving
    _take_measured(parts)
    seconds = parts.meter.seconds
    if saving:
        saving.save_last_state(_state(parts, monitor, steps, finished=not interrupted))
    parts.pictures.wait()
    model = selected = distance = test = None
    if (leader := record.leader) is not None:
        trained = record.model()
        test, diagnosis = tested.on_test(trained, plan.splits, plan.test.examples)
        trained = trained._replace(summary=trained.summary | tested.of_error(test))
        # Without weight decay nothing bounds it.
        if (l2 := plan.solver.settings[leader].get("l2", 0)) > 0 and not interrupted:
            distance = certificate(plan.splits, plan.weights, trained, l2, parts.workers)
        if saving:
            saving.save_last_model(trained)
        model = SoftmaxRegression.from_arrays(trained.W, trained.b)
        assert record.made is not None
        selected = Selected(max(0, steps - 1), record.made, trained, diagnosis, plan.splits.test)
    # Of a first run the second has the answer.
    lines = [] if plan.screens else warnings(plan, record, steps, distance, interrupted=interrupted)
    for warning in lines:
        warn(warning)
    content = run_report.build(
        plan,
        record.patience,
        steps=steps,
        test_error=record.best.test_error,
        test=test,
        diagnosis=selected.diagnosis if selected else None,
        coefficients=coefficients.of_sgd(plan.splits, selected.model if selected else None),
        certificate=distance,
        warnings=[*record.said, *lines],
        seconds=seconds,
        programs=parts.heads.n_groups,
        workdir=files.path if files else None,
        interrupted=interrupted,
    ) | of_screening(plan, record, interrupted=interrupted)
    monitor.finished(Finished(plan.data, plan.flags, steps - 1, content, report.tables(content), selected))
    if files:
        with files.writing(files.report.name):  # After all else: it says that a run is finished.
            report.save(files.report, content)
    return Result(model, content, record.history)

"""A training run, from top to bottom: as in the Theano tutorial, for one head or for a grid of them."""

import pathlib
from collections.abc import Callable

from absl import logging

from tfpipe.compute import device
from tfpipe.config import TrainConfig
from tfpipe.data import Splits
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import DataError, OptionError
from tfpipe.model import artifact
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.monitor import Monitor, metrics
from tfpipe.training import report
from tfpipe.training.plan import Plan
from tfpipe.training.resume import restore_or_begin
from tfpipe.training.run import Result, Run
from tfpipe.training.schedule import Schedule
from tfpipe.training.state import AT_THE_START, State

__all__ = ["Result", "train"]


def train(
    config: TrainConfig,
    splits: Splits,
    workdir: pathlib.Path | str | None = None,
    *,
    resume: bool = True,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Trains every head of `config` on `splits` until patience or the epochs end, and selects the best.

    A run that ended before its time, however that came about, goes on where its workdir holds its state; of one that is
    finished the result is given.

    Args:
      config: the hyper-parameters.
      splits: the data.
      workdir: folder for all that is kept of the run, made if need be; None: nothing is written.
      resume: False begins anew, and refuses a workdir that holds a run.
      overwrite: with resume=False: removes the run that the workdir holds.
      should_stop: asked between chunks (a second at most); True ends the run with what it has.

    Returns:
      Result, of the head with the smallest validation error (of equals, the smaller validation cost).

    Raises:
      ConfigError: the hyper-parameters do not fit the data.
      DeviceError: the device cannot be used.
      OptionError: TensorBoard is wanted, and not installed; or a profile, and there is no workdir for it.
      WorkdirError: the workdir cannot be written, is in use, or holds another run or a damaged one.
      DivergedError: the cost of every head stopped being finite.
    """
    plan = Plan(config, splits, Schedule(config, splits), device.select(config.device, tf32=config.tf32))
    plan.place.check_precision(config.precision)
    if workdir is None:
        if config.profile:
            raise OptionError("profile", True, "has no workdir to be written to; give one")
        return _train(plan, None, AT_THE_START, should_stop)

    config.check_packages()
    files = Workdir(workdir)
    with files.owned():
        state = restore_or_begin(files, plan.origin, plan.flags, resume=resume, overwrite=overwrite)
        if state.finished and (result := _result_of(files)):
            return result
        return _train(plan, files, state, should_stop)


def _train(plan: Plan, files: Workdir | None, state: State, should_stop: Callable[[], bool]) -> Result:
    """Goes on from `state`."""
    with (
        plan.place.scope(),
        Monitor(files, plan.config, state.validated, state.written) as listener,
        device.Workers(plan.place) as workers,
    ):
        run = Run(plan, files, state, listener, workers)
        run.describe()
        run.compile()
        run.start_clock()
        while True:
            # Here, before a validation, the state is kept: to go on from it does what is done here, and nothing else.
            if interrupted := should_stop():
                break
            if run.validation_is_due():
                run.start_validation()
            if run.is_over():
                break
            run.train_chunk()
            run.keep_state_if_due()
        return run.finish(interrupted=interrupted)


def _result_of(files: Workdir) -> Result | None:
    """What a finished run left; None if it cannot be read, so that it has to be made once more."""
    try:
        trained = artifact.load(files.model)
        content = report.load(files.report) | {"workdir": str(files.path)}
        history = metrics.read(files.metrics)
    except DataError as error:
        logging.info("%s: it is made again", error)
        return None
    logging.info("%s: the run is finished; with more --epochs or --patience it would go on", files.path)
    return Result(SoftmaxRegression.from_arrays(trained.W, trained.b), content, history)

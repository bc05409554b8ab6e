"""What a run leaves, and where."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tfpipe.config import TrainConfig
from tfpipe.disk import staging
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import DataError, OptionError
from tfpipe.log import log
from tfpipe.model import artifact
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.monitor import Validated, metrics
from tfpipe.training import report
from tfpipe.training.identity import Resumable, RunIdentity
from tfpipe.training.resume import restore_or_begin


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


def in_workdir(
    workdir: pathlib.Path | str | Workdir | None,
    config: TrainConfig,
    identity: RunIdentity,
    flag_lines: list[str],
    run: Callable[[Workdir | None, Any], Result],
    *,
    begin: Resumable,
    check_fits: Callable[[Any], None],
    stops: Callable[[], bool],
    resume: bool,
    overwrite: bool,
) -> Result:
    """What `run` leaves, from the state that the workdir holds on; of a finished run what it left before.

    Args:
      workdir: of the run, a folder or an address; None: nothing is kept.
      config: of the run.
      identity: likewise.
      flag_lines: likewise, see `restore_or_begin`.
      run: goes on from a state, in a workdir.
      begin: the state of a new run.
      check_fits: see `restore_or_begin`.
      stops: whether it is to end with what it has.
      resume: likewise.
      overwrite: likewise.

    Raises:
      OptionError: TensorBoard is wanted, and not installed; or a profile, and there is no workdir for it.
      StoreError: it is on a store that fails; the message says where all is.
      WorkdirError: the workdir cannot be written, is in use, or holds another run or a damaged one.
    """
    if workdir is None:
        if config.profile:
            raise OptionError("profile", True, "has no workdir to be written to; give one")
        return run(None, begin)
    config.check_packages()
    with staging.opened(workdir) as files, files.owned():
        state = restore_or_begin(
            files, identity, flag_lines, begin=begin, check_fits=check_fits, resume=resume, overwrite=overwrite
        )
        files.publish(stops=stops)
        result = (_of_finished(files) if state.finished else None) or run(files, state)
        files.publish(ends=True, stops=stops)
        return result


def _of_finished(files: Workdir) -> Result | None:
    """What a finished run left; None if it cannot be read, so that it has to be made once more."""
    try:
        trained = artifact.load(files.model)
        content = report.load(files.report) | {"workdir": files.name}
        history = metrics.read(files.metrics)
    except DataError as error:
        log.info("%s: it is made again", error)
        return None
    # A search has no epochs; and which heads a screened grid trains again follows from how long it first trained.
    goes_no_further = content["epochs"] is None or not {"screen", "within_reach"}.isdisjoint(content)
    more = "" if goes_no_further else "; with more --epochs or --patience it would go on"
    log.info("%s: the run is finished%s", files.name, more)
    return Result(SoftmaxRegression.from_arrays(trained.W, trained.b), content, history)

"""`tfpipe train`."""

import contextlib
import dataclasses
import datetime
import gc
import itertools
import os
import pathlib
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from tfpipe.cli import config_flags, interruption, run_flags, streams
from tfpipe.compute import host, meeting, startup, tf_config
from tfpipe.config import DataConfig, TrainConfig
from tfpipe.disk import staging
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError, TfpipeError, WorkdirError
from tfpipe.stores import address as addresses

if TYPE_CHECKING:
    from tfpipe.compute.device import Device
    from tfpipe.compute.tf_config import Task
    from tfpipe.data import Splits
    from tfpipe.solvers.base import Solver


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    config_flags.define(DataConfig, values, "train")
    own: dict[str, Any] = {"flag_values": values, "module_name": "train"}
    flags.DEFINE_string(
        "workdir",
        None,
        "folder for everything that is kept of the run, or an address below which it is kept on an object store "
        "(s3://BUCKET/RUN, gs://, hdfs://); if it holds this run already, the run goes on; default: a new folder, "
        "runs/DATE-TIME",
        **own,
    )
    flags.DEFINE_bool("resume", True, "go on with a run that --workdir holds; --noresume begins anew", **own)
    flags.DEFINE_bool("overwrite", False, "with --noresume: remove the run that --workdir holds", **own)
    config_flags.define(TrainConfig, values, "train")


def prepare(values: flags.FlagValues, _: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns trains, prints the result and returns the exit status."""
    data = config_flags.read(DataConfig, values)
    config = config_flags.read(TrainConfig, values)
    path = values["workdir"].value
    if path is not None and not path.strip():
        raise ConfigError("workdir", path, "must be a path; without the flag it is runs/DATE-TIME")
    if path is not None and addresses.is_address(path):
        addresses.check("workdir", path, writes=True, outlasts=True)
    elif path is not None:
        addresses.check_path("workdir", path)
    resume, overwrite = bool(values["resume"].value), bool(values["overwrite"].value)
    if resume and overwrite:
        raise ConfigError("overwrite", overwrite, "goes with --noresume: a run that goes on overwrites nothing")
    config.check_goes_with(data)
    given = {field.name for field in dataclasses.fields(DataConfig) if values[field.name].present}
    return lambda: _train(data, config, path, given=given, resume=resume, overwrite=overwrite)


def _train(
    data: DataConfig, config: TrainConfig, path: str | None, *, given: set[str], resume: bool, overwrite: bool
) -> int:
    """`given` has the options of `data` that the user gave."""
    config.check_packages()
    task = tf_config.wanted(config.strategy, os.environ)
    leads = task is None or task.rank == 0
    with contextlib.nullcontext() if path is None or not leads else staging.opened(path) as workdir:
        if workdir is not None:
            workdir.check()
            if resume:
                data = _read_as_before(data, given, workdir)
            if resume and config.select is None:
                config = _selecting_as_before(config, workdir)
        return _train_in(data, config, workdir, task, resume=resume, overwrite=overwrite)


def _train_in(
    data: DataConfig, config: TrainConfig, named: Workdir | None, task: "Task | None", *, resume: bool, overwrite: bool
) -> int:
    """`named` is the workdir that a flag names; None: none does, or this process leads no run."""
    leads = task is None or task.rank == 0

    with contextlib.nullcontext() if task is None else meeting.meeting(task) as others:
        from tfpipe.data import checked, loading  # NumPy, 0.1 s: not for `--help`.

        share = checked.WHOLE
        if task is not None and config.settled_solver != "sgd":  # By heads each process trains on all rows.
            share = checked.Share(task.rank, len(task.addresses))
        splits = loading.loaded(data, share=share)
        startup.import_tensorflow()  # Takes seconds, so it waits until the data is known to be sound.

        with host.undoing_imports():
            from tfpipe.compute import cluster as clusters
            from tfpipe.compute import device as devices
            from tfpipe.training import accelerator, loop, report

        # What holds for the whole process is the command's to set. What was imported stays: to look through it for
        # garbage takes 0.15 s each time.
        gc.freeze()
        if config.device != "cpu" and not devices.grow_gpu_memory():
            logging.info("TensorFlow has begun to compute already: it takes all the memory of GPUs")
        if others is not None:
            others.ready()
    cluster = None if task is None else clusters.joined(task, "tfpipe train")
    solver = device = None
    if cluster is None and config.settled_solver == "sgd":
        device = accelerator.selected(config, config.strategy)
        solver = _sgd(config, splits, device)
    if not leads:
        with interruption.deferred() as came:
            result = loop.train(config, splits, should_stop=came, cluster=cluster)
        return interruption.STATUS if result.report["interrupted"] else 0

    with interruption.deferred() as came, _workdir(named) as files:
        result = loop.train(
            config, splits, files, solver=solver, resume=resume, overwrite=overwrite, should_stop=came, device=device,
            cluster=cluster,
        )  # fmt: skip
        lines = [report.table(result.report), *report.lines(result.report), f"everything is in {files.name}"]
        if result.report["interrupted"]:
            flagfile = shlex.quote(files.shown(files.flags))
            lines.append(
                f"to go on: {'the same command' if files.is_elsewhere else f'tfpipe train --flagfile={flagfile}'}"
            )
        if files.tensorboard.exists() and not files.is_elsewhere:
            lines.append(f"to look at it: tensorboard --logdir={shlex.quote(str(files.tensorboard))}")
        streams.write_error("\n".join(lines))
        try:
            streams.write_output(report.summary(result.report))
        except TfpipeError as error:
            if not result.report["interrupted"]:
                raise
            streams.write_error(f"tfpipe train: {error}")  # Such as the closed terminal that ended the run.
    return interruption.STATUS if result.report["interrupted"] else 0


def _read_as_before(data: DataConfig, given: set[str], workdir: Workdir) -> DataConfig:
    """The data; divided and read as a run in `workdir` did it, if that is how it was before there was a choice."""
    as_before: dict[str, Any] = {}
    with contextlib.suppress(DataError):  # No run is there, or none of the command's.
        of_run = run_flags.data(workdir)
        if of_run.split_order == "end" and given.isdisjoint(("split_order", "split_seed")):
            as_before["split_order"] = "end"
        if of_run.numbered_classes and "numbered_classes" not in given:
            as_before["numbered_classes"] = True
        for options in run_flags.PICTURES_BEFORE:
            others = {name: value for name, value in options.items() if name not in given}
            if all(getattr(of_run, name) == value for name, value in others.items()):
                as_before |= others
    return dataclasses.replace(data, **as_before)


def _selecting_as_before(config: TrainConfig, workdir: Workdir) -> TrainConfig:
    """The hyper-parameters; with the figure by which a run in `workdir` goes, if that was not yet to choose."""
    with contextlib.suppress(DataError):
        return dataclasses.replace(config, select=run_flags.select(workdir))
    return config


def _sgd(config: TrainConfig, splits: "Splits", device: "Device") -> "Callable[[TrainConfig, Splits], Solver]":
    """Gives the solver of the run, and TensorFlow the threads that it needs."""
    from tfpipe.compute import cpu
    from tfpipe.solvers.sgd import Sgd
    from tfpipe.training import plan

    solver = Sgd(config, splits)
    if plan.wants_one_thread(splits, solver, device) and not cpu.use_one_thread():
        logging.info("TensorFlow has begun to compute already: small programs use more threads than they gain by")
    return lambda *_: solver


@contextlib.contextmanager
def _workdir(named: Workdir | None) -> Iterator[Workdir]:
    """The one that the flag names, or a new one that no other process has; gone again if the run leaves it empty."""
    if named is not None:
        yield named
        return
    new = _new_folder(pathlib.Path("runs", datetime.datetime.now().strftime("%Y%m%d-%H%M%S")))
    try:
        yield Workdir(new)
    finally:
        with contextlib.suppress(OSError):
            new.rmdir()


def _new_folder(wanted: pathlib.Path) -> pathlib.Path:
    for number in itertools.count(2):
        try:
            wanted.mkdir(parents=True)
            return wanted
        except FileExistsError:
            wanted = wanted.with_name(f"{wanted.name.split('_')[0]}_{number}")
        except OSError as error:
            raise WorkdirError("workdir", wanted, f"cannot be written: {error.strerror}; give another") from error
    raise AssertionError("itertools.count ended")

"""`tfpipe launch`."""

import os
import sys
from collections.abc import Callable

from absl import flags

from tfpipe.cli import interruption, streams
from tfpipe.exceptions import ClusterError

# What starts processes is imported when some are to be started: it takes time, and `--help` has no use for it.


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_integer(
        "workers",
        None,
        "how many workers to start on this machine, each with an equal share of its cores; without it the command is "
        "one of the tasks that srun has started on a SLURM cluster, and becomes a worker itself",
        lower_bound=1,
        flag_values=values,
        module_name="launch",
    )


def prepare(values: flags.FlagValues, arguments: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns starts workers and returns the exit status, or becomes a worker."""
    if arguments[:1] != ["train"]:
        found = f"'{arguments[0]}'" if arguments else "nothing"
        raise flags.Error(f"{found} cannot be launched; give -- train [flags]")
    if os.environ.get("TF_CONFIG"):
        raise flags.Error("TF_CONFIG is set, which is for launch to set; unset it, or run tfpipe train itself")
    command, workers = _command(arguments), values["workers"].value
    if workers is None:
        tf_config = _by_slurm()
        return lambda: _become(command, tf_config)
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1":
        raise flags.Error(
            f"--workers={workers}: srun has started {tasks} tasks, each of which is a worker; leave it out"
        )
    return lambda: _launch(command, workers)


def _command(arguments: list[str]) -> list[str]:
    # Because of -m Python would import files of the working directory, such as a random.py, unless -P forbids it. If
    # this process was started so, tfpipe itself may be there.
    imports_from_here = not {"", os.getcwd()}.isdisjoint(sys.path)
    return [sys.executable, *([] if imports_from_here else ["-P"]), "-m", "tfpipe", *arguments]


def _by_slurm() -> str:
    """TF_CONFIG of this task of a SLURM step."""
    from tfpipe.compute import launching, slurm

    if "SLURM_JOB_ID" not in os.environ:
        raise flags.Error("--workers is missing: give how many to start on this machine, or let srun start the command")
    try:
        step = slurm.step(os.environ)
    except ClusterError as error:
        raise flags.Error(str(error)) from error
    return launching.tf_config(step.addresses, step.rank)


def _become(command: list[str], tf_config: str) -> int:
    streams.flush()
    os.execve(command[0], command, os.environ | {"TF_CONFIG": tf_config})
    raise AssertionError("execve does not return")


def _launch(command: list[str], workers: int) -> int:
    import subprocess

    from tfpipe.compute import launching

    # What is wrong with the flags is said once, and not by each worker.
    place = command.index("train") + 1
    checked = subprocess.run([*command[:place], "--only_check_args", *command[place:]], check=False)
    if checked.returncode:
        return checked.returncode
    with interruption.deferred() as came:
        with launching.launched(command, workers, streams.pass_on) as launch:
            launch.wait(came)
            stopped = came()
            if launch.failed is not None and not stopped:
                streams.write_error(f"tfpipe launch: {launch.failed}; the others are ended too")
        for rank in launch.killed:
            streams.write_error(f"tfpipe launch: worker {rank} was killed: it did not end within {launching.GRACE:g} s")
    if launch.failed is None:
        return 0
    return interruption.STATUS if stopped else launch.failed.status

"""`tfpipe train`."""

import datetime
import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable

from absl import flags, logging

from tfpipe.cli import config_flags, stderr
from tfpipe.config import DataConfig, TrainConfig
from tfpipe.workdir import Workdir

INTERRUPTED = 143


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    config_flags.define(DataConfig, values, "train")
    flags.DEFINE_string(
        "workdir",
        None,
        "folder for everything that is kept of the run, new or without a run in it; default: a new one, runs/DATE-TIME",
        flag_values=values,
        module_name="train",
    )
    config_flags.define(TrainConfig, values, "train")


def prepare(values: flags.FlagValues) -> Callable[[], int]:
    """Checks the flags; what it returns trains, prints the result and returns the exit status."""
    data = config_flags.read(DataConfig, values)
    config = config_flags.read(TrainConfig, values)
    workdir = Workdir(values["workdir"].value or _new_workdir())
    return lambda: _train(data, config, workdir)


def _train(data: DataConfig, config: TrainConfig, workdir: Workdir) -> int:
    interruption = _Interruption()
    workdir.check()

    from tfpipe import data as datasets  # NumPy, 0.1 s: not for `--help`.

    splits = datasets.load(
        data.dataset,
        validation_split=data.validation_split,
        test_split=data.test_split,
        pixel_max=data.pixel_max,
    )
    _import_tensorflow()
    from tfpipe import report, training

    result = training.train(config, splits, workdir.path, should_stop=lambda: interruption.came)
    print(report.table(result.report), file=sys.stderr)
    logging.info("everything is in %s", workdir.path)
    print(report.summary(result.report))
    return INTERRUPTED if result.report["interrupted"] else 0


def _import_tensorflow() -> None:
    """Takes seconds, so it waits until the data is known to be sound; and keeps its greetings to itself."""
    if logging.get_verbosity() >= logging.DEBUG:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with stderr.quiet():  # Some lines come before TensorFlow reads that variable.
        import tensorflow  # noqa: F401


def _new_workdir() -> pathlib.Path:
    name = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    candidates = (pathlib.Path("runs", name + suffix) for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in candidates if not path.exists())


class _Interruption:
    """SIGTERM or SIGINT: the first asks the run to end with what it has, a second ends the process at once."""

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self.came:
            os._exit(INTERRUPTED)
        self.came = True
        # Not by the log: a signal may come while that holds its lock. On a line of its own: there may be a live line.
        os.write(2, f"\n{signal.Signals(number).name}: ending with what there is; once more to end at once\n".encode())

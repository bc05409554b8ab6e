"""What `flags.txt` of a run says."""

import dataclasses

from absl import flags

from tfpipe.cli import config_flags
from tfpipe.config import DataConfig
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError

ELSEWHERE = "--dataset names the data, where it is now"


def data(workdir: Workdir) -> DataConfig:
    """The data of a run, and how it was divided.

    Raises:
      DataError: the flags cannot be read, or name no data.
    """
    values = flags.FlagValues()
    config_flags.define(DataConfig, values, "evaluate")
    try:
        lines = [line for line in workdir.flags.read_text("utf-8").splitlines() if _is_of_data(line, values)]
        values(["", *lines])
        if not values["dataset"].present or not values.dataset:
            raise DataError(f"{workdir.flags}: names no data, which came from a program; {ELSEWHERE}")
        config = config_flags.read(DataConfig, values)
    except (OSError, UnicodeDecodeError, flags.Error) as error:
        raise DataError(f"{workdir.flags}: cannot be read: {error}; {ELSEWHERE}") from error
    except ConfigError as error:
        raise DataError(f"{error}; so says {workdir.flags}; {ELSEWHERE}") from error
    # Runs from before there was a split_order took their splits from the end.
    return config if values["split_order"].present else dataclasses.replace(config, split_order="end")


def select(workdir: Workdir) -> str | None:
    """By which figure a run goes that names none, as runs from before there was a choice; None: it names one.

    Raises:
      DataError: the flags cannot be read.
    """
    try:
        lines = workdir.flags.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{workdir.flags}: cannot be read: {error}") from error
    return None if any(line.startswith("--select=") for line in lines) else "error"


def _is_of_data(line: str, values: flags.FlagValues) -> bool:
    name = line.removeprefix("--").split("=")[0]
    return name in values or name.removeprefix("no") in values

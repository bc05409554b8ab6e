"""What `flags.txt` of a run says."""

import contextlib
import dataclasses
from typing import Any

from absl import flags

from tfpipe.cli import config_flags
from tfpipe.config import AS_STORED, NATIVE, DataConfig
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError

ELSEWHERE = "--dataset names the data, where it is now"
# How pictures were read before there was a choice: options that came together. The first is in every flags.txt since.
PICTURES_BEFORE: tuple[dict[str, Any], ...] = (
    {name: getattr(AS_STORED, name) for name in ("orientation", "background", "gray_max")},
    {name: getattr(AS_STORED, name) for name in ("fit", "decoding")} | {"image_size": NATIVE},
)


def data(workdir: Workdir, remedy: str = ELSEWHERE) -> DataConfig:
    """The data of a run, how it was divided, and how its pictures were read.

    Args:
      workdir: of the run.
      remedy: what the errors say of what would be right.

    Raises:
      DataError: the flags cannot be read, or name no data.
    """
    values = flags.FlagValues()
    config_flags.define(DataConfig, values, "evaluate")
    try:
        lines = [line for line in workdir.flags.read_text("utf-8").splitlines() if _is_of_data(line, values)]
        values(["", *lines])
        if not values["dataset"].present or not values.dataset:
            raise DataError(f"{workdir.shown(workdir.flags)}: names no data, which came from a program; {remedy}")
        config = config_flags.read(DataConfig, values)
    except (OSError, UnicodeDecodeError, flags.Error) as error:
        raise DataError(f"{workdir.shown(workdir.flags)}: cannot be read: {error}; {remedy}") from error
    except ConfigError as error:
        raise DataError(f"{error}; so says {workdir.shown(workdir.flags)}; {remedy}") from error
    # Runs from before there was a choice took their splits from the end, and pictures as they are.
    before: dict[str, Any] = {} if values["split_order"].present else {"split_order": "end"}
    for options in PICTURES_BEFORE:
        if not values[next(iter(options))].present and _takes(config, "orientation"):
            before |= {name: value for name, value in options.items() if not values[name].present}
    # And integer labels were numbers.
    if not values["numbered_classes"].present and _takes(config, "numbered_classes"):
        before["numbered_classes"] = True
    return dataclasses.replace(config, **before)


def _takes(config: DataConfig, option: str) -> bool:
    """Whether the option is one of the data's format."""
    from tfpipe.data.readers import registry  # NumPy: not for `--help`.

    with contextlib.suppress(DataError, ConfigError):  # Whoever loads it says what is wrong.
        return option in registry.find(config).format.options
    return False


def select(workdir: Workdir) -> str | None:
    """By which figure a run goes that names none, as runs from before there was a choice; None: it names one.

    Raises:
      DataError: the flags cannot be read.
    """
    try:
        lines = workdir.flags.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{workdir.shown(workdir.flags)}: cannot be read: {error}") from error
    return None if any(line.startswith("--select=") for line in lines) else "error"


def _is_of_data(line: str, values: flags.FlagValues) -> bool:
    name = line.removeprefix("--").split("=")[0]
    return name in values or name.removeprefix("no") in values

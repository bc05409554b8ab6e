"""The errors that a user can cause. Each message is one line: what is wrong, where, and what would be right."""

import re
from collections.abc import Sequence


class TfpipeError(Exception):
    """Base of all errors that tfpipe raises on purpose."""


class OptionError(TfpipeError):
    """An option has a value that cannot work.

    Attributes:
      option: its name: a field of a configuration or a parameter in Python, a flag on the command line.
      value: as it was given.
      problem: what is wrong with it, and what would be right.
    """

    def __init__(self, option: str, value: object, problem: str):
        super().__init__(f"{option}={value}: {problem}")
        self.option, self.value, self.problem = option, value, problem


class ConfigError(OptionError, ValueError):
    """A hyper-parameter is out of range, or does not fit the data."""


class DeviceError(OptionError, RuntimeError):
    """The device that was asked for cannot be used."""


class WorkdirError(OptionError, RuntimeError):
    """The folder of the run cannot be written, or holds another run already."""


class ProcessError(TfpipeError, RuntimeError):
    """The process cannot compute."""


class ClusterError(TfpipeError, RuntimeError):
    """The processes that share a run cannot go on together: one is gone, or not like the others."""


class DataError(TfpipeError, ValueError):
    """A data set cannot be found, is damaged, or is not of the promised form."""


class StoreError(TfpipeError, RuntimeError):
    """An object store does not do what it was asked for. The message holds no secret: of other libraries' no words."""


class AbsentError(StoreError):
    """There is no such object."""


class DivergedError(TfpipeError, ArithmeticError):
    """The cost of every head stopped being finite."""


def enumeration(names: Sequence[str], most: int = 10) -> str:
    """The names, with commas between them: the first `most`, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def brief(error: BaseException) -> str:
    """What an error of another library says, in a line of at most 200 characters: some quote whole files."""
    # TensorFlow names nodes of its graphs, which tell people nothing.
    words = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error), flags=re.DOTALL).split()
    return " ".join([f"{type(error).__name__}:" if words else type(error).__name__, *words])[:200]

"""The errors that a user can cause. Each message is one line: what is wrong, where, and what would be right."""


class TfpipeError(Exception):
    """Base of all errors that tfpipe raises on purpose."""


class OptionError(TfpipeError):
    """An option has a value that cannot work.

    Attributes:
      option: its name: a field of a configuration or a parameter in Python, a flag on the command line.
    """

    def __init__(self, option: str, value: object, problem: str):
        super().__init__(f"{option}={value}: {problem}")
        self.option = option


class ConfigError(OptionError, ValueError):
    """A hyper-parameter is out of range, or does not fit the data."""


class DeviceError(OptionError, RuntimeError):
    """The device that was asked for cannot be used."""


class WorkdirError(OptionError, RuntimeError):
    """The folder of the run cannot be written, or holds another run already."""


class DataError(TfpipeError, ValueError):
    """A data set cannot be found, is damaged, or is not of the promised form."""


class DivergedError(TfpipeError, ArithmeticError):
    """The cost of every head stopped being finite."""

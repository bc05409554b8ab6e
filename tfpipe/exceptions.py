"""The errors that a user can cause. Each message is one line: what is wrong, where, and what would be right."""


class TfpipeError(Exception):
    """Base of all errors that tfpipe raises on purpose."""


class ConfigError(TfpipeError, ValueError):
    """A hyper-parameter has a value that cannot work.

    Attributes:
      option: name of the field of the configuration, which is also the name of the flag.
      value: the value it was given.
    """

    def __init__(self, option: str, value: object, problem: str):
        super().__init__(f"{option}={value}: {problem}")
        self.option = option
        self.value = value
        self.problem = problem


class DataError(TfpipeError, ValueError):
    """A data set cannot be found, is damaged, or is not of the promised form."""


class DeviceError(TfpipeError, RuntimeError):
    """The device that was asked for cannot be used."""


class WorkdirError(TfpipeError, OSError):
    """The folder of the run cannot be written, or holds another run already."""


class DivergedError(TfpipeError, ArithmeticError):
    """The cost of every head stopped being finite."""

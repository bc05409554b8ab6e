"""Paths that flags name."""

import pathlib

from tfpipe.exceptions import ConfigError


def expanded(option: str, value: str) -> pathlib.Path:
    """The path that the flag `option` names, `~` replaced.

    Raises:
      ConfigError: it is in the home of a user who is not there.
    """
    try:
        return pathlib.Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(option, value, "is in the home of a user who is not there; give another path") from error

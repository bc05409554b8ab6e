"""Paths that flags name."""

import pathlib

from tfpipe.exceptions import ConfigError
from tfpipe.stores import address as addresses


def expanded(option: str, value: str) -> pathlib.Path:
    """The path that the flag `option` names, `~` replaced.

    Raises:
      ConfigError: it is in the home of a user who is not there; or an address.
    """
    if addresses.is_address(value):
        raise ConfigError(option, addresses.shown(value), "is an address; give a path on this machine")
    try:
        return pathlib.Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(option, value, "is in the home of a user who is not there; give another path") from error

"""Flags from the fields of a configuration, and the configuration from the flags."""

import dataclasses
import math
from typing import Any, TypeVar

from absl import flags

from tfpipe.config import NATIVE, OF_FILES, DataConfig, TrainConfig, flag_value, is_list
from tfpipe.stores import address as addresses

Config = TypeVar("Config", DataConfig, TrainConfig)

_MOST_IN_A_RANGE = 10_000


class _Numbers(flags.ArgumentParser):
    """`0.1`, or `0.03,0.1,0.3`, or `log:1e-5:1e-1:9`, or `0,log:1e-5:1e-1:9`."""

    syntactic_help = "a number, or several with commas between them, or log:FIRST:LAST:COUNT"

    def parse(self, argument: Any) -> tuple[float, ...]:
        if isinstance(argument, tuple):
            return argument
        numbers: list[float] = []
        for part in argument.split(","):
            numbers += _range(part) if ":" in part else [_number(part)]
        return tuple(numbers)


class _Size(flags.ArgumentParser):
    """`48,24`, or `native`."""

    syntactic_help = f"two integers with a comma between them, or {NATIVE}"

    def parse(self, argument: Any) -> tuple[int, ...] | str:
        if isinstance(argument, tuple) or argument == NATIVE:
            return argument
        try:
            return tuple(int(part) for part in argument.split(","))
        except ValueError:
            raise ValueError(f"expected HEIGHT,WIDTH, two integers, or {NATIVE}") from None


class _CountOrFraction(flags.ArgumentParser):
    """`10000` is a number of examples, `0.2` a fraction."""

    syntactic_help = "a number of examples, or a fraction"

    def parse(self, argument: Any) -> int | float:
        if not isinstance(argument, str):
            return argument
        try:
            return int(argument)
        except ValueError:
            return _number(argument)


class _IntegerOrWord(flags.ArgumentParser):
    """`5`, or the word that stands for None.

    Args:
      word: this one.
    """

    def __init__(self, word: str):
        self._word = word
        self.syntactic_help = f"an integer, or {word}"

    def parse(self, argument: Any) -> int | None:
        if argument == self._word:
            return None
        try:
            return int(argument)
        except ValueError:
            raise ValueError(f"expected {self.syntactic_help}") from None


class _Scales(flags.ArgumentParser):
    """`none`, `columns`, or `none,columns`; `true` and `false`, as of a flag without a value."""

    syntactic_help = "none, columns, or both with a comma between them"

    def parse(self, argument: Any) -> tuple[str, ...]:
        if isinstance(argument, tuple):
            return argument
        words = {"true": "columns", "t": "columns", "1": "columns", "false": "none", "f": "none", "0": "none"}
        return tuple(words.get(argument.lower(), argument).split(","))


class _Names(flags.ArgumentParser):
    """`colour,size`."""

    syntactic_help = "names with commas between them"

    def parse(self, argument: Any) -> tuple[str, ...]:
        if isinstance(argument, tuple):
            return argument
        return tuple(argument.split(",")) if argument else ()


class _NumbersSerializer(flags.ArgumentSerializer):
    def serialize(self, value: tuple[Any, ...]) -> str:
        return flag_value(value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a number") from None


def _range(text: str) -> list[float]:
    """`log:1e-5:1e-1:9`: nine numbers from 1e-5 to 1e-1, each the same factor above the one before.

    Those in between have six digits, so that they read well wherever they are written.
    """
    kind, *bounds = text.strip().split(":")
    if kind != "log" or len(bounds) != 3:
        raise ValueError(f"'{text}' is not a range; expected log:FIRST:LAST:COUNT, such as log:1e-5:1e-1:9")
    first, last = map(_number, bounds[:2])
    if not (0 < first < math.inf and 0 < last < math.inf):
        raise ValueError(f"'{text}': FIRST and LAST must be above 0, and finite")
    if not bounds[2].isdecimal() or not 2 <= int(bounds[2]) <= _MOST_IN_A_RANGE:
        raise ValueError(f"'{text}': COUNT must be an integer of at least 2 and at most {_MOST_IN_A_RANGE}")
    steps = int(bounds[2]) - 1
    logs = [((steps - i) * math.log(first) + i * math.log(last)) / steps for i in range(1, steps)]
    return [first, *(float(f"{math.exp(log):.6g}") for log in logs), last]


def define(config: type, values: flags.FlagValues, module: str) -> None:
    """Defines a flag for each field of `config` on `values`, for the help of `module`."""
    for field in dataclasses.fields(config):
        name, help = field.name, field.metadata["help"]
        default: Any = field.default
        options: dict[str, Any] = {"flag_values": values, "module_name": module}
        if field.metadata["choices"]:
            flags.DEFINE_enum(name, default, list(field.metadata["choices"]), help, **options)
        elif field.type in (bool, bool | None):
            flags.DEFINE_bool(name, default, help, **options)
        elif field.metadata["none"]:
            flags.DEFINE(_IntegerOrWord(field.metadata["none"]), name, default, help, **options)
        elif field.type in (int, int | None):
            flags.DEFINE_integer(name, default, help, **options)
        elif field.type in (float, float | None):
            flags.DEFINE_float(name, default, help, **options)
        elif is_list(field):
            flags.DEFINE(_Numbers(), name, default, help, serializer=_NumbersSerializer(), **options)
        elif field.type == tuple[str, ...] | None:
            # As a flag that is true or false, which it was, it needs no value.
            flag = flags.Flag(_Scales(), _NumbersSerializer(), name, default, help, boolean=True)
            flags.DEFINE_flag(flag, values, module)
        elif field.type == tuple[str, ...]:
            flags.DEFINE(_Names(), name, default, help, serializer=_NumbersSerializer(), **options)
        elif field.type == tuple[int, int] | str | None:
            flags.DEFINE(_Size(), name, default, help, serializer=_NumbersSerializer(), **options)
        elif field.type in (float | int, float | int | None):
            flags.DEFINE(_CountOrFraction(), name, default, help, **options)
        else:
            flags.DEFINE_string(name, default, help, **options)


def read(config: type[Config], values: flags.FlagValues) -> Config:
    """The configuration that the parsed flags describe.

    Raises:
      ConfigError: a flag has a value that cannot work, such as an address of no store that is known.
    """
    fields: dict[str, Any] = {field.name: values[field.name].value for field in dataclasses.fields(config)}
    found = config(**fields)
    for option in OF_FILES if config is DataConfig else ():
        if fields[option] is not None and addresses.is_address(fields[option]):
            addresses.check(option, fields[option])
    return found

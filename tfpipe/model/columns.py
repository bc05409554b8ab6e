"""Rows of another table as a model takes them: its columns are found by their names."""

from typing import NamedTuple

import numpy as np

from tfpipe.config import Column, DataConfig
from tfpipe.data.readers import arrow, registry
from tfpipe.exceptions import DataError, enumeration
from tfpipe.text import one_line

_MOST_NAMED = 5


class Match(NamedTuple):
    """Which columns of a table a model takes.

    Attributes:
      places: `[D]` int64, for each number of the model's rows its place in those of the table; -1: it is 0, for no row
        of the table has the value.
      unseen: for each column of categories the places of the values that the model has not seen.
      unused: names of other columns of the table.
    """

    places: np.ndarray
    unseen: dict[str, list[int]]
    unused: list[str]

    def rows(self, block: np.ndarray) -> np.ndarray:
        """`[n, D]` for the model, from `[n, E]` of the table."""
        return np.where(self.places < 0, 0, block[:, self.places])


def match(of_model: tuple[Column, ...], of_table: tuple[Column, ...], where: str) -> Match:
    """Finds the columns of a model in a table.

    Args:
      of_model: D columns.
      of_table: E columns, at least one.
      where: the table, in errors.

    Raises:
      DataError: one is missing, or holds numbers where the model takes categories, or the other way round.
    """
    place_of = {column: place for place, column in enumerate(of_table)}
    are_categories = {column.name: column.value is not None for column in of_table}
    names = {column.name: column.value is not None for column in of_model}
    missing = [name for name in names if name not in are_categories]
    if missing:
        there = f"it has {_shown(list(are_categories))}"
        raise DataError(f"{where}: lacks the columns {_shown(missing)}, which the model takes; {there}")
    for name, is_category in names.items():
        if are_categories[name] != is_category:
            kinds = ("categories", "numbers") if is_category else ("numbers", "categories")
            remedy = f"with --categorical={name} it is as the model takes it" if is_category else "leave out the flag"
            raise DataError(f"{where}: the model takes {kinds[0]} in the column {name!r}, not {kinds[1]}; {remedy}")
    known = set(of_model)
    unseen: dict[str, list[int]] = {}
    for place, column in enumerate(of_table):
        if column.name in names and column not in known:
            unseen.setdefault(column.name, []).append(place)
    places = np.array([place_of.get(column, -1) for column in of_model])
    return Match(places, unseen, [name for name in are_categories if name not in names])


def categorical(data: DataConfig, of_model: tuple[Column, ...]) -> tuple[str, ...]:
    """The columns that a model takes as categories, if the data is a table; it has all columns of the model then.

    Raises:
      DataError: it lacks one; or it cannot be read.
      ConfigError: an option has no meaning for the data.
    """
    found = registry.find(data)
    if "categorical" not in found.format.options:
        return ()
    # Told before the values are read: text under a name that the model does not know would be refused first.
    names = arrow.column_names(found.what)
    expected = [column for column in of_model if column.name in names]
    known = {column.name for column in expected}
    match(of_model, (*expected, *(Column(name) for name in names if name not in known)), data.dataset)
    return tuple({column.name: None for column in of_model if column.value is not None})


def _shown(names: list[str]) -> str:
    return enumeration([one_line(name) for name in names], _MOST_NAMED)

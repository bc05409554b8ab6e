"""The column of a table that says of which split each row is."""

import pathlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfpipe.data import split_names
from tfpipe.data.readers import arrow
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log
from tfpipe.text import one_line

if TYPE_CHECKING:
    import pyarrow


def found(path: pathlib.Path, table: "pyarrow.Table", others: Sequence[str]) -> str | None:
    """Its name: `split`, `set` or `subset`, and its values are text, one of them at least a usual name of a split.

    Args:
      path: the file, in errors.
      table: its content.
      others: columns that are something else.

    Raises:
      DataError: there are two.
    """
    names = [
        name
        for name in table.column_names
        if name.lower() in split_names.COLUMNS and name not in others and _has_splits(table.column(name))
    ]
    if len(names) > 1:
        raise DataError(f"{path}: the columns {' and '.join(names)} may both say the splits; leave out one")
    return names[0] if names else None


def warn_of_others(path: pathlib.Path, table: "pyarrow.Table", used: Collection[str | None], remedies: str) -> None:
    """Warns of columns that are called like one of splits, and are taken for something else.

    Args:
      path: the file.
      table: its content.
      used: columns that are known to be splits, or something else.
      remedies: what settles it.
    """
    for name in table.column_names:
        if name.lower() not in split_names.COLUMNS or name in used:
            continue
        column = table.column(name)
        reason = f"it is of type {column.type}, not text"
        if arrow.is_text(column.type):
            words = [repr(one_line(word)) for word in arrow.texts(arrow.plain(column).unique()).tolist()]
            reason = f"its values are {enumeration(words, 3)}, not train, validation or test"
        log.warning("%s: the column %r does not divide the rows: %s; %s", path, name, reason, remedies)


def parts(path: pathlib.Path, table: "pyarrow.Table", name: str) -> tuple[dict[str, np.ndarray], str]:
    """The rows of each split that has any, as the column `name` says it, and a line that tells this.

    Raises:
      DataError: a word names no split, or one is missing.
    """
    words = arrow.texts(table.column(name))
    arrow.check_whole(path, name, words == "")
    of_splits = split_names.parts(words, f"{path}: column {name!r}")
    note = f"{path}: the column {name!r} divides the rows: {split_names.counted(of_splits)}"
    log.info("%s", note)
    return of_splits, note


def _has_splits(column: "pyarrow.ChunkedArray") -> bool:
    return arrow.is_text(column.type) and any(
        split_names.split_of(str(word)) for word in arrow.texts(arrow.plain(column).unique())
    )

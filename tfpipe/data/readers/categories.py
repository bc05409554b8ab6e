"""Columns of text or integers that stand for categories, as columns of 0 and 1."""

import math
import pathlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfpipe.data.readers import arrow
from tfpipe.exceptions import DataError
from tfpipe.log import log

if TYPE_CHECKING:
    import pyarrow

_MOST_VALUES = 1000
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
# So many rows may all differ by chance, or because they are few of many, such as those to evaluate a model on.
_FEW_ROWS = 100


class Categories(NamedTuple):
    """What a column holds.

    Attributes:
      values: the V different ones as text, in order: a missing one, "", is the first; numbers by their size.
      numbers: `[N]`, for each row the place of its value among these.
    """

    values: tuple[str, ...]
    numbers: np.ndarray


def categories(path: pathlib.Path, name: str, column: "pyarrow.ChunkedArray") -> Categories:
    """The categories that the column `name` of the file `path` holds.

    An integer is the text of its digits, also where it is stored as a floating-point number, as pandas does it in
    columns with missing values. A CSV file has text, which are such numbers if all of its values are written as numbers
    are: 7, but not 007.

    Raises:
      DataError: the values are no categories, or they are too many.
    """
    column = arrow.plain(column)
    if not (arrow.is_text(column.type) or arrow.is_number(column.type)):
        raise DataError(f"{path}: column {name!r} is of type {column.type}; expected text or integers as categories")
    encoded = column.dictionary_encode().unify_dictionaries()
    stored = encoded.chunk(0).dictionary.to_pylist()
    if not arrow.is_parquet(path):
        stored = _numbers(stored)
    _check_few(path, name, len(stored), len(column))
    texts = [_text(path, name, value) for value in stored]
    # A missing value, which has no number, is at -1: the end.
    texts_and_missing = [*texts, ""]
    numbers = np.concatenate([chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks])
    numbers = numbers.astype(np.int64) % len(texts_and_missing)
    there = {texts_and_missing[number] for number in np.unique(numbers)}
    sizes = {text: value for text, value in zip(texts, stored, strict=True) if not isinstance(value, str)}
    values = sorted(there, key=lambda text: (text != "", sizes.get(text, 0) if text else 0, text))
    places = np.array([values.index(text) if text in there else -1 for text in texts_and_missing])[numbers]
    if "" in there:
        missing = int((places == 0).sum())
        title = f"{name}="
        log.info("%s: column %r: %d of %d values are missing: that is %r", path, name, missing, len(column), title)
    return Categories(tuple(values), places)


def _check_few(path: pathlib.Path, name: str, n_values: int, n_rows: int) -> None:
    if n_values > _MOST_VALUES:
        limit = f"expected at most {_MOST_VALUES}"
    elif n_values == n_rows > _FEW_ROWS:
        limit = "one for each row, so they tell nothing of others"
    else:
        return
    raise DataError(f"{path}: column {name!r} has {n_values} different values, {limit}; leave out the column")


def _numbers(texts: list[str]) -> list[Any]:
    """The numbers that the texts are, None for what is missing; or the texts, if one of them is none."""
    import pyarrow.csv

    missing = set(pyarrow.csv.ConvertOptions().null_values)
    stripped = [None if text in missing else text.strip() for text in texts]
    if not all(text is None or _NUMBER.fullmatch(text) for text in stripped):
        return texts
    return [
        None if text is None else float(text) if text.partition(".")[2].strip("0") else int(text.partition(".")[0])
        for text in stripped
    ]


def _text(path: pathlib.Path, name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        if not value.is_integer():
            raise DataError(f"{path}: column {name!r} holds {value:g}; expected text or integers as categories")
        value = int(value)
    return str(value)

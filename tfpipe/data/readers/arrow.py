"""A CSV file, or a Parquet file, as a table of Arrow, and its labels."""

import codecs
import contextlib
import csv
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.data import labels as labels_
from tfpipe.data.readers.source import damage_told
from tfpipe.exceptions import ConfigError, DataError, enumeration
from tfpipe.memory import check_fits_memory

if TYPE_CHECKING:
    import pyarrow

# What the column of the labels is called, in small letters, unless somebody says it.
LABELS = ("label", "class", "target", "y")
# What pandas calls the column of row numbers that it writes: to CSV, when that is read again, and to Parquet.
ROW_NUMBERS = ("", "Unnamed: 0", "__index_level_0__")
_PARQUET = b"PAR1"
_DELIMITERS = (",", ";", "\t")
# What Excel takes for the delimiter, and others for the name of a column.
_SEPARATOR_LINE = re.compile(r'"?sep=.?"?\s*', re.IGNORECASE)
# An integer as a code has it, such as 007, of which a number would be another text.
_PADDED = "^ *([+-]?0[0-9]+|[+][0-9]+) *$"
# The types of a column are told by its first block: as large as Arrow takes one, so that most files are one.
_MOST_BLOCK = (1 << 31) - 1


def is_csv(path: pathlib.Path) -> bool:
    """Whether it is the path of a file `.csv`."""
    return path.suffix.lower() == ".csv" and path.is_file()


def is_parquet(path: pathlib.Path) -> bool:
    """Whether it is the path of a file that begins as Parquet does."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def readable(path: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Raises DataError, with the file in it, for any error of Arrow: some come as late as a column is looked at."""
    return damage_told(path, "not a readable table")


def read_table(
    path: pathlib.Path, label_column: str | None, text: Sequence[str] = (), only: Sequence[str] = ()
) -> "pyarrow.Table":
    """The file as a whole, or some of its columns.

    Args:
      path: of it. CSV has the names of the columns in its first line, and `,`, `;` or tabs between values.
      label_column: the column of the labels, if it is given: then a first line of numbers may be names.
      text: columns of CSV that are text, whatever is in them.
      only: the columns of CSV that are wanted; none: all.

    Raises:
      DataError: two columns have one name; there are no rows; there is no pyarrow, by which it is read.
    """
    pyarrow, parquet = _packages(path)
    if is_parquet(path):
        with parquet.ParquetFile(path, memory_map=False) as file:
            # Arrow has numbers in 8 bytes for the most part.
            check_fits_memory(str(path), 8 * file.metadata.num_rows * file.metadata.num_columns)
            return _checked(path, file.read())
    first = first_line(path)
    if label_column is None:
        _check_header(path, first)
    return _checked(
        path,
        pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=min(path.stat().st_size + 1, _MOST_BLOCK)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter(first), newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(text, pyarrow.string()), include_columns=list(only)
            ),
        ),
    )


def column_names(path: pathlib.Path) -> list[str]:
    """The names of the columns; no value is read.

    Raises:
      DataError: the file is damaged; there is no pyarrow, by which Parquet is read.
    """
    with readable(path):
        if is_parquet(path):
            _, parquet = _packages(path)
            return list(map(str, parquet.read_schema(path).names))
        with open(path, encoding="utf-8-sig", newline="") as text:
            return next(filter(None, csv.reader(text, delimiter=delimiter(first_line(path)))), [])


def first_line(path: pathlib.Path) -> str:
    """The first line of a CSV file. Raises DataError if it is none of names of columns."""
    with open(path, "rb") as file:
        if file.read(len(codecs.BOM_UTF16)) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{path}: is in UTF-16; save it as UTF-8")
    try:
        with open(path, encoding="utf-8-sig", newline="") as text:
            line = text.readline()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8; save it as UTF-8") from error
    if _SEPARATOR_LINE.fullmatch(line):
        raise DataError(
            f"{path}: the first line is {line.strip()}; expected the names of the columns: remove this line"
        )
    return line


def delimiter(line: str) -> str:
    """What stands between the values: of what may, that by which the first line has the most."""
    return max(_DELIMITERS, key=lambda of: len(_fields(line, of)))


def label_column(path: pathlib.Path, names: list[str], given: str | None) -> str:
    """The column of the labels: the one that is given, or the one of a usual name.

    Raises:
      ConfigError: there is no such column.
      DataError: none is given, and none or several have a usual name.
    """
    if given is not None:
        if given not in names:
            raise ConfigError("label_column", given, f"{path} has the columns {enumeration(names)}")
        return given
    found = [name for name in names if name.lower() in LABELS]
    if len(found) == 1:
        return found[0]
    problem = f"the columns {' and '.join(found)} may be the labels" if found else f"no column {', '.join(LABELS)}"
    raise DataError(f"{path}: {problem}; --label_column says which it is, of {enumeration(names)}")


def labels(
    path: pathlib.Path,
    table: "pyarrow.Table",
    name: str,
    *,
    numbered: bool,
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The labels in the column `name`: `[N]` integers, and the class names; None where they have numbers alone.

    Where one of a CSV file is an integer with zeros before it, such as 007, all are text, unless they are `numbered`.

    Args:
      path: the file, in errors.
      table: its content.
      name: the column.
      numbered: integers are the numbers of their classes; see `labels.encode`.

    Raises:
      DataError: a label is missing, or no label.
    """
    column = table.column(name)
    if is_number(column.type) and not numbered and not is_parquet(path):
        import pyarrow.compute

        as_text = read_table(path, name, [name], [name]).column(name)
        if pyarrow.compute.any(pyarrow.compute.match_substring_regex(as_text, _PADDED)).as_py():
            check_whole(path, name, column.is_null().to_numpy())  # As text it would be no missing value any more.
            column = as_text
    values = _labels(path, name, column)
    (numbers,), class_names = labels_.encode([(values, f"{path} ({name})")], numbered=numbered)
    return numbers, class_names


def check_whole(path: pathlib.Path, name: str, missing: np.ndarray) -> None:
    """Raises DataError if a value is missing; `missing` says it for each row."""
    if missing.any():
        count, row = int(missing.sum()), int(np.argmax(missing))
        found = f"{count} of {len(missing)} values are missing, the first in row {row} (counted from 0)"
        raise DataError(f"{path}: column {name!r}: {found}; fill them in, or leave out these rows or the column")


def texts(column: Any) -> np.ndarray:
    """`[N]` text; "" where it is missing. Of an array of Arrow whose values can be text."""
    import pyarrow

    return np.array(plain(column).cast(pyarrow.large_string()).fill_null("").to_numpy(zero_copy_only=False), str)


def plain(column: Any) -> Any:
    """The values themselves, where a column holds numbers of them."""
    import pyarrow

    return column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column


def is_text(kind: Any) -> bool:
    """Whether the values of a column of this type are text."""
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def is_number(kind: Any) -> bool:
    """Whether they are integers, floating-point numbers or booleans."""
    import pyarrow

    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)


def _packages(path: pathlib.Path) -> tuple[Any, Any]:
    """`pyarrow`, with `pyarrow.csv`, and `pyarrow.parquet`."""
    try:
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: is read by a package that is not there: pip install 'tfpipe[tables]'") from None
    return pyarrow, pyarrow.parquet


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # A field that is longer than fields are: there are other delimiters.
        return []


def _checked(path: pathlib.Path, table: "pyarrow.Table") -> "pyarrow.Table":
    names = list(map(str, table.column_names))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are called {enumeration(twice)}; expected a name of its own for each")
    if not is_parquet(path):
        import pyarrow

        for name in names:
            if pyarrow.types.is_binary(table.column(name).type):  # What Arrow makes of text that is not UTF-8.
                raise DataError(f"{path}: is no text in UTF-8, in the column {name!r}; save it as UTF-8")
    if not table.num_rows:
        raise DataError(f"{path}: holds no rows; expected one for each example")
    return table


def _check_header(path: pathlib.Path, line: str) -> None:
    """Raises DataError if the first line has nothing but numbers."""
    try:
        list(map(float, _fields(line.strip(), delimiter(line))))
    except ValueError:
        return
    expected = "the names of the columns, one of them label; --label_column=NAME if these are names"
    raise DataError(f"{path}: the first line has numbers alone; expected {expected}")


def _labels(path: pathlib.Path, name: str, column: "pyarrow.ChunkedArray") -> np.ndarray:
    """`[N]` integers, floating-point numbers, booleans or text."""
    check_whole(path, name, column.is_null(nan_is_null=True).to_numpy())
    column = plain(column)
    if not (is_text(column.type) or is_number(column.type)):
        raise DataError(f"{path}: column {name!r} is of type {column.type}; expected integers or text as labels")
    values = column.to_numpy()
    if is_text(column.type):
        values = np.array(values, str)
        check_whole(path, name, values == "")
    return values

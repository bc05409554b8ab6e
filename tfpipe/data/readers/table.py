"""Tables: a CSV file, or a Parquet file, whose columns are features, but for one that has the labels."""

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.data import labels as labels_
from tfpipe.data.examples import Examples
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError, brief, enumeration
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

if TYPE_CHECKING:
    import pyarrow

_LABELS = ("label", "class", "target", "y")
_PARQUET = b"PAR1"
_DELIMITERS = (",", ";", "\t")
# What pandas calls the column of row numbers that it writes: to CSV, when that is read again, and to Parquet.
_ROW_NUMBERS = ("", "Unnamed: 0", "__index_level_0__")
# The types of a column are told by its first block: as large as Arrow takes one, so that most files are one.
_MOST_BLOCK = (1 << 31) - 1


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file `.csv`, or of one that begins as Parquet does."""
    if not path.is_file():
        return None
    return path if path.suffix.lower() == ".csv" or _is_parquet(path) else None


def read(
    path: pathlib.Path, label_column: str | None = None, numbered_classes: bool = DataConfig.numbered_classes
) -> Source:
    """Reads a table: rows `[N, D]` float32 of its columns of numbers, uint8 where all of them are that, and labels.

    Args:
      path: the file. CSV has the names of the columns in its first line, and `,`, `;` or tabs between values.
      label_column: the column of the labels; None: `label`, `class`, `target` or `y`, in upper or lower case.
      numbered_classes: integer labels are the numbers of the classes; see `labels.encode`.

    Raises:
      DataError: the file is damaged; a value is missing; a column holds no numbers; there are no labels; or there is no
        pyarrow, by which it is read.
      ConfigError: there is no column `label_column`.
    """
    try:
        return _read(path, label_column, numbered_classes)
    except (DataError, ConfigError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or brief(error)}") from error
    except Exception as error:  # Arrow has many errors for damage, and some of them as late as a column is looked at.
        raise DataError(f"{path}: not a readable table: {brief(error)}") from error


def _read(path: pathlib.Path, label_column: str | None, numbered: bool) -> Source:
    table = _table(path, label_column)
    names = _column_names(path, table)
    of_labels = _label_column(path, names, label_column)
    labels = _labels(path, of_labels, table.column(names.index(of_labels)))
    features = {name: table.column(names.index(name)) for name in names if name != of_labels}
    rows = _rows(path, {name: column for name, column in features.items() if not _is_row_numbers(path, name, column)})
    (numbers,), class_names = labels_.encode([(labels, f"{path} ({of_labels})")], numbered=numbered)
    examples = Examples(rows, numbers, str(path))
    return Source(examples, None, None, 255.0 if rows.dtype == np.uint8 else 1.0, class_names)


def _is_parquet(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _table(path: pathlib.Path, label_column: str | None) -> "pyarrow.Table":
    try:
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: is read by a package that is not there: pip install 'tfpipe[tables]'") from None
    if _is_parquet(path):
        with pyarrow.parquet.ParquetFile(path, memory_map=False) as file:
            # Arrow has numbers in 8 bytes for the most part.
            check_fits_memory(str(path), 8 * file.metadata.num_rows * file.metadata.num_columns)
            return file.read()
    with open(path, encoding="utf-8-sig", newline="") as text:
        first = text.readline()
    if label_column is None:
        _check_header(path, first)
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=min(path.stat().st_size + 1, _MOST_BLOCK)),
        parse_options=pyarrow.csv.ParseOptions(delimiter=_delimiter(first), newlines_in_values=True),
    )


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _check_header(path: pathlib.Path, line: str) -> None:
    """Raises DataError if the first line has nothing but numbers."""
    try:
        list(map(float, line.strip().split(_delimiter(line))))
    except ValueError:
        return
    expected = "the names of the columns, one of them label; --label_column=NAME if these are names"
    raise DataError(f"{path}: the first line has numbers alone; expected {expected}")


def _column_names(path: pathlib.Path, table: "pyarrow.Table") -> list[str]:
    names = list(map(str, table.column_names))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are called {enumeration(twice)}; expected a name of its own for each")
    if not table.num_rows:
        raise DataError(f"{path}: holds no rows; expected one for each example")
    return names


def _label_column(path: pathlib.Path, names: list[str], given: str | None) -> str:
    if given is not None:
        if given not in names:
            raise ConfigError("label_column", given, f"{path} has the columns {enumeration(names)}")
        return given
    found = [name for name in names if name.lower() in _LABELS]
    if len(found) == 1:
        return found[0]
    problem = f"the columns {' and '.join(found)} may be the labels" if found else f"no column {', '.join(_LABELS)}"
    raise DataError(f"{path}: {problem}; --label_column says which it is, of {enumeration(names)}")


def _check_whole(path: pathlib.Path, name: str, missing: np.ndarray) -> None:
    """Raises DataError if a value is missing; `missing` says it for each row."""
    if missing.any():
        count, row = int(missing.sum()), int(np.argmax(missing))
        found = f"{count} of {len(missing)} values are missing, the first in row {row} (counted from 0)"
        raise DataError(f"{path}: column {name!r}: {found}; fill them in, or leave out these rows or the column")


def _labels(path: pathlib.Path, name: str, column: "pyarrow.ChunkedArray") -> np.ndarray:
    """`[N]` integers, floating-point numbers, booleans or text."""
    import pyarrow

    _check_whole(path, name, column.is_null(nan_is_null=True).to_numpy())
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    is_text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    if not (is_text or _is_number(kind)):
        raise DataError(f"{path}: column {name!r} is of type {kind}; expected integers or text as labels")
    values = column.to_numpy()
    if is_text:
        values = np.array(values, str)
        _check_whole(path, name, values == "")
    return values


def _rows(path: pathlib.Path, columns: dict[str, "pyarrow.ChunkedArray"]) -> np.ndarray:
    """`[N, D]`, the values of the columns in their order."""
    others = [f"{name} ({column.type})" for name, column in columns.items() if not _is_number(column.type)]
    if others:
        remedy = "leave them out, or make each of their values a column of 0 and 1, as pandas.get_dummies does"
        raise DataError(f"{path}: no numbers in the columns {enumeration(others)}; {remedy}")
    if not columns:
        raise DataError(f"{path}: holds labels alone; expected columns of numbers beside them")
    for name, column in columns.items():
        _check_whole(path, name, column.is_null(nan_is_null=True).to_numpy())
    n_rows = len(next(iter(columns.values())))
    is_bytes = all(str(column.type) == "uint8" for column in columns.values())
    check_fits_memory(str(path), n_rows * len(columns) * (1 if is_bytes else 4))
    rows = np.empty((n_rows, len(columns)), np.uint8 if is_bytes else np.float32)
    for place, column in enumerate(columns.values()):
        with np.errstate(over="ignore"):  # What does not fit float32 becomes infinite, which Examples names.
            rows[:, place] = column.to_numpy()
    return rows


def _is_number(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)


def _is_row_numbers(path: pathlib.Path, name: str, column: "pyarrow.ChunkedArray") -> bool:
    """Whether it is the column of row numbers that pandas writes, which would tell where in the file a row stands."""
    if name not in _ROW_NUMBERS or column.null_count or not _is_number(column.type):
        return False
    if not np.array_equal(column.to_numpy(), np.arange(len(column))):
        return False
    log.info("%s: the column %r, which numbers the rows, is left out", path, name)
    return True

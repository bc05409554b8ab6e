"""Tables: a CSV file, or a Parquet file, whose columns are features, but for one that has the labels."""

import pathlib
import re
from typing import TYPE_CHECKING

import numpy as np

from tfpipe.config import Column, DataConfig
from tfpipe.data.checked import check_float32_tells_apart, float32_may_lose
from tfpipe.data.examples import Examples
from tfpipe.data.pictures import is_picture
from tfpipe.data.readers import arrow, split_column
from tfpipe.data.readers.categories import Categories, categories
from tfpipe.data.readers.source import Source
from tfpipe.data.rows import BLOCK_BYTES, blocks
from tfpipe.exceptions import ConfigError, DataError, enumeration
from tfpipe.log import log
from tfpipe.memory import check_fits_memory
from tfpipe.text import one_line

if TYPE_CHECKING:
    import pyarrow

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(inf|infinity|nan)", re.IGNORECASE)
_WITH_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+")
# Of a column called `split` that holds something else.
_NO_SPLITS = (
    "it is a feature; if it says the splits, write these words in it, or leave it out and give --split_file=FILE; if "
    "not, name it in --categorical, or call it something else"
)


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file `.csv`, or of one that begins as Parquet does."""
    return path if arrow.is_csv(path) or arrow.is_parquet(path) else None


def read(
    path: pathlib.Path,
    label_column: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
    categorical: tuple[str, ...] = DataConfig.categorical,
) -> Source:
    """Reads a table: rows `[N, D]` float32 of its columns of numbers, uint8 where all of them are that, and labels.

    Args:
      path: the file. CSV has the names of the columns in its first line, and `,`, `;` or tabs between values.
      label_column: the column of the labels; None: `label`, `class`, `target` or `y`, in upper or lower case.
      numbered_classes: integer labels are the numbers of the classes; see `labels.encode`.
      categorical: columns of which each becomes a column of 0 and 1 for each value that it has.

    Raises:
      DataError: the file is damaged; a value is missing; a column holds no numbers; there are no labels; or there is no
        pyarrow, by which it is read.
      ConfigError: a column is not there, or is categorical and has the labels.
    """
    with arrow.readable(path):
        table = arrow.read_table(path, label_column, categorical)
        names = table.column_names
        of_labels = arrow.label_column(path, names, label_column)
        _check_categorical(path, names, of_labels, categorical)
        of_splits = split_column.found(path, table, (of_labels, *categorical))
        split_column.warn_of_others(path, table, (of_labels, of_splits, *categorical), _NO_SPLITS)
        parts, note = (None, "") if of_splits is None else split_column.parts(path, table, of_splits)
        labels, class_names = arrow.labels(path, table, of_labels, numbered=numbered_classes)
        features = {name: table.column(name) for name in names if name not in (of_labels, of_splits)}
        features = {
            name: column
            for name, column in features.items()
            if name in categorical or not _is_row_numbers(path, name, column)
        }
        rows, columns = _rows(path, features, categorical)
    examples = Examples(rows, labels, str(path))
    pixel_max = 255.0 if rows.dtype == np.uint8 else 1.0
    notes = (note,) if note else ()
    return Source(examples, None, None, pixel_max, class_names, notes=notes, columns=columns, parts=parts)


def _check_categorical(path: pathlib.Path, names: list[str], of_labels: str, categorical: tuple[str, ...]) -> None:
    given = ",".join(categorical)
    for name in categorical:
        if name not in names:
            raise ConfigError("categorical", given, f"{path} has no column {name!r}, but {enumeration(names)}")
        if name == of_labels:
            raise ConfigError("categorical", given, f"{name!r} has the labels, which are categories in any case")


def _rows(
    path: pathlib.Path, columns: dict[str, "pyarrow.ChunkedArray"], categorical: tuple[str, ...]
) -> tuple[np.ndarray, tuple[Column, ...]]:
    """`[N, D]`, the values of the columns in their order; and what they are."""
    _check_numbers(path, {name: column for name, column in columns.items() if name not in categorical})
    if not columns:
        raise DataError(f"{path}: holds labels alone; expected columns of numbers beside them")
    in_categories: dict[str, Categories] = {}
    titles: list[Column] = []
    for name, column in columns.items():
        if name in categorical:
            in_categories[name] = categories(path, name, column)
            titles += [Column(name, value) for value in in_categories[name].values]
        else:
            arrow.check_whole(path, name, column.is_null(nan_is_null=True).to_numpy())
            titles.append(Column(name))
    n_rows = len(next(iter(columns.values())))
    # Beside numbers up to 255 the model would see next to nothing of a 1.
    is_bytes = not in_categories and all(str(column.type) == "uint8" for column in columns.values())
    check_fits_memory(str(path), n_rows * len(titles) * (1 if is_bytes else 4))
    rows = np.zeros((n_rows, len(titles)), np.uint8 if is_bytes else np.float32)
    place = 0
    for name, column in columns.items():
        if name in categorical:
            rows[np.arange(n_rows), place + in_categories[name].numbers] = 1
            place += len(in_categories[name].values)
        else:
            values = column.to_numpy()
            if float32_may_lose(values.dtype):  # Here: Examples gets them in float32.
                in_blocks = blocks(values[:, np.newaxis], np.arange(n_rows), BLOCK_BYTES, values.itemsize)
                check_float32_tells_apart(in_blocks, str(path), [name])
            with np.errstate(over="ignore"):  # What does not fit float32 becomes infinite, which Examples names.
                rows[:, place] = values
            place += 1
    return rows, tuple(titles)


def _check_numbers(path: pathlib.Path, columns: dict[str, "pyarrow.ChunkedArray"]) -> None:
    """Raises DataError for columns that are no numbers; it says what may become of them."""
    others = {name: column for name, column in columns.items() if not arrow.is_number(column.type)}
    if not others:
        return
    for name, column in others.items():
        if arrow.is_text(column.type) and not arrow.is_parquet(path):
            _check_numbers_as_text(path, name, arrow.texts(column))
    found = enumeration([f"{name} ({column.type})" for name, column in others.items()])
    texts = [name for name, column in others.items() if arrow.is_text(column.type)]
    remedies = []
    if texts:
        each = "each of its values" if len(texts) == 1 else "each of their values"
        remedies.append(f"--categorical={','.join(texts[:10])} makes {each} a column of 0 and 1")
    if any(is_picture(str(arrow.plain(others[name])[0])) for name in texts):
        remedies.append("--images_dir=FOLDER says where pictures lie whose names these are")
    remedies.append("or leave them out" if remedies else "leave them out, or make numbers of them")
    raise DataError(f"{path}: no numbers in the columns {found}; {', '.join(remedies)}")


def _check_numbers_as_text(path: pathlib.Path, name: str, texts: np.ndarray) -> None:
    """Raises DataError for the first text of a column most of whose values are numbers, with points or commas."""
    is_number = np.array([_NUMBER.fullmatch(text.strip()) is not None for text in texts.tolist()])
    of_comma = np.array([_WITH_COMMA.fullmatch(text.strip()) is not None for text in texts.tolist()])
    others = np.flatnonzero(~is_number & (texts != ""))
    if 2 * (is_number | of_comma).sum() <= len(texts) or not len(others):
        return
    row = int(others[0])
    where = f"{path}: column {name!r}, row {row} (counted from 0): {one_line(str(texts[row]))!r:.80}"
    if of_comma[row]:
        right = texts[row].strip().replace(",", ".")
        raise DataError(f"{where} is no number; expected a decimal point and no comma, such as {right}")
    raise DataError(f"{where} is no number, as most values there are; expected one, or leave out the row or the column")


def _is_row_numbers(path: pathlib.Path, name: str, column: "pyarrow.ChunkedArray") -> bool:
    """Whether it is the column of row numbers that pandas writes, which would tell where in the file a row stands."""
    if name not in arrow.ROW_NUMBERS or column.null_count or not arrow.is_number(column.type):
        return False
    if not np.array_equal(column.to_numpy(), np.arange(len(column))):
        return False
    log.info("%s: the column %r, which numbers the rows, is left out", path, name)
    return True

"""A list of pictures: a CSV file, or a Parquet file, with a column of the names of their files and one of their labels.

filename,label          or          id,breed
cat/1.png,cat                       000bec18,boston_bull
"""

import csv
import itertools
import os
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.data.picture_files import Listing
from tfpipe.data.pictures import is_picture
from tfpipe.data.readers import arrow, folder, split_column
from tfpipe.data.readers.class_folders import Layout, Picture
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log
from tfpipe.text import is_one_line, one_line

if TYPE_CHECKING:
    import pyarrow

# What the column is called, in small letters, where the values of several name pictures.
_NAMES = (
    "filename", "file_name", "filepath", "file_path", "file", "path", "image", "image_name", "image_path", "image_id",
    "img", "img_name", "img_path", "picture", "photo", "id",
)  # fmt: skip
# Rows in which the column is looked for.
_ENOUGH = 20
_MOST_NAMED = 5
# Of a column called `split` that holds something else.
_NO_SPLITS = (
    "it is not used; if it says the splits, write these words in it, or give --split_file=FILE; if not, call it "
    "something else"
)


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file `.csv` that names a picture in its folder in one of its first rows."""
    if not arrow.is_csv(path):
        return None
    pictures = _Pictures(path.parent)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = arrow.delimiter(file.readline())
            file.seek(0)
            for row in itertools.islice(csv.reader(file, delimiter=delimiter), 1 + _ENOUGH):
                if any(_has_suffix(value) and is_picture(value) and pictures.is_there(value) for value in row):
                    return path
    except (UnicodeDecodeError, csv.Error):
        return None  # Who reads it as a table says what is wrong.
    return None


def read(
    path: pathlib.Path,
    images_dir: str | None = None,
    label_column: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
    **of_pictures: Any,
) -> Source:
    """Decodes every picture of the list, in the order of its rows: `[N, H, W]` or `[N, H, W, 3]` uint8.

    Names are paths below the folder of the pictures; where there is no such file, the suffix may be what is missing. A
    picture that lies elsewhere is not read.

    Args:
      path: the list. CSV has the names of the columns in its first line, and `,`, `;` or tabs between values.
      images_dir: the folder of the pictures; None: that of the list.
      label_column: the column of the labels; None: the one of a usual name, or the only one beside the pictures'.
      numbered_classes: integer labels are the numbers of the classes; see `labels.encode`.
      of_pictures: how pictures are read; see `folder.read`.

    Raises:
      DataError: the list is damaged; no column names pictures, or several do; a picture is not there, is there twice,
        lies elsewhere, or does not decode; none of a split does; a label is missing; or there is no pyarrow, by which
        the list is read.
      ConfigError: there is no column `label_column`.
    """
    with arrow.readable(path):
        root = _root(path, images_dir)
        table = arrow.read_table(path, label_column)
        # Names of digits keep their zeros as text.
        as_text = table if arrow.is_parquet(path) else arrow.read_table(path, label_column, table.column_names)
        pictures = _Pictures(root)
        of_names = _column_of_names(path, as_text, pictures, label_column)
        of_splits = split_column.found(path, table, [of_names, *([label_column] if label_column else [])])
        others = (of_names, of_splits, *arrow.ROW_NUMBERS)
        of_labels = _label_column(path, [name for name in table.column_names if name not in others], label_column)
        split_column.warn_of_others(path, table, (of_names, of_labels, of_splits), _NO_SPLITS)
        parts, of_parts = (None, "") if of_splits is None else split_column.parts(path, table, of_splits)
        labels, class_names = arrow.labels(path, table, of_labels, numbered=numbered_classes)
        if int(labels.max()) > np.iinfo(np.int32).max:
            most = np.iinfo(np.int32).max
            raise DataError(f"{path} ({of_labels}): label {labels.max()} is out of range; expected at most {most}")
        files = _files(path, of_names, arrow.texts(as_text.column(of_names)).tolist(), pictures)
        note = f"{path}: lists pictures in {root}: {of_names!r} has their names, and {of_labels!r} their labels"
        if unused := [name for name in table.column_names if name not in (*others, of_labels)]:
            note += f"; it does not use {enumeration(unused)}"
        log.info("%s", note)
    listed = [Picture(pathlib.Path(file), label) for file, label in zip(files, labels.tolist(), strict=True)]
    notes = (note, of_parts) if of_parts else (note,)
    layout = Layout({"train": listed}, {"train": path}, class_names, notes, is_listed=True, parts=parts)
    return folder.read(path, **of_pictures, layout=layout)


def listing(
    path: pathlib.Path, images_dir: str | None = None, label_column: str | None = None
) -> tuple[pathlib.Path, Listing]:
    """The folder of the pictures, and those that a list names; `problems` are of names that mean none.

    Raises:
      DataError: the list is damaged, or no column names pictures, or several do; or as `read`.
    """
    with arrow.readable(path):
        root = _root(path, images_dir)
        pictures = _Pictures(root)
        table = arrow.read_table(path, label_column, arrow.column_names(path))
        names = arrow.texts(table.column(_column_of_names(path, table, pictures, label_column))).tolist()
    files: dict[str, None] = {}  # Each once, in their order.
    problems = []
    for name in names:
        try:
            file, problem = pictures.found(name), "is not there"
        except DataError as error:
            file, problem = None, str(error)
        if file is None:
            problems.append((os.path.join(root, name), problem))
        else:
            files[file] = None
    return root, Listing(list(files), [], 0, problems)


def _root(path: pathlib.Path, images_dir: str | None) -> pathlib.Path:
    """The folder of the pictures. Raises DataError if there is none."""
    root = path.parent if images_dir is None else pathlib.Path(images_dir).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected the one of the pictures that {path} lists")
    return root


class _Pictures:
    """The files in the folder `root`, by the names that a list has for them."""

    def __init__(self, root: pathlib.Path):
        self.root = os.path.abspath(root)
        self._real_root = os.path.realpath(root)
        self._stems: dict[str, dict[str, list[str]]] = {}

    def found(self, name: str) -> str | None:
        """The path of the file that `name` means, with its suffix or without; None: there is none.

        Where there is none of this very name, it is looked for with `/` in place of a backslash, without spaces around
        it, and in the other spelling that Unicode holds equal.

        Raises:
          DataError: it leads out of the folder, or may mean several files.
        """
        if not is_one_line(name):
            raise DataError("a name with a line break or another control character")
        return next(filter(None, map(self._found, _spellings(name))), None)

    def _found(self, name: str) -> str | None:
        path = os.path.normpath(os.path.join(self.root, name))
        if not self._is_below(path, self.root):
            raise DataError(f"leads out of {self.root}")
        if not os.path.isfile(path):
            folder, stem = os.path.split(path)
            files = self._of_folder(folder).get(stem, [])
            if not files:
                return None
            if len(files) > 1:
                raise DataError(f"may be {' or '.join(files[:3])}")
            path = os.path.join(folder, files[0])
        if not self._is_below(os.path.realpath(path), self._real_root):
            raise DataError(f"a link that leads out of {self.root}")
        return path

    def is_there(self, name: str) -> bool:
        """Whether `name` means a file in the folder."""
        try:
            return self.found(name) is not None
        except DataError:
            return False

    def _of_folder(self, folder: str) -> dict[str, list[str]]:
        """The names of the pictures in a folder, by these without suffix."""
        if folder not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                if is_picture(name) and os.path.isfile(os.path.join(folder, name)):
                    stems.setdefault(os.path.splitext(name)[0], []).append(name)
            self._stems[folder] = stems
        return self._stems[folder]

    @staticmethod
    def _is_below(path: str, root: str) -> bool:
        return path.startswith(os.path.join(root, ""))


def _spellings(name: str) -> Iterator[str]:
    """The name, and what else it may mean, each once."""
    plain = name.replace("\\", "/").strip()
    yield from dict.fromkeys((name, plain, unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain)))


def _has_suffix(value: str) -> bool:
    """Whether it ends in one that is no fraction: to look up those would import all of Pillow's formats."""
    return any(map(str.isalpha, os.path.splitext(value)[1]))


def _column_of_names(path: pathlib.Path, table: "pyarrow.Table", pictures: _Pictures, of_labels: str | None) -> str:
    """The column whose first values name pictures; the one of a usual name, if none or several do."""
    head = table.slice(0, _ENOUGH)
    others = (of_labels, *arrow.ROW_NUMBERS)
    names = [
        name
        for name in table.column_names
        if name not in others and name.lower() not in arrow.LABELS and _can_be_names(table.column(name).type)
    ]
    for name in table.column_names:
        if is_picture(name) and pictures.is_there(name):
            raise DataError(f"{path}: the first line names a picture, {name!r}; expected the names of the columns")
    found = [name for name in names if any(map(pictures.is_there, arrow.texts(head.column(name)).tolist()))]
    if len(found) != 1:
        called_so = [name for name in found or names if name.lower() in _NAMES]
        if len(called_so) != 1:
            which = f"the columns {' and '.join(found)} may" if found else "none of its columns seems to"
            of = enumeration(table.column_names)
            raise DataError(f"{path}: {which} name the pictures; expected one such as filename, of {of}")
        found = called_so
    return found[0]


def _can_be_names(kind: Any) -> bool:
    import pyarrow

    return arrow.is_text(kind) or pyarrow.types.is_integer(kind)


def _label_column(path: pathlib.Path, names: list[str], given: str | None) -> str:
    if given is None and len(names) == 1:
        return names[0]
    return arrow.label_column(path, names, given)


def _files(path: pathlib.Path, column: str, names: Sequence[str], pictures: _Pictures) -> list[str]:
    """The path of each picture. Raises DataError if one is not there, or twice."""
    files: list[str] = []
    missing: list[str] = []
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        where = f"{path}: column {column!r}, row {row} (counted from 0)"
        if name == "":
            raise DataError(f"{where}: has no name; expected one in every row")
        try:
            file = pictures.found(name)
        except DataError as error:
            raise DataError(f"{where}: {one_line(name)}: {error}; expected a picture in the folder") from error
        if file is None:
            missing.append(one_line(name))
        elif file in rows:
            raise DataError(f"{where}: {name} is in row {rows[file]} too; expected each picture once")
        else:
            rows[file] = row
            files.append(file)
    if missing:
        count = f"{len(missing)} of {len(names)} pictures are missing in {pictures.root}"
        shown = enumeration(missing, _MOST_NAMED)
        raise DataError(f"{path}: {count}: {shown}; --images_dir=FOLDER says where they lie")
    return files

"""What people call their splits: in names of folders and arrays, in columns of tables, in files beside the data."""

import re

import numpy as np

from tfpipe.exceptions import DataError
from tfpipe.text import one_line

# In small letters; the training split first.
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
# What columns of such names are called, in small letters.
COLUMNS = ("split", "set", "subset")
# What may stand beside one of these in the name of a folder, and between the words; `02_test` has a number alone.
_NEUTRAL = ("set", "data", "dataset", "images", "img", "imgs", "pictures", "photos", "split", "seg")
_BETWEEN_WORDS = re.compile(r"[-_. 0-9]+")
_BY_NAME = {name: split for split, names in NAMES.items() for name in names}


def split_of(name: str) -> str | None:
    """The split that `name` is a name of, if it is one, in upper or lower case; spaces around it do not count."""
    return _BY_NAME.get(name.strip().lower())


def split_of_folder(name: str) -> str | None:
    """The split that a folder's name has beside words that tell nothing: `01_train`, `Test Images`, `seg_val`."""
    words = [word for word in _BETWEEN_WORDS.split(name.lower()) if word]
    splits = [word for word in words if word not in _NEUTRAL]
    return split_of(splits[0]) if len(splits) == 1 else None


def parts(words: np.ndarray, where: str) -> dict[str, np.ndarray]:
    """The numbers of the rows of each split that has any, `[n]` int64, ascending; the training split first, if it has.

    Args:
      words: `[N]` text, a name of a split for each row.
      where: what has them, in errors.

    Raises:
      DataError: a word is no name of a split.
    """
    different, of_row = np.unique(words, return_inverse=True)
    splits = np.array([split_of(str(word)) or "" for word in different])[of_row]
    if (splits == "").any():
        row = int(np.argmax(splits == ""))
        shown = repr(one_line(str(words[row])))
        raise DataError(f"{where}: {shown:.100} in row {row} (counted from 0); expected train, validation or test")
    found = {split: np.flatnonzero(splits == split) for split in NAMES}
    return {split: rows for split, rows in found.items() if len(rows)}


def counted(parts: dict[str, np.ndarray]) -> str:
    """How many rows each split has, in words."""
    return ", ".join(f"{len(rows)} for {split}" for split, rows in parts.items())

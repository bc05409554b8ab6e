"""The 1,797 handwritten digits that scikit-learn ships (UCI "Optical Recognition of Handwritten Digits", test part)."""

import gzip
import importlib.util
import pathlib
import zlib

import numpy as np

from tfpipe.data.examples import Examples
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError, brief

NAME = "digits"
_SHAPE = (1797, 65)  # Of the file: 64 pixels and the label in a row.
_EXPECTED = "expected an installation of scikit-learn 1"


def recognise(dataset: str, path: pathlib.Path) -> str | None:
    """The name, if it is the one of these digits; whether there is a file of the same name does not matter."""
    return dataset if dataset == NAME else None


def read(name: str = NAME) -> Source:
    """Images `[1797, 8, 8]` uint8 with values 0 to 16, ten classes, in the order of the original file.

    The file is read without scikit-learn, whose import takes 0.6 s, and leaves variables in the environment.

    Raises:
      DataError: scikit-learn, or the file in it, is not there, or the file is damaged.
    """
    package = importlib.util.find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    if not places:
        raise DataError(f"{name}: there is no scikit-learn, which has them; {_EXPECTED}")
    path = pathlib.Path(places[0], "datasets", "data", "digits.csv.gz")
    try:
        # Opened here: NumPy asks for the current folder where it is given a path, and that need not be there.
        with gzip.open(path, "rt", encoding="ascii") as file:
            rows = np.loadtxt(file, np.uint8, delimiter=",", ndmin=2)
        if rows.shape != _SHAPE:
            raise ValueError(f"it holds {' x '.join(map(str, rows.shape))} numbers, not {' x '.join(map(str, _SHAPE))}")
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path}: damaged: {brief(error)}; {_EXPECTED}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; {_EXPECTED}") from error
    images, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]
    return Source(Examples(images, labels, name), validation=None, test=None, pixel_max=16.0)

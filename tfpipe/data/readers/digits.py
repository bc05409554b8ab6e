"""The 1,797 handwritten digits that scikit-learn ships (UCI "Optical Recognition of Handwritten Digits", test part)."""

import importlib.util
import pathlib

import numpy as np

from tfpipe.data.examples import Examples
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError

NAME = "digits"


def recognise(dataset: str, path: pathlib.Path) -> str | None:
    """The name, if it is the one of these digits; whether there is a file of the same name does not matter."""
    return dataset if dataset == NAME else None


def read(name: str = NAME) -> Source:
    """Images `[1797, 8, 8]` uint8 with values 0 to 16, ten classes, in the order of the original file.

    The file is read without scikit-learn, whose import takes 0.6 s, and leaves variables in the environment.

    Raises:
      DataError: scikit-learn, or the file in it, is not there.
    """
    package = importlib.util.find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    try:
        path = pathlib.Path((places or [""])[0], "datasets", "data", "digits.csv.gz")
        rows = np.loadtxt(path, np.uint8, delimiter=",", ndmin=2)
    except OSError as error:
        raise DataError(f"{name}: not in scikit-learn: {error}; expected an installation of scikit-learn 1") from error
    images, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]
    return Source(Examples(images, labels, name), validation=None, test=None, pixel_max=16.0)

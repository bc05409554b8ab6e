"""What a reader of one format returns, and what it raises."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfpipe.config import Column, Reading
from tfpipe.data.examples import Examples
from tfpipe.exceptions import ConfigError, DataError, brief


class Source(NamedTuple):
    """A data set as its files hold it, before it is divided.

    Attributes:
      train: the training examples.
      validation, test: None where the data brings no such split.
      pixel_max: the value that images of this source are divided by unless the user says otherwise.
      class_names: by number; None where the classes have numbers alone.
      listing: `[L]` int64, where people list the training examples in another order than they are stored in: for each
        of the list the number of the example that it became, or -1 for none; None: they are listed as they are stored.
      reading: how pictures became the images; None: they were no pictures.
      notes: what is to be said of how the files were understood, a line each.
      columns: what the numbers of a row of features are; None: they have no names.
      parts: for each split that the data or a file beside it says, and that has any, the numbers of its examples
        among the training examples, ascending; None: all of these are for training, but for what is drawn from them.
    """

    train: Examples
    validation: Examples | None
    test: Examples | None
    pixel_max: float
    class_names: tuple[str, ...] | None = None
    listing: np.ndarray | None = None
    reading: Reading | None = None
    notes: tuple[str, ...] = ()
    columns: tuple[Column, ...] | None = None
    parts: dict[str, np.ndarray] | None = None


@contextlib.contextmanager
def damage_told(path: pathlib.Path, problem: str) -> Iterator[None]:
    """Raises DataError, with the file and the `problem` in it, for any error of a library that reads `path`."""
    try:
        yield
    except (DataError, ConfigError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {error.strerror or brief(error)}") from error
    except Exception as error:  # A damaged file can fail in any way: in names that are no text, for one.
        raise DataError(f"{path}: {problem}: {brief(error)}") from error

"""What a reader of one format returns."""

from typing import NamedTuple

import numpy as np

from tfpipe.config import Reading
from tfpipe.data.examples import Examples


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
    """

    train: Examples
    validation: Examples | None
    test: Examples | None
    pixel_max: float
    class_names: tuple[str, ...] | None = None
    listing: np.ndarray | None = None
    reading: Reading | None = None
    notes: tuple[str, ...] = ()

"""What a reader of one format returns."""

from typing import NamedTuple

from tfpipe.data.examples import Examples


class Source(NamedTuple):
    """A data set as its files hold it, before it is divided.

    Attributes:
      train: the training examples.
      validation, test: None where the data brings no such split.
      pixel_max: the value that images of this source are divided by unless the user says otherwise.
      class_names: by number; None where the classes have numbers alone.
    """

    train: Examples
    validation: Examples | None
    test: Examples | None
    pixel_max: float
    class_names: tuple[str, ...] | None = None

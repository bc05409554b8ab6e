"""From a name or a path to `Splits`: finds the reader for the format, and divides what the data does not divide."""

import pathlib

import numpy as np
from absl import logging

from tfpipe.config import DataConfig
from tfpipe.data import digits, idx, theano_pickle
from tfpipe.data.examples import Examples, Splits
from tfpipe.data.source import Source
from tfpipe.exceptions import ConfigError, DataError

# More are not what a linear model of images is for, and one damaged label must not take all memory.
_MOST_CLASSES = 1 << 16


def load(
    dataset: str | pathlib.Path = DataConfig.dataset,
    *,
    validation_split: float | int = DataConfig.validation_split,
    test_split: float | int = DataConfig.test_split,
    pixel_max: float | None = DataConfig.pixel_max,
) -> Splits:
    """Loads a data set by name or path.

    Args:
      dataset: `digits`, the path of a folder with IDX files, or the path of a `mnist.pkl.gz`.
      validation_split: number (int) or fraction (float) of the training examples, taken from their end, that
        validate; used where the data brings no validation split.
      test_split: the same for the test split, taken first.
      pixel_max: images are divided by it on their way to the model; None: what the data is. Floating-point images that
        do not exceed 1 are scaled already, and are left as they are.

    Returns:
      Splits, images as they are stored (uint8 where the source has bytes).

    Raises:
      DataError: the data is missing or damaged; the message names the file and what is wrong.
      ConfigError: an argument is out of range.
    """
    config = DataConfig(str(dataset), validation_split, test_split, pixel_max)
    source = _read(config.dataset)
    return divide(source, config)


def _read(dataset: str) -> Source:
    if dataset == "digits":
        return digits.read()
    path = pathlib.Path(dataset).expanduser()
    if path.is_dir():
        return idx.read(path)
    if path.is_file() and path.name.endswith((".pkl", ".pkl.gz")):
        return theano_pickle.read(path)
    known = "expected 'digits', a folder with MNIST-style IDX files, or a file like mnist.pkl.gz"
    raise DataError(f"{dataset}: {'not a known format' if path.exists() else 'no such data'}; {known}")


def divide(source: Source, config: DataConfig) -> Splits:
    """Takes the splits that `source` lacks from the end of its training examples, and names the classes."""
    total = len(source.train)
    n_classes = int(source.train.labels.max()) + 1
    if n_classes > _MOST_CLASSES:
        raise DataError(
            f"{source.train.name}: label {n_classes - 1} is out of range; expected at most {_MOST_CLASSES - 1}"
        )
    if len(np.unique(source.train.labels)) < 2:
        raise DataError(f"{source.train.name}: every label is {n_classes - 1}; expected at least two classes")

    train = source.train
    parts: dict[str, Examples] = {}
    for name, brought in (("test", source.test), ("validation", source.validation)):
        if brought is not None:
            parts[name] = brought
            continue
        option = f"{name}_split"
        wanted = getattr(config, option)
        count = wanted if isinstance(wanted, int) else round(total * wanted)
        if not 0 < count < len(train):
            have = f"the {len(train)} examples that are left for training"
            raise ConfigError(option, wanted, f"would take {count} of {have}; take at least 1 and leave at least 1")
        parts[name] = train[-count:]
        train = train[:-count]

    class_names = tuple(str(number) for number in range(n_classes))
    return Splits(train, parts["validation"], parts["test"], class_names, _pixel_max(source, config), config)


def _pixel_max(source: Source, config: DataConfig) -> float:
    """What the images are divided by: what the user says, else what the data is."""
    if config.pixel_max is None:
        return source.pixel_max
    if config.pixel_max > 1 and source.train.images.dtype != np.uint8:
        largest = float(source.train.images.max())
        if largest <= 1:
            # Such as the tutorial's flags, made for bytes, on its own file. Scaled twice, a run would look merely bad.
            logging.warning(
                "%s: the largest value is %g, so the images are scaled already; pixel_max=%g is not applied",
                source.train.name,
                largest,
                config.pixel_max,
            )
            return 1.0
    return config.pixel_max

"""Which examples go to which split, where the data does not say: numbers of rows, which cost nothing to draw."""

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.data import scaling
from tfpipe.data.examples import Examples, Splits
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError, enumeration
from tfpipe.log import log

# More are not what a linear model of images is for, and one damaged label must not take all memory.
_MOST_CLASSES = 1 << 16
_STANDARDIZATION_BYTES = 32 << 20


def divide(source: Source, config: DataConfig) -> Splits:
    """Takes the splits that `source` lacks from its training examples, and names the classes.

    Raises:
      DataError: the training examples are of one class, or of too many.
      ConfigError: a split would be empty, or leave nothing to train on.
    """
    n_classes = len(source.class_names or ()) or int(source.train.labels.max()) + 1
    if n_classes > _MOST_CLASSES:
        raise DataError(
            f"{source.train.name}: label {n_classes - 1} is out of range; expected at most {_MOST_CLASSES - 1}"
        )
    if len(np.unique(source.train.labels)) < 2:
        raise DataError(f"{source.train.name}: every label is {n_classes - 1}; expected at least two classes")

    brought = {"test": source.test, "validation": source.validation}
    sizes = _sizes(len(source.train), [name for name, examples in brought.items() if examples is None], config)
    numbers = from_the_end(len(source.train), sizes)
    parts = {name: source.train.take(of_split) for name, of_split in numbers.items()}
    parts |= {name: examples for name, examples in brought.items() if examples is not None}

    class_names = source.class_names or tuple(str(number) for number in range(n_classes))
    train = parts["train"]
    _report_missing_classes(source.train, train, class_names)
    as_float64 = train.blocks(_STANDARDIZATION_BYTES, np.dtype(np.float64).itemsize)
    return Splits(
        train,
        parts["validation"],
        parts["test"],
        class_names,
        pixel_max=_pixel_max(source, config),
        standardization=scaling.standardization(as_float64) if config.standardize else None,
        config=config,
        # Bytes have their own scale, whatever they are divided by: the tutorial takes 256.
        white=source.pixel_max if train.stored.dtype == np.uint8 else None,
    )


def from_the_end(total: int, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Numbers of the examples of each split, `[n]` int64, ascending.

    Args:
      total: how many examples there are.
      sizes: of the splits to take, the last one of the data first; together below `total`.

    Returns:
      Those of `sizes`, and of `train`: what is left, from the first example on.
    """
    numbers = {}
    for name, size in sizes.items():
        numbers[name] = np.arange(total - size, total)
        total -= size
    return numbers | {"train": np.arange(total)}


def _sizes(total: int, names: list[str], config: DataConfig) -> dict[str, int]:
    """How many of `total` examples each of the splits `names` takes, as the configuration says."""
    sizes: dict[str, int] = {}
    left = total
    for name in names:
        option = f"{name}_split"
        wanted = getattr(config, option)
        size = wanted if isinstance(wanted, int) else round(total * wanted)
        if not 0 < size < left:
            have = f"the {left} examples that are left for training"
            raise ConfigError(option, wanted, f"would take {size} of {have}; take at least 1 and leave at least 1")
        sizes[name] = size
        left -= size
    return sizes


def _pixel_max(source: Source, config: DataConfig) -> float:
    """What the images are divided by: what the user says, else what the data is."""
    if config.pixel_max is None:
        return source.pixel_max
    if config.pixel_max > 1 and source.train.stored.dtype != np.uint8:
        _, largest = source.train.value_range()
        if largest <= 1:
            # Such as the tutorial's flags, made for bytes, on its own file. Scaled twice, a run would look merely bad.
            log.warning(
                "%s: the largest value is %g, so the images are scaled already; pixel_max=%g is not applied",
                source.train.name,
                largest,
                config.pixel_max,
            )
            return 1.0
    return config.pixel_max


def _report_missing_classes(source: Examples, train: Examples, class_names: tuple[str, ...]) -> None:
    """Says which classes have no example: in the data at all, or in what is left for training."""
    everywhere, left = (np.bincount(e.labels, minlength=len(class_names)) > 0 for e in (source, train))
    if not everywhere.all():
        missing = [class_names[k] for k in np.flatnonzero(~everywhere)]
        log.info("%s: no example of the classes %s; they are kept", source.name, enumeration(missing))
    if (everywhere & ~left).any():
        missing = [class_names[k] for k in np.flatnonzero(everywhere & ~left)]
        log.warning(
            "%s: every example of the classes %s went to validation and test; none is left for training",
            source.name,
            enumeration(missing),
        )

"""What files beside a data set say of its training examples: what each counts, its group, and its split."""

import pathlib
from collections.abc import Sequence

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.data import split_names
from tfpipe.data.checked import checked_groups, checked_weights
from tfpipe.data.groups import numbered
from tfpipe.data.labels import decoded
from tfpipe.data.readers.arrays import mapped, read_labels
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError


def annotated(source: Source, config: DataConfig) -> Source:
    """The data with the weights, groups and splits that the files named in `config` have for its training examples.

    Raises:
      DataError: a file cannot be read, or has no value that can be used for each row.
      ConfigError: the data brings weights, groups or such splits itself.
    """
    weights = groups = None
    if config.sample_weight is not None:
        _check_not_there(source.train.weights, "sample_weight", config.sample_weight, source.train.name)
        weights = _of_examples(_weights(config.sample_weight, _listed(source)), source)
    if config.groups is not None:
        _check_not_there(source.train.groups, "groups", config.groups, source.train.name)
        groups = _of_examples(_groups(config.groups, _listed(source)), source)
    parts = source.parts
    if config.split_file is not None:
        _check_not_there(parts, "split_file", config.split_file, source.train.name)
        parts = _parts(config.split_file, source)
    return source._replace(train=source.train.annotated(weights, groups), parts=parts)


def _check_not_there(found: object, option: str, path: str, name: str) -> None:
    if found is not None:
        raise ConfigError(option, path, f"{name} brings its own; leave the file away, or take them out of the data")


def _listed(source: Source) -> int:
    """How many rows a file has values for."""
    return len(source.train) if source.listing is None else len(source.listing)


def _of_examples(values: np.ndarray, source: Source) -> np.ndarray:
    """`[N]`, from `[L]` values of the rows as people list them."""
    if source.listing is None:
        return values
    there = source.listing >= 0
    of_examples = np.empty(len(source.train), values.dtype)
    of_examples[source.listing[there]] = values[there]
    return of_examples


def _weights(name: str, n_rows: int) -> np.ndarray:
    return checked_weights(np.asarray(mapped(_path(name))), n_rows, name)


def _groups(name: str, n_rows: int) -> np.ndarray:
    (numbers,) = numbered([(_values(name), name)])
    return checked_groups(numbers, n_rows, name)


def _parts(name: str, source: Source) -> dict[str, np.ndarray]:
    """The numbers of the examples of each split."""
    words, n_rows = _values(name), _listed(source)
    if words.dtype.kind not in "US" or words.ndim != 1:
        found = f"splits of shape {words.shape} and type {words.dtype}"
        raise DataError(f"{name}: {found}; expected [N] text: train, validation or test")
    words = decoded(words, name)
    if len(words) == n_rows + 1 and str(words[0]).lower() in split_names.COLUMNS:
        words = words[1:]  # The name of the column, as pandas writes it.
    if len(words) != n_rows:
        raise DataError(f"{name}: {len(words)} rows for {n_rows} examples; expected one for each")
    parts = split_names.parts(words, name)
    for split, brought in (("validation", source.validation), ("test", source.test)):
        if split in parts and brought is not None:
            problem = f"says which examples are for {split}, and {source.train.name} brings a {split} split"
            raise ConfigError("split_file", name, f"{problem}; expected another word in these rows")
    if source.listing is not None:
        parts = {split: np.sort(source.listing[rows][source.listing[rows] >= 0]) for split, rows in parts.items()}
    return parts


def _values(name: str) -> np.ndarray:
    """Of an `.npy` file, or the lines of one of text."""
    path = _path(name)
    return read_labels(path) if path.suffix.lower() == ".npy" else np.array(_lines(path))


def _lines(path: pathlib.Path) -> Sequence[str]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8; expected one value a line, or an .npy file") from error
    if not lines:
        raise DataError(f"{path}: holds nothing; expected one value a line")
    if "" in lines:
        raise DataError(f"{path}: line {lines.index('') + 1} is empty; expected one value a line")
    return lines


def _path(name: str) -> pathlib.Path:
    try:
        return pathlib.Path(name).expanduser()
    except RuntimeError as error:  # `~` of somebody who is not there.
        raise DataError(f"{name}: cannot be found: {error}") from error

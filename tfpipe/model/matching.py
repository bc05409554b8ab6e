"""Runs that were measured on the same examples: which example of one is which of another. NumPy only."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfpipe.data import Examples, Splits
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log
from tfpipe.model import scores
from tfpipe.model.artifact import TrainedModel
from tfpipe.statistics.figures import Outcomes

_MOST_NAMED = 5
_NOT_THERE = -1


class Measured(NamedTuple):
    """What the model of a run says of the n examples of a split, and what these are known by.

    Attributes:
      name: what the run is called.
      dataset: its data.
      class_names: the K classes of the model, by number.
      labels: `[n]`, the true classes.
      predicted: `[n]`, the most probable ones.
      confidence: `[n]`, their probabilities in [0, 1].
      loss: `[n]`, the log losses; infinity where the true class has probability 0.
      files: `[n]` text, the file of each; None: they have none.
      rows: `[n]` int64, their rows as people list them: in the array that holds them, or by the paths of pictures.
      labels_by_row: `[M]`, the label of each row, whatever its split; -1 where no split has the row.
      weights, groups: `[n]`, as Examples has them.
    """

    name: str
    dataset: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    loss: np.ndarray
    files: np.ndarray | None
    rows: np.ndarray
    labels_by_row: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None


class Matched(NamedTuple):
    """Runs on n examples that they share, in the order of the first of them.

    Attributes:
      runs: as they were measured.
      by: `files` or `rows`: what the examples are known by.
      names: `[n]`, their files or their rows.
      class_names: the K classes, by the numbers of the first run.
      places: `[R, n]` int64: the places of these examples in the split of each run.
      labels: `[n]`, the true classes, by these numbers.
      predicted, confidence, loss: `[R, n]`, of each run as Measured has them, by these numbers.
      weights: `[n]`, what each example counts; None: each counts once.
      groups: `[n]` int64, of which equal ones are one group; None: each example is its own.
    """

    runs: tuple[Measured, ...]
    by: str
    names: np.ndarray
    class_names: tuple[str, ...]
    places: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    loss: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None

    @property
    def wrong(self) -> np.ndarray:
        """`[R, n]` bool."""
        return self.predicted != self.labels


def measure(name: str, dataset: str, model: TrainedModel, splits: Splits, examples: Examples) -> Measured:
    """What `model` says of `examples`, which are a split of `splits`.

    Raises:
      DataError: the data does not fit the model.
    """
    labels, probabilities = scores.predict(model, splits, examples)
    outcomes = Outcomes(labels, probabilities)
    numbers = np.array(scores.numbers_of(splits.class_names, model.class_names))
    parts = [part for part in (splits.train, splits.validation, splits.test) if part.stored is examples.stored]
    n_listed = max((int(_rows(part).max(initial=-1)) + 1 for part in parts if part.listed is not None), default=0)
    labels_by_row = np.full(n_listed or len(examples.stored), _NOT_THERE)
    for part in parts:
        labels_by_row[_rows(part)] = numbers[part.labels]
    return Measured(
        name,
        dataset,
        model.class_names,
        labels,
        outcomes.predicted,
        probabilities.max(axis=1),
        outcomes.loss,
        examples.files,
        _rows(examples),
        labels_by_row,
        examples.weights,
        examples.groups,
    )


def _rows(examples: Examples) -> np.ndarray:
    return examples.rows if examples.listed is None else examples.listed


def match(runs: Sequence[Measured], split: str) -> Matched:
    """The examples that all of these runs were measured on.

    Where all data has files, examples of one name are the same, and those are taken that all runs have. Else examples
    of one row are: then the data must have as many rows, and one class in each row that two of the runs know, and the
    splits must be of the same rows. Names are as the data has them, below its folder.

    Args:
      runs: two at least.
      split: how the errors call the examples.

    Raises:
      DataError: they share none, or it cannot be told which ones; their classes, labels or groups differ.
    """
    first, *others = runs
    class_names = first.class_names
    numbers = [_numbers_of_classes(first, run) for run in runs]
    if all(run.files is not None for run in runs):
        by, places = "files", _by_files(runs, split)
    else:
        by, places = "rows", _by_rows(runs, numbers, split)
    names = (first.files if by == "files" else first.rows)[places[0]]  # type: ignore[index]
    labels, predicted = (
        np.array([of_run[getattr(run, name)[place]] for run, of_run, place in zip(runs, numbers, places, strict=True)])
        for name in ("labels", "predicted")
    )
    for run, of_run in zip(others, labels[1:], strict=True):
        _check_labels(first, run, labels[0], of_run, names, class_names)
    confidence, loss = (
        np.array([getattr(run, name)[place] for run, place in zip(runs, places, strict=True)])
        for name in ("confidence", "loss")
    )
    return Matched(
        tuple(runs),
        by,
        names,
        class_names,
        places,
        labels[0],
        predicted,
        confidence,
        loss,
        _weights(runs, places),
        _groups(runs, places),
    )


def _numbers_of_classes(first: Measured, run: Measured) -> np.ndarray:
    """`[K]`, the numbers in the first run of the classes of another."""
    found = scores.numbers_of(run.class_names, first.class_names)
    unknown = [name for name, number in zip(run.class_names, found, strict=True) if number is None]
    lacking = [name for number, name in enumerate(first.class_names) if number not in found]
    if unknown or lacking:
        of_each = ((first, lacking), (run, unknown))
        said = [f"{one.name} alone has {enumeration(names, _MOST_NAMED)}" for one, names in of_each if names]
        raise DataError(f"{first.name} and {run.name}: other classes: {', '.join(said)}; expected the same ones")
    return np.array(found)


def _by_files(runs: Sequence[Measured], split: str) -> np.ndarray:
    """`[R, n]`, the places of the files that all runs have."""
    found = [{name: place for place, name in enumerate(run.files)} for run in runs if run.files is not None]
    first, of_first = runs[0], found[0]
    for run, of_run in zip(runs[1:], found[1:], strict=True):
        if of_first.keys().isdisjoint(of_run):
            example = f"{next(iter(of_first))!r} is of the first, {next(iter(of_run))!r} of the other"
            raise DataError(
                f"{first.name} and {run.name}: share no file in the {split} split: {example}; expected the same names "
                f"below each folder, and one split_seed"
            )
    names = [name for name in of_first if all(name in of_run for of_run in found)]
    if not names:
        who = ", ".join(run.name for run in runs)
        raise DataError(f"{who}: no file is in the {split} split of all of them; compare two at a time")
    if any(len(of_run) > len(names) for of_run in found):
        sizes = ", ".join(f"{len(of_run)} of {run.name}" for run, of_run in zip(runs, found, strict=True))
        log.warning(
            "%d files are in the %s split of every run, and these are compared: of %s", len(names), split, sizes
        )
    return np.array([[of_run[name] for name in names] for of_run in found])


def _by_rows(runs: Sequence[Measured], numbers: Sequence[np.ndarray], split: str) -> np.ndarray:
    """`[R, n]`, the places of the rows, which all runs have."""
    first = runs[0]
    for run, of_run in zip(runs[1:], numbers[1:], strict=True):
        who = f"{first.name} and {run.name}"
        sizes = len(first.labels_by_row), len(run.labels_by_row)
        if sizes[0] != sizes[1]:
            held = f"{sizes[0]} rows in {first.dataset}, {sizes[1]} in {run.dataset}"
            raise DataError(f"{who}: {held}; expected the same examples, in one order")
        there = (first.labels_by_row != _NOT_THERE) & (run.labels_by_row != _NOT_THERE)
        rows = np.flatnonzero(there)
        labels = first.labels_by_row[rows], of_run[run.labels_by_row[rows]]
        _check_labels(first, run, *labels, rows, first.class_names)
        if not np.array_equal(np.sort(first.rows), np.sort(run.rows)):
            shared = len(np.intersect1d(first.rows, run.rows))
            split_sizes = f"{len(first.rows)} and {len(run.rows)} rows, {shared} of them shared"
            remedy = "expected one split_seed, and the other options of splits alike"
            raise DataError(f"{who}: other {split} splits: {split_sizes}; {remedy}")
    in_order = [np.argsort(run.rows, kind="stable") for run in runs]
    return np.stack([of_run[np.argsort(in_order[0], kind="stable")] for of_run in in_order])


def _check_labels(
    first: Measured,
    run: Measured,
    ours: np.ndarray,
    theirs: np.ndarray,
    names: np.ndarray,
    class_names: tuple[str, ...],
) -> None:
    """Raises DataError unless the `[n]` labels of two runs, by the numbers of one, are the same."""
    differs = np.flatnonzero(ours != theirs)
    if not len(differs):
        return
    place = differs[0]
    name = names[place] if isinstance(names[place], str) else f"row {names[place]}"
    example = f"{name} is {class_names[ours[place]]!r}, and {class_names[theirs[place]]!r}"
    raise DataError(
        f"{first.name} and {run.name}: other labels in {len(differs)} of {len(names)} examples: {example}; expected "
        f"the same examples, in one order where they have no files"
    )


def _weights(runs: Sequence[Measured], places: np.ndarray) -> np.ndarray | None:
    """`[n]`, where all runs weigh their examples alike."""
    found = [
        np.ones(len(place)) if run.weights is None else run.weights[place]
        for run, place in zip(runs, places, strict=True)
    ]
    if any(not np.array_equal(found[0], other) for other in found[1:]):
        log.warning("the runs weigh these examples differently, so each counts once here")
        return None
    if not found[0].any():
        raise DataError(f"{runs[0].name}: the weight of every shared example is 0; expected one above 0 at least")
    return None if (found[0] == found[0][0]).all() else found[0]


def _groups(runs: Sequence[Measured], places: np.ndarray) -> np.ndarray | None:
    """`[n]`, of those runs that know groups."""
    found = [
        (run, np.unique(run.groups[place], return_inverse=True)[1])
        for run, place in zip(runs, places, strict=True)
        if run.groups is not None
    ]
    for (first, ours), (run, theirs) in itertools.pairwise(found):
        pairs = len(np.unique(np.stack([ours, theirs]), axis=1).T)
        if not pairs == len(np.unique(ours)) == len(np.unique(theirs)):
            raise DataError(f"{first.name} and {run.name}: other groups of the same examples; expected the same ones")
    return found[0][1] if found else None

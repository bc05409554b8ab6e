"""Examples that are in a data set more than once: counted, told of, or left out. NumPy only."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tfpipe.config import DataConfig
from tfpipe.data.contents import contents
from tfpipe.data.examples import Examples, Splits, check_same_form
from tfpipe.data.fingerprint import Part
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log

# Larger files, which are read by and by, are not read once more for that: 0.4 s a GB, or what the disk takes.
_MOST_MAPPED = 256 << 20
# Where more of the training examples repeat others, equal ones are how the data is.
_MOST_REPEATED = 0.5


class Duplicates(NamedTuple):
    """Examples of a split whose images are equal to those of others, byte by byte.

    Attributes:
      repeated: how many are equal to an earlier one of the split.
      seen: how many of the validation are equal to a training example; of the test, to one of these or of the
        validation; None: they are the training examples.
      label_differs: how many of those that are seen, or of the training examples that are repeated, have another label
        than all that are equal there.
    """

    repeated: int
    seen: int | None
    label_differs: int


class Search(NamedTuple):
    """What was found among the splits of a data set.

    Attributes:
      counts: the duplicates of each split, by its name.
      seen_in_test: `[n]` bool, which test examples are equal to one of the training or of the validation.
    """

    counts: dict[str, Duplicates]
    seen_in_test: np.ndarray


def search(splits: Splits) -> Search:
    """The duplicates of each split. Reads all images, of a mapped file too; `Splits.duplicates` does so once."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    numbers = _contents(parts)
    n_classes = splits.n_out
    found: dict[str, Duplicates] = {}
    before = labelled_before = np.arange(0)
    for name, part in parts.items():
        own = numbers[name]
        labelled = np.where(own < 0, -1, own * n_classes + part.labels)
        repeated, relabelled = (_is_repeated(values) for values in (own, labelled))
        seen = np.isin(own, before)
        if name == "train":
            found[name] = Duplicates(int(repeated.sum()), None, int((repeated & ~relabelled).sum()))
        else:
            differs = seen & ~np.isin(labelled, labelled_before)
            found[name] = Duplicates(int(repeated.sum()), int(seen.sum()), int(differs.sum()))
        before = np.concatenate([before, own[own >= 0]])
        labelled_before = np.concatenate([labelled_before, labelled[own >= 0]])
    return Search(found, seen)


def is_too_large(splits: Splits) -> bool:
    """Whether the images lie in a mapped file that is not to be read for this alone."""
    arrays = {id(part.stored): part.stored for part in (splits.train, splits.validation, splits.test)}
    return sum(array.nbytes for array in arrays.values() if isinstance(array, np.memmap)) > _MOST_MAPPED


def report(splits: Splits, config: DataConfig) -> None:
    """Warns of validation and test examples that a model has seen; not where a large file would be read once more.

    Where equal rows are how a table is, a line of information says it, without advice.
    """
    name = splits.train.name
    if splits.duplicates is None:
        log.info("%s: a large file, not searched for duplicates; `tfpipe describe` searches it", name)
        return
    found = splits.duplicates.counts
    told = []
    for split, where in (("validation", "training"), ("test", "training or validation")):
        of_split = found[split]
        if of_split.seen:
            differs = f" ({of_split.label_differs} with another label)" * bool(of_split.label_differs)
            total = len(getattr(splits, split))
            told.append(f"{of_split.seen} of {total} {split} examples are in {where} too{differs}")
    if told and _are_normal(splits, found["train"].repeated):
        normal = "in tables with categories, or of few different rows, that is normal"
        log.info("%s: %s; %s", name, " and ".join(told), normal)
    elif told:
        remedy = "" if config.drop_duplicates else "; drop_duplicates leaves out what is in the data twice"
        log.warning("%s: %s, so figures on these tell little of new examples%s", name, " and ".join(told), remedy)


def _are_normal(splits: Splits, repeated: int) -> bool:
    """Whether rows may well be equal by chance: of categories, or of few different contents. Pictures never are."""
    if len(splits.image_shape) > 1:
        return False
    has_categories = any(column.value is not None for column in splits.columns or ())
    return has_categories or repeated > _MOST_REPEATED * len(splits.train)


def dropped(source: Source, of_model: tuple[str, ...] = ()) -> Source:
    """The data without duplicates among its training examples; a line of the log, and of the notes, counts them.

    Of equal training examples the first stays that has weight, or else the first; none that is in a validation or test
    split that the data brings. Where more than half are left out, the line is a warning.

    Args:
      source: the data.
      of_model: the classes of a model, where examples are to measure one: they may lose a class then.

    Raises:
      DataError: none is left, or none of a class; the images of a split have another form.
    """
    brought = {"validation": source.validation, "test": source.test}
    others = {name: examples for name, examples in brought.items() if examples is not None}
    for examples in others.values():
        check_same_form(source.train, examples)
    train = source.train
    own, *of_others = _contents({"train": train} | others).values()
    is_there = np.isin(own, np.concatenate([np.arange(0), *(numbers[numbers >= 0] for numbers in of_others)]))
    out = is_there | _is_repeated(own, train.weights)
    if not out.any():
        return source
    if out.all():
        raise DataError(f"{train.name}: each training example is in {' or '.join(others)} too; none is left")
    left = train.take(np.flatnonzero(~out))
    gone = np.setdiff1d(train.labels, left.labels).tolist()
    if gone and not of_model:
        named = source.class_names or train.class_names
        classes = enumeration([repr(named[number] if named else str(number)) for number in gone])
        equals = " or ".join(["another class", *others])
        problem = f"drop_duplicates leaves no training example of the classes {classes}: each equals one of {equals}"
        raise DataError(f"{train.name}: {problem}; expected one at least of each class")
    # What a content is called by whoever stays: in a split that the data brings, or first in training.
    n_classes = 1 + max(int(examples.labels.max(initial=0)) for examples in (train, *others.values()))
    keys = own * n_classes + train.labels
    kept_keys = [keys[~out], *(n * n_classes + e.labels for n, e in zip(of_others, others.values(), strict=True))]
    differs = int((out & ~np.isin(keys, np.concatenate(kept_keys))).sum())
    said = f"{train.name}: {int(out.sum())} of {len(train)} training examples are left out as duplicates: "
    parts = [f"{int((out & ~is_there).sum())} of other training examples"]
    if others:
        parts.append(f"{int(is_there.sum())} of {' or '.join(others)} examples")
    if differs:
        parts.append(f"{differs} of all these have another label than what stays")
    note = said + "; ".join(parts)
    if out.sum() > _MOST_REPEATED * len(train):
        note += "; that is more than half: if equal rows are how the data is, leave drop_duplicates out"
        log.warning("%s", note)
    else:
        log.info("%s", note)
    return source._replace(train=left, listing=None, notes=(*source.notes, note))


def _contents(parts: Mapping[str, Examples]) -> dict[str, np.ndarray]:
    found = contents([Part(part.stored, part.rows) for part in parts.values()])
    return dict(zip(parts, found, strict=True))


def _is_repeated(numbers: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """`[n]` bool: whether a number, at least 0, is that of an earlier one too; ones of weight 0 come last."""
    order = np.arange(len(numbers)) if weights is None else np.argsort(weights == 0, kind="stable")
    repeated = np.ones(len(numbers), bool)
    repeated[order[np.unique(numbers[order], return_index=True)[1]]] = False
    return repeated & (numbers >= 0)

"""How good a trained model is on labelled examples. NumPy and scikit-learn only."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfpipe.data import Examples, Splits
from tfpipe.data.checked import noun
from tfpipe.data.class_names import composed
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log
from tfpipe.model import columns, tested
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.statistics.figures import Outcomes

_MOST_NAMED = 5


class Predictions(NamedTuple):
    """What a model says of n examples.

    Attributes:
      labels: `[n]` int, the true classes, in the model's numbers.
      probabilities: `[n, K]` float64.
    """

    labels: np.ndarray
    probabilities: np.ndarray


def predict(model: TrainedModel, splits: Splits, examples: Examples) -> Predictions:
    """What `model` says of `examples`, which are some of `splits`.

    Columns of a table are found by their names, in whatever order. A value of categories that the model has not seen is
    0 in all of its columns, and the log says so.

    Raises:
      DataError: the data does not fit the model: its images have another shape or another scale, it lacks columns, or
        it has classes that the model does not know.
    """
    rows_of = _rows_by_name(model, splits, examples)
    if rows_of is None and splits.image_shape != model.image_shape:
        shapes = (" x ".join(map(str, shape)) for shape in (splits.image_shape, model.image_shape))
        raise DataError("{}: {} of {}, and the model takes {}".format(examples.name, noun(examples.stored), *shapes))
    if splits.white_pixel != model.white:
        whites = f"white is {splits.white_pixel:g} in these images, and {model.white:g} in those of the model"
        remedy = "--pixel_max says what white is, in training and here; or store them as the training data was stored"
        raise DataError(f"{examples.name}: {whites}; {remedy}")
    found = numbers_of(splits.class_names, model.class_names)
    unknown = [name for name, number in zip(splits.class_names, found, strict=True) if number is None]
    if unknown:
        known = f"the model knows {enumeration(model.class_names, _MOST_NAMED)}"
        raise DataError(f"{examples.name}: has the classes {enumeration(unknown, _MOST_NAMED)}, and {known}")
    numbers = np.array(found)
    blocks = examples.blocks() if rows_of is None else map(rows_of, examples.blocks())
    return Predictions(numbers[examples.labels], np.concatenate([model.probabilities(block) for block in blocks]))


def numbers_of(names: tuple[str, ...], known: tuple[str, ...]) -> list[int | None]:
    """The place of each name among those `known`, also in another spelling that Unicode holds equal; else None."""
    of_known = {composed(name): number for number, name in enumerate(known)}
    of_known |= {name: number for number, name in enumerate(known)}
    return [of_known.get(name, of_known.get(composed(name))) for name in names]


def _rows_by_name(model: TrainedModel, splits: Splits, examples: Examples) -> Callable[[np.ndarray], np.ndarray] | None:
    """What makes rows for the model of those of a table; None: they have no names, or are as the model has them."""
    if model.columns is None or splits.columns is None or model.columns == splits.columns:
        return None
    found = columns.match(model.columns, splits.columns, examples.name)
    if found.unused:
        log.info("%s: the model does not take the columns %s", examples.name, enumeration(found.unused, _MOST_NAMED))
    for name, places in found.unseen.items():
        there = sum((block[:, places] != 0).sum(axis=0) for block in examples.blocks())
        values = [str(splits.columns[place].value) for place, count in zip(places, there, strict=True) if count]
        if values:
            shown = enumeration([repr(value) for value in values], _MOST_NAMED)
            log.warning(
                "%s: %d of %d rows have values in the column %r that the model has not seen, and count as none of its "
                "values: %s",
                examples.name,
                sum(there),
                len(examples),
                name,
                shown,
            )
    return found.rows


def concatenated(parts: list[Predictions]) -> Predictions:
    """Those of several splits, one after the other."""
    return Predictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def scores(
    predictions: Predictions,
    class_names: tuple[str, ...],
    top_k: int,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    is_duplicate: np.ndarray | None = None,
    *,
    has_seen: bool = False,
) -> dict[str, Any]:
    """The figures, as JSON can hold them: shares in [0, 1]; what a class without examples has no figure for is None.

    Those of `tested.figures`, of which `error` and `cost` stand at the top level too, and those of each class.

    Args:
      predictions: of n examples.
      class_names: K names.
      top_k: 1 to K; a prediction counts as right in `top_k_error` if the class is among so many.
      weights: `[n]`, what an example counts in error, cost, `top_k_error` and `figures`, at least 0; None: 1. In all
        else each counts once.
      groups: see `tested.figures`.
      is_duplicate: likewise.
      has_seen: likewise.
    """
    from sklearn import metrics  # 0.7 s: not for whoever imports this module.

    labels, probabilities = predictions
    outcomes = Outcomes(labels, probabilities)
    classes, predicted = np.arange(len(class_names)), outcomes.predicted
    measured = tested.figures(outcomes, weights, groups, is_duplicate, has_seen=has_seen)
    of_classes = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    order = (-probabilities).argsort(axis=1, kind="stable")[:, :top_k]
    is_outside = (order != labels[:, np.newaxis]).all(axis=1)
    counts = np.ones(len(labels)) if weights is None else weights
    diagnosis = Diagnosis.of(outcomes)
    return {
        "examples": len(labels),
        "error": measured["figures"]["error"]["value"],
        "cost": measured["figures"]["cost"]["value"],
        "top_k": top_k,
        "top_k_error": float(counts[is_outside].sum() / counts.sum()) if counts.any() else None,
        "calibration_error": diagnosis.calibration().error,
        "classes": [
            {"class": name} | {key: None if np.isnan(value) else value for key, value in of_class.items()}
            for name, of_class in zip(class_names, _by_class(of_classes), strict=True)
        ],
        "confusion_matrix": diagnosis.confusion_matrix().tolist() if diagnosis.has_matrix else None,
    } | measured


def _by_class(figures: tuple[np.ndarray, ...]) -> list[dict[str, float]]:
    names = ("precision", "recall", "f1", "examples")
    columns = [column.tolist() for column in figures]
    return [dict(zip(names, of_class, strict=True)) for of_class in zip(*columns, strict=True)]

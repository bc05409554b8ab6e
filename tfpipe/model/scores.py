"""How good a trained model is on labelled examples. NumPy and scikit-learn only."""

from typing import Any, NamedTuple

import numpy as np

from tfpipe.data import Examples, Splits
from tfpipe.data.checked import noun
from tfpipe.data.picture_files import composed
from tfpipe.exceptions import DataError, enumeration
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis

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

    Raises:
      DataError: the data does not fit the model: its images have another shape or another scale, or it has classes that
        the model does not know.
    """
    if splits.image_shape != model.image_shape:
        shapes = (" x ".join(map(str, shape)) for shape in (splits.image_shape, model.image_shape))
        raise DataError("{}: {} of {}, and the model takes {}".format(examples.name, noun(examples.stored), *shapes))
    if splits.white_pixel != model.white:
        scales = f"from 0 to {splits.white_pixel:g}, and the model takes them from 0 to {model.white:g}"
        raise DataError(f"{examples.name}: images {scales}; store them as the training data was stored")
    of_model = {composed(name): number for number, name in enumerate(model.class_names)}
    of_model |= {name: number for number, name in enumerate(model.class_names)}
    numbers_of = [of_model.get(name, of_model.get(composed(name))) for name in splits.class_names]
    unknown = [name for name, number in zip(splits.class_names, numbers_of, strict=True) if number is None]
    if unknown:
        known = f"the model knows {enumeration(model.class_names, _MOST_NAMED)}"
        raise DataError(f"{examples.name}: has the classes {enumeration(unknown, _MOST_NAMED)}, and {known}")
    numbers = np.array(numbers_of)
    return Predictions(
        numbers[examples.labels], np.concatenate([model.probabilities(block) for block in examples.blocks()])
    )


def concatenated(parts: list[Predictions]) -> Predictions:
    """Those of several splits, one after the other."""
    return Predictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def scores(predictions: Predictions, class_names: tuple[str, ...], top_k: int) -> dict[str, Any]:
    """The figures, as JSON can hold them: shares in [0, 1]; what a class without examples has no figure for is None.

    Args:
      predictions: of n examples.
      class_names: K names.
      top_k: 1 to K; a prediction counts as right in `top_k_error` if the class is among so many.
    """
    from sklearn import metrics  # 0.7 s: not for whoever imports this module.

    labels, probabilities = predictions
    classes = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    diagnosis = Diagnosis(labels, predicted, probabilities.max(axis=1), len(class_names))
    figures = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    of_labels = np.take_along_axis(probabilities, labels[:, np.newaxis], axis=1)
    order = (-probabilities).argsort(axis=1, kind="stable")[:, :top_k]
    with np.errstate(divide="ignore"):  # A class of probability 0 costs infinitely much.
        cost = float(-np.log(of_labels).mean())
    return {
        "examples": len(labels),
        "error": float(np.mean(predicted != labels)),
        "cost": cost if np.isfinite(cost) else None,
        "top_k": top_k,
        "top_k_error": float(np.mean((order != labels[:, np.newaxis]).all(axis=1))),
        "calibration_error": diagnosis.calibration().error,
        "classes": [
            {"class": name} | {key: None if np.isnan(value) else value for key, value in of_class.items()}
            for name, of_class in zip(class_names, _by_class(figures), strict=True)
        ],
        "confusion_matrix": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def _by_class(figures: tuple[np.ndarray, ...]) -> list[dict[str, float]]:
    names = ("precision", "recall", "f1", "examples")
    columns = [column.tolist() for column in figures]
    return [dict(zip(names, of_class, strict=True)) for of_class in zip(*columns, strict=True)]

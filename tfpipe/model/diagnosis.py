"""What a model does on a split, beyond its error: what it confuses, where it is wrong and sure of it."""

from typing import NamedTuple

import numpy as np

from tfpipe.statistics.figures import Outcomes

_BINS = 15
# Of more classes the confusion matrix, which grows with their square, is left out of reports and pictures: of 10,000 it
# took 8 GB.
MOST_IN_A_MATRIX = 1000


class Calibration(NamedTuple):
    """How often a model is right, among examples of which it is equally sure.

    Attributes:
      edges: `[M + 1]`, from 0 to 1: bin m holds confidences in (edges[m], edges[m + 1]].
      examples: `[M]`, how many are in each bin.
      confidence: `[M]`, their mean confidence; NaN for a bin without examples.
      accuracy: `[M]`, the share of them that is right; NaN likewise.
      error: the expected calibration error in [0, 1], the mean of |accuracy - confidence| over the examples: Guo,
        Pleiss, Sun and Weinberger (2017), "On Calibration of Modern Neural Networks".
    """

    edges: np.ndarray
    examples: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


class Diagnosis(NamedTuple):
    """The predictions of a model on n examples.

    Attributes:
      labels: `[n]` int, the true classes.
      predicted: `[n]` int, the most probable ones.
      confidence: `[n]`, their probabilities in [0, 1].
      n_out: K.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    n_out: int

    @classmethod
    def of(cls, outcomes: Outcomes) -> "Diagnosis":
        """Of what a model says of n examples."""
        return cls(outcomes.labels, outcomes.predicted, outcomes.confidence, outcomes.n_out)

    def confusion_matrix(self) -> np.ndarray:
        """`[K, K]` int64: how many examples of class (row) were taken for class (column)."""
        pairs = self.labels.astype(np.int64) * self.n_out + self.predicted
        return np.bincount(pairs, minlength=self.n_out**2).reshape(self.n_out, self.n_out)

    @property
    def has_matrix(self) -> bool:
        """Whether there are so few classes that reports and pictures have the confusion matrix."""
        return self.n_out <= MOST_IN_A_MATRIX

    def mistakes(self, most: int) -> np.ndarray:
        """The rows of the wrong predictions, the most confident first: `[m]`, m at most `most`."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:most]

    def calibration(self, bins: int = _BINS) -> Calibration:
        """In bins of equal width."""
        edges = np.linspace(0, 1, bins + 1)
        number = np.clip(np.searchsorted(edges, self.confidence, side="left") - 1, 0, bins - 1)
        count = np.bincount(number, minlength=bins)
        sums = (np.bincount(number, values, bins) for values in (self.confidence, self.labels == self.predicted))
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as promised for an empty bin.
            confidence, accuracy = (total / count for total in sums)
        error = np.nansum(np.abs(accuracy - confidence) * count) / len(self.labels)
        return Calibration(edges, count, confidence, accuracy, float(error))


class ClassFigures(NamedTuple):
    """One class.

    Attributes:
      number: of the class.
      examples: how many are of it.
      error: the share of them that was taken for another; NaN if there are none.
      taken_for: the number of the class that most of these were taken for; None if there are none.
    """

    number: int
    examples: int
    error: float
    taken_for: int | None


def worst_classes(diagnosis: Diagnosis, most: int) -> list[ClassFigures]:
    """The classes with the largest errors, `most` of them at most: the largest first, of equals the first class."""
    labels, predicted, n_out = diagnosis.labels, diagnosis.predicted, diagnosis.n_out
    is_wrong = labels != predicted
    examples, wrong = np.bincount(labels, minlength=n_out), np.bincount(labels[is_wrong], minlength=n_out)
    errors = np.where(examples > 0, wrong / np.maximum(examples, 1), -1.0)
    figures = []
    for k in np.argsort(-errors, kind="stable")[:most].tolist():
        taken_for = np.bincount(predicted[is_wrong & (labels == k)], minlength=n_out).argmax() if wrong[k] else None
        error = float(errors[k]) if examples[k] else float("nan")
        figures.append(ClassFigures(k, int(examples[k]), error, None if taken_for is None else int(taken_for)))
    return figures

"""The temperature of a search: by rows that the heads of the setting that is taken have not seen; what it changes."""

from typing import Any, NamedTuple

import numpy as np

from tfpipe.data import Examples
from tfpipe.log import log
from tfpipe.model import tested
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.statistics import temperature
from tfpipe.training.fit import Fit
from tfpipe.training.report import finite
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.settings import Settings


class Calibration(NamedTuple):
    """A temperature, and by what it was found.

    Attributes:
      temperature: T, above 0.
      examples: how many rows there were, without those of a class that their head leaves out, or without weight.
      wrong: how many of them.
    """

    temperature: float
    examples: int
    wrong: int

    @property
    def remarks(self) -> list[str]:
        """What must be said of it: lines."""
        if self.wrong:
            return []
        if not self.examples:
            return ["no validation example has weight and a class that its model knows: the temperature is 1"]
        return [f"no error among {self.examples} validation examples says how sure is too sure: the temperature is 1"]


def calibrated(plan: SearchPlan, settings: Settings, fit: Fit) -> Calibration | None:
    """The temperature for the model of the setting that is taken, if one is wanted.

    With folds each row is looked at by the head that has not seen it, else the validation split by the one head. It is
    a function of where these heads ended, which the state keeps.

    Args:
      plan: of the search.
      settings: after the search.
      fit: the rows on which settings were tried.
    """
    if not plan.config.calibrate:
        return None
    columns, validating = plan.columns, plan.validating
    problems = fit.problems(settings.taken.standardize, np.full(len(columns), settings.taken.l2), columns)
    head = np.zeros(len(validating), np.int64) if plan.fold is None else plan.fold
    logits, labels = fit.logits(problems, settings.heads_of_taken, head), validating.labels
    counted = problems.there[head, labels]
    weights = validating.weights
    if weights is not None:
        counted &= weights > 0
        weights = weights[counted]
    logits, labels = logits[counted], labels[counted]
    found = temperature.fitted(logits, labels, weights)
    return Calibration(found, len(labels), int((logits.argmax(axis=1) != labels).sum()))


class Comparison(NamedTuple):
    """A calibrated model on test examples, beside what it was before.

    Attributes:
      uncalibrated: what it did on them before; None: there are none.
      figures: for the report, as JSON can hold them.
      remarks: what must be said of it: lines.
    """

    uncalibrated: Diagnosis | None
    figures: dict[str, Any]
    remarks: list[str]


def compared(calibration: Calibration, model: TrainedModel, examples: Examples, there: np.ndarray) -> Comparison:
    """What the temperature changes, told to the log too.

    Args:
      calibration: the temperature.
      model: calibrated by it.
      examples: the test split; it may have none.
      there: `[K]` bool, the classes that the model does not leave out: examples of others are in no cost.
    """
    figures: dict[str, Any] = calibration._asdict() | {"before": {}, "after": {}}
    if not len(examples):
        log.info("calibrated: temperature %.4g", calibration.temperature)
        return Comparison(None, figures, calibration.remarks)
    W, b = model.fitted
    before = model._replace(W=W, b=b, temperature=None)
    weights = there[examples.labels] * (1.0 if examples.weights is None else examples.weights)
    diagnoses = {}
    for when, of in (("before", before), ("after", model)):
        outcomes = tested.outcomes(of, examples)
        diagnoses[when] = Diagnosis.of(outcomes)
        cost = outcomes.figure("cost", weights) if weights.any() else np.nan
        figures[when] = {"calibration_error": diagnoses[when].calibration().error, "cost": finite(cost)}
    errors, costs = ([figures[when][name] for when in ("after", "before")] for name in ("calibration_error", "cost"))
    log.info(
        "calibrated: temperature %.4g; test calibration error %.2f %%, before %.2f %%; test cost %s, before %s",
        calibration.temperature,
        *(100 * error for error in errors),
        *("-" if cost is None else f"{cost:.4g}" for cost in costs),
    )
    return Comparison(diagnoses["before"], figures, calibration.remarks)

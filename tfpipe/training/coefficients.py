"""Which columns carry each class, in the report of a run on rows of features."""

from typing import Any

import numpy as np

from tfpipe.data import Splits
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.coefficients import along_path, of_classes
from tfpipe.training.fit import Fit
from tfpipe.training.settings import Settings

_DEVIATION = "standard deviation"


def of_search(settings: Settings, fit: Fit, model: TrainedModel) -> dict[str, Any] | None:
    """What `coefficients` of a report is, as JSON can hold it: `unit`, `classes` and `path`; None of pictures.

    Args:
      settings: after the search.
      fit: what the model was fitted to.
      model: of the setting that was taken.
    """
    if model.color_mode is not None:
        return None
    scale, path = settings.taken.standardize, None
    deviations = fit.deviations(scale)
    if (norms := settings.norms) is not None:
        own = [number for number, trial in enumerate(settings.trials) if trial.standardize == scale]
        assert settings.number is not None
        # Of V, which is measured in its scale.
        of_deviations = norms[own] * (deviations / fit.scale_of_images(scale))
        path = along_path(
            model, [settings.trials[number].l2 for number in own], of_deviations, own.index(settings.number)
        )
    W, _ = model.fitted  # As the path has them: without a temperature.
    return {"unit": _DEVIATION, "classes": of_classes(model._replace(W=W), deviations), "path": path}


def of_sgd(splits: Splits, model: TrainedModel | None) -> dict[str, Any] | None:
    """The same of a run of SGD, which knows the deviations of columns where it standardizes them."""
    if model is None or model.color_mode is not None:
        return None
    unit, words = np.array(splits.pixel_max), f"{splits.pixel_max:g}"
    if splits.standardization is not None:
        unit, words = 1 / splits.scaling.factor, _DEVIATION
    return {"unit": words, "classes": of_classes(model, unit), "path": None}

"""What a finished search leaves: its model and its figures."""

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfpipe.compute import cpu
from tfpipe.config import Reading
from tfpipe.model import tested
from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.solvers.optimum import Optimum
from tfpipe.training import coefficients
from tfpipe.training.calibration import Comparison
from tfpipe.training.drawn import Drawn, as_json, curves
from tfpipe.training.drawn import warnings as of_drawn
from tfpipe.training.fit import Fit, Saved
from tfpipe.training.report import besides, finite
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.search_warnings import warnings
from tfpipe.training.settings import Settings
from tfpipe.training.trials import Trial
from tfpipe.training.versions import versions
from tfpipe.version import __version__

# What the table of settings shows, after the settings themselves.
_COLUMNS = (
    "validation_cost", "standard_error", "validation_error", "certificate", "iterations", "converged",
)  # fmt: skip


def build(
    plan: SearchPlan,
    settings: Settings,
    fit: Fit,
    optimum: Optimum,
    saved: Saved,
    model: TrainedModel,
    test: dict[str, Any] | None,
    diagnosis: Diagnosis | None,
    comparison: Comparison | None,
    *,
    steps: int,
    seconds: float,
    workdir: str | None,
    interrupted: bool,
    refitted: bool,
    drawn: Sequence[Drawn],
    n_draws: int,
) -> dict[str, Any]:
    """Puts the results of all settings into one object that JSON can hold, in the form of `run_report.build`.

    Args:
      plan: of the search.
      settings: after the search.
      fit: what the model was fitted to.
      optimum: where the head of the setting that was taken ended.
      saved: its parameters as they are kept.
      model: of these.
      test: its figures on the test split, see `tested.on_test`; None: that has no examples.
      diagnosis: likewise.
      comparison: of the calibrated model with what it was before; None: it is not calibrated.
      steps: evaluations that were made.
      seconds: that the search took.
      workdir: of the run.
      interrupted: whether it was stopped from outside.
      refitted: whether the model was fitted to the validation examples too.
      drawn: the best heads of draws of the rows.
      n_draws: how many draws were wanted.
    """
    splits, config = plan.splits, plan.config
    taken, number = settings.taken, settings.number
    grid = [
        {
            "standardize": trial.standardize,
            "l2": trial.l2,
            "validation_error": finite(trial.error),
            "validation_cost": finite(trial.cost),
            "standard_error": finite(trial.cost_error),
            "balanced_error": finite(trial.balanced_error),
            **{name: finite(trial.by(name)) for name in besides(config.select)},
            "test_error": None,
            "train_cost": finite(trial.train_cost),
            "certificate": finite(trial.certificate),
            "converged": trial.converged,
            "epochs": None,
            "iterations": trial.iterations,
            "evaluations": trial.evaluations,
            "best_iteration": None,
            "diverged": False,
        }
        for trial in settings.trials
    ]
    of_taken = {
        **tested.of_error(test),
        "train_cost": finite(saved.cost),
        "certificate": finite(saved.certificate),
        "converged": bool(optimum.converged[0]) and saved.is_exact,
        "iterations": int(optimum.iterations[0]),
    }
    assert number is not None
    own = {name: value for name, value in grid[number].items() if name != "diverged"}
    carries = coefficients.of_search(settings, fit, model)
    lines = [*warnings(plan, settings, optimum, saved, interrupted=interrupted), *of_drawn(drawn, n_draws)]
    of_calibration = {} if comparison is None else {"calibration": comparison.figures}
    return own | of_taken | of_calibration | {
        "gradient": finite(float(optimum.gradient[0])),
        "learning_rate": None,
        "train_examples": fit.n,
        "validation_examples": len(plan.validating),
        "test_examples": len(splits.test),
        "heads": len(grid),
        "selected": number,
        "select": config.select,
        "why": settings.why,
        "folds": plan.n_folds,
        "refit": refitted,
        "settings": ["standardize", "l2"],
        "columns": ["standardize", "l2", *besides(config.select), *_COLUMNS],
        "grid": grid,
        "curves": curves(drawn),
        "draws": as_json(drawn),
        "class_names": list(splits.class_names),
        "test": test,
        "confusion_matrix": diagnosis.confusion_matrix().tolist() if diagnosis and diagnosis.has_matrix else None,
        **({} if carries is None else {"coefficients": carries}),
        "image_shape": list(splits.image_shape),
        "pixel_max": None if taken.standardize == "columns" else splits.pixel_max,
        "standardized": taken.standardize == "columns",
        "warnings": [*lines, *(comparison.remarks if comparison else ())],
        "remarks": list(plan.device.remarks),
        "seconds": seconds,
        "evaluations": steps,
        "epochs_per_second": steps / max(seconds, 1e-9),  # A clock may stand still.
        "device": plan.device.words,
        "solver": "lbfgs",
        "precision": config.precision,
        "products": "float32" if saved.W.dtype == np.float32 else "float64",
        "programs": plan.device.programs,
        "cores": cpu.cores(),
        "workdir": workdir,
        "interrupted": interrupted,
        "versions": {"python": platform.python_version(), **versions()},
    }  # fmt: skip


def trained_model(
    plan: SearchPlan, trial: Trial, saved: Saved, fit: Fit, temperature: float | None, *, refitted: bool
) -> TrainedModel:
    """What a model file holds: the parameters, and what is known of them; without the test error."""
    splits = plan.splits
    summary = {
        "standardize": trial.standardize,
        "l2": trial.l2,
        "solver": "lbfgs",
        "validation_error": trial.error,
        "cost": saved.cost,
        "certificate": finite(saved.certificate),
        "train_examples": fit.n,
        "total_weight": finite(fit.total_weight),
        **({} if temperature is None else {"temperature": temperature}),
        "fingerprint": splits.fingerprint,
        # In folds also the model of a search that was stopped: it is the mean of heads that together saw them all.
        "saw_validation": refitted or plan.n_folds > 0,
        "tfpipe": __version__,
    }
    of_data = splits.class_names, splits.image_shape, splits.white_pixel
    scale, reading = fit.scale_of_images(trial.standardize), splits.reading or Reading()
    return TrainedModel(saved.W, saved.b, *of_data, summary, scale, reading, splits.columns, temperature)

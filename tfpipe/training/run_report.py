"""What a finished run of SGD leaves: its figures."""

import platform
from typing import Any

import numpy as np

from tfpipe.compute import cpu
from tfpipe.model import tested
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.training.patience import Patience
from tfpipe.training.plan import Plan
from tfpipe.training.report import finite
from tfpipe.training.versions import versions


def build(
    plan: Plan,
    patience: Patience,
    *,
    steps: int,
    test_error: np.ndarray,
    test: dict[str, Any] | None,
    diagnosis: Diagnosis | None,
    coefficients: dict[str, Any] | None,
    certificate: float | None,
    warnings: list[str],
    seconds: float,
    programs: int,
    workdir: str | None,
    interrupted: bool,
) -> dict[str, Any]:
    """Puts the results of all heads into one object that JSON can hold.

    Args:
      plan: of the run.
      patience: after the run.
      steps: how many were done.
      test_error: `[H]`, at the best validation; NaN where there was none.
      test: the figures of the selected head on the test split, see `tested.on_test`; None: no head is selected.
      diagnosis: likewise.
      coefficients: see `training.coefficients`; None: it has none.
      certificate: how far its training cost is above the least, at most; None: not known.
      warnings: what the user must know of the selected head, lines.
      seconds: that the training loop took.
      programs: how many ran side by side, at the end.
      workdir: of the run.
      interrupted: whether the run was stopped from outside.

    Returns:
      The selected head's figures at the top level, all heads under `grid`; what is not known is None.
    """
    splits, solver = plan.splits, plan.solver
    of_heads = np.minimum(patience.allowed, steps).tolist()
    grid = [
        {
            **settings,
            "validation_error": finite(patience.best_error[h]),
            "validation_cost": finite(patience.best_cost[h]),
            "balanced_error": finite(patience.best_balanced_error[h]),
            "test_error": finite(test_error[h]),
            "epochs": solver.epoch(of_heads[h]),
            "iterations": of_heads[h],
            "best_iteration": int(patience.best_steps[h]) - 1 if patience.best_steps[h] else None,
            "diverged": bool(patience.diverged[h]),
        }
        for h, settings in enumerate(solver.settings)
    ]
    selected = patience.selected()
    figures = grid[selected] if selected is not None else dict.fromkeys(grid[0])
    own = {name: figures[name] for name in grid[0] if name != "diverged"} | tested.of_error(test)
    return own | {
        "train_examples": solver.examples,
        "validation_examples": plan.validation.examples,
        "test_examples": plan.test.examples,
        "heads": len(grid),
        "selected": selected,
        "settings": list(solver.settings[0]),
        "grid": grid,
        "class_names": list(splits.class_names),
        "test": test,
        "confusion_matrix": diagnosis.confusion_matrix().tolist() if diagnosis and diagnosis.has_matrix else None,
        **({} if coefficients is None else {"coefficients": coefficients}),
        "image_shape": list(splits.image_shape),
        "pixel_max": None if splits.standardization else splits.pixel_max,
        "standardized": splits.standardization is not None,
        "standardize": "columns" if splits.standardization else "none",
        "warnings": warnings,
        "remarks": list(plan.device.remarks),
        "seconds": seconds,
        "epochs_per_second": steps / solver.per_epoch / max(seconds, 1e-9),  # A clock may stand still.
        "device": plan.device.words,
        "solver": solver.name,
        "select": plan.config.select,
        "certificate": certificate,
        "converged": None,
        "evaluations": None,
        "precision": plan.config.precision,
        "products": plan.arithmetic,
        "programs": programs,
        "cores": cpu.cores(),
        "workdir": workdir,
        "interrupted": interrupted,
        "versions": {"python": platform.python_version(), **versions()},
    }

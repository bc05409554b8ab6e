"""What a search tells those who watch it."""

import math
from typing import Any

import numpy as np

from tfpipe.monitor import Trained, Validated
from tfpipe.solvers.optimum import Optimum
from tfpipe.training.report import besides
from tfpipe.training.settings import Settings, Task


def trained(words: str, cost: np.ndarray, on_the_way: int, steps: int, speed: float) -> Trained:
    """How far heads with costs `[H]` have come, of which so many have not arrived, after so many evaluations."""
    place = f"{words}: evaluation {steps}, {len(cost) - on_the_way} of {len(cost)} heads done"
    cost = cost[np.isfinite(cost)]
    return Trained(steps - 1, place, steps + 1, float(cost.mean()) if len(cost) else math.nan, speed)


def validated(settings: Settings, task: Task, optimum: Optimum, select: str, seconds: float, speed: float) -> Validated:
    """What was found of the last task, which `settings` has taken in, where its heads ended."""
    new, places, leader = settings.trials[-len(task.values) :], settings.places(task), settings.taken

    def spread(values: Any) -> np.ndarray:
        found = np.full(len(settings.all), np.nan)
        found[places] = np.where(np.isfinite(values), values, np.nan)
        return found

    norms = np.linalg.norm(optimum.v[..., :-1], axis=(1, 2)).reshape(len(new), -1).mean(axis=1)
    reports = {name: spread([getattr(t, name) for t in new]) for name in ("certificate", "gradient", "cost_error")}
    others = [name for name in besides(select) if name not in Validated._fields]
    reports |= {name: spread([trial.by(name) for trial in new]) for name in others}
    return Validated(
        settings.validated - 1,
        settings.validated,
        seconds,
        speed,
        np.full(len(settings.all), np.nan),
        spread(norms),
        reports,
        spread([t.error for t in new]),
        spread([t.cost for t in new]),
        np.full(len(settings.all), np.nan),
        settings.place_of_taken,
        leader.error,
        spread([t.balanced_error for t in new]),
    )

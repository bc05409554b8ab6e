"""The settings of a search: those that were tried, those that come next, and the one that is taken."""

import math
from typing import Any, NamedTuple

import numpy as np

from tfpipe.config import SUMS, known
from tfpipe.solvers import path
from tfpipe.solvers.optimum import Optimum
from tfpipe.solvers.problem import Problems
from tfpipe.statistics.figures import of_select
from tfpipe.training import selection, trials
from tfpipe.training.fit import Fit
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.search_state import SearchState
from tfpipe.training.trials import Path, Trial

# Of more columns the picture of them along the path is not worth its place in a state.
_MOST_NORMS = 4096


class Task(NamedTuple):
    """Values of l2 at one scale that are tried side by side: of each, heads under all columns of weights.

    Attributes:
      scale: of the columns of the images.
      first: how many values were tried before at this scale.
      values: of l2, descending.
    """

    scale: str
    first: int
    values: np.ndarray

    @property
    def words(self) -> str:
        """For people."""
        return f"standardize={self.scale}, l2={self.values[0]:.3g}" + f"...{self.values[-1]:.3g}" * (
            len(self.values) > 1
        )


class Settings:
    """Values of L2, in groups, at one scale or two; each from where the heads of the value before ended.

    Args:
      plan: of the search.
      fit: the rows that settings are tried on.

    Attributes:
      all: each setting that may be tried, in their order, by name.
      trials: what was tried.
      validated: after how many evaluations that was measured.
    """

    def __init__(self, plan: SearchPlan, fit: Fit):
        self._plan, self._fit = plan, fit
        self._scales = plan.splits.scales
        self._is_path = plan.config.l2 is None
        one, first = np.zeros(1), np.zeros(1, np.int32)
        self._values = {
            scale: path.values(fit.problems(scale, one, first))
            if plan.config.l2 is None else np.unique(plan.config.l2)[::-1]
            for scale in self._scales
        }  # fmt: skip
        longest, step = max(map(len, self._values.values())), plan.at_once
        order = [
            (scale, number)
            for begin in range(0, longest, step)
            for scale, values in self._values.items()
            for number in range(begin, min(begin + step, len(values)))
        ]
        self._places = {place: number for number, place in enumerate(order)}
        self.all = [{"standardize": scale, "l2": float(self._values[scale][i])} for scale, i in order]
        self.trials: list[Trial] = []
        self.validated = 0
        self._units = plan.units
        self._paths = {scale: Path(self._units) for scale in self._scales}
        of_features = len(plan.splits.image_shape) == 1 and plan.splits.n_in <= _MOST_NORMS
        self._norms: list[np.ndarray] | None = [] if of_features else None
        self._last: dict[str, np.ndarray] = {}
        self._taken: dict[str, np.ndarray] = {}

    def _of(self, scale: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.standardize == scale]

    def next(self) -> Task | None:
        """What to try next; None: nothing is worth it any more."""
        counts = {scale: len(self._of(scale)) for scale in self._scales if self._goes_on(scale)}
        if not counts:
            return None
        scale = min(counts, key=lambda name: counts[name])
        begin = counts[scale]
        return Task(scale, begin, self._values[scale][begin : begin + self._plan.at_once])

    def _goes_on(self, scale: str) -> bool:
        own = self._of(scale)
        if len(own) == len(self._values[scale]):
            return False
        others = [trial for trial in self.trials if trial.standardize != scale]
        return not (self._is_path and (self._paths[scale].ended or trials.is_behind(own, others)))

    def places(self, task: Task) -> list[int]:
        """Where in `all` the values of a task are."""
        return [self._places[task.scale, task.first + number] for number in range(len(task.values))]

    @property
    def place_of_taken(self) -> int:
        """Where in `all` the setting that is taken is."""
        scale = self.taken.standardize
        return self._places[scale, next(i for i, trial in enumerate(self._of(scale)) if trial is self.taken)]

    def problems(self, task: Task) -> Problems:
        """Of the heads of a task: value by value, each under all columns of weights."""
        columns = self._plan.columns
        return self._fit.problems(task.scale, np.repeat(task.values, len(columns)), np.tile(columns, len(task.values)))

    def start(self, task: Task, problems: Problems) -> np.ndarray:
        """`[H, K, D + 1]`: where its heads begin."""
        if task.scale in self._last:
            return np.tile(self._last[task.scale], (len(task.values), 1, 1))
        warm = self._plan.warm_start
        return problems.start() if warm is None else warm.start(self._fit, problems)

    def take(self, task: Task, optimum: Optimum, loss: np.ndarray, wrong: np.ndarray, steps: int) -> None:
        """Takes in where the heads of a task ended.

        Args:
          task: what `next` gave.
          optimum: of its heads.
          loss: `[H, n]` float32, what they lose on the examples that validate, those of other folds too.
          wrong: `[H, n]` bool.
          steps: evaluations that were made so far.
        """
        plan, n_columns, labels = self._plan, len(self._plan.columns), self._plan.validating.labels
        each = np.arange(loss.shape[1])
        for number, l2 in enumerate(task.values.tolist()):
            heads = slice(number * n_columns, (number + 1) * n_columns)
            head = heads.start + plan.head
            own_loss = loss[head, each]
            trial = Trial(
                task.scale,
                l2,
                **trials.figures(own_loss, wrong[head, each], labels, self._units),
                figure=self._figure(task, optimum, head),
                train_cost=float(optimum.cost[heads].mean()),
                certificate=float(optimum.certificate[heads].max()),
                gradient=float(optimum.gradient[heads].max()),
                iterations=int(optimum.iterations[heads].max()),
                evaluations=int(optimum.evaluations[heads].max()),
                converged=bool(optimum.converged[heads].all()),
            )
            own = [*self._of(task.scale), trial]
            self.trials.append(trial)
            if self._norms is not None:
                V = optimum.v[heads, :, :-1].mean(axis=0)
                self._norms.append(np.linalg.norm(V, axis=0).astype(np.float32))
            self._paths[task.scale].take(trial, own_loss)
            if trials.best(own, self._by) == len(own) - 1:
                self._taken[task.scale] = optimum.v[heads].copy()
        self._last[task.scale] = optimum.v[-n_columns:].copy()
        self.validated = steps

    def _figure(self, task: Task, optimum: Optimum, head: np.ndarray) -> float:
        """By which it chooses, of what these of the task's heads, `[n]`, say of the examples that validate."""
        if self._select in SUMS:  # Each trial has it.
            return math.nan
        of = self._plan.validating.labels, self._units.weights
        return selection.figure(self._select, self._fit, self.problems(task), optimum.v, head, *of)

    @property
    def _select(self) -> str:
        return known(self._plan.config.select)

    @property
    def _by(self) -> str:
        """The figure of that name."""
        return of_select(self._select)

    @property
    def number(self) -> int | None:
        """Which trial is taken; None before the first."""
        return trials.best(self.trials, self._by) if self.trials else None

    @property
    def taken(self) -> Trial:
        """The trial that is taken. There must be one."""
        assert self.number is not None
        return self.trials[self.number]

    @property
    def norms(self) -> np.ndarray | None:
        """`[T, D]` float32, of each trial the norms of the columns of V, the mean of its folds, over the classes.

        NaN for a trial of a state from before they were kept. None where examples are pictures, or have many columns.
        """
        return None if self._norms is None else np.stack(self._norms)

    @property
    def why(self) -> str:
        """Which setting is taken, and why, for people."""
        assert self.number is not None
        of = "out-of-fold" if self._plan.n_folds else "validation"
        return trials.why(self.trials, self.number, self._by, of)

    @property
    def heads_of_taken(self) -> np.ndarray:
        """`[F, K, D + 1]`: where the heads of the setting that is taken ended."""
        return self._taken[self.taken.standardize]

    def arrays(self) -> dict[str, Any]:
        """All that is to be kept, copied: by name, as SearchState has it."""
        if not self.trials:
            return {}
        n, nothing = len(self._plan.validating), np.zeros(self._plan.shape)
        losses = np.zeros((len(self._scales), 2, n), np.float32)
        for number, scale in enumerate(self._scales):
            of = self._paths[scale]
            if of.best_loss is not None and of.last_loss is not None:
                losses[number] = of.best_loss, of.last_loss
        return {
            "trials": tuple(self.trials),
            "losses": losses,
            "ended": np.array([self._paths[scale].ended for scale in self._scales]),
            "flat": np.array([self._paths[scale].flat for scale in self._scales]),
            "last": np.stack([self._last.get(scale, nothing) for scale in self._scales]),
            "taken": np.stack([self._taken.get(scale, nothing) for scale in self._scales]),
            "norms": self.norms,
        }

    def restore(self, state: SearchState) -> None:
        """Goes on from a state."""
        self.trials, self.validated = list(state.trials), state.validated
        if self._norms is not None and state.trials:
            unknown = np.full((len(state.trials), self._plan.splits.n_in), np.nan, np.float32)
            self._norms = list(unknown if state.norms is None else state.norms)
        for number, scale in enumerate(self._scales if state.trials else ()):
            own = self._of(scale)
            if own:
                self._paths[scale].restore(
                    own, bool(state.ended[number]), int(state.flat[number]), state.losses[number]
                )
                self._last[scale], self._taken[scale] = state.last[number], state.taken[number]

"""Draws of the training rows: which they are, which heads are fitted to them, and what these do on the test."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

from tfpipe.compute.workers import Workers
from tfpipe.config import flag_value, known
from tfpipe.data import Examples, draws
from tfpipe.exceptions import ConfigError
from tfpipe.solvers.optimum import Descent
from tfpipe.solvers.problem import Problems
from tfpipe.statistics.figures import RISES, Outcomes, names, of_select
from tfpipe.training.drawn import FIGURES, KINDS, Draw, Drawn, chosen
from tfpipe.training.fit import Fit
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.trials import Trial

SEEDS = 5
_SCORE_BYTES = 256 << 20


class DrawTask(NamedTuple):
    """Heads that are fitted side by side, one for each draw.

    Attributes:
      draws: which all have about the same rows.
      scale: of the columns of the images.
      l2: the regularization.
      goes_on: whether the heads begin where those of the task before ended, which had the same draws and a larger l2.
    """

    draws: tuple[Draw, ...]
    scale: str
    l2: float
    goes_on: bool

    @property
    def words(self) -> str:
        """For people."""
        first, last = self.draws[0], self.draws[-1]
        size = "" if first.kind == "bootstrap" else f"={first.size:g}"
        return f"{first.kind}{size}, draw {first.number + 1}" + f" to {last.number + 1}" * (len(self.draws) > 1)


class Resampling:
    """The draws of a search.

    Args:
      plan: of the search.
    """

    def __init__(self, plan: SearchPlan):
        self._plan = plan
        self._fit: tuple[tuple[Draw, ...], Fit | None] = (), None
        splits = plan.splits
        # Where the validation split chooses a setting for each draw, it has no part in the draws.
        joins = not plan.n_folds and plan.refits and not plan.config.reselect
        self._pool = splits.train.joined(splits.validation) if joins else plan.examples
        weights = plan.counted(np.ones((1, len(self._pool))), self._pool)[0]
        self._counted = np.flatnonzero(weights)
        self._labels = self._pool.labels[self._counted]
        self._groups = None if self._pool.groups is None else self._pool.groups[self._counted]
        self._seed = splits.config.split_seed if splits.config else 0

    @property
    def words(self) -> str:
        """What is fitted, for people."""
        draws_ = [*self.draws()]
        how = "with its own setting" if self._plan.config.reselect else "with the setting that was taken"
        return f"{len(draws_)} draws of {len(self._labels)} training rows, each {how}"

    def check(self) -> None:
        """Raises ConfigError for draws that cannot be fitted or measured, or have no rows to choose their settings."""
        config, test = self._plan.config, self._plan.splits.test
        if not len(test) or (test.weights is not None and not test.weights.any()):
            name = next(name for name in KINDS if getattr(config, name))
            problem = "are measured on test examples; take at least 1 that has weight"
            raise ConfigError(name, flag_value(getattr(config, name)), problem)
        for draw in self.draws():
            is_drawn = self._counts(draw)[self._counted] > 0
            name, value = draw.kind, flag_value(getattr(config, draw.kind))
            if np.count_nonzero(np.bincount(self._labels, is_drawn)) < 2:
                remedy = f"give more than {draw.size:g}" if name == "subsets" else "the other classes are too rare"
                raise ConfigError(name, value, f"draw {draw.number + 1} has rows of one class alone; {remedy}")
            if config.reselect and self._plan.n_folds and not len(self._outside(draw)):
                problem = "leave no rows on which reselect could choose their settings"
                smaller = "" if name == "bootstrap" else "smaller ones, or "
                raise ConfigError(name, value, f"{problem}; give {smaller}a validation split")

    def tasks(self, trials: Sequence[Trial], done: int) -> Iterator[DrawTask]:
        """What is to be fitted, one after the other, with the settings of these trials, once `done` heads are."""
        for task in self._tasks(trials):
            if done <= 0:
                yield task
            done -= len(task.draws)

    def fit(self, task: DrawTask, workers: Workers) -> tuple[Fit, Problems]:
        """The rows of its draws alone, and what its heads minimize."""
        plan, draws_, fit = self._plan, *self._fit
        if fit is None or draws_ != task.draws:
            columns = np.stack([self._counts(draw) for draw in task.draws])
            rows = np.flatnonzero(columns.any(axis=0))
            examples = self._pool if len(rows) == len(self._pool) else self._pool.take(rows)
            weights = plan.counted(columns[:, rows], examples)
            fit = Fit(examples, weights, plan.splits, plan.config.precision, len(task.draws), workers)
            self._fit = task.draws, fit
        column = np.arange(len(task.draws), dtype=np.int32)
        return fit, fit.problems(task.scale, np.full(len(column), task.l2), column)

    def measured(self, task: DrawTask, fit: Fit, way: Descent, before: Sequence[Drawn]) -> list[Drawn]:
        """What the heads of a task do, draw by draw; on the test where none `before` is better for its draw."""
        optimum, there = way.optimum(), np.unique(self._labels)
        missing = (~way.problems.there[:, there]).sum(axis=1).tolist()
        nothing = (np.nan,) * len(FIGURES)
        found = []
        for head, draw in enumerate(task.draws):
            rows = int(np.count_nonzero(self._counts(draw)))
            choice = self._choice(draw, fit, way.problems.take(np.array([head])), optimum.v[[head]])
            found_at = float(optimum.cost[head]), float(optimum.certificate[head])
            ended = int(optimum.iterations[head]), bool(optimum.converged[head])
            found.append(Drawn(*draw, rows, missing[head], task.scale, task.l2, *choice, *found_at, *ended, *nothing))
        best = chosen([*before, *found], known(self._plan.config.select))
        heads = np.array([head for head, one in enumerate(found) if any(one is other for other in best)], np.int64)
        test = self._plan.splits.test
        figures = _figures(fit, way.problems.take(heads), optimum.v[heads], test, FIGURES)
        for head, of_head in zip(heads.tolist(), figures, strict=True):
            if not way.problems.there[head, test.labels].all():
                of_head["cost"] = np.nan  # That of fewer classes would look better than those of other draws.
            found[head] = found[head]._replace(**{name: of_head[name] for name in FIGURES})
        return found

    def _choice(self, draw: Draw, fit: Fit, problems: Problems, v: np.ndarray) -> tuple[float, float]:
        """The figure by which a head competes with others for its draw, and its cost; NaN where there are none."""
        config = self._plan.config
        if not config.reselect:
            return np.nan, np.nan
        choosing = self._pool.take(self._outside(draw)) if self._plan.n_folds else self._plan.splits.validation
        select = of_select(known(config.select))
        (found,) = _figures(fit, problems, v, choosing, ("cost", select))
        return found[select], found["cost"]

    def _tasks(self, trials: Sequence[Trial]) -> Iterator[DrawTask]:
        of_scales: dict[str, list[float]] = {}
        for trial in trials:
            of_scales.setdefault(trial.standardize, []).append(trial.l2)
        # Those of a bootstrap have nearly all rows, and are read together.
        together = self._plan.draws_at_once
        for kind, of_kind in itertools.groupby(self.draws(), key=lambda draw: draw.kind):
            every, step = tuple(of_kind), together if kind == "bootstrap" else 1
            for begin in range(0, len(every), step):
                for scale, values in of_scales.items():
                    for l2 in values:
                        yield DrawTask(every[begin : begin + step], scale, l2, l2 != values[0])

    def draws(self) -> Iterator[Draw]:
        """All of them; those of all rows once."""
        config, largest = self._plan.config, int(np.bincount(self._labels).max())
        for kind, of_all in (("shots", largest), ("subsets", 1)):
            for size in sorted(set(getattr(config, kind) or ())):
                of_size = 1 if size >= of_all else config.seeds or SEEDS
                yield from (Draw(kind, size, number) for number in range(of_size))
        yield from (Draw("bootstrap", 1.0, number) for number in range(config.bootstrap or 0))

    def _counts(self, draw: Draw) -> np.ndarray:
        """`[N]`, how often each row of the pool is in a draw; those without weight are in none."""
        counts, of = np.zeros(len(self._pool)), (self._seed, draw.number)
        if draw.kind == "shots":
            counts[self._counted] = draws.shots(self._labels, int(draw.size), *of)
        elif draw.kind == "subsets":
            counts[self._counted] = draws.subset(self._labels, draw.size, *of, self._groups)
        else:
            counts[self._counted] = draws.bootstrap(len(self._labels), *of, self._groups)
        return counts

    def _outside(self, draw: Draw) -> np.ndarray:
        """The rows of the pool that are in no draw of this kind and number; with groups, whose groups are in none."""
        if draw.kind != "bootstrap":
            draw = draw._replace(size=max(getattr(self._plan.config, draw.kind)))
        drawn = self._counts(draw)[self._counted] > 0
        if self._groups is not None:
            drawn = np.isin(self._groups, self._groups[drawn])
        return self._counted[~drawn]


def _figures(
    fit: Fit, problems: Problems, v: np.ndarray, examples: Examples, some: Collection[str]
) -> list[dict[str, float]]:
    """Figures of heads at v, `[H, K, D + 1]`, on examples. Those of classes that a head leaves out cost nothing."""
    labels, n_out = examples.labels, v.shape[1]
    wanted = [name for name in names(n_out) if name in some]
    step = max(1, _SCORE_BYTES // (8 * n_out * max(1, len(labels))))
    found = []
    for begin in range(0, len(v), step):
        heads = np.arange(begin, min(begin + step, len(v)))
        for head, z in zip(heads, fit.logits_on(examples, problems.take(heads), v[heads]), strict=True):
            p = scipy.special.softmax(z, axis=1)
            with np.errstate(divide="ignore"):
                loss = np.where(problems.there[head, labels], -np.log(p[np.arange(len(p)), labels]), np.nan)
            found.append(dict.fromkeys(RISES, np.nan) | Outcomes(labels, p, loss).figures(examples.weights, wanted))
    return found

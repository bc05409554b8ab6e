"""Draws of the training rows: which they are, which heads are fitted to them, and what these do on the test."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfpipe.compute.workers import Workers
from tfpipe.config import flag_value, known
from tfpipe.data import draws
from tfpipe.exceptions import ConfigError
from tfpipe.solvers.optimum import Optimum
from tfpipe.solvers.problem import Problems
from tfpipe.statistics.figures import of_select
from tfpipe.training.draw_fits import Apart, Together, figures
from tfpipe.training.drawn import FIGURES, KINDS, Draw, Drawn, chosen
from tfpipe.training.fit import Fit
from tfpipe.training.fitted import Fitted
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.trials import Trial

SEEDS = 5
# Rows are few up to so many numbers, and up to so many in a product of all with the classes.
_FEW_NUMBERS, _FEW_PRODUCTS = 4 << 20, 150_000_000
# Draws of few rows that are fitted side by side: a run that ends has these to make anew. However many cores there are,
# for a run may go on with others.
_FEW_AT_ONCE = 8


class DrawTask(NamedTuple):
    """Heads that are fitted side by side, one for each draw.

    Attributes:
      draws: which all have about the same rows, or few.
      are_few: the latter.
      scale: of the columns of the images.
      l2: the regularization.
      goes_on: whether the heads begin where those of the task before ended, which had the same draws and a larger l2.
    """

    draws: tuple[Draw, ...]
    are_few: bool
    scale: str
    l2: float
    goes_on: bool

    @property
    def words(self) -> str:
        """For people."""
        first, last = self.draws[0], self.draws[-1]
        if len(self.draws) == 1:
            return first.words
        to = f"{last.number + 1}" if first[:2] == last[:2] else last.words
        return f"{first.words} to {to}"


class Resampling:
    """The draws of a search.

    Args:
      plan: of the search.
    """

    def __init__(self, plan: SearchPlan):
        self._plan = plan
        self._fits: tuple[tuple[Draw, ...], Together | Apart | None] = (), None
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

    def fits(self, task: DrawTask, workers: Workers) -> Together | Apart:
        """The rows of its draws alone."""
        draws_, fits = self._fits
        if fits is None or draws_ != task.draws:
            if task.are_few:
                fits = Apart([self._fit([draw], workers) for draw in task.draws])
            else:
                fits = Together(self._fit(task.draws, workers), len(task.draws))
            self._fits = task.draws, fits
        return fits

    def measured(
        self, task: DrawTask, fits: Together | Apart, problems: Problems, optimum: Optimum, before: Sequence[Drawn]
    ) -> list[Drawn]:
        """What the heads of a task do, draw by draw; on the test where none `before` is better for its draw."""
        there = np.unique(self._labels)
        missing = (~problems.there[:, there]).sum(axis=1).tolist()
        nothing = (np.nan,) * len(FIGURES)
        choices = self._choices(task.draws, fits, problems, optimum.v)
        found = []
        for head, (draw, choice) in enumerate(zip(task.draws, choices, strict=True)):
            rows = int(np.count_nonzero(self._counts(draw)))
            found_at = float(optimum.cost[head]), float(optimum.certificate[head])
            ended = int(optimum.iterations[head]), bool(optimum.converged[head])
            found.append(Drawn(*draw, rows, missing[head], task.scale, task.l2, *choice, *found_at, *ended, *nothing))
        best = chosen([*before, *found], known(self._plan.config.select))
        heads = [head for head, one in enumerate(found) if any(one is other for other in best)]
        test = self._plan.splits.test
        for head, of_head in zip(heads, figures(fits, problems, optimum.v, heads, test, FIGURES), strict=True):
            if not problems.there[head, test.labels].all():
                of_head["cost"] = np.nan  # That of fewer classes would look better than those of other draws.
            found[head] = found[head]._replace(**{name: of_head[name] for name in FIGURES})
        return found

    def _fit(self, draws_: Sequence[Draw], workers: Workers) -> Fit:
        plan, columns = self._plan, np.stack([self._counts(draw) for draw in draws_])
        rows = np.flatnonzero(columns.any(axis=0))
        examples = self._pool if len(rows) == len(self._pool) else self._pool.take(rows)
        weights = plan.counted(columns[:, rows], examples)
        fitted = Fitted(plan.splits, examples, weights, plan.config.precision)
        return Fit(fitted, len(draws_), workers, in_span=plan.in_span)

    def _choices(
        self, draws_: Sequence[Draw], fits: Together | Apart, problems: Problems, v: np.ndarray
    ) -> list[tuple[float, float]]:
        """The figures by which heads compete with others for their draws, and the costs; NaN where there are none."""
        config, heads = self._plan.config, [*range(len(draws_))]
        if not config.reselect:
            return [(np.nan, np.nan) for _ in heads]
        select = of_select(known(config.select))
        some = "cost", select
        if self._plan.n_folds:
            outside = (self._pool.take(self._outside(draw)) for draw in draws_)
            found = [figures(fits, problems, v, [head], own, some)[0] for head, own in zip(heads, outside, strict=True)]
        else:
            found = figures(fits, problems, v, heads, self._plan.splits.validation, some)
        return [(one[select], one["cost"]) for one in found]

    def _tasks(self, trials: Sequence[Trial]) -> Iterator[DrawTask]:
        of_scales: dict[str, list[float]] = {}
        for trial in trials:
            of_scales.setdefault(trial.standardize, []).append(trial.l2)
        # Those of a bootstrap have nearly all rows, and are read together.
        together, all_certified = self._plan.draws_at_once, all(trial.l2 > 0 for trial in trials)
        for (kind, are_few), some in itertools.groupby(
            self.draws(), key=lambda draw: (draw.kind, all_certified and self._are_few(draw))
        ):
            every, step = tuple(some), together if kind == "bootstrap" else _FEW_AT_ONCE if are_few else 1
            for begin in range(0, len(every), step):
                for scale, values in of_scales.items():
                    for l2 in values:
                        yield DrawTask(every[begin : begin + step], are_few, scale, l2, l2 != values[0])

    def _are_few(self, draw: Draw) -> bool:
        """Whether the rows of a draw are so few that one core fits its heads in less time than all of them do.

        The draws of a bootstrap have about the same rows, so one program fits many: 100 of iris in 9 s, apart 121.
        """
        if draw.kind == "bootstrap":
            return False
        splits, n = self._plan.splits, int(np.count_nonzero(self._counts(draw)))
        numbers, rank = n * splits.n_in, min(n, splits.n_in)
        return numbers <= _FEW_NUMBERS and n * rank * splits.n_out <= _FEW_PRODUCTS

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

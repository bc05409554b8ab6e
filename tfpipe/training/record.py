"""What is known of the heads while a run goes on: who goes on, who is best, and what was found when."""

import math
from collections.abc import Sequence

import numpy as np

from tfpipe.config import known
from tfpipe.exceptions import DivergedError
from tfpipe.log import log
from tfpipe.model.artifact import TrainedModel
from tfpipe.monitor import Monitor, Trained, Validated, warn
from tfpipe.training.best import Best
from tfpipe.training.measurement import Stretch
from tfpipe.training.meter import Meter
from tfpipe.training.patience import Patience
from tfpipe.training.plan import Plan
from tfpipe.training.state import State
from tfpipe.training.validation import Measured


class Record:
    """What is known of each head: patience, its best model, and every validation so far. It tells the monitor.

    Args:
      plan: of the run.
      state: from which it goes on.
      dtype: of W and b.
      monitor: who is told.
      meter: the clock of the loop.

    Attributes:
      patience: who may go on, and who was best when.
      best: the models.
      history: the validations, in order.
      said: lines of what went wrong on the way, as they were told.
    """

    def __init__(self, plan: Plan, state: State, dtype: np.dtype, monitor: Monitor, meter: Meter):
        config = plan.config
        self._plan = plan
        self._monitor = monitor
        self._meter = meter
        self.patience = Patience(
            plan.n_heads,
            patience=known(config.patience),
            patience_increase=known(config.patience_increase),
            improvement_threshold=known(config.improvement_threshold),
            select=known(config.select),
            begins=plan.begins,
            state=state,
        )
        self.best = Best(plan.solver, plan.splits, dtype, state)
        self.history: list[Validated] = monitor.history()
        self.said = [self._of_diverged(head) for head in np.flatnonzero(self.patience.diverged).tolist()]

    @property
    def leader(self) -> int | None:
        """The head that would be selected now; None before the first validation."""
        return self.patience.selected()

    @property
    def made(self) -> tuple[int, int] | None:
        """Which model is the best so far: the head, and the iteration, from 0, after which it was made."""
        return None if self.leader is None else (self.leader, int(self.patience.best_steps[self.leader]) - 1)

    def model(self) -> TrainedModel:
        """The best model so far, as it is kept. There must be one."""
        assert self.leader is not None
        return self.best.model(self.leader, self.patience)

    def to_beat(self, numbers: np.ndarray, steps: int) -> np.ndarray:
        """`[h]` float64: below which figure of the validation each of these heads is better than ever, after `steps`.

        Minus infinity for those that have ended.
        """
        return np.where(self.patience.active(steps), self.patience.best, -np.inf)[numbers]

    def is_certain(self, steps: int, following: int) -> bool:
        """Whether heads go on to `following` steps whatever the validation after `steps` finds."""
        active = self.patience.active(steps)
        return bool((self.patience.allowed[active] >= following).all())

    def worth_going_on_with(self, numbers: np.ndarray, steps: int) -> np.ndarray | None:
        """The places among the heads `numbers`, `[h]`, of those that do not stop after `steps`; None: all go on.

        The others leave when they are half of all and it is worth it: log2(H) times at most. Those that remain are
        computed as before, but for the rounding of sums.
        """
        plan = self._plan
        # Those that did the last step have their validation before them.
        remain = self.patience.active(steps)[numbers]
        left = min(int(self.patience.allowed.max()), plan.solver.steps) - steps
        parameters = (len(remain) - remain.sum()) * plan.splits.n_in * plan.splits.n_out
        flops = 4.0 * parameters * plan.solver.examples / plan.solver.per_epoch * left
        if not remain.any() or 2 * remain.sum() > len(remain) or flops < plan.pace.flops_worth_leaving:
            return None
        log.info("%d of %d heads have stopped: the others go on without them", (~remain).sum(), len(remain))
        return np.flatnonzero(remain)

    def take_stretch(self, stretch: Stretch, found: Sequence[Measured]) -> None:
        """Takes in a stretch and the validations that were due in it, in the order in which all that happened."""
        before, numbers, costs = stretch.before, stretch.numbers, stretch.costs
        begin = self.history[-1].seconds if self.history else 0.0
        share = (self._meter.seconds - begin) / max(1, len(found))
        taken, events = 0, []
        for number, one in enumerate(found, start=1):
            self._take_costs(before + taken, numbers, costs[taken : one.steps - before])
            taken = one.steps - before
            events.append(self._validated(one, begin + number * share))
        self._take_costs(before + taken, numbers, costs[taken:])
        if events:
            self.history += events
            self._monitor.validated(events)
        if len(costs):
            self._tell_trained(stretch)

    def _take_costs(self, before: int, numbers: np.ndarray, costs: np.ndarray) -> None:
        """Stops the heads that diverged in the steps after `before`, by their costs `[steps, h]`."""
        done = np.arange(before + 1, before + 1 + len(costs))[:, np.newaxis]
        self._stop_diverged(before, numbers, (done <= self.patience.allowed[numbers]) & ~np.isfinite(costs))

    def _validated(self, found: Measured, seconds: float) -> Validated:
        patience, steps, numbers = self.patience, found.steps, found.numbers
        self._stop_diverged(
            steps - 1, numbers, (patience.active(steps)[numbers] & ~np.isfinite(found.cost))[np.newaxis]
        )
        active, balanced = patience.active(steps), found.balanced_error
        figures = [found.error, found.cost] + ([] if balanced is None else [balanced])
        improved = patience.observe(steps, *(self._of_all(numbers, figure) for figure in figures))
        kept = improved[numbers]
        self.best.keep(numbers[kept], found.W[kept], found.b[kept], found.test_error[kept])
        leader = self.leader

        def of_those(values: np.ndarray, heads: np.ndarray) -> np.ndarray:
            """`[H]`, NaN for other heads, and in the place of infinities, as in `metrics.jsonl`."""
            spread = self._of_all(numbers, values)
            return np.where(heads & np.isfinite(spread), spread, np.nan)

        return Validated(
            steps - 1,
            self._plan.solver.epoch(steps),
            seconds,
            found.examples_per_second,
            np.where(active, np.minimum(patience.allowed, self._plan.solver.steps) - steps, np.nan),
            of_those(found.norm, active),
            {name: of_those(values, active) for name, values in found.reports.items()},
            of_those(found.error, active),
            of_those(found.cost, active),
            of_those(found.test_error, improved),
            leader,
            math.inf if leader is None else float(patience.best_error[leader]),
            None if balanced is None else of_those(balanced, active),
        )

    def _tell_trained(self, stretch: Stretch) -> None:
        """Tells the monitor of a stretch."""
        patience, steps, numbers, costs = self.patience, stretch.done, stretch.numbers, stretch.costs
        to_its_end = self._of_all(numbers, np.ones(len(numbers))) == 1
        candidates = to_its_end & (steps <= patience.allowed) & ~patience.diverged
        shown = patience.selected(among=candidates)
        of_shown = np.searchsorted(numbers, np.argmax(candidates) if shown is None else shown)
        end = min(int(patience.allowed.max()), self._plan.solver.steps)
        cost = float(costs[:, of_shown].mean())
        solver = self._plan.solver
        place = f"epoch {solver.epoch(steps)}/{solver.epoch(solver.steps)}  iteration {steps - 1}"
        self._monitor.trained(Trained(steps - 1, place, max(end, steps), cost, stretch.examples_per_second))

    def _of_all(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """`[h]` -> `[H]`: NaN for the others."""
        spread = np.full(self._plan.n_heads, np.nan)
        spread[numbers] = values
        return spread

    def _stop_diverged(self, before: int, numbers: np.ndarray, not_finite: np.ndarray) -> None:
        """Stops the heads with an entry in `not_finite`, `[steps, h]` bool: row 0 is the step after `before`."""
        found = np.asarray(not_finite.any(axis=0))
        if not found.any():
            return
        patience, solver = self.patience, self._plan.solver
        diverged, at = np.zeros(self._plan.n_heads, bool), np.zeros(self._plan.n_heads, np.int64)
        diverged[numbers], at[numbers] = found, before + 1 + not_finite.argmax(axis=0)
        patience.diverge(diverged, at)
        for head in np.flatnonzero(diverged).tolist():
            self.said.append(self._of_diverged(head))
            warn(self.said[-1])
        if patience.diverged.all():
            raise DivergedError(
                f"every head diverged, the last with {self._how(head)}: its cost is no longer finite; try "
                f"{solver.advice()}"
            )

    def _of_diverged(self, head: int) -> str:
        return f"a head diverged, its cost is no longer finite: {self._how(head)}"

    def _how(self, head: int) -> str:
        """With what, and when, a head diverged."""
        settings = ", ".join(f"{name}={value:g}" for name, value in self._plan.solver.settings[head].items())
        return f"{settings} at iteration {self.patience.diverged_at[head] - 1}"

"""A search while it goes on: heads are stepped, measured, and kept. Which ones is for `search` to say."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from tfpipe.compute.workers import Workers
from tfpipe.config import known
from tfpipe.disk.workdir import Workdir
from tfpipe.monitor import Monitor, Validated
from tfpipe.solvers.optimum import Descent, Optimum
from tfpipe.solvers.problem import Problems
from tfpipe.training import search_events
from tfpipe.training.drawn import Drawn, chosen, finished
from tfpipe.training.fit import Fit
from tfpipe.training.meter import Meter
from tfpipe.training.resampling import Resampling
from tfpipe.training.resume import OTHERWISE
from tfpipe.training.saving import CheckpointManager
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.search_state import SearchState
from tfpipe.training.settings import Settings, Task
from tfpipe.training.trials import Trial


class SearchRun:
    """A search while it goes on.

    Args:
      plan: what it is to do.
      workers: who compute.
      settings: what was tried, and what comes next.
      stops: whether the run is to end with what it has.
      files: its workdir, if there is one.
      state: from which it goes on.
      monitor: who is told.
      resampling: the draws of its rows; None: there are none.

    Attributes:
      interrupted: whether it is to end with what it has.
      history: the validations, in order.
      fitted: where the setting that is taken ended when it was fitted again; None: it has not.
      drawn: the heads that were fitted to draws of the rows.
      drawn_at: `[H, K, D + 1]`, where the last of them ended, side by side.
      n_draws: how many draws are wanted.
    """

    def __init__(
        self,
        plan: SearchPlan,
        workers: Workers,
        settings: Settings,
        stops: Callable[[], bool],
        files: Workdir | None,
        state: SearchState,
        monitor: Monitor,
        resampling: Resampling | None,
    ):
        clock = plan.pace.clock
        self.plan, self.settings, self.files, self.monitor = plan, settings, files, monitor
        self._workers, self._stops = workers, stops
        self.interrupted = False
        self.history: list[Validated] = monitor.history()
        self.meter = Meter(clock, len(plan.examples), state.steps, state.seconds)
        self.steps = state.steps
        self.saving: CheckpointManager | None = None
        if files:
            every = plan.config.checkpoint_every
            self.saving = CheckpointManager(files, plan.identity, every, workers, clock)
        self._on_the_way = state.descent
        self.fitted = Optimum(**state.fitted) if state.fitted else None
        self.drawn: list[Drawn] = [*state.drawn]
        self.drawn_at = state.drawn_at
        self.n_draws = sum(1 for _ in resampling.draws()) if resampling else 0

    @property
    def settings_of_draws(self) -> Sequence[Trial]:
        """With whose settings each draw is fitted: of all that were tried, or of the one that was taken."""
        return self.settings.trials if self.plan.config.reselect else [self.settings.taken]

    @property
    def whole_draws(self) -> list[Drawn]:
        """The best head of each draw that was fitted with all of its settings."""
        if not self.n_draws:
            return []
        return chosen(finished(self.drawn, len(self.settings_of_draws)), known(self.plan.config.select))

    def begun(self, way: Descent) -> Descent:
        """Heads that begin, or go on where the state has them. Raises WorkdirError if it has others."""
        if self._on_the_way:
            try:
                way.restore(self._on_the_way)
            except ValueError as error:
                assert self.files is not None
                raise self.files.error(f"the state is none of this search: {error}; {OTHERWISE}") from error
            self._on_the_way = {}
        return way

    def descend(self, way: Descent, words: str) -> bool:
        """Steps until all heads have arrived; whether they have, or the run is to end before."""
        while way.active.size:
            if self._ends(way):
                return False
            way.step()
            self._tell(1, words, way.cost, len(way.active))
            if self.saving:
                self.saving.save_state_if_due(functools.partial(self.state, way))
        return True

    def minimize(
        self, least: Callable[[Callable[[], bool]], Optimum | None], rows: np.ndarray, words: str
    ) -> Optimum | None:
        """What takes so little that it is kept as a whole, or not at all; None if the run is to end before.

        Args:
          least: finds it, of heads with `rows` `[H]`, unless what it is given says that the run is to end.
          rows: see `least`.
          words: what it is, for people.
        """
        if self._ends(None):
            return None
        optimum = least(self._stops)
        if optimum is None:
            self._end(None)
            return None
        evaluations = int(optimum.evaluations.max())
        self.meter.examples_per_step = float(optimum.evaluations @ rows) / max(1, evaluations)
        self._tell(evaluations, words, optimum.cost, 0)
        return optimum

    def take(self, drawn: Sequence[Drawn], optimum: Optimum) -> None:
        """Takes in heads that were fitted to draws, where they are."""
        self.drawn += drawn
        self.drawn_at = optimum.v
        if self.saving:
            self.saving.save_state_if_due(functools.partial(self.state, None))

    def _ends(self, way: Descent | None) -> bool:
        """Whether the run is to end now; if so, its state is kept."""
        stops = self._stops()
        if stops:
            self._end(way)
        return stops

    def _end(self, way: Descent | None) -> None:
        if self.saving:
            self.saving.save_last_state(self.state(way))
        self.interrupted = True

    def _tell(self, evaluations: int, words: str, cost: np.ndarray, on_the_way: int) -> None:
        """Counts and tells the evaluations, after which heads have these costs, and so many have not arrived."""
        self.steps += evaluations
        speed = self.meter.lap("span", self.steps)
        self.monitor.trained(search_events.trained(words, cost, on_the_way, self.steps, speed))

    def validate(self, fit: Fit, task: Task, problems: Problems, optimum: Optimum) -> None:
        """Measures the heads of a task where they are, and takes in what that says of their settings."""
        settings = self.settings
        loss, wrong = fit.losses(problems, optimum.v)
        speed = self.meter.lap("validation", self.steps)
        is_new = self.steps > settings.validated
        settings.take(task, optimum, loss, wrong, self.steps)
        if is_new:  # A run that ends before a step would keep this validation, and make it again when it goes on.
            select = known(self.plan.config.select)
            event = search_events.validated(settings, task, optimum, select, self.meter.seconds, speed)
            self.history.append(event)
            self.monitor.validated([event])
        if self.saving and not self.interrupted:
            self.saving.save_state_if_due(functools.partial(self.state, None))

    def state(self, way: Descent | None, *, finished: bool = False) -> SearchState:
        """What the search is now, and stays when it goes on."""
        settings = self.settings
        descent = {} if way is None else {name: array.copy() for name, array in way.arrays().items()}
        return SearchState(
            self.steps, settings.validated, self.meter.seconds, finished, self.monitor.written(),
            **settings.arrays(), fitted=self.fitted._asdict() if self.fitted else {}, drawn=tuple(self.drawn),
            drawn_at=self.drawn_at, descent=descent,
        )  # fmt: skip

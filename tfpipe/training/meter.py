"""How long training takes, and how fast it goes."""

from collections.abc import Callable


class Meter:
    """The clock of the training loop: the seconds so far, and the examples a second since the last look.

    Args:
      clock: see Pace.
      examples_per_step: on average.
      steps: that were done before.
      seconds: that these took.

    Attributes:
      examples_per_step: see there; what follows may take others.
    """

    def __init__(self, clock: Callable[[], float], examples_per_step: float, steps: int, seconds: float):
        self._clock = clock
        self.examples_per_step = examples_per_step
        self._before = seconds
        self._begin = clock()
        self._laps = dict.fromkeys(("span", "validation"), (steps, self._begin))

    @property
    def seconds(self) -> float:
        """That the loop took so far, with what it took before it went on."""
        return self._before + self._clock() - self._begin

    def lap(self, what: str, steps: int) -> float:
        """Ends a lap of `what`, a `span` or a `validation`, when `steps` are done: its examples a second."""
        (before, begin), self._laps[what] = self._laps[what], (steps, self._clock())
        # A clock may stand still, as in a test.
        return (steps - before) * self.examples_per_step / max(self._laps[what][1] - begin, 1e-9)

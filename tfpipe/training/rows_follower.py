"""What another process than the chief does where rows are shared: see `solvers.sharing`."""

import numpy as np

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.data import Examples
from tfpipe.data.scaling import Scaling
from tfpipe.solvers.sharing import Branch, answer, of_fit, own_rows
from tfpipe.training.search_plan import SearchPlan

# What the chief calls the rows on which settings are tried, and those on which the one that is taken is fitted again.
SEARCH, LAST = "search", "last"


def rows_of(plan: SearchPlan, name: str) -> tuple[Examples, np.ndarray]:
    """These rows, and their columns of weights `[C, N]`."""
    if name == SEARCH:
        return plan.examples, plan.weights
    examples = plan.splits.train.joined(plan.splits.validation)
    return examples, plan.counted(np.ones((1, len(examples))), examples)


class RowsFollower:
    """Sums over its share of the rows.

    Args:
      plan: of the search.
      workers: who run the programs.
      cluster: the processes.
    """

    def __init__(self, plan: SearchPlan, workers: Workers, cluster: Cluster):
        self._plan, self._workers, self._cluster = plan, workers, cluster
        self._rows: dict[str, list[Branch]] = {}

    def answer(self, message: Message) -> Message:
        """See `team.Follower`."""
        if message.name == "place":
            self._place(message)
            return Message(message.name)
        return answer(message, self._rows)

    def _place(self, message: Message) -> None:
        self._rows.clear()  # No two fits are under way.
        plan, name = self._plan, message.facts["rows"]
        examples, weights = rows_of(plan, name)
        validating = plan.splits.validation if name == SEARCH and not plan.n_folds else examples
        wanted = of_fit(examples, weights / weights.max(), validating, plan.splits, plan.config.precision)
        scaling = Scaling(message.arrays.get("shift"), message.arrays["factor"])
        ranks = self._cluster.rank, self._cluster.size
        rows = own_rows(wanted, scaling, message.facts["n_columns"], self._workers, *ranks)
        self._rows = {f"{name}.{number}": own for number, own in enumerate(rows)}

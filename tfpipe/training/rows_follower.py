"""What another process than the chief does where rows are shared: see `solvers.sharing` and `solvers.shared_rows`."""

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.data.scaling import Scaling
from tfpipe.solvers import shared_rows, sharing
from tfpipe.solvers.shared_rows import BlockedRows
from tfpipe.solvers.sharing import Branch, Wanted
from tfpipe.training.search_plan import SearchPlan
from tfpipe.training.search_rows import fitted


class RowsFollower:
    """Finds what the chief asks of its share of the rows; it reads no others.

    Args:
      plan: of the search.
      workers: who run the programs.
      cluster: the processes.
    """

    def __init__(self, plan: SearchPlan, workers: Workers, cluster: Cluster):
        self._plan, self._workers = plan, workers
        self._ranks = cluster.rank, cluster.size
        self._fitted: tuple[str, list[Wanted]] = "", []
        self._placed: dict[str, list[Branch]] = {}

    def answer(self, message: Message) -> Message:
        """See `team.Follower`."""
        if message.name == "place":
            self._place(message)
            return Message(message.name)
        if message.name in shared_rows.QUESTIONS:
            name, number = message.facts["rows"].split(".")
            rows, n_columns = self._wanted(name)[int(number)], message.facts["n_columns"]
            blocked = BlockedRows.of(rows.examples, rows.weights, self._plan.splits.n_out, n_columns)
            return shared_rows.answer(message, blocked, *self._ranks)
        return sharing.answer(message, self._placed)

    def _wanted(self, name: str) -> list[Wanted]:
        """The rows of that name, which are kept until others are asked for."""
        if name != self._fitted[0]:
            self._fitted = name, fitted(self._plan, name).wanted
        return self._fitted[1]

    def _place(self, message: Message) -> None:
        self._placed.clear()  # No two fits are under way.
        name, n_columns = message.facts["rows"], message.facts["n_columns"]
        scaling = Scaling.of_arrays(message.arrays)
        rows = sharing.own_rows(self._wanted(name), scaling, n_columns, self._workers, *self._ranks)
        self._placed = {f"{name}.{number}": own for number, own in enumerate(rows)}

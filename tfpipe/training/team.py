"""A run that several processes share: the chief leads it, the others do what it tells them until it says the end."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.device import Device
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.exceptions import ClusterError, TfpipeError, brief
from tfpipe.log import log
from tfpipe.model.regression import SoftmaxRegression
from tfpipe.training.identity import RunIdentity
from tfpipe.training.result import Result

_END = "end"
# Of `RunIdentity.machine`: without the same of these processes would not speak of the same things.
_SAME = ("device", "tfpipe", "tensorflow")
# Settings that each may have for itself.
_ITS_OWN = ("checkpoint_every", "profile", "tensorboard")


class Follower(Protocol):
    """What another process than the chief does."""

    def answer(self, message: Message) -> Message:
        """Does what the chief says, and gives what is to be said to that."""


def greet(cluster: Cluster, identity: RunIdentity) -> None:
    """Raises ClusterError, in each of the processes, if they are not about to do the same."""
    chief, *others = [RunIdentity(**said.facts) for said in cluster.tell_all(Message("greet", identity._asdict()))]
    for rank, other in enumerate(others, 1):
        if found := _differences(chief, other):
            raise ClusterError(
                f"{cluster.task.name(rank)} has {'; '.join(found)}, as {cluster.task.name(0)} has; start all workers "
                "with the same flags, data and versions"
            )
        if (found := chief.differences(other)) and cluster.is_chief:
            log.warning("%s has %s: rows give other last bits than by equal ones", cluster.task.name(rank), found[0])


def _differences(chief: RunIdentity, other: RunIdentity) -> list[str]:
    """What another process has, not what the chief has."""
    parts = [(name, other.settings.get(name), value) for name, value in chief.settings.items() if name not in _ITS_OWN]
    parts += [(name, other.machine.get(name), chief.machine[name]) for name in _SAME]
    found = [f"{name}={its}, not {value}" for name, its, value in parts if its != value]
    if other.fingerprint != chief.fingerprint:
        same = other.data == chief.data
        found.append("other values in the same form of data" if same else f"{other.data}, not {chief.data}")
    return found


@contextlib.contextmanager
def telling(cluster: Cluster | None) -> Iterator[None]:
    """Within it an error is told to the other processes, which end with it as well."""
    try:
        yield
    except ClusterError:  # They have it, or are gone.
        raise
    except BaseException as error:
        if cluster:
            cluster.fail(str(error) if isinstance(error, TfpipeError) else brief(error))
        raise


def run(
    cluster: Cluster | None,
    identity: RunIdentity,
    stops: Callable[[], bool],
    lead: Callable[[Callable[[], bool]], Result],
    follower: Callable[[Workers, Cluster], Follower],
    device: Device,
) -> Result:
    """A run, by this process alone or with others.

    Args:
      cluster: the processes; None: there are no others.
      identity: of the run.
      stops: whether this process is asked to end it.
      lead: does it, as the chief or alone; told whether to end it.
      follower: makes, of what computes, who does what the chief says.
      device: on which.
    """
    if cluster is None:
        return lead(stops)
    with cluster.heeding(stops):
        greet(cluster, identity)
        if cluster.is_chief:
            result = lead(lambda: stops() or cluster.asks_to_stop())
            _tell_end(cluster, result)
            return result
        with device.scope(), Workers(device) as workers:
            return _follow(cluster, follower(workers, cluster))


def _tell_end(cluster: Cluster, result: Result) -> None:
    arrays = {} if result.model is None else {"W": result.model.W.numpy(), "b": result.model.b.numpy()}
    with contextlib.suppress(ClusterError):  # Who has heard it may be gone.
        cluster.call(Message(_END, {"report": result.report}, arrays))()


def _follow(cluster: Cluster, follower: Follower) -> Result:
    """For the others: does what the chief says until it says the end; the result is the chief's, without a history."""
    while (message := cluster.listen()).name != _END:
        cluster.answer(follower.answer(message))
    with contextlib.suppress(ClusterError):
        cluster.answer(Message(_END))
    model = SoftmaxRegression.from_arrays(**message.arrays) if message.arrays else None
    return Result(model, dict(message.facts["report"]), [])

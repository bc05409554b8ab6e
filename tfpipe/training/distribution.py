"""What a run takes by one worker, and shared among several: the model by which `distribute=auto` decides.

A worker is a process of a cluster, or a device of a process. SGD is shared by heads: each worker trains some of them
on all rows. L-BFGS is shared by rows: each sums some of the blocks of all rows for all heads, and the chief alone goes
down by these sums. docs/distributed.md has the formulas, where each constant comes from, and a simulation.
"""

import math
from typing import NamedTuple

from tfpipe.compute.speeds import Machine, Network
from tfpipe.solvers.branches import branches, shares

ALONE, BY_HEADS, BY_ROWS = "alone", "heads", "rows"
# How the work of each solver is shared.
FORMS = {"sgd": BY_HEADS, "lbfgs": BY_ROWS}
# Alone must take so many times as long, or it is not shared. Of what a single worker takes the model is off by a sixth;
# exchanges take twice as long in one run as in another; and each process more is one more that can fail.
LEAST_GAIN = 1.25
# What is said of a head at a validation: its cost and errors, in sums, and how many rows these are of.
_FIGURES_BYTES = 64
_FLOAT32, _FLOAT64 = 4, 8


class Work(NamedTuple):
    """What is to be done.

    Attributes:
      solver: `sgd` or `lbfgs`.
      rows: N, that train.
      n_in: D.
      n_out: K.
      heads: H, that go side by side.
      passes: over these rows: epochs of sgd, evaluations of lbfgs, each of all heads.
      batch_size: rows in a minibatch.
      row_bytes: of a row as it is stored.
      validations: of sgd, at which figures and weights travel.
      measured: rows that each of them measures, for the test too.
      blocks: of lbfgs, whose sums are added: `solvers.passes.BLOCKS`, or fewer where there are few rows.
      sample: of lbfgs, the rows that its metric is of: see `solvers.optimum.sample_rows`.
    """

    solver: str
    rows: int
    n_in: int
    n_out: int
    heads: int
    passes: float
    batch_size: int
    row_bytes: float
    validations: float = 0
    measured: int = 0
    blocks: int = 1
    sample: int = 0

    @property
    def numbers(self) -> int:
        """K (D + 1), the weights of a head."""
        return self.n_out * (self.n_in + 1)

    @property
    def parts(self) -> int:
        """Into how many parts it can be cut: with more workers, the others idle."""
        return self.heads if FORMS[self.solver] == BY_HEADS else self.blocks


class Seconds(NamedTuple):
    """What a run takes, by what it goes into; that of the slowest worker where they have unequal parts.

    Attributes:
      products: of matrices.
      rows: to bring them to the products.
      steps: what minibatches take beside.
      serial: what the chief does while the others wait.
      latency: of all exchanges.
      transfer: of their bytes.
      start: of the cluster.
    """

    products: float
    rows: float
    steps: float
    serial: float = 0.0
    latency: float = 0.0
    transfer: float = 0.0
    start: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


class Decision(NamedTuple):
    """How a run is shared.

    Attributes:
      form: `alone`, `heads` or `rows`.
      workers: how many have a part of it.
      why: in a line, for the log.
    """

    form: str
    workers: int
    why: str


def alone(work: Work, machine: Machine) -> Seconds:
    """By a single worker."""
    return _part(work, machine, 1)


def by_heads(work: Work, machine: Machine, network: Network, workers: int) -> Seconds:
    """Each worker trains ceil(H / n) heads at most; at a validation the chief gets their figures and weights."""
    size = math.ceil(work.heads / workers) * (_FIGURES_BYTES + _FLOAT32 * work.numbers)
    latency, transfer = (work.validations * part for part in _gather(network, workers, size))
    return _part(work, machine, workers)._replace(latency=latency, transfer=transfer, start=_start(network, workers))


def by_rows(work: Work, machine: Machine, network: Network, workers: int) -> Seconds:
    """Each worker sums ceil(blocks / n) blocks at most; of each evaluation the chief tells W, b, and gets the sums.

    What the chief tells is gathered too, as `compute.cluster` has it: the others send as many zeros.
    """
    size = _FLOAT64 * work.heads * work.numbers
    arrays = max(len(branches(*share)) for share in shares(work.blocks, workers))
    exchanges = _gather(network, workers, size), _gather(network, workers, arrays * size)
    latency, transfer = (work.passes * sum(parts) for parts in zip(*exchanges, strict=True))
    return _part(work, machine, workers)._replace(latency=latency, transfer=transfer, start=_start(network, workers))


def shared(work: Work, machine: Machine, network: Network, workers: int) -> Seconds:
    """In the form in which the work of its solver is shared, among so many workers."""
    way = by_heads if FORMS[work.solver] == BY_HEADS else by_rows
    return way(work, machine, network, workers)


def decide(work: Work, machine: Machine, network: Network, workers: int) -> Decision:
    """Whether the work is shared among all workers that there are, or done by one of them.

    Args:
      work: what is to be done.
      machine: of each worker.
      network: between them.
      workers: how many there are.
    """
    by_one, form, busy = alone(work, machine).total, FORMS[work.solver], min(workers, work.parts)
    if busy == 1:
        only = "worker" if workers == 1 else "head" if form == BY_HEADS else "block of rows"
        return Decision(ALONE, 1, f"alone: {_told(by_one)} s by the model; there is only one {only}")
    by_all = shared(work, machine, network, workers).total
    words = f"{form} on {busy if busy == workers else f'{busy} of {workers}'} workers"
    if by_one >= LEAST_GAIN * by_all:
        return Decision(form, busy, f"{words}: {_told(by_all)} s by the model, alone {_told(by_one)}")
    little = f", where {LEAST_GAIN} times as fast would count" if by_all < by_one else ""
    return Decision(ALONE, 1, f"alone: {_told(by_one)} s by the model, {words} {_told(by_all)}{little}")


def _part(work: Work, machine: Machine, workers: int) -> Seconds:
    """What the slowest program of the slowest worker takes, and the chief, without any exchange."""
    parts = math.ceil(math.ceil(work.parts / workers) / machine.programs)
    trained, measured = work.passes * work.rows, work.validations * work.measured
    heads = work.heads
    if FORMS[work.solver] == BY_HEADS:
        heads = parts
    else:
        trained *= parts / work.blocks
    return Seconds(
        products=heads * work.n_out * work.n_in * (4 * trained + 2 * measured) / machine.product_rate,
        rows=(trained + measured) * work.row_bytes / machine.row_rate,
        steps=(trained + measured) / work.batch_size * machine.step_seconds,
        serial=_serial(work, machine),
    )


def _serial(work: Work, machine: Machine) -> float:
    """What L-BFGS takes between evaluations: pairs; the metric's products, two with the gradient, one with a change."""
    if FORMS[work.solver] == BY_HEADS:
        return 0.0
    pairs = work.heads * work.numbers * machine.number_seconds
    metric = 6 * work.heads * work.n_out * work.n_in * min(work.n_in, work.sample) / machine.metric_rate
    return work.passes * (pairs + metric)


def _gather(network: Network, workers: int, size: float) -> tuple[float, float]:
    """Seconds of latency and transfer: round a ring each worker gets `size` bytes of every other one."""
    hops = workers - 1
    return bool(hops) * network.latency + hops * network.hop, hops * size / network.bandwidth


def _start(network: Network, workers: int) -> float:
    return (workers > 1) * network.start


def _told(seconds: float) -> str:
    """Two digits, or whole seconds."""
    return f"{seconds:,.0f}" if seconds >= 9.95 else f"{seconds:.2g}"

"""Whether several processes share the work of a run: what there is to do, as the model of `distribution` takes it."""

import math

from tfpipe.compute.cluster import Cluster
from tfpipe.compute.device import Device
from tfpipe.compute.speeds import CORE, GPU, PROCESSES
from tfpipe.config import known
from tfpipe.log import log
from tfpipe.solvers import path
from tfpipe.solvers.optimum import sample_rows
from tfpipe.solvers.passes import Cut
from tfpipe.training.distribution import ALONE, Work, decide
from tfpipe.training.plan import Plan
from tfpipe.training.search_plan import SearchPlan

# Evaluations of heads that go side by side, which nobody knows before: as on MNIST, at ten times the tolerance.
_EVALUATIONS = 20


def of_sgd(plan: Plan) -> Work:
    """Of a run of SGD that trains no longer than it must: patience may prolong it."""
    solver, config, splits = plan.solver, plan.config, plan.splits
    passes = min(known(config.epochs), math.ceil(known(config.patience) / solver.per_epoch))
    return Work(
        "sgd",
        solver.examples,
        splits.n_in,
        splits.n_out,
        int(plan.begins.sum()),
        passes,
        solver.batch_size,
        splits.n_in * splits.train.stored.itemsize,
        passes * solver.per_epoch / solver.frequency,
        plan.validation.examples,
    )


def of_search(plan: SearchPlan) -> Work:
    """Of a search that tries as many settings as are given, or as few as it takes to find that more do not help."""
    splits, n = plan.splits, len(plan.examples)
    heads = plan.at_once * len(plan.columns)
    cut = Cut.of(n, splits.n_in, heads * splits.n_out)
    of_scale = path.COUNT if plan.config.l2 is None else len(plan.config.l2)
    rounds = math.ceil(of_scale / plan.at_once) * len(splits.scales)
    return Work(
        "lbfgs",
        n,
        splits.n_in,
        splits.n_out,
        heads,
        _EVALUATIONS * rounds,
        cut.batch_size,
        splits.n_in * splits.train.stored.itemsize,
        blocks=cut.blocks,
        sample=min(n, sample_rows(splits.n_in, splits.n_out)),
    )


def sharers(cluster: Cluster | None, distribute: str, work: Work, device: Device) -> Cluster | None:
    """The processes that share the work; None: it is done by one.

    Args:
      cluster: those that there are; None: there is only this one.
      distribute: see TrainConfig.
      work: what there is to do.
      device: of each of them.
    """
    if cluster is None or distribute != "auto":
        return cluster
    machine = GPU if device.is_gpu else CORE._replace(programs=device.programs)
    # They know each other already.
    decision = decide(work, machine, PROCESSES._replace(start=0.0), cluster.size)
    log.info("%s", decision.why)
    return None if decision.form == ALONE else cluster

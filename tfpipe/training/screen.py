"""`precision=screen`: a grid trains in bfloat16, and the heads that come near the best train again in float32.

These are two runs of SGD, one after the other, and each is resumed as any run. The first has a folder of its own in the
workdir, and its report says which heads are within reach of the best. In the second the others never begin; for those
that do, and for the one that is selected, it is the run in float32 of the whole grid.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfpipe.config import known
from tfpipe.data import Examples
from tfpipe.data.rows import BLOCK_BYTES
from tfpipe.disk.workdir import Workdir
from tfpipe.log import log
from tfpipe.solvers.weights import balance, measured_weights
from tfpipe.training.plan import Plan
from tfpipe.training.record import Record
from tfpipe.training.result import Result, in_workdir
from tfpipe.training.resume import OTHERWISE
from tfpipe.training.state import State

# Of what several heads do on each validation example.
_VALUES_BYTES = 64 << 20
_REACH = "within_reach"
_KEPT = ("precision", "products", "grid", "selected", _REACH, "seconds", "programs")


def screened(
    plan: Plan,
    files: Workdir | None,
    state: State,
    train: Callable[[Plan, Workdir | None, State], Result],
    stops: Callable[[], bool],
) -> Result:
    """Does both runs, or goes on with the one that was under way.

    Args:
      plan: of the second run, for the whole grid.
      files: the workdir; None: nothing is kept.
      state: of the second run.
      train: goes on from the state of a run.
      stops: whether the run is to end with what it has.

    Returns:
      What the second run leaves; of the first, if that was interrupted.

    Raises:
      WorkdirError: the folder of the first run cannot be written, or holds another.
    """
    first = plan._replace(config=dataclasses.replace(plan.config, precision="bfloat16"), screens=True)
    result = in_workdir(
        files.part() if files else None,
        first.config,
        first.identity,
        first.flags,
        lambda its_files, its_state: train(first, its_files, its_state),
        begin=State(),
        check_fits=first.check_fits,
        stops=stops,
        resume=True,
        overwrite=False,
    )
    if result.report["interrupted"]:
        return result._replace(report=result.report | {"workdir": files.name if files else None})
    if _REACH not in result.report:
        assert files is not None
        raise files.part().error(f"holds a run that screens nothing; {OTHERWISE}")
    numbers = result.report[_REACH]
    log.info("%d of %d heads are within reach of the best: they train in float32", len(numbers), plan.n_heads)
    return train(plan._replace(screened={name: result.report[name] for name in _KEPT}), files, state)


def of_screening(plan: Plan, record: Record, *, interrupted: bool) -> dict[str, Any]:
    """What the report of either run has beside that of other runs."""
    if plan.screens:
        return {} if interrupted else {_REACH: _within_reach(plan, record)}
    return {} if plan.screened is None else {"screen": dict(plan.screened)}


def _within_reach(plan: Plan, record: Record) -> list[int]:
    """The numbers of the heads that the validation examples do not tell from the best, or not with 95 % confidence.

    Each head is taken as it was at its best validation. It is out of reach if the interval of the paired difference to
    the leader, in the figure by which the run selects, lies above 0. A head that diverged is out of reach too.
    """
    from tfpipe.statistics import paired  # With scipy.optimize, 0.07 s: not for every run.

    patience, leader = record.patience, record.leader
    assert leader is not None
    examples = plan.splits.validation.take(np.arange(plan.validation.examples))
    weights = measured_weights(examples)
    select, counts = known(plan.config.select), np.ones(len(examples))
    if select == "balanced_error":
        counts = balance(examples.labels, weights)
    elif select == "cost" and plan.left_out.any():  # Examples of such classes have no part in the cost.
        weights = (counts if weights is None else weights) * ~plan.left_out[examples.labels]

    in_question = np.flatnonzero(~patience.diverged & (patience.best_steps > 0))
    models = {head: _for_stored(plan, record, head) for head in in_question.tolist()}
    (of_leader,) = _values(examples, [models[leader]], select)
    found: list[int] = []
    side_by_side = max(1, _VALUES_BYTES // (8 * len(examples)))
    for some in np.split(in_question, range(side_by_side, len(in_question), side_by_side)):
        of_some = _values(examples, [models[head] for head in some.tolist()], select)
        for head, values in zip(some.tolist(), of_some, strict=True):
            difference = paired.mean_difference(counts * (values - of_leader), weights, examples.groups)
            if not difference.low > 0:  # Where nothing varies there is no interval, and the head stays.
                found.append(head)
    return found


def _for_stored(plan: Plan, record: Record, head: int) -> tuple[np.ndarray, np.ndarray]:
    """The best model of a head so far, for images as stored: `[D, K]` and `[K]` float64."""
    best = record.best
    return plan.splits.scaling.fold(best.W[head].T.astype(np.float64), best.b[head].astype(np.float64))


def _values(examples: Examples, models: Sequence[tuple[np.ndarray, np.ndarray]], select: str) -> np.ndarray:
    """`[m, n]` float64: the log losses of m models on the examples; or, by errors, 1 where one is wrong, else 0."""
    Ws, bs = zip(*models, strict=True)
    W, b = np.concatenate(Ws, axis=1), np.concatenate(bs)
    found, begin = np.empty((len(models), len(examples))), 0
    most_rows = max(1, BLOCK_BYTES // (8 * len(b)))
    for block in examples.blocks(min(BLOCK_BYTES, 8 * len(W) * most_rows), itemsize=8):
        rows = slice(begin, begin := begin + len(block))
        z = (block.reshape(len(block), -1).astype(np.float64) @ W + b).reshape(len(block), len(models), -1)
        labels = examples.labels[rows][:, np.newaxis]
        if select == "cost":
            z -= z.max(axis=2, keepdims=True)
            of_label = np.take_along_axis(z, labels[..., np.newaxis], axis=2)[..., 0]
            found[:, rows] = (np.log(np.exp(z).sum(axis=2)) - of_label).T
        else:
            found[:, rows] = (z.argmax(axis=2) != labels).T
    return found

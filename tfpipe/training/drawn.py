"""What came of draws of training rows: of each the head that is taken, and the points of curves. NumPy only."""

import collections
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfpipe.statistics.curves import spread
from tfpipe.statistics.figures import RISES, of_select
from tfpipe.training.report import finite

# The options that say which draws.
KINDS = ("shots", "subsets", "bootstrap")
# What is measured of each head, in the order of the last fields of Drawn.
FIGURES = tuple(RISES)


class Draw(NamedTuple):
    """A draw of training rows.

    Attributes:
      kind: `shots`, `subsets` or `bootstrap`.
      size: rows of each class, or the share of all; 1 of a bootstrap.
      number: which one of this size, from 0; draws of one number are nested.
    """

    kind: str
    size: float
    number: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.kind}" + f"={self.size:g}" * (self.kind != "bootstrap") + f", draw {self.number + 1}"


class Drawn(NamedTuple):
    """A head that was fitted to a draw, and what it does on the test examples.

    Attributes:
      kind, size, number: of the draw.
      rows: that have weight in it.
      missing: classes of the other rows without one in it: the head leaves them out.
      standardize, l2: its setting.
      choice: the figure on examples that the draw has not, by which its setting is chosen; NaN: there is no choice.
      choice_cost: likewise the cost, which decides between equals.
      certificate: how far above the least cost it is at most.
      train_cost: what was minimized, l2 included.
      iterations: how many it took.
      converged: whether it arrived.
      cost, error, balanced_error, macro_f1, auc, top5_error: see `statistics.figures`; NaN where there is none, and of
        a head that another one beats for its draw. Examples of classes that it leaves out are wrong; where there are
        some, there is no cost.
    """

    kind: str
    size: float
    number: int
    rows: int
    missing: int
    standardize: str
    l2: float
    choice: float
    choice_cost: float
    train_cost: float
    certificate: float
    iterations: int
    converged: bool
    cost: float
    error: float
    balanced_error: float
    macro_f1: float
    auc: float
    top5_error: float


def chosen(drawn: Sequence[Drawn], select: str) -> list[Drawn]:
    """Of each draw the head with the best figure of choice, of equals by cost, then by more l2."""

    def key(one: Drawn) -> tuple[float, ...]:
        figure = -one.choice if RISES[of_select(select)] else one.choice
        return *(value if np.isfinite(value) else np.inf for value in (figure, one.choice_cost)), -one.l2

    by_draw: dict[Draw, list[Drawn]] = {}
    for one in drawn:
        by_draw.setdefault(Draw(one.kind, one.size, one.number), []).append(one)
    return [min(heads, key=key) for heads in by_draw.values()]


def curves(heads: Sequence[Drawn]) -> list[dict[str, Any]]:
    """The points of the curves, as JSON can hold them: for each kind and size the figures, with their spread.

    Args:
      heads: one for each draw, in their order.

    Returns:
      For each point `kind`, `size` (null of a bootstrap), `draws`, `rows` (their mean), `missing` (draws that lack a
      class), and for each figure `mean`, `deviation`, `low`, `high`, as `statistics.curves.Spread` has them.
    """
    points = []
    for (kind, size), of_point in itertools.groupby(heads, key=lambda one: (one.kind, one.size)):
        some = list(of_point)
        point: dict[str, Any] = {
            "kind": kind, "size": None if kind == "bootstrap" else size, "draws": len(some),
            "rows": float(np.mean([one.rows for one in some])), "missing": sum(one.missing > 0 for one in some),
        }  # fmt: skip
        for name in FIGURES:
            values = [getattr(one, name) for one in some]
            if not all(map(math.isnan, values)):
                found = spread(values, bootstrap=kind == "bootstrap", is_share=name != "cost")._asdict()
                point[name] = {of: finite(value) for of, value in found.items()}
        points.append(point)
    return points


def finished(drawn: Sequence[Drawn], settings: int) -> list[Drawn]:
    """The heads of draws that were fitted with all of so many settings: a run may have ended on the way."""
    counts = collections.Counter((one.kind, one.size, one.number) for one in drawn)
    return [one for one in drawn if counts[one.kind, one.size, one.number] == settings]


def warnings(heads: Sequence[Drawn], wanted: int) -> list[str]:
    """What must be said of the heads of draws, one for each, of which so many were wanted: lines."""
    lines = []
    if len(heads) < wanted:
        lines.append(f"{len(heads)} of {wanted} draws were made before the run ended")
    if missing := sum(one.missing > 0 for one in heads):
        lines.append(f"{missing} of {len(heads)} draws have no row of some class: it is wrong there wherever it occurs")
    if unfinished := sum(not one.converged for one in heads):
        lines.append(f"{unfinished} of {len(heads)} draws had not converged: give more max_iter, or more l2")
    return lines


def as_json(heads: Sequence[Drawn]) -> list[dict[str, Any]]:
    """The heads, as JSON can hold them: null stands for what there is not."""
    return [{k: finite(v) if isinstance(v, float) else v for k, v in one._asdict().items()} for one in heads]

"""Tables for people: rows of cells, the first row the header."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfpipe.model.artifact import TrainedModel
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.model.diagnosis import worst_classes as by_error

_MOST_CLASSES = 20
# Of the name of a column, characters.
_LONGEST_NAME = 40


def worst_classes(model: TrainedModel, diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    """The classes with the largest errors, 20 at most."""
    names = model.class_names
    rows: list[tuple[str, ...]] = [("class", "test examples", "error", "most often taken for")]
    for one in by_error(diagnosis, _MOST_CLASSES):
        error = f"{one.error:.2%}" if one.examples else "-"
        taken_for = "-" if one.taken_for is None else names[one.taken_for]
        rows.append((names[one.number], str(one.examples), error, taken_for))
    return rows


def of_curves(points: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The points of the curves of a report: what draws of its training rows do on the test."""
    rows: list[tuple[str, ...]] = [
        ("draws of training rows", "draws", "rows", "test error", "95 %", "deviation", "test cost", "missing a class")
    ]
    for point in points:
        size = "" if point["size"] is None else f" {point['size']:g}"
        error, cost = point["error"], point.get("cost", {}).get("mean")
        within = "-" if error["low"] is None else f"{error['low']:.2%} to {error['high']:.2%}"
        deviation = "-" if error["deviation"] is None else f"{error['deviation']:.2%}"
        rows.append(
            (
                f"{point['kind']}{size}", str(point["draws"]), f"{point['rows']:.6g}", f"{error['mean']:.2%}", within,
                deviation, "-" if cost is None else f"{cost:.4g}", str(point["missing"]),
            )
        )  # fmt: skip
    return rows


def coefficients(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What carries each class, from the `coefficients` of a report."""
    content, n_out = report["coefficients"], len(report["class_names"])

    def told(pairs: Sequence[tuple[str, float]]) -> str:
        return ", ".join(f"{_shortened(name)} {value:+.3g}" for name, value in pairs) or "-"

    rows: list[tuple[str, ...]] = [("class", f"for it, per {content['unit']}", f"against it, per {content['unit']}")]
    rows += [(one["class"], told(one["for"]), told(one["against"])) for one in content["classes"]]
    if n_out > len(content["classes"]):
        rows.append((f"the first {len(content['classes'])} of {n_out} classes", "", ""))
    return rows


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a table in Markdown, in which each cell says what it holds and nothing else."""
    header, *others = ([_as_text(cell) for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *others))


def _as_text(cell: str) -> str:
    """A class may be named `*`, `<b>` or `a|b`, and a name may have several lines."""
    one_line = " ".join(html.escape(cell, quote=False).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|])", r"\\\1", one_line) or " "

"""The figures of a finished run: `report.json`, the line of JSON for scripts, the table for people."""

import json
import pathlib
from typing import Any

import numpy as np

from tfpipe.disk import files
from tfpipe.exceptions import DataError, brief
from tfpipe.model import tested
from tfpipe.monitor.tables import coefficients as table_of_coefficients
from tfpipe.monitor.tables import of_curves
from tfpipe.statistics.figures import of_select
from tfpipe.text import aligned

# What scripts read from the last line of stdout: these, the settings of the selected head, and those.
_MEASURED = ("validation_error", "test_error", "test_error_interval", "test_examples")
_OF_THE_RUN = (
    "heads",
    "epochs",
    "iterations",
    "best_iteration",
    "solver",
    "certificate",
    "converged",
    "evaluations",
    "standardize",
    "seconds",
    "epochs_per_second",
    "device",
    "workdir",
    "interrupted",
)


def save(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes the report as JSON, whole or not at all.

    Raises:
      OSError: the file cannot be written.
    """
    files.write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def load(path: pathlib.Path) -> dict[str, Any]:
    """Reads what `save` wrote.

    Raises:
      DataError: it is not there, or is no such report.
    """
    try:
        content = json.loads(path.read_bytes())
        summary(content), tables(content)
    except Exception as error:  # Whatever it may hold.
        raise DataError(f"{path}: not a report that can be read: {brief(error)}") from error
    return content


def summary(content: dict[str, Any]) -> str:
    """The contract with scripts: one line of JSON."""
    content = {"test_error_interval": None} | content  # Reports from before there were any have none.
    # Of a run that has no learning rate it is null, as scripts expect.
    of_sgd = [name for name in ("learning_rate",) if name in content]
    names = (*_MEASURED, *besides(content["select"]), *content["settings"], *of_sgd, *_OF_THE_RUN)
    return json.dumps({name: content[name] for name in names}, allow_nan=False)


def table(content: dict[str, Any]) -> str:
    """All heads, best first, the selected one marked; and the points of curves, if there are any."""
    found = tables(content)
    return "\n".join(line for name in ("heads", "curves") if name in found for line in aligned(found[name]))


def tables(content: dict[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    """The report for people, by name: rows of cells, the first of each table its header."""
    # Reports of before there were some have no curves.
    found = {"test": tested.table(content["test"])} if content.get("test") else {}
    if "calibration" in content:
        found["calibration"] = _calibration(content["calibration"])
    found["heads"] = _heads(content)
    if points := content.get("curves"):
        found["curves"] = of_curves(points)
    if "coefficients" in content:
        found["coefficients"] = table_of_coefficients(content)
    return found | {"report": _figures(content)}


def lines(content: dict[str, Any]) -> list[str]:
    """What the log ends with: the figures on the test split, in words, if there are any; and remarks on the device."""
    return [*(tested.lines("test", content["test"]) if content.get("test") else []), *_remarks(content)]


def _remarks(content: dict[str, Any]) -> list[str]:
    return list(content.get("remarks", ()))  # Reports of before there were some have none.


def besides(select: str | None) -> list[str]:
    """What is shown beside the figures of every run: by what this one chose."""
    return [] if select in (None, "cost", "error") else [of_select(select)]


def _heads(content: dict[str, Any]) -> list[tuple[str, ...]]:
    if "columns" in content:
        return _in_order(content)
    figures = "validation_error", "validation_cost"
    columns = (*content["settings"], *besides(content["select"]), *figures, "test_error", "epochs", "iterations")
    by = *besides(content["select"]), *(figures if content["select"] == "error" else figures[::-1])
    order = sorted(
        range(content["heads"]),
        key=lambda h: (
            h != content["selected"],
            content["grid"][h]["diverged"],
            *(_last(content["grid"][h][figure]) for figure in by),
        ),
    )
    rows = [("", *(name.replace("_", " ") for name in columns), "best iteration")]
    for h in order:
        head = content["grid"][h]
        end = "diverged" if head["diverged"] else _cell("best_iteration", head["best_iteration"])
        rows.append(("*" if h == content["selected"] else "", *(_cell(name, head[name]) for name in columns), end))
    return rows


def _in_order(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """The heads as they were tried."""
    rows = [("", *(name.replace("_", " ") for name in content["columns"]))]
    for h, head in enumerate(content["grid"]):
        rows.append(
            ("*" if h == content["selected"] else "", *(_cell(name, head[name]) for name in content["columns"]))
        )
    return rows


def _calibration(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """What a temperature changes on the test split."""
    rows: list[tuple[str, ...]] = [(f"temperature {found['temperature']:.4g}", "before", "after")]
    for name in found["after"]:
        rows.append(
            (f"test {name.replace('_', ' ')}", *(_cell(name, found[when][name]) for when in ("before", "after")))
        )
    return rows


def _figures(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """All that is one figure or word, and warnings."""
    single = {name: value for name, value in content.items() if not isinstance(value, (dict, list))}
    rows = [(name.replace("_", " "), _cell(name, value)) for name, value in single.items()]
    return [("", ""), *(("warning", line) for line in [*content["warnings"], *_remarks(content)]), *rows]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.2%}"
        if name.endswith("_error") and name != "standard_error"
        else f"{value:.4g}"
        if isinstance(value, float)
        else str(value)
    )


def finite(value: float) -> float | None:
    """As JSON can hold it: None stands for what is not."""
    return float(value) if np.isfinite(value) else None


def _last(value: float | None) -> float:
    return np.inf if value is None else value

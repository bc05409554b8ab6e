"""Runs that were compared, for people: tables, and a page with pictures that needs nothing else."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.data import Examples, lettering
from tfpipe.data.pictures import brightened
from tfpipe.disk import files
from tfpipe.model.comparison import Pair
from tfpipe.model.matching import Matched
from tfpipe.monitor import page, pictures
from tfpipe.text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TESTS = {"mcnemar": "exact McNemar", "sign_flips": "sign flips"}
_HIGHEST_FIGURE = 60.0


def lead(content: dict[str, Any]) -> str:
    """What is compared, and how to read the tables; of what `comparison.content` gave."""
    by = {"files": "the names of their files", "rows": "their rows and labels"}[content["matched_by"]]
    more = f", in {content['groups']} groups" if content["groups"] is not None else ""
    more += ", weighted" if content["weighted"] else ""
    return (
        f"{content['examples']} {content['split']} examples{more}, matched by {by}. A difference is the first run's "
        f"figure less the second's: below 0, the first is better."
    )


def runs_table(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """The runs, with the numbers that they have in other tables; the first row is the header."""
    rows: list[tuple[str, ...]] = [("", "run", "data", "error", "cost")]
    for number, run in enumerate(content["runs"]):
        names = one_line(run["run"]), one_line(run["dataset"])
        rows.append((_mark(number), *names, f"{run['error']:.2%}", _number(run["cost"])))
    return rows


def pairs_table(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """The pairs; with corrected p-values if there are several."""
    several = len(content["pairs"]) > 1
    interval = f"{content['confidence']:.0%} interval"
    test = _TESTS[content["pairs"][0]["test"]]
    header = ["", "only 1st wrong", "only 2nd wrong", "error difference", interval, f"p ({test})"]
    header += ["p (Holm)"] * several
    rows: list[tuple[str, ...]] = [(*header, "cost difference", interval)]
    numbers = {run["run"]: number for number, run in enumerate(content["runs"])}
    for pair in content["pairs"]:
        error, cost = pair["error_difference"], pair["cost_difference"]
        cells = [_title(numbers[pair["first"]], numbers[pair["second"]])]
        cells += [str(pair["only_first_wrong"]), str(pair["only_second_wrong"]), f"{error['value']:+.2%}"]
        cells += [_interval(error, "+.2%"), f"{pair['p_value']:.3g}", *[f"{pair['p_holm']:.3g}"] * several]
        rows.append((*cells, _number(cost["value"], "+.4g"), _interval(cost, "+.4g")))
    return rows


def save(
    path: pathlib.Path,
    content: dict[str, Any],
    matched: Matched,
    pairs: Sequence[Pair],
    shown: tuple[int, Examples] | None,
) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: the file.
      content: what `comparison.content` gave.
      matched: the runs, on the examples that they share.
      pairs: what `comparison.pairs` gave.
      shown: a run whose data are pictures, by its number, and the examples that it was measured on; None: no run's are.

    Raises:
      OSError: the file cannot be written.
    """
    words = "The differences, with their intervals"
    sections = [
        page.section("Runs", page.table(runs_table(content))),
        page.section("In pairs", page.table(pairs_table(content))),
        page.section(words, page.picture(words, pictures.png(differences(content, pairs)))),
    ]
    lettering.look_for(matched.class_names)
    for pair, told in zip(pairs, content["pairs"], strict=True):
        for better, worse, which in ((pair.first, pair.second, "first"), (pair.second, pair.first, "second")):
            numbers, examples = getattr(pair, f"{which}_better"), told[f"{which}_better"]
            if not len(numbers):
                continue
            words = f"Where {_mark(better)} is farthest ahead of {_mark(worse)}"
            html = page.table(_examples_table(pair, examples))
            if shown is not None:
                html = page.picture(words, pictures.encoded(_sheet(matched, pair, numbers, examples, shown))) + html
            sections.append(page.section(words, html))
    title = f"tfpipe: {len(content['runs'])} runs compared"
    files.write_whole(path, page.document(title, lead(content), sections))


def differences(content: dict[str, Any], pairs: Sequence[Pair]) -> "Figure":
    """The difference of each pair in error and in cost, with its interval; 0 is marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, min(_HIGHEST_FIGURE, 1.3 + 0.35 * len(pairs))), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    heights = np.arange(len(pairs))
    for axis, name in zip(axes, ("error", "cost"), strict=True):
        found = [getattr(pair, name) for pair in pairs]
        value, low, high = (np.array([getattr(one, field) for one in found]) for field in ("value", "low", "high"))
        axis.axvline(0, color="gray", linestyle="--", linewidth=1)
        axis.errorbar(value, heights, xerr=np.abs([value - low, high - value]), fmt="o", capsize=3, color="#5b84b1")
        axis.set(xlabel=f"difference in {name}, {content['confidence']:.0%} interval")
        axis.grid(visible=True, axis="x", alpha=0.3)
    axes[0].set_yticks(heights, [_title(pair.first, pair.second) for pair in pairs])
    axes[0].set_ylim(len(pairs) - 0.5, -0.5)
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return figure


def _examples_table(pair: Pair, examples: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    marks = _mark(pair.first), _mark(pair.second)
    rows: list[tuple[str, ...]] = [
        ("example", "class", f"{marks[0]} says", "log loss", f"{marks[1]} says", "log loss"),
    ]
    for one in examples:
        name = f"row {one['row']}" if one["file"] is None else one_line(one["file"])
        cells = [name, one["class"]]
        for run in (one["first"], one["second"]):
            cells += [f"{run['class']}, {run['probability']:.1%}", _number(run["loss"])]
        rows.append(tuple(cells))
    return rows


def _sheet(
    matched: Matched, pair: Pair, numbers: np.ndarray, examples: list[dict[str, Any]], shown: tuple[int, Examples]
) -> Any:
    run, of_run = shown
    tiles = brightened(of_run.stored[of_run.rows[matched.places[run, numbers]]])
    tiles = tiles.reshape(*tiles.shape[:3], -1)
    captions = []
    for one in examples:
        says = (
            f"{_mark(number)}: {_drawn(one[which]['class'])} ({one[which]['probability']:.0%})"
            for number, which in ((pair.first, "first"), (pair.second, "second"))
        )
        captions.append(f"{_drawn(one['class'])} → {', '.join(says)}")
    return pictures.sheet(np.broadcast_to(tiles, (*tiles.shape[:3], 3)), captions)


def _drawn(class_name: str) -> str:
    return lettering.isolated(pictures.shortened(class_name))


def _mark(number: int) -> str:
    """What a run is called in tables: its path may be long."""
    return f"#{number + 1}"


def _title(first: int, second: int) -> str:
    return f"{_mark(first)} - {_mark(second)}"


def _number(value: float | None, form: str = ".4g") -> str:
    return "-" if value is None else format(value, form)


def _interval(difference: dict[str, float | None], form: str) -> str:
    low, high = difference["low"], difference["high"]
    return "-" if low is None or high is None else f"{low:{form}} to {high:{form}}"

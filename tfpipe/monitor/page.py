"""Pages that need nothing else, neither TensorBoard nor a network: `report.html`, a finished run."""

import base64
import html
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from tfpipe.disk import files
from tfpipe.monitor import tables
from tfpipe.monitor.events import Finished

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: right; white-space: nowrap; }
td, th { unicode-bidi: plaintext; }
td:first-child, th:first-child { text-align: left; } th { border-bottom: 1px solid #999; }
tr:nth-child(even) td { background: #f5f5f5; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; } div { overflow-x: auto; }
</style>
<h1>$title</h1>
<p>$lead</p>
$body
</html>
""")

# In this order; what a run does not have is left out.
_PICTURES = {
    "templates": "What each class looks for",
    "confusion_matrix": "What is taken for what",
    "mistakes": "The most confident mistakes: what it is → what it was taken for, and how surely",
    "reliability": "What the probabilities are worth",
    "reliability_before": "What they were worth before calibration",
    "path": "What was tried: the validation cost, with its standard error, over l2",
    "coefficients": "The largest coefficients over l2: of each column the norm over the classes",
    "heat_map": "The grid",
    "curve": "What fewer training rows do: the test error of each draw, and its mean with a 95 % interval",
}
_TABLES = {
    "calibration": "Calibration",
    "heads": "All that was tried, by validation: the best of several is somewhat too good there",
    "curves": "Draws of the training rows",
    "coefficients": "What carries each class: what a column adds to its logit",
    "report": "Figures",
}


def save(path: pathlib.Path, event: Finished, drawn: Mapping[str, bytes]) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: the file.
      event: the run.
      drawn: its pictures, by name, as PNG.

    Raises:
      OSError: the file cannot be written.
    """
    parts = [section("On the test split", table(event.tables["test"]))] if "test" in event.tables else []
    parts += [section(words, picture(words, drawn[name])) for name, words in _PICTURES.items() if name in drawn]
    if event.selected and event.selected.diagnosis:
        worst = tables.worst_classes(event.selected.model, event.selected.diagnosis)
        parts.append(section("The worst classes", table(worst)))
    parts += [section(words, table(event.tables[name])) for name, words in _TABLES.items() if name in event.tables]
    parts.append(section("Flags", f"<pre>{html.escape(chr(10).join(event.flags))}</pre>"))
    files.write_whole(path, document(_title(event.report), event.data, parts))


def _title(report: dict[str, Any]) -> str:
    if report["validation_error"] is None:
        return "tfpipe: no model"
    errors = {name: report[f"{name}_error"] for name in ("validation", "test")}
    told = [f"{name} error {error:.2%}" for name, error in errors.items() if error is not None]
    if interval := report["test_error_interval"]:
        told[-1] += " ({:.2%} to {:.2%})".format(*interval)
    return f"tfpipe: {', '.join(told)}"


def document(title: str, lead: str, sections: Sequence[str]) -> bytes:
    """A page, of text for its title and its first lines, and of HTML for what follows."""
    text = {"title": html.escape(title), "lead": html.escape(lead)}
    return _PAGE.substitute(text, body="\n".join(sections)).encode()


def section(words: str, content: str) -> str:
    """HTML: a heading of text, and `content`, which is HTML."""
    return f"<h2>{html.escape(words)}</h2>\n<div>{content}</div>"


def picture(words: str, png: bytes) -> str:
    """HTML: a picture, and the words that stand for it."""
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(rows: Sequence[Sequence[str]]) -> str:
    """HTML: rows of cells of text, the first row the header."""
    header, *others = rows
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in others]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"

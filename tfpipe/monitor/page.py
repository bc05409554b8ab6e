"""`report.html`: a finished run on one page that needs nothing else, neither TensorBoard nor a network."""

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
<p>$data</p>
$body
</html>
""")

# In this order; what a run does not have is left out.
_PICTURES = {
    "templates": "What each class looks for",
    "confusion_matrix": "What is taken for what",
    "mistakes": "The most confident mistakes: what it is → what it was taken for, and how surely",
    "reliability": "What the probabilities are worth",
    "path": "What was tried: the validation cost, with its standard error, over l2",
    "heat_map": "The grid",
}
_TABLES = {
    "heads": "All that was tried, by validation: the best of several is somewhat too good there",
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
    parts = [_section("On the test split", _table(event.tables["test"]))] if "test" in event.tables else []
    parts += [_section(words, _picture(words, drawn[name])) for name, words in _PICTURES.items() if name in drawn]
    if event.selected and event.selected.diagnosis:
        worst = tables.worst_classes(event.selected.model, event.selected.diagnosis)
        parts.append(_section("The worst classes", _table(worst)))
    parts += [_section(words, _table(event.tables[name])) for name, words in _TABLES.items()]
    parts.append(_section("Flags", f"<pre>{html.escape(chr(10).join(event.flags))}</pre>"))
    page = _PAGE.substitute(title=_title(event.report), data=html.escape(event.data), body="\n".join(parts))
    files.write_whole(path, page.encode())


def _title(report: dict[str, Any]) -> str:
    if report["validation_error"] is None:
        return "tfpipe: no model"
    errors = {name: report[f"{name}_error"] for name in ("validation", "test")}
    told = [f"{name} error {error:.2%}" for name, error in errors.items() if error is not None]
    if interval := report["test_error_interval"]:
        told[-1] += " ({:.2%} to {:.2%})".format(*interval)
    return f"tfpipe: {', '.join(told)}"


def _section(words: str, content: str) -> str:
    return f"<h2>{html.escape(words)}</h2>\n<div>{content}</div>"


def _picture(words: str, picture: bytes) -> str:
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *others = rows
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in others]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"

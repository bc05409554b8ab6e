"""`tfpipe predict`."""

import csv
import functools
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from tfpipe.cli import model_flags, streams
from tfpipe.exceptions import ConfigError

if TYPE_CHECKING:
    from tfpipe.model.inference import Prediction

_STDIN = "-"


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    own: dict[str, Any] = {"flag_values": values, "module_name": "predict"}
    model_flags.define(values, "predict")
    flags.DEFINE_enum("format", "csv", ["csv", "json"], "one line of CSV a picture, below a header, or of JSON", **own)
    flags.DEFINE_integer("top_k", 1, "how many classes to tell, the most probable first", lower_bound=1, **own)


def prepare(values: flags.FlagValues, paths: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns prints the predictions and returns the exit status."""
    if not paths:
        problem = "no FILE; give pictures, .npy files, folders, patterns, or - for a list of such on standard input"
        raise ConfigError("model", model_flags.name(values), problem)
    model_flags.name(values)
    return lambda: _predict(values, paths, as_json=values.format == "json", top_k=values.top_k)


def _predict(values: flags.FlagValues, paths: list[str], *, as_json: bool, top_k: int) -> int:
    from tfpipe.compute import cpu
    from tfpipe.model import inference  # NumPy and Pillow: not for `--help`.

    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # Names of files are bytes.
    warnings.simplefilter("ignore")  # Of Pillow, about pictures that it reads all the same.
    with model_flags.opened(values) as file:
        model = model_flags.load(file, top_k)
    line_of = _json_line if as_json else functools.partial(_csv_line, top_k=top_k)
    if not as_json:
        streams.write_output(_csv_header(top_k))
    # A list on standard input may come line by line, and each line is answered before the next is read.
    at_once = 1 if _STDIN in paths else 2 * cpu.cores()
    count = failed = 0
    for prediction in inference.predict(model, _listed(paths), at_once=at_once):
        count += 1
        failed += prediction.probabilities is None
        streams.write_output(line_of(prediction, _top(prediction, model.class_names, top_k)))
    if failed:
        lines = "its line says" if failed == 1 else "their lines say"
        streams.write_error(f"tfpipe predict: {failed} of {count} could not be read; {lines} why")
    return 1 if failed else 0


def _listed(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if path == _STDIN:
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        else:
            yield path


def _top(prediction: "Prediction", class_names: tuple[str, ...], top_k: int) -> list[tuple[str, float]]:
    """The most probable classes, of equals the one with the smaller number first."""
    if prediction.probabilities is None:
        return []
    order = (-prediction.probabilities).argsort(kind="stable")[:top_k]
    return [(class_names[k], float(prediction.probabilities[k])) for k in order]


def _json_line(prediction: "Prediction", top: list[tuple[str, float]]) -> str:
    if not top:
        return json.dumps({"path": prediction.path, "error": prediction.problem})
    classes = [{"class": name, "probability": probability} for name, probability in top]
    return json.dumps({"path": prediction.path, **classes[0]} | ({"top": classes} if len(classes) > 1 else {}))


def _csv_header(top_k: int) -> str:
    more = [f"{name}_{place}" for place in range(2, top_k + 1) for name in ("class", "probability")]
    return _csv(["path", "class", "probability", *more, "error"])


def _csv_line(prediction: "Prediction", top: list[tuple[str, float]], *, top_k: int) -> str:
    cells = [str(cell) for pair in top for cell in pair] or [""] * (2 * top_k)
    return _csv([prediction.path, *cells, prediction.problem])


def _csv(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)  # It quotes what ends a line.
    return text.getvalue().removesuffix("\n")

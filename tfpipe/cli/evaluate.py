"""`tfpipe evaluate`."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

from tfpipe.cli import config_flags, model_flags, streams
from tfpipe.config import DataConfig
from tfpipe.exceptions import ConfigError, OptionError
from tfpipe.table import aligned
from tfpipe.workdir import Workdir

_SPLITS = ("train", "validation", "test")


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    own: dict[str, Any] = {"flag_values": values, "module_name": "evaluate"}
    model_flags.define(values, "evaluate")
    flags.DEFINE_enum("split", "test", [*_SPLITS, "all"], "which examples; all: of every split", **own)
    flags.DEFINE_integer("top_k", 1, "also count as right what is among so many classes", lower_bound=1, **own)
    flags.DEFINE_string("output", None, "a CSV file to write, with a line for each example", **own)
    config_flags.define(DataConfig, values, "evaluate")


def prepare(values: flags.FlagValues, _: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns prints the figures and returns the exit status."""
    path = model_flags.path(values)
    workdir = values.workdir
    # Without a data set, the run's own, as it was divided then.
    data = None if workdir is not None and not _names_data(values) else config_flags.read(DataConfig, values)
    output = values.output
    return lambda: _evaluate(
        path,
        data or _data_of(Workdir(workdir)),
        values.split,
        values.top_k,
        None if output is None else pathlib.Path(output).expanduser(),
    )


def _names_data(values: flags.FlagValues) -> bool:
    given = [field.name for field in dataclasses.fields(DataConfig) if values[field.name].present]
    if given and not values["dataset"].present:
        raise ConfigError(given[0], values[given[0]].value, "goes with --dataset; else the run's own data is taken")
    return bool(given)


def _data_of(workdir: Workdir) -> DataConfig:
    """The data of a run."""
    values = flags.FlagValues()
    config_flags.define(DataConfig, values, "evaluate")
    try:
        lines = workdir.flags.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError("workdir", workdir.path, f"{workdir.flags.name} cannot be read; give --dataset") from error
    own = [line for line in lines if _flag_name(line) in values or _flag_name(line).removeprefix("no") in values]
    if "--dataset=" in own:
        raise OptionError("workdir", workdir.path, "its data came from a program; give --dataset")
    values(["", *own])
    return config_flags.read(DataConfig, values)


def _flag_name(line: str) -> str:
    return line.removeprefix("--").split("=")[0]


def _evaluate(model_path: pathlib.Path, data: DataConfig, split: str, top_k: int, output: pathlib.Path | None) -> int:
    from tfpipe import data as datasets  # NumPy: not for `--help`.
    from tfpipe import files, scores

    model = model_flags.load(model_path)
    if top_k > len(model.class_names):
        raise OptionError("top_k", top_k, f"the model has {len(model.class_names)} classes")
    splits = datasets.load(**dataclasses.asdict(data))
    chosen = _SPLITS if split == "all" else (split,)
    parts = {name: scores.predict(model, splits, getattr(splits, name)) for name in chosen}
    if output is not None:
        files.write_whole(output, _lines(parts, model.class_names).encode())
    found = scores.scores(scores.joined(list(parts.values())), model.class_names, top_k)
    streams.write_error("\n".join(aligned(_table(found))))
    figures = ("examples", "error", "cost", "top_k_error", "calibration_error")
    streams.write_error(", ".join(f"{name.replace('_', ' ')} {_cell(found[name])}" for name in figures))
    streams.write_output(json.dumps({"model": str(model_path), "dataset": data.dataset, "split": split, **found}))
    return 0


def _lines(parts: dict[str, Any], class_names: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", "number", "class", "predicted", "probability"])
    for split, (labels, probabilities) in parts.items():
        predicted, highest = probabilities.argmax(axis=1), probabilities.max(axis=1)
        for number, (label, found, p) in enumerate(zip(labels, predicted, highest.tolist(), strict=True)):
            writer.writerow([split, number, class_names[label], class_names[found], p])
    return text.getvalue()


def _table(found: dict[str, Any]) -> list[tuple[str, ...]]:
    header, *_ = found["classes"]
    return [tuple(header), *(tuple(_cell(value) for value in one.values()) for one in found["classes"])]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, (str, int)) else f"{value:.4g}"

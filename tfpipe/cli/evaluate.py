"""`tfpipe evaluate`."""

import contextlib
import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from tfpipe.cli import config_flags, model_flags, streams
from tfpipe.config import DataConfig
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.text import aligned

if TYPE_CHECKING:
    from tfpipe.data import Splits
    from tfpipe.model.artifact import TrainedModel

_SPLITS = ("train", "validation", "test")
_ELSEWHERE = "--dataset names the data, where it is now"


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    own: dict[str, Any] = {"flag_values": values, "module_name": "evaluate"}
    model_flags.define(values, "evaluate")
    flags.DEFINE_enum(
        "split", "test", [*_SPLITS, "all"], "which examples; all: of every split, for data that is not divided", **own
    )
    flags.DEFINE_integer("top_k", 1, "also count as right what is among so many classes", lower_bound=1, **own)
    flags.DEFINE_string("output", None, "a CSV file to write, with a line for each example", **own)
    config_flags.define(DataConfig, values, "evaluate")


def prepare(values: flags.FlagValues, _: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns prints the figures and returns the exit status."""
    path = model_flags.path(values)
    output = None if values.output is None else pathlib.Path(values.output).expanduser()
    if output is not None and not output.name:
        raise ConfigError("output", values.output, "must be the path of a file")
    split, top_k = values.split, values.top_k
    if _names_data(values):
        data = config_flags.read(DataConfig, values)
        return lambda: _evaluate(path, lambda model: _load(data, model), data.dataset, split, top_k, output)
    if values.workdir is None:
        raise ConfigError("dataset", "", "must tell on what data; without --workdir there is no run that had any")
    workdir = Workdir(values.workdir)
    return lambda: _evaluate(path, lambda model: _data_of(workdir, model), "of the run", split, top_k, output)


def _names_data(values: flags.FlagValues) -> bool:
    given = [field.name for field in dataclasses.fields(DataConfig) if values[field.name].present]
    if given and not values["dataset"].present:
        raise ConfigError(given[0], values[given[0]].value, "goes with --dataset; else the run's own data is taken")
    return bool(given)


def _load(data: DataConfig, model: "TrainedModel") -> "Splits":
    """The data; pictures are brought to the size and the colours of the model unless the flags say otherwise."""
    from tfpipe import data as datasets  # NumPy: not for `--help`.

    options = dataclasses.asdict(data)
    if model.color_mode is not None and data.image_size is None and data.color_mode is None:
        with contextlib.suppress(ConfigError):  # It is no data set of pictures.
            return datasets.load(**options | {"image_size": model.image_shape[:2], "color_mode": model.color_mode})
    return datasets.load(**options)


def _data_of(workdir: Workdir, model: "TrainedModel") -> "Splits":
    """The data of a run, divided as it was then.

    Raises:
      DataError: it cannot be loaded; or it has changed since, so that examples that the model was trained on may be
        among those of the test.
    """
    splits = _load_again(workdir)
    of_run = model.summary.get("fingerprint")
    if of_run is None:
        logging.warning("%s: tells no fingerprint: whether the data is still the same is not known", workdir.model)
    elif splits.fingerprint != of_run:
        raise DataError(
            f"{workdir.flags}: the data that it names has changed since the run, so training examples may be in the "
            f"test split now; bring it back as it was, or name other data by --dataset"
        )
    return splits


def _load_again(workdir: Workdir) -> "Splits":
    """What the flags of a run name as its data."""
    from tfpipe import data as datasets

    values = flags.FlagValues()
    config_flags.define(DataConfig, values, "evaluate")
    try:
        lines = [line for line in workdir.flags.read_text("utf-8").splitlines() if _is_of_data(line, values)]
        values(["", *lines])
        if not values["dataset"].present or not values.dataset:
            raise DataError(f"{workdir.flags}: names no data, which came from a program; {_ELSEWHERE}")
        return datasets.load(**dataclasses.asdict(config_flags.read(DataConfig, values)))
    except (OSError, UnicodeDecodeError, flags.Error) as error:
        raise DataError(f"{workdir.flags}: cannot be read: {error}; {_ELSEWHERE}") from error
    except (DataError, ConfigError) as error:
        raise DataError(f"{error}; so says {workdir.flags}; {_ELSEWHERE}") from error


def _is_of_data(line: str, values: flags.FlagValues) -> bool:
    name = line.removeprefix("--").split("=")[0]
    return name in values or name.removeprefix("no") in values


def _evaluate(
    model_path: pathlib.Path,
    load: Callable[["TrainedModel"], "Splits"],
    dataset: str,
    split: str,
    top_k: int,
    output: pathlib.Path | None,
) -> int:
    from tfpipe.disk import files
    from tfpipe.model import scores

    model = model_flags.load(model_path, top_k)
    splits = load(model)
    chosen = _SPLITS if split == "all" else (split,)
    parts = {name: scores.predict(model, splits, getattr(splits, name)) for name in chosen}
    found = scores.scores(scores.concatenated(list(parts.values())), model.class_names, top_k)
    if output is not None:
        files.write_whole(output, _lines(parts, model.class_names).encode())
    streams.write_error("\n".join(aligned(_table(found))))
    figures = ("examples", "error", "cost", "top_k_error", "calibration_error")
    streams.write_error(", ".join(f"{name.replace('_', ' ')} {_cell(found[name])}" for name in figures))
    streams.write_output(json.dumps({"model": str(model_path), "dataset": dataset, "split": split, **found}))
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

"""`tfpipe evaluate`."""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from tfpipe.cli import config_flags, model_flags, paths, run_data, run_flags, streams
from tfpipe.config import DataConfig
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.stores import address
from tfpipe.text import aligned

if TYPE_CHECKING:
    from tfpipe.data import Examples, Splits
    from tfpipe.model.artifact import TrainedModel
    from tfpipe.model.scores import Predictions

_SPLITS = ("train", "validation", "test")
_OTHER_DATA = "name data that the model has not seen by --dataset, with --split=all"


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    own: dict[str, Any] = {"flag_values": values, "module_name": "evaluate"}
    model_flags.define(values, "evaluate")
    flags.DEFINE_enum(
        "split",
        None,
        [*_SPLITS, "all"],
        "which examples; all: of every split, for data that is not divided; default: test, and all for data other than "
        "that of the run, if it brings no splits",
        **own,
    )
    flags.DEFINE_integer("top_k", 1, "also count as right what is among so many classes", lower_bound=1, **own)
    flags.DEFINE_string(
        "output",
        None,
        "a CSV file to write, with a line for each example: its split, number there, row in the data (of class folders "
        "the place among the sorted paths), and file",
        **own,
    )
    config_flags.define(DataConfig, values, "evaluate")


def prepare(values: flags.FlagValues, _: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns prints the figures and returns the exit status."""
    model_flags.name(values)
    output = None if values.output is None else paths.expanded("output", values.output)
    if output is not None and not output.name:
        raise ConfigError("output", values.output, "must be the path of a file")
    split, top_k = values.split, values.top_k
    given = _given(values)
    if given:
        data = config_flags.read(DataConfig, values)
        dataset = address.shown(data.dataset)
        return lambda: _evaluate(
            values, lambda workdir, model: _named(data, given, workdir, model), dataset, split, top_k, output
        )
    if values.workdir is None:
        raise ConfigError("dataset", "", "must tell on what data; without --workdir there is no run that had any")
    return lambda: _evaluate(values, _data_of, "of the run", split, top_k, output)


def _given(values: flags.FlagValues) -> dict[str, Any]:
    """The flags of data that the user gave, `dataset` among them; or none."""
    given = {
        field.name: values[field.name].value for field in dataclasses.fields(DataConfig) if values[field.name].present
    }
    if given and "dataset" not in given:
        name, value = next(iter(given.items()))
        raise ConfigError(name, address.shown(str(value)), "goes with --dataset; else the run's own data is taken")
    return given


def _named(data: DataConfig, given: dict[str, Any], workdir: Workdir | None, model: "TrainedModel") -> "Splits":
    """The data that the flags name; if it is the run's own, divided and scaled as it was then.

    Raises:
      DataError: it cannot be loaded; or it is the run's own, and not as it was.
    """
    of_run = None
    if workdir is not None:
        with contextlib.suppress(DataError):  # What the run had is not known.
            of_run = run_flags.data(workdir)
    if workdir is None or of_run is None or not _is_same(data.dataset, of_run.dataset):
        return _load(data, given, model)

    from tfpipe import data as datasets  # NumPy: not for `--help`.

    merged = dataclasses.replace(of_run, **given)
    splits = datasets.load(**dataclasses.asdict(merged))
    others = [f"--{name}" for name in given if name != "dataset" and getattr(merged, name) != getattr(of_run, name)]
    or_else = f", or {', '.join(others)} makes it otherwise than it was" if others else ""
    run_data.check_unchanged(splits, workdir, model, _OTHER_DATA, or_else)
    return splits


def _is_same(dataset: str, of_run: str) -> bool:
    """Whether both name the same data; flags.txt has absolute paths, addresses without secrets, and other names."""
    with contextlib.suppress(OSError, RuntimeError):  # Of `~` of somebody who is not there, or links in a circle.
        if pathlib.Path(of_run).is_absolute():
            return pathlib.Path(dataset).expanduser().resolve() == pathlib.Path(of_run).resolve()
    return address.shown(dataset) == of_run


def _load(data: DataConfig, given: dict[str, Any], model: "TrainedModel") -> "Splits":
    """The data; pictures and categories are read as the model says, unless flags that are `given` say otherwise.

    Raises:
      DataError: it cannot be loaded; or it is a table that lacks a column of the model.
    """
    from tfpipe.data import addresses, loading
    from tfpipe.data.readers import registry
    from tfpipe.model import columns

    places = addresses.Places(data)
    here, shown = places.local(data), places.shown(data)
    options = dataclasses.asdict(data)
    if model.columns and "categorical" not in given:
        with places.told():
            options["categorical"] = columns.categorical(here, model.columns)
    if model.color_mode is not None:
        form = {"image_size": model.image_shape[:2], "color_mode": model.color_mode}
        if not form.keys().isdisjoint(given):
            form = {}
        reading = {name: value for name, value in model.reading._asdict().items() if name not in given}
        of_all = {name: value for name, value in reading.items() if name == "fit"}
        for of_model in (form | reading, form | of_all, form):
            try:
                splits = loading.loaded(DataConfig(**options | of_model), model.class_names, places)
                # Of other data than files of pictures the value is no measured one.
                is_open = of_model.get("gray_max", 0) is None and "gray_max" in registry.find(here).format.options
                if is_open and splits.reading and splits.reading.gray_max is not None:
                    what = "holds gray pictures of more than 8 bits a pixel, and the model was trained on none"
                    raise DataError(f"{shown.dataset}: {what}; --gray_max=VALUE says what is white in them")
                _warn_of_other_reading(shown, given, model, splits)
                return splits
            except ConfigError as error:
                if error.option not in of_model:
                    raise
                # It is no folder of pictures; then, it is no data set of pictures.
    return loading.loaded(DataConfig(**options), model.class_names, places)


def _warn_of_other_reading(data: DataConfig, given: dict[str, Any], model: "TrainedModel", splits: "Splits") -> None:
    """Warns of given flags by which pictures are read otherwise than those that the model was trained on."""
    if splits.reading is None:
        return
    others = {
        name: value
        for name, value in model.reading._asdict().items()
        if name in given and value is not None and value != getattr(data, name)
    }
    if others:
        logging.warning(
            "%s: %s, and the model was trained with %s: the figures are of pictures that are read otherwise than the "
            "training pictures, and than predict reads them",
            data.dataset,
            " ".join(f"--{name}={getattr(data, name)}" for name in others),
            " ".join(f"--{name}={value}" for name, value in others.items()),
        )


def _data_of(workdir: Workdir | None, model: "TrainedModel") -> "Splits":
    """The data of a run, divided as it was then.

    Raises:
      DataError: it cannot be loaded; or it has changed since.
    """
    assert workdir is not None
    splits = run_data.load(run_flags.data(workdir), workdir, run_flags.ELSEWHERE)
    run_data.check_unchanged(splits, workdir, model, _OTHER_DATA)
    return splits


def _evaluate(
    values: flags.FlagValues,
    load: Callable[[Workdir | None, "TrainedModel"], "Splits"],
    dataset: str,
    split: str | None,
    top_k: int,
    output: pathlib.Path | None,
) -> int:
    from tfpipe.disk import files
    from tfpipe.model import scores, tested

    with model_flags.opened(values) as file:
        model = model_flags.load(file, top_k)
        splits = load(file.workdir, model)
    is_undivided = split is None and _is_other_and_undivided(splits, model)
    split = split or ("all" if is_undivided else "test")
    there = [name for name in _SPLITS if len(getattr(splits, name))]
    if split not in (*there, "all"):
        others = f"{' and '.join(there)}, or all"
        reason = ", as test_split=0 says" if "train" in there else ""
        raise ConfigError("split", split, f"has no examples{reason}; there are {others}")
    chosen = there if split == "all" else [split]
    parts = _predictions(model, splits, chosen)
    if is_undivided:
        logging.warning(
            "%s: brings no splits, so all of its %d examples are taken; if the model was trained on some of them, the "
            "figures are too good",
            dataset,
            sum(len(labels) for labels, _ in parts.values()),
        )
    if _may_leak(splits, split, model):
        logging.warning(
            "%s: brings no %s split, and this one is drawn from data that may hold training examples; --split=all for "
            "data that the model has not seen",
            dataset,
            split,
        )
    if (
        model.summary.get("saw_validation")
        and split in ("validation", "all")
        and splits.fingerprint == model.summary.get("fingerprint")
    ):
        logging.warning("%s: the model was fitted on the validation examples too: it has seen them", file.name)
    weights, groups = tested.weights_and_groups([getattr(splits, name) for name in chosen])
    is_of_run = splits.fingerprint == model.summary.get("fingerprint")
    duplicates = splits.duplicates if is_of_run and split == "test" else None
    found = scores.scores(
        scores.concatenated(list(parts.values())), model.class_names, top_k, weights, groups,
        duplicates.seen_in_test if duplicates else None, has_seen=is_of_run and split != "test",
    )  # fmt: skip
    if output is not None:
        lines = _lines({name: getattr(splits, name) for name in chosen}, parts, model.class_names)
        files.write_whole(output, lines.encode())
    streams.write_error("\n".join(aligned(_table(found))))
    figures = ("examples", "error", "cost", "top_k_error", "calibration_error")
    streams.write_error(", ".join(f"{name.replace('_', ' ')} {_cell(found[name])}" for name in figures))
    streams.write_error("\n".join(tested.lines(split, found)))
    streams.write_output(json.dumps({"model": file.name, "dataset": dataset, "split": split, **found}))
    return 0


def _predictions(model: "TrainedModel", splits: "Splits", names: list[str]) -> dict[str, "Predictions"]:
    """What the model says of each of the splits; rows of one array it is given together, and warns of them once."""
    import numpy as np

    from tfpipe.model import scores

    parts = {name: getattr(splits, name) for name in names}
    first, *others = parts.values()
    if any(part.stored is not first.stored for part in others):
        return {name: scores.predict(model, splits, part) for name, part in parts.items()}
    whole = functools.reduce(lambda joined, part: joined.joined(part), others, first)
    found = scores.predict(model, splits, whole)
    places = {name: np.searchsorted(whole.rows, part.rows) for name, part in parts.items()}
    return {name: scores.Predictions(*(of_all[place] for of_all in found)) for name, place in places.items()}


def _is_other_and_undivided(splits: "Splits", model: "TrainedModel") -> bool:
    """Whether this is known to be other data than that of the run, and brings no split but the one to train on."""
    of_run = model.summary.get("fingerprint")
    brought = [name for name in ("validation", "test") if len(getattr(splits, name)) and name not in splits.taken]
    return of_run is not None and splits.fingerprint != of_run and not brought


def _may_leak(splits: "Splits", split: str, model: "TrainedModel") -> bool:
    """Whether `split` was drawn from the data, and that is not known to be as it was in the run."""
    return split in splits.taken and splits.fingerprint != model.summary.get("fingerprint")


def _lines(examples: dict[str, "Examples"], predictions: dict[str, Any], class_names: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    have_files = any(part.files is not None for part in examples.values())
    writer.writerow(["split", "number", "row", *["file"] * have_files, "class", "predicted", "probability"])
    for split, (labels, probabilities) in predictions.items():
        predicted, highest = probabilities.argmax(axis=1), probabilities.max(axis=1)
        part = examples[split]
        rows, files = (part.rows if part.listed is None else part.listed).tolist(), part.files
        for number, (label, found, p) in enumerate(zip(labels, predicted, highest.tolist(), strict=True)):
            file = [files[number]] if files is not None else [""] * have_files
            writer.writerow([split, number, rows[number], *file, class_names[label], class_names[found], p])
    return text.getvalue()


def _table(found: dict[str, Any]) -> list[tuple[str, ...]]:
    header, *_ = found["classes"]
    return [tuple(header), *(tuple(_cell(value) for value in one.values()) for one in found["classes"])]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, (str, int)) else f"{value:.4g}"

"""`tfpipe compare`."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from tfpipe.cli import model_flags, paths, run_data, run_flags, streams
from tfpipe.cli.model_flags import ModelFile
from tfpipe.disk import staging
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.stores import address as addresses
from tfpipe.text import aligned

if TYPE_CHECKING:
    from tfpipe.config import DataConfig
    from tfpipe.data import Examples, Splits
    from tfpipe.model.matching import Measured

_REMEDY = "train again on the data as it is now"


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    own: dict[str, Any] = {"flag_values": values, "module_name": "compare"}
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "on which examples of the runs' data", **own)
    flags.DEFINE_string("output", None, "an HTML file to write: the comparison as a page with pictures", **own)
    flags.DEFINE_bool("overwrite", False, "replace the file that is there", **own)


def prepare(values: flags.FlagValues, runs: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns prints the comparison and returns the exit status."""
    if len(runs) < 2:
        raise flags.Error(f"{len(runs)} RUN; give the folders of two finished runs, or more")
    places = [_place(run) for run in runs]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise flags.Error(f"{addresses.shown(runs[number])} is given twice; give the folders of different runs")
    output = None if values.output is None else paths.expanded("output", values.output)
    if output is not None and not output.name:
        raise ConfigError("output", values.output, "must be the path of a file")
    split, overwrite = values.split, values.overwrite
    return lambda: _compare(runs, split, output, overwrite=overwrite)


def _place(run: str) -> str:
    """Where a run is, by whatever path it is named."""
    if addresses.is_address(run):
        addresses.check("workdir", run)
        return run.rstrip("/")
    return os.path.realpath(Workdir(run).path)


def _compare(names: list[str], split: str, output: pathlib.Path | None, *, overwrite: bool) -> int:
    from tfpipe.model import comparison, matching
    from tfpipe.monitor import comparison_page

    if output is not None:
        _check_writable(output, overwrite=overwrite)
    runs: list[Measured] = []
    shown: tuple[int, Examples] | None = None
    loaded: dict[DataConfig, Splits] = {}
    for number, name in enumerate(names):
        with staging.fetched(name, ("model.npz", "flags.txt")) as workdir:
            measured, examples = _measure(workdir, split, loaded, shows=output is not None and shown is None)
        runs.append(measured)
        if examples is not None:
            shown = number, examples
    matched = matching.match(runs, split)
    pairs = comparison.pairs(matched)
    content = comparison.content(matched, pairs, split)
    if output is not None:
        comparison_page.save(output, content, matched, pairs, shown)
    streams.write_error(comparison_page.lead(content))
    for table in (comparison_page.runs_table(content), comparison_page.pairs_table(content)):
        streams.write_error("\n".join(aligned(table)))
    streams.write_output(json.dumps(content))
    return 0


def _check_writable(output: pathlib.Path, *, overwrite: bool) -> None:
    """Raises DataError unless a page may be written there: before what takes long."""
    if not output.absolute().parent.is_dir():
        raise DataError(f"{output}: {output.absolute().parent} is no folder; give a path in one that is there")
    if os.path.lexists(output):
        if not output.is_file() or output.is_symlink():
            raise DataError(f"{output}: is there, and no file; give another path")
        if not overwrite:
            raise DataError(f"{output}: is there already; give another path, or --overwrite")


def _measure(
    workdir: Workdir, split: str, loaded: "dict[DataConfig, Splits]", *, shows: bool
) -> "tuple[Measured, Examples | None]":
    """What a run's model says of its split; and the examples, if they are pictures and wanted to be shown.

    `loaded` holds the data of the run before: several runs of the same data have it read once, and no two data sets lie
    in memory side by side, but for what is to be shown.
    """
    from tfpipe.model import matching
    from tfpipe.monitor import pictures

    model = model_flags.load(ModelFile(workdir.model, workdir.shown(workdir.model), workdir))
    config = run_flags.data(workdir, _REMEDY)
    if config not in loaded:
        loaded.clear()
        loaded[config] = run_data.load(config, workdir, _REMEDY)
    splits = loaded[config]
    run_data.check_unchanged(splits, workdir, model, _REMEDY)
    examples = getattr(splits, split)
    if not len(examples):
        raise ConfigError("split", split, f"{workdir.name} has no such examples; give another split")
    if split == "train" or (split == "validation" and model.summary.get("saw_validation")):
        logging.warning("%s: the model was fitted on the %s examples: it has seen them", workdir.name, split)
    measured = matching.measure(workdir.name, config.dataset, model, splits, examples)
    return measured, examples if shows and pictures.is_picture(splits.image_shape) else None

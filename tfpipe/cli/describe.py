"""`tfpipe describe`."""

import io
import json
import pathlib
from collections.abc import Callable

from absl import flags

from tfpipe.cli import config_flags, paths, streams
from tfpipe.config import DataConfig
from tfpipe.exceptions import ConfigError, DataError


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    config_flags.define(DataConfig, values, "describe")
    flags.DEFINE_string(
        "contact_sheet",
        None,
        "a PNG file to write, with the first training examples of each class",
        flag_values=values,
        module_name="describe",
    )


def prepare(values: flags.FlagValues, _: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns prints the description and returns the exit status."""
    data = config_flags.read(DataConfig, values)
    named = values["contact_sheet"].value
    sheet = None if named is None else paths.expanded("contact_sheet", named)
    return lambda: _describe(data, sheet)


def _describe(data: DataConfig, sheet: pathlib.Path | None) -> int:
    from tfpipe.data import addresses, description, loading, survey
    from tfpipe.disk import files

    places = addresses.Places(data)
    pictures = survey.of_data(data, places)
    if pictures is not None:
        streams.write_error(survey.table(pictures))
    try:
        splits = loading.loaded(data, places=places)
    except (ConfigError, DataError) as error:
        if pictures is not None:  # Which tell what would be right.
            dataset = places.shown(data).dataset
            streams.write_output(json.dumps({"dataset": dataset, "problem": str(error), "pictures": pictures}))
        raise
    if sheet is not None:
        png = io.BytesIO()
        description.contact_sheet(splits).save(png, "png")
        files.write_whole(sheet, png.getvalue())
    content = description.describe(splits, pictures)
    streams.write_error(description.table(content))
    streams.write_output(json.dumps(content))
    return 0

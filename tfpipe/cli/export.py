"""`tfpipe export`."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags, logging

from tfpipe.cli import model_flags, paths, streams
from tfpipe.compute import startup
from tfpipe.exceptions import ConfigError
from tfpipe.stores import address as addresses

# What each is called if no other name is given.
_NAMES = {"saved_model": "saved_model", "keras": "model.keras", "onnx": "model.onnx", "npz": "exported.npz"}


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    own: dict[str, Any] = {"flag_values": values, "module_name": "export"}
    model_flags.define(values, "export")
    flags.DEFINE_enum(
        "format",
        None,
        list(_NAMES),
        "saved_model: for TensorFlow, with signatures for images and for the bytes of pictures; keras: a .keras file "
        "of Keras' own layers; onnx: for ONNX Runtime and others; npz: for NumPy, as it is",
        **own,
    )
    flags.DEFINE_string("output", None, f"where to; default: {', '.join(_NAMES.values())} beside the model", **own)
    flags.DEFINE_bool("overwrite", False, "replace what is there", **own)


def prepare(values: flags.FlagValues, _: list[str]) -> Callable[[], int]:
    """Checks the flags; what it returns writes the export and returns the exit status."""
    of_model, format = model_flags.name(values), values.format
    if format is None:
        raise ConfigError("format", "", f"must be one of {', '.join(_NAMES)}")
    named = values.output
    if named is None and addresses.is_address(of_model):
        raise ConfigError("output", "", f"give a path on this machine: beside {of_model} nothing is written")
    output = pathlib.Path(of_model).with_name(_NAMES[format]) if named is None else paths.expanded("output", named)
    if not output.name:
        raise ConfigError("output", named, "must be the path of a file, or of a folder for saved_model")
    if format == "keras" and output.suffix != ".keras":
        raise ConfigError("output", named, "must end in .keras, by which Keras knows its files")
    return lambda: _export(values, output, format, overwrite=values.overwrite)


def _export(values: flags.FlagValues, output: pathlib.Path, format: str, *, overwrite: bool) -> int:
    with model_flags.opened(values) as file:
        model = model_flags.load(file)
    if format in ("saved_model", "keras"):
        startup.import_tensorflow()
        logging.set_verbosity(min(logging.get_verbosity(), logging.WARNING))  # It tells of its assets and shards.
    from tfpipe.model import export

    export.write(model, output, format, overwrite=overwrite)
    streams.write_output(json.dumps({"model": file.name, "format": format, "output": str(output)}))
    return 0

"""The flags that name a trained model: `--workdir` or `--model`."""

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from tfpipe.cli import paths
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, OptionError

if TYPE_CHECKING:
    from tfpipe.model.artifact import TrainedModel


def define(values: flags.FlagValues, module: str) -> None:
    """Defines both on `values`, for the help of `module`."""
    flags.DEFINE_string(
        "workdir", None, "the folder of a run, whose selected model is taken", flag_values=values, module_name=module
    )
    flags.DEFINE_string("model", None, "a model.npz, instead of a run", flag_values=values, module_name=module)


def path(values: flags.FlagValues) -> pathlib.Path:
    """Where the model is. Raises OptionError unless one of the flags tells."""
    workdir, model = values.workdir, values.model
    if workdir is not None and model is not None:
        raise ConfigError("model", model, "does not go with --workdir, which names a model too")
    if not (workdir or model):
        raise ConfigError("workdir", "", "give the folder of a run, or --model=FILE")
    return Workdir(workdir).model if workdir is not None else paths.expanded("model", model)


def load(path: pathlib.Path, top_k: int = 1) -> "TrainedModel":
    """The model. Raises DataError if it cannot be read, OptionError if it has fewer than `top_k` classes."""
    from tfpipe.model import artifact  # NumPy: not for `--help`.

    model = artifact.load(path)
    if top_k > len(model.class_names):
        raise OptionError("top_k", top_k, f"the model has {len(model.class_names)} classes")
    return model

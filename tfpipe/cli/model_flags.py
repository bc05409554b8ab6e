"""The flags that name a trained model: `--workdir` or `--model`."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from tfpipe.cli import paths
from tfpipe.disk import staging
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError, OptionError
from tfpipe.stores import address as addresses

if TYPE_CHECKING:
    from tfpipe.model.artifact import TrainedModel


class ModelFile(NamedTuple):
    """Where a trained model is.

    Attributes:
      path: of the file on this machine.
      name: of the file for people.
      workdir: of its run; None: the model was named by itself.
    """

    path: pathlib.Path
    name: str
    workdir: Workdir | None


def define(values: flags.FlagValues, module: str) -> None:
    """Defines both on `values`, for the help of `module`."""
    flags.DEFINE_string(
        "workdir",
        None,
        "the folder of a run, or its address on an object store, whose selected model is taken",
        flag_values=values,
        module_name=module,
    )
    flags.DEFINE_string(
        "model", None, "a model.npz, or the address of one, instead of a run", flag_values=values, module_name=module
    )


def name(values: flags.FlagValues) -> str:
    """Where the model is, for people: a path or an address. Raises OptionError unless one of the flags tells."""
    workdir, model = values.workdir, values.model
    if workdir is not None and model is not None:
        raise ConfigError("model", addresses.shown(model), "does not go with --workdir, which names a model too")
    if not (workdir or model):
        raise ConfigError("workdir", "", "give the folder of a run, or --model=FILE")
    option, value = ("workdir", workdir) if workdir is not None else ("model", model)
    if addresses.is_address(value):
        addresses.check(option, value)
        if option == "workdir" and addresses.scheme(value) in addresses.READ_ONLY:
            model = addresses.joined(addresses.shown(value), "model.npz")
            raise ConfigError(option, addresses.shown(value), f"HTTP lists no objects; give --model={model}")
        return addresses.joined(addresses.shown(value), "model.npz" if option == "workdir" else "")
    return str(Workdir(workdir).model if workdir is not None else paths.expanded("model", model))


@contextlib.contextmanager
def opened(values: flags.FlagValues) -> Iterator[ModelFile]:
    """The file of the model; one that lies on an object store is fetched, and is gone in the end.

    Raises:
      DataError: it is on an object store, which does not give it.
      OptionError: none of the flags tells; or the run on the store is none.
    """
    of_model = name(values)
    if values.workdir is not None:
        with staging.fetched(values.workdir, ("model.npz", "flags.txt")) as workdir:
            yield ModelFile(workdir.model, workdir.shown(workdir.model), workdir)
    elif addresses.is_address(values.model):
        from tfpipe.stores.access import Store

        with tempfile.TemporaryDirectory(prefix="tfpipe-") as folder:
            path = pathlib.Path(folder, "model.npz")
            path.write_bytes(Store(values.model).read())
            yield ModelFile(path, of_model, None)
    else:
        yield ModelFile(pathlib.Path(of_model), of_model, None)


def load(file: ModelFile, top_k: int = 1) -> "TrainedModel":
    """The model. Raises DataError if it cannot be read, OptionError if it has fewer than `top_k` classes."""
    from tfpipe.model import artifact  # NumPy: not for `--help`.

    try:
        with open(file.path, "rb") as content:
            model = artifact.decode(file.name, content)
    except OSError as error:
        raise DataError(f"{file.name}: cannot be read: {error.strerror}") from error
    if top_k > len(model.class_names):
        raise OptionError("top_k", top_k, f"the model has {len(model.class_names)} classes")
    return model

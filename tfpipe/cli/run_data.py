"""The data of a run, as it was then."""

import dataclasses
from typing import TYPE_CHECKING

from absl import logging

from tfpipe.config import DataConfig
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DataError

if TYPE_CHECKING:
    from tfpipe.data import Splits
    from tfpipe.model.artifact import TrainedModel


def load(config: DataConfig, workdir: Workdir, remedy: str) -> "Splits":
    """The data that `flags.txt` of a run names by `config`; `remedy` is what an error says of what would be right.

    Raises:
      DataError: it cannot be loaded.
    """
    from tfpipe import data as datasets  # NumPy: not for `--help`.

    try:
        return datasets.load(**dataclasses.asdict(config))
    except (DataError, ConfigError) as error:
        raise DataError(f"{error}; so says {workdir.shown(workdir.flags)}; {remedy}") from error


def check_unchanged(splits: "Splits", workdir: Workdir, model: "TrainedModel", remedy: str, or_else: str = "") -> None:
    """Raises DataError if examples that the model was trained on may be among those of the test.

    Args:
      splits: the data, as it is now.
      workdir: of the run.
      model: its model, which knows the data as it was.
      remedy: what the error says of what would be right, but to bring the data back.
      or_else: and of what it may be but a change of the data.
    """
    of_run = model.summary.get("fingerprint")
    if of_run is None:
        logging.warning(
            "%s: tells no fingerprint: whether the data is still the same is not known", workdir.shown(workdir.model)
        )
    elif splits.fingerprint != of_run:
        raise DataError(
            f"{workdir.shown(workdir.flags)}: the data that it names has changed since the run{or_else}, so training "
            f"examples may be in the test split now; bring it back as it was, or {remedy}"
        )

"""What a run is to do, before it has done anything."""

from typing import NamedTuple

import numpy as np

from tfpipe.compute import device
from tfpipe.config import TrainConfig, flag_lines, flag_value
from tfpipe.data import Splits
from tfpipe.training import report
from tfpipe.training.grid import multiplies_bytes
from tfpipe.training.schedule import Schedule
from tfpipe.training.state import Origin

_SPLITS = {"train": "training", "validation": "validation", "test": "test"}


class Plan(NamedTuple):
    """Hyper-parameters, data, and what follows from them.

    Attributes:
      config: how to train.
      splits: on what.
      schedule: when what happens.
      place: where it is computed.
    """

    config: TrainConfig
    splits: Splits
    schedule: Schedule
    place: device.Device

    @property
    def flags(self) -> list[str]:
        """The run as the lines of a flagfile."""
        # Without a value the flagfile asks for the data, rather than train on other data than this run did.
        of_data = flag_lines(self.splits.config) if self.splits.config else ["--dataset="]
        return flag_lines(self.config) + of_data

    @property
    def data(self) -> str:
        """What it trains on, in words."""
        counts = ", ".join(f"{getattr(self.schedule, name).examples} {words}" for name, words in _SPLITS.items())
        return f"{counts} examples of {self.splits.form}; {self.splits.n_out} classes"

    @property
    def class_weight(self) -> np.ndarray | None:
        """What an example counts in the cost, by its class: `[K]` float32; None: each counts 1."""
        if self.config.class_weight is None:
            return None
        counts = np.bincount(self.splits.train.labels, minlength=self.splits.n_out)
        there = counts > 0  # As scikit-learn does, which knows the classes of the examples alone.
        return np.where(there, counts.sum() / (there.sum() * np.maximum(counts, 1)), 1).astype(np.float32)

    @property
    def products(self) -> str:
        """In what type it multiplies matrices."""
        return "int8" if multiplies_bytes(self.config, self.splits, self.place) else self.config.precision

    @property
    def origin(self) -> Origin:
        """What makes it this run and no other."""
        settings = {name: flag_value(value) for name, value in vars(self.config).items()}
        # By default it follows from others: from patience, for one, of which more may be given.
        settings["validation_frequency"] = str(self.schedule.validation_frequency)
        machine = {
            "device": self.place.label,
            "processor": device.processor(),
            "cores": str(device.cores()),
            "threads": str(device.threads()),
            "products": self.products,
            **report.versions(),
        }
        sizes = (len(self.config.heads), self.splits.n_out, self.splits.n_in)
        return Origin(settings, self.data, self.splits.fingerprint, sizes, machine)

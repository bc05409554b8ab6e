"""What a run is to do, before it has done anything."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfpipe.compute import cpu
from tfpipe.compute.device import Device
from tfpipe.compute.programs import padded
from tfpipe.config import SGD_TESTS, TrainConfig, flag_lines, flag_value, known
from tfpipe.data import Examples, Splits
from tfpipe.exceptions import ConfigError
from tfpipe.monitor import DrawingPace, Validated
from tfpipe.pipeline import residency, spans
from tfpipe.pipeline.sampler import Sampler
from tfpipe.solvers.base import Solver
from tfpipe.solvers.objective import arithmetic
from tfpipe.solvers.weights import example_weights, measured_weights
from tfpipe.training import footprint
from tfpipe.training.identity import RunIdentity, of_weights
from tfpipe.training.state import State
from tfpipe.training.versions import versions

# What the report tells of each head beside its settings.
OF_A_HEAD = (
    "validation_error", "validation_cost", "balanced_error", "test_error", "epochs", "iterations", "best_iteration",
    "diverged",
)  # fmt: skip
_SPLITS = {"train": "training", "validation": "validation", "test": "test"}
# Products of fewer operations are faster with one thread: to wake a second one takes 35 microseconds on an Intel Xeon,
# and what each multiplies lies in the other's cache. Microseconds a step, with one thread and with two:
# bytes, 9e6 operations 151 and 221, 28e6 327 and 386, 38e6 558 and 450; float32, 0.13e6 24 and 40, 9e6 584 and 454.
_FLOPS_OF_ONE_THREAD = {"int8": 30e6}
_FLOPS_OF_ONE_THREAD_OTHERWISE = 3e6
# Of minibatches in order, which one thread takes whole: on two cores of an AMD EPYC 9e6 operations take 150
# microseconds so, and with two threads 140 or, in one run of four, 350; 38e6 take 600 and 440.
_FLOPS_OF_ONE_THREAD_IN_ORDER = 12e6


class Pace(NamedTuple):
    """How much is done between two looks at the world, and by which clock. Figures do not depend on it.

    Attributes:
      clock: seconds, from any time on, never backwards.
      span_bytes, span_flops, span_validations: bounds of a span.
      flops_worth_leaving: heads that stopped leave if that saves so many: new programs take 1.3 s to compile on a CPU
        that computes 200 to 500e9 a second. By this rule, and no clock, a run that is repeated does the same again.
      monitor: of pictures.
    """

    clock: Callable[[], float] = time.monotonic
    span_bytes: int = spans.SPAN_BYTES
    span_flops: float = spans.SPAN_FLOPS
    span_validations: int = 64
    flops_worth_leaving: float = 250e9
    monitor: DrawingPace = DrawingPace()


class Plan(NamedTuple):
    """Hyper-parameters, data, solver, and what follows from them.

    Attributes:
      config: how to train, as the solver has settled it.
      splits: on what.
      solver: by what.
      device: where.
      pace: see there.
      validation, test: the minibatches of both splits; of one shape, so that one program serves both.
      screens: whether it is the first run of `screen`, of which the second takes the best heads.
      screened: of the second run, what the first came to; else None.
    """

    config: TrainConfig
    splits: Splits
    solver: Solver
    device: Device
    pace: Pace
    validation: Sampler
    test: Sampler
    screens: bool = False
    screened: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, splits: Splits, solver: Solver, device: Device, pace: Pace) -> "Plan":
        """The plan that follows, for the solver's hyper-parameters.

        Raises:
          ConfigError: the hyper-parameters do not fit the data.
          DataError: no validation example has weight.
          ValueError: the solver names something as a field of a validation or of a state is named.
        """
        if not len(splits.test):
            raise ConfigError("test_split", 0, SGD_TESTS)
        settings = {*solver.settings[0]}
        taken = {*solver.reports} & {*Validated._fields, *settings} | {*solver.slots(1, 1, 1)} & {"W", "b"}
        taken |= settings & {*OF_A_HEAD}
        if taken:
            raise ValueError(f"solver {solver.name}: its {', '.join(sorted(taken))} would take the place of another")
        config = solver.config
        most = max(len(splits.validation), len(splits.test))
        validation, test = (_in_order(config, name, getattr(splits, name), most) for name in ("validation", "test"))
        measured_weights(splits.validation.take(np.arange(validation.examples)))
        if config.precision == "screen" and len(solver.settings) == 1:
            raise ConfigError("precision", "screen", "is for grids, and this is a single head; take float32")
        footprint.check_sgd(solver, splits, device, 8 if config.precision == "float64" else 4)
        return cls(config, splits, solver, device.at_most(len(solver.settings)), pace, validation, test)

    @property
    def n_heads(self) -> int:
        return len(self.solver.settings)

    @property
    def begins(self) -> np.ndarray:
        """`[H]` bool: the heads that train; all, but in the second run of `screen`."""
        every = np.arange(self.n_heads)
        return np.isin(every, every if self.screened is None else self.screened["within_reach"])

    @property
    def n_parameters(self) -> int:
        """Numbers in W, of all heads."""
        return self.n_heads * self.splits.n_in * self.splits.n_out

    @property
    def arithmetic(self) -> str:
        """In what type it multiplies matrices."""
        return _arithmetic(self.config, self.splits, self.device, self.solver.batch_size)

    @property
    def measured_in(self) -> str:
        """In what type heads are measured: as a run in float32 would, where they train in bfloat16."""
        if self.config.precision != "bfloat16":
            return self.arithmetic
        as_float32 = dataclasses.replace(self.config, precision="float32")
        return _arithmetic(as_float32, self.splits, self.device, self.solver.batch_size)

    @property
    def _products(self) -> str:
        same = self.measured_in == self.arithmetic
        return self.arithmetic if same else f"{self.arithmetic}, measured in {self.measured_in}"

    @property
    def flags(self) -> list[str]:
        """The run as the lines of a flagfile."""
        return flagfile(self.config, self.splits)

    @property
    def data(self) -> str:
        """What it trains on, in words."""
        examples = {
            "train": self.solver.examples, "validation": self.validation.examples, "test": self.test.examples
        }  # fmt: skip
        weighted = "; by sample weights" if self.splits.train.weights is not None else ""
        counts = ", ".join(f"{examples[name]} {words}" for name, words in _SPLITS.items())
        return f"{counts} examples of {self.splits.form}; {self.splits.n_out} classes{weighted}{taken(self.splits)}"

    @property
    def weights(self) -> np.ndarray:
        """What an example counts in the cost: columns `[C, n]` float32; each head has one of them."""
        return example_weights(self.splits.train, self.config.class_weight, self.splits.n_out)[np.newaxis]

    @property
    def left_out(self) -> np.ndarray:
        """`[K]` bool: the classes of which no training example has weight, which heads leave out of their softmax."""
        return np.bincount(self.splits.train.labels, self.weights[0], self.splits.n_out) == 0

    @property
    def column(self) -> np.ndarray:
        """`[H]` int32: the column of weights, and of validation rows, of each head."""
        return np.zeros(self.n_heads, np.int32)

    def check_fits(self, state: State) -> None:
        """Raises DataError if the arrays of a state are not those of this run."""
        sizes = self.n_heads, self.splits.n_out, self.splits.n_in
        state.check_fits(sizes, self.solver.reports, self.solver.slots(*sizes))

    @property
    def identity(self) -> RunIdentity:
        """What makes it this run and no other."""
        settings = {name: flag_value(value) for name, value in vars(self.config).items()}
        # By default it follows from others: from patience, for one, of which more may be given.
        settings["validation_frequency"] = str(self.solver.frequency)
        settings |= {"solver": self.solver.name} | of_weights(self.splits.validation)
        sizes = (self.n_heads, self.splits.n_out, self.splits.n_in)
        # Another number of devices makes other groups of heads.
        where = machine(self.device, products=self._products) | {"device": self.device.words}
        return RunIdentity(settings, self.data, self.splits.fingerprint, sizes, where)


def wants_one_thread(splits: Splits, solver: Solver, device: Device) -> bool:
    """Whether the single program of a run on `device` is so small that it does best with one thread.

    The tutorial's run on two cores of an Intel Xeon: 1.16 s, with two threads 1.52. Several programs would take turns
    on that thread: 64 heads on MNIST, on two cores of an AMD EPYC, 157 head-epochs a second instead of 206.
    """
    flops = 2.0 * solver.batch_size * splits.n_in * splits.n_out * len(solver.settings)
    kind = _arithmetic(solver.config, splits, device, solver.batch_size)
    otherwise = _FLOPS_OF_ONE_THREAD_OTHERWISE if solver.config.shuffle else _FLOPS_OF_ONE_THREAD_IN_ORDER
    most = _FLOPS_OF_ONE_THREAD.get(kind, otherwise)
    # Rows of a file that memory cannot hold come faster by several threads.
    is_alone = min(device.programs, len(solver.settings)) == 1
    return is_alone and not device.is_gpu and flops <= most and not residency.is_too_large(splits.train)


def _arithmetic(config: TrainConfig, splits: Splits, device: Device, batch_size: int) -> str:
    return arithmetic(
        "float32" if config.precision == "screen" else config.precision,
        splits.scaling,
        splits.train.stored.dtype,
        batch_size,
        splits.n_in,
        has_int8=device.multiplies_int8,
    )


def machine(device: Device, **of_run: str) -> dict[str, str]:
    """What the last bits of a result depend on, with what else a run computes by."""
    cores = {"cores": str(cpu.cores()), "threads": str(cpu.threads())}
    return {"device": device.label, "processor": cpu.processor(), **cores, **of_run, **versions()}


def flagfile(config: TrainConfig, splits: Splits) -> list[str]:
    """The lines of a flagfile that gives the same run."""
    # Without a value it asks for the data, rather than train on other data than this run did.
    return flag_lines(config) + (flag_lines(splits.config) if splits.config else ["--dataset="])


def taken(splits: Splits) -> str:
    """How the splits were taken from the data that it does not bring."""
    if not splits.taken or splits.config is None:
        return ""
    config = splits.config
    how = f"drawn by split_seed={config.split_seed}" if config.split_order == "stratified" else "from the end"
    whole = " in whole groups" if splits.train.groups is not None else ""
    return f"; {' and '.join(splits.taken)} {how}{whole}"


def _in_order(config: TrainConfig, name: str, examples: Examples, most: int) -> Sampler:
    """The minibatches of a split, of at most `most` examples unless only full ones count."""
    batch_size, drop_remainder = known(config.batch_size), known(config.drop_remainder)
    if not drop_remainder:
        batch_size = min(batch_size, padded(most))
    sampler = Sampler(len(examples), batch_size, drop_remainder=drop_remainder)
    if not sampler.per_epoch:
        problem = f"{len(examples)} {name} examples fill no minibatch, and drop_remainder drops what is not full"
        raise ConfigError("batch_size", config.batch_size, problem)
    return sampler

"""What a search is to do: on which rows, in which folds, at which scales, for which values of L2."""

import dataclasses
import os
import pathlib
from typing import NamedTuple

import numpy as np

from tfpipe.compute.device import Device
from tfpipe.config import TrainConfig, flag_value, known
from tfpipe.data import Examples, Splits, folds
from tfpipe.exceptions import ConfigError
from tfpipe.memory import total_memory
from tfpipe.pipeline import residency
from tfpipe.solvers import lbfgs, path, row_space
from tfpipe.solvers.branches import largest_share
from tfpipe.solvers.optimum import Exactness
from tfpipe.solvers.passes import BLOCKS
from tfpipe.solvers.weights import balanced, measured_weights
from tfpipe.statistics.units import Units
from tfpipe.training import footprint, selection
from tfpipe.training.drawn import KINDS
from tfpipe.training.identity import RunIdentity, of_weights
from tfpipe.training.plan import Pace, flagfile, machine, taken
from tfpipe.training.warm_start import WarmStart

# Values of the path that are tried side by side.
_MOST_AT_ONCE = 4
# Values of a path are found to this many times the tolerance: the one that is taken is found anew.
_ROUGHLY = 10.0
# Of all memory, for what heads remember: not of what is free now, or a run that goes on would try others at once.
_SHARE_OF_MEMORY = 0.25
# Heads times classes that one product has side by side.
_MOST_COLUMNS = 640
# So much is taken without looking.
_SMALL_BYTES = 64 << 20


class SearchPlan(NamedTuple):
    """Hyper-parameters, data, and what follows from them.

    Attributes:
      config: settled, for lbfgs.
      splits: the data.
      device: where to compute.
      pace: see there.
      n_folds: how many there are; 0: the validation split validates.
      examples: the rows that settings are tried on: training, and with folds validation too.
      fold: `[N]`, the fold of each of these; None without.
      warm_start: an older model, where heads may begin; None: there is none.
      processes: how many share the rows.
    """

    config: TrainConfig
    splits: Splits
    device: Device
    pace: Pace
    n_folds: int
    examples: Examples
    fold: np.ndarray | None
    warm_start: WarmStart | None
    processes: int

    @classmethod
    def of(cls, config: TrainConfig, splits: Splits, device: Device, pace: Pace, processes: int = 1) -> "SearchPlan":
        """The plan that follows.

        Raises:
          ConfigError: the hyper-parameters do not fit the data.
          DataError: there are fewer groups than folds; or the model of `init` is damaged, or lacks columns.
        """
        config = config.settled("lbfgs")
        if config.precision in ("bfloat16", "screen"):
            raise ConfigError("precision", config.precision, "goes with solver=sgd; lbfgs takes float32 or float64")
        n_folds = folds.by_default(splits) if config.folds is None else config.folds
        if n_folds and not config.refit:
            raise ConfigError("refit", False, "leaves no model where folds choose; give folds=0, or leave it out")
        examples = splits.train.joined(splits.validation) if n_folds else splits.train
        if n_folds > len(examples):
            raise ConfigError("folds", n_folds, f"are more than the {len(examples)} examples; give fewer")
        seed = splits.config.split_seed if splits.config else 0
        fold = folds.folds(examples.labels, n_folds, seed, examples.groups) if n_folds else None
        if config.init is not None:
            config = dataclasses.replace(config, init=str(pathlib.Path(os.path.expanduser(config.init)).absolute()))
        warm_start = None if config.init is None else WarmStart.of(config.init, splits)
        plan = cls(config, splits, device, pace, n_folds, examples, fold, warm_start, processes)
        if not plan.weights.any(axis=1).all():
            raise ConfigError(
                "folds", n_folds, "put all examples that have weight into one fold; give other ones, or 0"
            )
        selection.check(known(config.select), plan.validating, splits.n_out)
        ways = footprint.search_ways(plan._sizes, n_folds, plan.bytes_in, device.programs)
        footprint.check(plan.bytes_in(n_folds), ways)
        return plan

    @property
    def refits(self) -> bool:
        """Whether the setting that is taken is fitted again, on the validation examples too."""
        # Not where each lies in a file of its own that memory cannot hold.
        parts = self.splits.train, self.splits.validation
        are_too_large = parts[0].stored is not parts[1].stored and any(map(residency.is_too_large, parts))
        return bool(self.config.refit) and not are_too_large

    @property
    def draws(self) -> bool:
        """Whether the setting that is taken is fitted to draws of the rows too."""
        return any(getattr(self.config, kind) for kind in KINDS)

    @property
    def exactness(self) -> Exactness:
        """Of the setting that is taken."""
        return Exactness(known(self.config.tolerance), known(self.config.max_iter))

    @property
    def rough_exactness(self) -> Exactness:
        """Of each that is tried."""
        return self.exactness._replace(tolerance=_ROUGHLY * self.exactness.tolerance)

    @property
    def columns(self) -> np.ndarray:
        """`[F]` int32: the columns of weights that each setting is fitted under."""
        return np.arange(1, 1 + self.n_folds, dtype=np.int32) if self.n_folds else np.zeros(1, np.int32)

    @property
    def weights(self) -> np.ndarray:
        """What the examples count in the cost: columns `[C, N]`. The first one has all; with folds one lacks each."""
        columns = np.ones((1 + self.n_folds, len(self.examples)))
        if self.fold is not None:
            columns[1:] = self.fold != np.arange(self.n_folds)[:, np.newaxis]
        return self.counted(columns, self.examples)

    @property
    def weight(self) -> np.ndarray:
        """`[N]`: the first column alone."""
        return self.counted(np.ones((1, len(self.examples))), self.examples)[0]

    def counted(self, columns: np.ndarray, examples: Examples) -> np.ndarray:
        """Columns of zeros and ones `[C, n]`, times what the examples and their classes count."""
        if examples.weights is not None:
            columns = columns * examples.weights
        if self.config.class_weight is None:
            return columns
        counts = np.stack([np.bincount(examples.labels, column, self.splits.n_out) for column in columns])
        return columns * np.stack([balanced(of_class)[examples.labels] for of_class in counts])

    @property
    def validating(self) -> Examples:
        """The examples that validate: with folds all, each by the heads that have not seen it."""
        return self.examples if self.n_folds else self.splits.validation

    @property
    def units(self) -> Units:
        """Of these. Raises DataError if none has weight."""
        return Units.of(self.validating.groups, measured_weights(self.validating))

    @property
    def head(self) -> np.ndarray:
        """`[n]`: which of the heads of a setting, in the order of `columns`, has not seen each of these."""
        return np.zeros(len(self.validating), np.int64) if self.fold is None else self.fold

    @property
    def shape(self) -> tuple[int, int, int]:
        """F, K and D + 1: of the heads of one setting."""
        return len(self.columns), self.splits.n_out, self.splits.n_in + 1

    @property
    def at_once(self) -> int:
        """How many values of L2 are tried side by side."""
        return self._most_at_once if self.config.l2 is None else min(len(self.config.l2), self._most_at_once)

    @property
    def _most_at_once(self) -> int:
        return max(1, min(_MOST_AT_ONCE, self.most_heads // len(self.columns)))

    @property
    def draws_at_once(self) -> int:
        """How many draws of a bootstrap are fitted side by side."""
        return max(1, min(self.most_heads, _MOST_COLUMNS // self.splits.n_out))

    @property
    def most_heads(self) -> int:
        """How many heads fit side by side."""
        return self._most_heads(self.pairs)

    @property
    def pairs(self) -> int:
        """That L-BFGS keeps of each head: fewer where the heads of one setting would not fit otherwise."""
        fit = (pairs for pairs in lbfgs.PAIRS if self._most_heads(pairs) >= len(self.columns))
        return next(fit, lbfgs.PAIRS[-1])

    def _most_heads(self, pairs: int) -> int:
        return int(max(_SHARE_OF_MEMORY * total_memory(), _SMALL_BYTES) / self._sizes.head_bytes(pairs))

    @property
    def in_span(self) -> bool:
        """Whether heads go down in what the rows span, those of the last fit and of draws too."""
        n = len(self.splits.train) + len(self.splits.validation)
        may_be = not self.device.is_gpu and 0 not in (self.config.l2 or ())  # On a GPU it was not measured.
        return may_be and row_space.pays(n, self.splits.n_in)

    @property
    def _sizes(self) -> footprint.Sizes:
        joins, drawn = not self.n_folds and self.refits, max(self.config.subsets or (0.0,))
        # Draws are of all rows; and for a GPU the host has them all.
        share = 1.0 if self.draws or self.device.is_gpu else largest_share(BLOCKS, self.processes)
        sizes = footprint.Sizes.of_search(self.splits, joins=joins, in_span=self.in_span, drawn=drawn, share=share)
        if not self.device.others or self.device.is_gpu or sizes.travelling:
            return sizes
        # Devices of a CPU each have copies of their rows: of those that settings are tried on, and of the last fit's.
        fitted = sum(len(part) * part.stored[:1].nbytes for part in (self.splits.train, self.splits.validation))
        return sizes._replace(copied=sizes.copied + int((1 + joins) * fitted * share))

    def bytes_in(self, n_folds: int) -> int:
        """Bytes of memory that it takes at most, in so many folds."""
        plan = self._replace(n_folds=n_folds)
        n_columns = len(plan.columns)
        n_heads = max(plan.at_once * n_columns, plan.draws_at_once if plan.config.bootstrap else 0)
        logits = 16 * len(plan.validating) * plan.splits.n_out if plan.config.calibrate else 0
        return logits + footprint.of_search(self._sizes, n_heads, 1 + n_columns, plan.pairs, plan.device.programs)

    @property
    def flags(self) -> list[str]:
        """The run as the lines of a flagfile."""
        return flagfile(self.config, self.splits)

    @property
    def data(self) -> str:
        """What it trains on, in words."""
        splits = self.splits
        counts = [f"{len(splits.train)} training", f"{len(splits.validation)} validation"]
        if self.n_folds:
            counts = [f"{len(self.examples)} training examples in {self.n_folds} folds"]
        counts.append(f"{len(splits.test) or 'no'} test examples")
        return f"{', '.join(counts)} of {splits.form}; {splits.n_out} classes{taken(splits)}"

    @property
    def identity(self) -> RunIdentity:
        """What makes it this run and no other."""
        of_scale = path.COUNT if self.config.l2 is None else len(self.config.l2)
        settings = {name: flag_value(value) for name, value in vars(self.config).items()}
        settings |= {"scales": ",".join(self.splits.scales), "n_folds": str(self.n_folds)}
        settings |= {"at_once": str(self._most_at_once), "pairs": str(self.pairs)} | of_weights(self.validating)
        if self.config.bootstrap:
            settings["draws_at_once"] = str(self.draws_at_once)
        if self.warm_start is not None:  # Its content, wherever it lies.
            settings["init"] = self.warm_start.digest
        sizes = (of_scale * len(self.splits.scales), self.splits.n_out, self.splits.n_in)
        return RunIdentity(settings, self.data, self.splits.fingerprint, sizes, machine(self.device))

"""When a run does what: how examples make minibatches, and minibatches epochs and validations."""

from tfpipe.config import TrainConfig
from tfpipe.data import Examples, Splits
from tfpipe.exceptions import ConfigError
from tfpipe.pipeline.inputs import MinibatchRows


class Schedule:
    """The plan that follows from the hyper-parameters and the sizes of the data.

    Attributes:
      train, validation, test: the minibatches of each split.
      iterations: how many the run has at most.
      validation_frequency: a validation follows every so many iterations.

    Raises:
      ConfigError: on construction, when the hyper-parameters do not fit the data.
    """

    def __init__(self, config: TrainConfig, splits: Splits):
        self.train = _minibatches(config, "training", splits.train, len(splits.train), shuffle=config.shuffle)
        # Of one shape, so that one compiled program serves both splits.
        largest = max(len(splits.validation), len(splits.test))
        self.validation = _minibatches(config, "validation", splits.validation, largest)
        self.test = _minibatches(config, "test", splits.test, largest)

        self.iterations = config.epochs * self.train.per_epoch
        # The tutorial: min(n_train_batches, patience / 2).
        by_default = min(self.train.per_epoch, max(1, config.patience // 2))
        self.validation_frequency = config.validation_frequency or by_default
        if self.validation_frequency > self.iterations:
            problem = f"the run has {self.iterations} iterations, so it would never validate; take at most as many"
            raise ConfigError("validation_frequency", self.validation_frequency, problem)

    def epoch(self, iteration: int) -> int:
        """The epoch, from 1, of an iteration, from 0; and 0 for the time before the first, -1."""
        return iteration // self.train.per_epoch + 1


def _minibatches(
    config: TrainConfig, name: str, examples: Examples, most: int, *, shuffle: bool = False
) -> MinibatchRows:
    """The minibatches of a split, of at most `most` examples unless only full ones count."""
    rows = MinibatchRows(
        len(examples),
        config.batch_size if config.drop_remainder else min(config.batch_size, most),
        drop_remainder=config.drop_remainder,
        shuffle=shuffle,
        seed=config.seed,
    )
    if not rows.per_epoch:
        problem = f"{len(examples)} {name} examples fill no minibatch, and drop_remainder drops what is not full"
        raise ConfigError("batch_size", config.batch_size, problem)
    return rows

"""What the contestants share: MNIST in minibatches, and the tutorial's early stopping around their training.

Each of the programs beside this one writes the same run in its own library. It brings four functions, already compiled
and warmed up, and `run` calls them; only that is timed. NumPy is all that is imported here: a contestant's process
holds the contestant's library, and no other contestant's.
"""

import gzip
import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BATCH_SIZE = 600
LEARNING_RATE = 0.13
BATCHES = 83  # Of an epoch.
MOST_EPOCHS = 1000
N_EVALUATED = 9600  # Of the 10,000 examples for validation, and for test.


class Split(NamedTuple):
    """Minibatches in order, without the last one if it is not full.

    Attributes:
      x: `[M, 600, 784]` float32, bytes / 256 as in the tutorial.
      y: `[M, 600]` int64.
    """

    x: np.ndarray
    y: np.ndarray


def load() -> tuple[Split, Split, Split]:
    """Training (83 minibatches), validation and test (16 each), from the IDX files in the folder TFPIPE_MNIST_DIR."""
    x, y = read("train-images-idx3-ubyte", 16), read("train-labels-idx1-ubyte", 8)
    test = _split(read("t10k-images-idx3-ubyte", 16), read("t10k-labels-idx1-ubyte", 8))
    n_train, n_pixels = 50000, 784
    return _split(x[: n_train * n_pixels], y[:n_train]), _split(x[n_train * n_pixels :], y[n_train:]), test


def read(name: str, header: int) -> np.ndarray:
    """The bytes after the header of an IDX file, plain or .gz, in the folder TFPIPE_MNIST_DIR."""
    path = pathlib.Path(os.environ["TFPIPE_MNIST_DIR"]) / name
    content = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{name}.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=header)


def _split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    n = len(labels) // BATCH_SIZE * BATCH_SIZE
    x = pixels.reshape(len(labels), -1)[:n] / np.float32(256)
    return Split(x.reshape(-1, BATCH_SIZE, x.shape[1]), labels[:n].reshape(-1, BATCH_SIZE).astype(np.int64))


class EarlyStopping:
    """The tutorial's patience, what it measures at the end of each epoch, and the clock, which starts here."""

    def __init__(
        self, validation_errors: Callable[[], int], test_errors: Callable[[], int], parameters: Callable[[], Any]
    ):
        self._validation_errors, self._test_errors, self._parameters = validation_errors, test_errors, parameters
        self._patience, self._patience_increase, self._improvement_threshold = 5000, 2, 0.995
        self._best, self._test, self._kept = math.inf, math.nan, None
        self._begin = time.perf_counter()

    def left(self, iterations: int) -> int:
        """How many minibatches more it will train; patience grows at validations alone, so it is known before."""
        return max(0, self._patience + 1 - iterations)

    def validate(self, iterations: int) -> None:
        this = self._validation_errors() / N_EVALUATED
        if this < self._best:
            if this < self._best * self._improvement_threshold:
                self._patience = max(self._patience, (iterations - 1) * self._patience_increase)
            self._best, self._test, self._kept = this, self._test_errors() / N_EVALUATED, self._parameters()

    def result(self, iterations: int, cost: float) -> dict[str, Any]:
        return {
            "validation_error": self._best,
            "test_error": self._test,
            "iterations": iterations,
            "cost": cost,
            "seconds": time.perf_counter() - self._begin,
        }


def run(
    train: Callable[[int], float],
    validation_errors: Callable[[], int],
    test_errors: Callable[[], int],
    parameters: Callable[[], Any],
) -> dict[str, Any]:
    """The tutorial's run.

    Args:
      train: one step on each of the first `steps` minibatches; returns the mean of their costs, each of which is
        measured before its step (the tutorial's train_model returns it).
      validation_errors: how many of the 9,600 validation examples are wrong.
      test_errors: how many of the 9,600 test examples are wrong.
      parameters: a copy of W and b, which are kept at the best validation.

    Returns:
      `validation_error` and `test_error` at the best validation, `iterations`, `cost` (the mean of the last epoch) and
      `seconds`.
    """
    iterations, cost = 0, math.nan
    stopping = EarlyStopping(validation_errors, test_errors, parameters)
    while iterations < MOST_EPOCHS * BATCHES and (left := stopping.left(iterations)):
        steps = min(BATCHES, left)
        cost = train(steps)
        iterations += steps
        if steps == BATCHES:
            stopping.validate(iterations)
    return stopping.result(iterations, cost)


def report(result: dict[str, Any], **versions: str) -> None:
    """Prints the one line that benchmark_peers.py reads."""
    print(json.dumps(result | {"versions": versions}))

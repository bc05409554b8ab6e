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
    x, y = _read("train-images-idx3-ubyte", 16), _read("train-labels-idx1-ubyte", 8)
    test = _split(_read("t10k-images-idx3-ubyte", 16), _read("t10k-labels-idx1-ubyte", 8))
    n_train, n_pixels = 50000, 784
    return _split(x[: n_train * n_pixels], y[:n_train]), _split(x[n_train * n_pixels :], y[n_train:]), test


def _read(name: str, header: int) -> np.ndarray:
    path = pathlib.Path(os.environ["TFPIPE_MNIST_DIR"]) / name
    content = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{name}.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=header)


def _split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    n = len(labels) // BATCH_SIZE * BATCH_SIZE
    x = pixels.reshape(len(labels), -1)[:n] / np.float32(256)
    return Split(x.reshape(-1, BATCH_SIZE, x.shape[1]), labels[:n].reshape(-1, BATCH_SIZE).astype(np.int64))


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
      parameters: a copy of W and b, on the host.

    Returns:
      `validation_error` and `test_error` at the best validation, `iterations`, `cost` (the mean of the last epoch) and
      `seconds`.
    """
    (n_batches, n_examples), n_epochs = (83, 9600), 1000
    patience, patience_increase, improvement_threshold = 5000, 2, 0.995
    iterations, best, test, kept = 0, math.inf, math.nan, None
    begin = time.perf_counter()
    while iterations < n_epochs * n_batches:
        # Patience grows at validations alone, so it is known here at which minibatch of this epoch it will end.
        steps = min(n_batches, patience + 1 - iterations)
        cost = train(steps)
        iterations += steps
        if steps == n_batches:
            this = validation_errors() / n_examples
            if this < best:
                if this < best * improvement_threshold:
                    patience = max(patience, (iterations - 1) * patience_increase)
                best, test, kept = this, test_errors() / n_examples, parameters()
        if patience < iterations:
            break
    seconds = time.perf_counter() - begin
    if kept is None:
        raise SystemExit("no validation was better than none")
    return {"validation_error": best, "test_error": test, "iterations": iterations, "cost": cost, "seconds": seconds}


def report(result: dict[str, Any], **versions: str) -> None:
    """Prints the one line that benchmark_peers.py reads."""
    print(json.dumps(result | {"versions": versions}))

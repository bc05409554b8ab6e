"""What runs take of memory, beside what is estimated before they begin.

    python experiments/measure_memory.py [NAME ...]

Each run of RUNS, or those whose names hold one of the words given, has a process of its own, and random rows. Its peak
is what the process held at most beyond the import of TensorFlow, a first program of two numbers, and the data.

Prints one line of JSON for each to stdout: its shapes, the estimate and the peak in MiB, their ratio, and seconds.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import measuring

if TYPE_CHECKING:
    import tfpipe

_L2 = 1e-3, 5e-4, 2e-4, 1e-4


def _sgd(heads: int, batch_size: int = 600, epochs: int = 1) -> dict:
    rates = [0.001 * (1 + head) for head in range(heads)]
    return {"learning_rate": rates, "batch_size": batch_size, "epochs": epochs, "patience": 100_000}


def _lbfgs(values: int, folds: int = 0, max_iter: int = 14, **others: object) -> dict:
    # So many steps that all pairs of changes are kept.
    return {"l2": _L2[:values], "folds": folds, "max_iter": max_iter, "tolerance": 1e-9, **others}


# By name: rows for training, for validation and as many for test; columns; classes; the type of the rows; options.
RUNS = {
    "sgd": (2_000, 1_000, 784, 10, "uint8", _sgd(1)),
    "sgd, 64 heads": (20_000, 5_000, 784, 10, "uint8", _sgd(64)),
    "sgd, 1,024 heads": (2_000, 1_000, 784, 10, "uint8", _sgd(1024, epochs=3)),
    "sgd, 1,024 heads, minibatches of 200": (2_000, 1_000, 784, 10, "uint8", _sgd(1024, 200)),
    "sgd, 10,000 classes": (2_000, 1_000, 100, 10_000, "float32", _sgd(1, epochs=3)),
    "sgd, 10,000 classes, 4 heads": (2_000, 1_000, 100, 10_000, "float32", _sgd(4)),
    "sgd, 10,000 classes, minibatches of 2,000": (6_000, 1_000, 100, 10_000, "float32", _sgd(1, 2_000)),
    "sgd, 1,000 classes, 16 heads": (2_000, 500, 1_000, 1_000, "float32", _sgd(16)),
    "sgd, 200,000 columns": (500, 200, 200_000, 10, "uint8", _sgd(1)),
    "sgd, 200,000 columns, 8 heads": (500, 200, 200_000, 10, "float32", _sgd(8)),
    "sgd, 2,000,000 rows": (2_000_000, 500_000, 4, 10, "uint8", _sgd(1, 10_000)),
    "lbfgs": (2_000, 1_000, 784, 10, "float32", _lbfgs(4)),
    "lbfgs, bytes": (20_000, 2_000, 768, 10, "uint8", _lbfgs(4)),
    "lbfgs, 100 classes, 5 folds": (2_000, 500, 768, 100, "float32", _lbfgs(4, 5)),
    "lbfgs, 500 classes": (2_000, 500, 768, 500, "float32", _lbfgs(2)),
    "lbfgs, 1,000 classes": (2_000, 500, 1_000, 1_000, "float32", _lbfgs(1)),
    "lbfgs, 10,000 classes": (2_000, 500, 100, 10_000, "float32", _lbfgs(1)),
    "lbfgs, 2,000 columns": (6_000, 100, 2_000, 10, "float32", _lbfgs(1)),
    "lbfgs, 4,000 columns": (6_000, 100, 4_000, 10, "float32", _lbfgs(1)),
    "lbfgs, 50,000 columns, 5 folds": (500, 200, 50_000, 10, "float32", _lbfgs(4, 5)),
    "lbfgs, 200,000 columns": (500, 200, 200_000, 10, "float32", _lbfgs(1)),
    "lbfgs, 2,000,000 rows": (2_000_000, 500_000, 4, 10, "float32", _lbfgs(1, max_iter=3)),
}


def main(words: list[str]) -> None:
    for name in RUNS:
        if not words or any(word in name for word in words):
            line = subprocess.run(
                [sys.executable, __file__, "--one", name], stdout=subprocess.PIPE, text=True, check=True
            )
            print(line.stdout.splitlines()[-1], flush=True)


def begin() -> measuring.Peak:
    """Has TensorFlow run a first program, of two numbers; memory is counted from there on."""
    import tensorflow as tf

    tf.function(lambda x: x + x, jit_compile=True)(tf.zeros(3))
    return measuring.Peak()


def estimate(config: "tfpipe.TrainConfig", splits: "tfpipe.Splits") -> int:
    """Bytes that a run on the CPU is said to take at most, before it begins."""
    from tfpipe.compute import device
    from tfpipe.solvers.sgd import Sgd
    from tfpipe.training import footprint
    from tfpipe.training.plan import Pace
    from tfpipe.training.search_plan import SearchPlan

    cpu = device.select("cpu")
    if config.settled_solver == "sgd":
        solver = Sgd(config, splits)
        return footprint.of_sgd(footprint.Sizes.of(splits), len(solver.settings), solver.batch_size, cpu.programs)
    plan = SearchPlan.of(config, splits, cpu, Pace())
    return plan.bytes_in(plan.n_folds)


def one(name: str) -> None:
    """The run of this name, in this process."""
    import numpy as np

    import tfpipe
    from tfpipe import memory

    n_train, n_other, n_in, n_out, dtype, options = RUNS[name]
    random = np.random.default_rng(0)

    def rows(count: int) -> tfpipe.Examples:
        images = memory.empty((count, n_in), np.dtype(dtype))
        for row in range(0, count, step := max(1, (1 << 20) // n_in)):
            shape = images[row : row + step].shape
            images[row : row + step] = random.integers(0, 256, shape) if dtype == "uint8" else random.normal(size=shape)
        return tfpipe.Examples(images, np.arange(count) % n_out)

    splits = tfpipe.Splits(rows(n_train), rows(n_other), rows(n_other), tuple(map(str, range(n_out))))
    config = tfpipe.TrainConfig(**options, device="cpu", tensorboard=False)
    estimated = estimate(config, splits)
    held, since = begin(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tfpipe.train(config, splits, pathlib.Path(folder, "run"))
    peak, seconds = held.bytes, time.monotonic() - since
    shapes = {"rows": n_train, "columns": n_in, "classes": n_out}
    found = {"estimate": round(estimated / 2**20), "peak": round(peak / 2**20), "ratio": round(estimated / peak, 2)}
    print(json.dumps({"run": name, **shapes, **found, "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
    else:
        main(sys.argv[1:])

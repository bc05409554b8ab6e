"""Many models in one matrix product: what a grid costs, against one model after another.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_grid.py [--publish]

1. `tfpipe train` with 1, 4, 16, 64 and 256 heads on MNIST in minibatches of 600: head-epochs a second (validation and
   test included, compilation not), share of the machine's matrix-product peak, memory. Beside it: the fastest peer of
   docs/benchmarks/peers.json, which trains one model after another at its epochs a second.
2. The task of selection: a grid of 64 with early stopping, against scikit-learn's LogisticRegression for eight C. Both
   train on 50,000 images, select by the error on the first 9,600 of the 10,000 for validation, and are tested on the
   first 9,600 of the test images, as in the tutorial; the error on all 10,000 is given beside it. Whole processes.

Prints tables to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import measuring
import numpy as np

import tfpipe
from tfpipe.model import artifact

EPOCHS = {1: 60, 4: 40, 16: 20, 64: 8, 256: 3}
ROUNDS = 3
BATCH_SIZE, N_TRAIN, N_EVALUATED, N_IN, N_OUT = 600, 49_800, 9_600, 784, 10
TUTORIAL = ("--validation_split=10000", "--split_order=end", f"--batch_size={BATCH_SIZE}", "--drop_remainder")
GRID = ("--learning_rate=log:0.1:1:8", "--l2=0,log:1e-6:1e-3:7", "--epochs=60", "--select=error")
C = np.geomspace(1e-3, 1e1, 8)


def heads(folder: str, number: int) -> dict[str, Any]:
    """A run with `number` heads, none of which stops."""
    learning_rate = "0.13" if number == 1 else f"log:0.01:0.5:{number}"
    with tempfile.TemporaryDirectory() as workdir:
        figures = measuring.in_own_process(
            "-m", "tfpipe", "train", f"--dataset={folder}", *TUTORIAL, f"--learning_rate={learning_rate}",
            f"--epochs={EPOCHS[number]}", "--patience=1000000000", f"--validation_frequency={N_TRAIN // BATCH_SIZE}",
            f"--workdir={workdir}/run",
        )  # fmt: skip
        lines = pathlib.Path(workdir, "run", "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    tests = sum(any(error is not None for error in event["test_error"]) for event in events)
    passes = 2 * len(events) * N_TRAIN + (len(events) + tests) * N_EVALUATED
    return {
        "head_epochs_per_second": number * EPOCHS[number] / figures["seconds"],
        "flops_per_second": 2.0 * number * N_IN * N_OUT * passes / figures["seconds"],
        "peak_rss_MB": figures["peak_rss_MB"],
    }


def peak() -> float:
    """The most operations a second that a large matrix product in float32 reaches: TensorFlow's, or NumPy's."""
    import tensorflow as tf

    a = np.random.default_rng(0).normal(size=(3000, 3000)).astype(np.float32)
    tensor = tf.constant(a)

    def seconds(product: Any) -> float:
        begin = time.perf_counter()
        product()
        return time.perf_counter() - begin

    products = (lambda: a @ a, lambda: tf.matmul(tensor, tensor).numpy())
    return 2 * 3000**3 / min(seconds(product) for product in products for _ in range(10))


def select_with_grid(folder: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as workdir:
        figures = measuring.in_own_process(
            "-m", "tfpipe", "train", f"--dataset={folder}", *TUTORIAL, *GRID, f"--workdir={workdir}/run"
        )
        model = artifact.load(f"{workdir}/run/model.npz")
    test = tfpipe.load(folder).test
    wrong = (test.images.reshape(len(test), -1) @ model.W + model.b).argmax(axis=1) != test.labels
    return {
        "process_seconds": figures["process_seconds"],
        "seconds": figures["seconds"],
        "validation_error": figures["validation_error"],
        "test_error": figures["test_error"],
        "test_error_of_all": float(np.mean(wrong)),
        "chosen": {"learning_rate": figures["learning_rate"], "l2": figures["l2"]},
        "epochs": figures["epochs"],
    }


def select_with_scikit_learn(folder: str) -> dict[str, Any]:
    """Eight C with the default solver, lbfgs, each from where the one before ended: faster than from the start."""
    from sklearn.linear_model import LogisticRegression

    splits = tfpipe.load(folder, validation_split=10000, split_order="end")
    (x, y), (x_validation, y_validation), (x_test, y_test) = (
        (part.images.reshape(len(part), -1) / np.float32(255), part.labels)
        for part in (splits.train, splits.validation, splits.test)
    )
    x_validation, y_validation = x_validation[:N_EVALUATED], y_validation[:N_EVALUATED]
    best: tuple[float, ...] = (np.inf,)
    begin = time.perf_counter()
    classifier = LogisticRegression(max_iter=1000, warm_start=True)
    for c in C:
        classifier.set_params(C=c).fit(x, y)
        error = float(np.mean(classifier.predict(x_validation) != y_validation))
        if error < best[0]:
            wrong = classifier.predict(x_test) != y_test
            best = error, float(np.mean(wrong[:N_EVALUATED])), float(np.mean(wrong)), float(c)
        print(f"  C={c:.2g}: {error:.2%}, {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return {
        "seconds": time.perf_counter() - begin,
        "validation_error": best[0],
        "test_error": best[1],
        "test_error_of_all": best[2],
        "chosen": {"C": best[3]},
    }


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure; what is no number is the same in all."""
    return {
        name: statistics.median(run[name] for run in runs) if isinstance(value, (int, float)) else value
        for name, value in runs[0].items()
    }


def main() -> None:
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    if not folder:
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    if sys.argv[1:] == ["peak"]:
        print(json.dumps({"flops_per_second": peak()}))
        return
    if sys.argv[1:] == ["scikit-learn"]:
        print(json.dumps(select_with_scikit_learn(folder)))
        return

    runs: dict[int, list[dict[str, Any]]] = {number: [] for number in EPOCHS}
    peaks = []
    for _ in range(ROUNDS):
        peaks.append(measuring.in_own_process(__file__, "peak")["flops_per_second"])
        for number, results in runs.items():
            results.append(heads(folder, number))
            print(f"{number} heads: {results[-1]['head_epochs_per_second']:.0f} head-epochs a second", file=sys.stderr)
    table = {number: median(results) for number, results in runs.items()}
    for row in table.values():
        row["share_of_peak"] = row["flops_per_second"] / max(peaks)
    peer, peer_rate = measuring.fastest_peer()
    selection = {
        "tfpipe": select_with_grid(folder),
        "scikit-learn": measuring.in_own_process(__file__, "scikit-learn"),
    }
    content = {
        "machine": measuring.machine(),
        "versions": {name: measuring.version(name) for name in ("tfpipe", "tensorflow", "numpy", "scikit-learn")},
        "peak_flops_per_second": max(peaks),
        "heads": table,
        "fastest_peer": {"name": peer, "epochs_per_second": peer_rate},
        "grid_of_64_to_peer": table[64]["head_epochs_per_second"] / peer_rate,
        "selection": selection,
        "selection_ratio": selection["scikit-learn"]["process_seconds"] / selection["tfpipe"]["process_seconds"],
    }
    text = as_text(content)
    print(text, file=sys.stderr)
    print(json.dumps(content))
    if sys.argv[1:] == ["--publish"]:
        draw(content)
        measuring.publish("grid", content, text)


def as_text(results: dict[str, Any]) -> str:
    """The tables and what they say, in Markdown."""
    peer = results["fastest_peer"]
    rate = peer["epochs_per_second"]
    rows = [
        [
            str(number),
            f"{row['head_epochs_per_second']:.0f}",
            f"{row['head_epochs_per_second'] / rate:.1f}",
            f"{row['share_of_peak']:.0%}",
            f"{row['peak_rss_MB']:.0f} MB",
        ]
        for number, row in results["heads"].items()
    ]
    header = ["heads", "head-epochs a second", f"against {peer['name']}, one after another", "share of peak", "memory"]
    rows_of_selection = [
        [
            name,
            f"{row['process_seconds']:.1f} s",
            f"{row['validation_error']:.2%}",
            f"{row['test_error']:.2%}",
            f"{row['test_error_of_all']:.2%}",
            ", ".join(f"{key} {value:.2g}" for key, value in row["chosen"].items()),
        ]
        for name, row in results["selection"].items()
    ]
    columns = ["selection", "process", "validation error", "test error", "of all 10,000", "chosen"]
    return f"""
![Head-epochs a second, and share of the peak, by the number of heads](benchmarks/grid.png)

{measuring.markdown_table(header, rows)}

The peak is {results["peak_flops_per_second"] / 1e9:.0f} GFLOP/s: a product of matrices of 3,000 by 3,000
in float32. The share counts what products in float32 would take; those in integers can come above it.
{peer["name"]}, the fastest peer, trains {rate:.1f} epochs a second; that it trains 64 models
at that rate, one after another, is an extrapolation. A grid of 64 trains
{results["grid_of_64_to_peer"]:.1f} times as many.

{measuring.markdown_table(columns, rows_of_selection)}

The whole process, from the files to a chosen and tested model: 64 pairs of learning rate and L2 in `tfpipe` take
1 / {results["selection_ratio"]:.1f} of the time of eight `C` in scikit-learn.
"""


def draw(results: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    numbers = [int(number) for number in results["heads"]]
    rows = results["heads"].values()
    peer = results["fastest_peer"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.plot(numbers, [row["head_epochs_per_second"] for row in rows], "o-", label="tfpipe")
    left.axhline(peer["epochs_per_second"], color="gray", linestyle="--", label=f"{peer['name']}, one after another")
    left.set(xscale="log", ylim=(0, None), ylabel="head-epochs a second", title="Training of MNIST, with validation")
    left.legend(loc="lower right")
    right.plot(numbers, [100 * row["share_of_peak"] for row in rows], "o-")
    right.set(xscale="log", ylim=(0, None), ylabel="% of the peak", title="Share of the peak of float32")
    for axis in (left, right):
        axis.set_xlabel("heads")
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.savefig(measuring.picture("grid"), dpi=120)


if __name__ == "__main__":
    main()

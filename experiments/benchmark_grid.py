"""Many models in one matrix product: what a grid costs, against one model after another.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_grid.py [--rounds=3] [--heads=1,4,16,64,256] [--publish]

1. `tfpipe train` with 1, 4, 16, 64 and 256 heads on MNIST in minibatches of 600: head-epochs a second (validation and
   test included, compilation not), the floor of its products as a share of its seconds, memory; 64 heads in bfloat16
   too, where the processor multiplies it fast. Beside it: the fastest peer that benchmark_peers.py published of this
   machine, which trains one model after another at its epochs a second.
2. The task of selection: a grid of 64 with early stopping, against scikit-learn's LogisticRegression for eight C. Both
   train on 50,000 images, select by the error on the first 9,600 of the 10,000 for validation, and are tested on the
   first 9,600 of the test images, as in the tutorial; the error on all 10,000 is given beside it. Whole processes.

With --heads these alone, without the task of selection.
Prints tables to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
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
import roofline

import tfpipe
from tfpipe.compute import cpu
from tfpipe.model import artifact

EPOCHS = {1: 60, 4: 40, 16: 20, 64: 8, 256: 3}
IN_BFLOAT16 = 64
BATCH_SIZE, N_TRAIN, N_EVALUATED, N_IN, N_OUT = 600, 49_800, 9_600, 784, 10
TUTORIAL = ("--validation_split=10000", "--split_order=end", f"--batch_size={BATCH_SIZE}", "--drop_remainder")
GRID = ("--learning_rate=log:0.1:1:8", "--l2=0,log:1e-6:1e-3:7", "--epochs=60", "--select=error")
C = np.geomspace(1e-3, 1e1, 8)


def heads(folder: str, number: int, precision: str) -> dict[str, Any]:
    """A run with `number` heads, none of which stops: also the operations of its products, by type."""
    learning_rate = "0.13" if number == 1 else f"log:0.01:0.5:{number}"
    with tempfile.TemporaryDirectory() as workdir:
        figures = measuring.in_own_process(
            "-m", "tfpipe", "train", f"--dataset={folder}", *TUTORIAL, f"--learning_rate={learning_rate}",
            f"--epochs={EPOCHS[number]}", "--patience=1000000000", f"--validation_frequency={N_TRAIN // BATCH_SIZE}",
            f"--precision={precision}", f"--workdir={workdir}/run",
        )  # fmt: skip
        lines = pathlib.Path(workdir, "run", "metrics.jsonl").read_text().splitlines()
        trained_in = json.loads(pathlib.Path(workdir, "run", "report.json").read_text())["products"]
    events = [json.loads(line) for line in lines]
    tests = sum(any(error is not None for error in event["test_error"]) for event in events)
    measured_in = "float32" if trained_in == "bfloat16" else trained_in
    operations = dict.fromkeys((trained_in, measured_in), 0.0)
    operations[trained_in] += 4.0 * number * N_IN * N_OUT * len(events) * N_TRAIN
    operations[measured_in] += 2.0 * number * N_IN * N_OUT * (len(events) + tests) * N_EVALUATED
    return {
        "head_epochs_per_second": number * EPOCHS[number] / figures["seconds"],
        "seconds": figures["seconds"],
        "operations": operations,
        "peak_rss_MB": figures["peak_rss_MB"],
    }


def products(number: int) -> roofline.Products:
    """Of each of the programs among which the heads are divided."""
    return roofline.Products.of_heads(number, N_OUT, N_IN, BATCH_SIZE, cpu.cores())


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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--heads", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--scikit-learn", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.heads and arguments.publish:
        parser.error("--publish is for a run with all numbers of heads")
    if unknown := set(arguments.heads or ()) - set(EPOCHS):
        parser.error(f"--heads: {min(unknown)}; there are {', '.join(map(str, EPOCHS))}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    if not folder:
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    if arguments.scikit_learn:
        print(json.dumps(select_with_scikit_learn(folder)))
        return

    numbers = arguments.heads or list(EPOCHS)
    wanted = [(number, "float32") for number in numbers]
    if IN_BFLOAT16 in numbers and cpu.has_bfloat16():
        wanted.append((IN_BFLOAT16, "bfloat16"))
    surroundings = measuring.Surroundings(map(products, numbers))
    runs: dict[tuple[int, str], list[dict[str, Any]]] = {one: [] for one in wanted}
    for _ in range(arguments.rounds):
        for (number, precision), results in runs.items():
            results.append(heads(folder, number, precision))
            rate = results[-1]["head_epochs_per_second"]
            print(f"{number} heads, {precision}: {rate:.0f} head-epochs a second", file=sys.stderr)
    table = [
        {"heads": number, "precision": precision, **median(results)} for (number, precision), results in runs.items()
    ]
    for row in table:
        least = roofline.floor(surroundings.roofline, products(row["heads"]), row["operations"])
        row["of_the_floor"] = least / row["seconds"]
    content: dict[str, Any] = {
        "machine": surroundings.as_json(),
        "versions": measuring.versions("tfpipe", "tensorflow", "numpy", "scikit-learn"),
        "rounds": arguments.rounds,
        "heads": table,
        "fastest_peer": measuring.fastest_peer(),
    }
    if not arguments.heads:
        content["selection"] = {
            "tfpipe": select_with_grid(folder),
            "scikit-learn": measuring.in_own_process(__file__, "--scikit-learn"),
        }
    text = as_text(content)
    print(text, file=sys.stderr)
    print(json.dumps(content))
    if arguments.publish:
        draw(content)
        measuring.publish("grid", content, text)


def as_text(results: dict[str, Any]) -> str:
    """The tables and what they say, in Markdown."""
    peer = results["fastest_peer"]
    header = ["heads", "precision", "head-epochs a second", "of the floor", "memory"]
    rows = [
        [
            str(row["heads"]),
            row["precision"],
            f"{row['head_epochs_per_second']:.0f}",
            f"{row['of_the_floor']:.0%}",
            f"{row['peak_rss_MB']:.0f} MB",
        ]
        for row in results["heads"]
    ]
    if peer:
        name, rate = peer
        header.insert(3, f"against {name}, one after another")
        for row, line in zip(results["heads"], rows, strict=True):
            line.insert(3, f"{row['head_epochs_per_second'] / rate:.1f}")
    parts = [
        measuring.shown("grid", "Head-epochs a second, and share of the floor, by the number of heads"),
        measuring.markdown_table(header, rows),
    ]
    if peer:
        parts.append(
            f"{peer[0]}, the fastest peer, trains {peer[1]:.1f} epochs a second; that it trains many models at that\n"
            "rate, one after another, is an extrapolation."
        )
    if "selection" in results:
        parts += [of_selection(results["selection"])]
    return "\n\n".join([*parts, measuring.told(results)])


def of_selection(selection: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{row['process_seconds']:.1f} s",
            f"{row['validation_error']:.2%}",
            f"{row['test_error']:.2%}",
            f"{row['test_error_of_all']:.2%}",
            ", ".join(f"{key} {value:.2g}" for key, value in row["chosen"].items()),
        ]
        for name, row in selection.items()
    ]
    columns = ["selection", "process", "validation error", "test error", "of all 10,000", "chosen"]
    ratio = selection["scikit-learn"]["process_seconds"] / selection["tfpipe"]["process_seconds"]
    return f"""{measuring.markdown_table(columns, rows)}

The whole process, from the files to a chosen and tested model: 64 pairs of learning rate and L2 in `tfpipe` take
1 / {ratio:.1f} of the time of eight `C` in scikit-learn."""


def draw(results: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    peer = results["fastest_peer"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for precision, style in (("float32", "o-"), ("bfloat16", "s")):
        rows = [row for row in results["heads"] if row["precision"] == precision]
        numbers = [row["heads"] for row in rows]
        if rows:
            left.plot(numbers, [row["head_epochs_per_second"] for row in rows], style, label=f"tfpipe, {precision}")
            right.plot(numbers, [100 * row["of_the_floor"] for row in rows], style, label=precision)
    if peer:
        left.axhline(peer[1], color="gray", linestyle="--", label=f"{peer[0]}, one after another")
    left.set(xscale="log", ylim=(0, None), ylabel="head-epochs a second", title="Training of MNIST, with validation")
    left.legend(loc="lower right")
    right.set(xscale="log", ylim=(0, 105), ylabel="% of the floor", title="The floor of its products, of its seconds")
    numbers = sorted({row["heads"] for row in results["heads"]})
    for axis in (left, right):
        axis.set_xlabel("heads")
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.savefig(measuring.picture("grid"), dpi=120)


if __name__ == "__main__":
    main()

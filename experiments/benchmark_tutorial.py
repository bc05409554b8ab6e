"""The tutorial's run on MNIST: tfpipe against a straightforward NumPy program, and the time to the first step.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_tutorial.py

Both train the 74 epochs with validation and test, in float32, each in a process of its own, three times in turn; what
is compared is the training loop alone, without loading and compiling, and every run must reach 720/9600 and 719/9600.
Prints a table to stderr and one JSON object to stdout.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import tfpipe

ROUNDS = 3
EXPECTED = {"validation_error": 720 / 9600, "test_error": 719 / 9600, "iterations": 6141}
FLAGFILE = pathlib.Path(__file__).with_name("theano_tutorial.flags")


def numpy_program(folder: str) -> dict[str, float]:
    """The tutorial as one would write it in NumPy. Returns its figures, `seconds` for the loop among them."""
    splits = tfpipe.load(folder, validation_split=10000)
    data = [
        (s.images.reshape(len(s), -1) / np.float32(256), s.labels)
        for s in (splits.train, splits.validation, splits.test)
    ]
    (x, y), validation, test = data
    size, learning_rate = 600, np.float32(0.13)
    W, b = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)
    rows = np.arange(size)

    def error(x: np.ndarray, y: np.ndarray) -> float:
        batches = range(0, len(x) // size * size, size)
        return float(np.mean([np.mean((x[i : i + size] @ W + b).argmax(1) != y[i : i + size]) for i in batches]))

    n_batches = len(x) // size
    patience, best, iterations = 5000, np.inf, 0
    begin = time.perf_counter()
    while iterations < 1000 * n_batches:
        i = iterations % n_batches * size
        batch, labels = x[i : i + size], y[i : i + size]
        p = batch @ W + b
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        # The tutorial's train_model returns the cost of each minibatch.
        -np.log(p[rows, labels]).mean()
        p[rows, labels] -= 1
        p /= size
        W -= learning_rate * (batch.T @ p)
        b -= learning_rate * p.sum(axis=0)
        iteration, iterations = iterations, iterations + 1
        if iterations % n_batches == 0:
            this = error(*validation)
            if this < best:
                if this < best * 0.995:
                    patience = max(patience, iteration * 2)
                best, test_error, kept = this, error(*test), (W.copy(), b.copy())
        if patience <= iteration:
            break
    seconds = time.perf_counter() - begin
    assert kept
    return {"validation_error": best, "test_error": test_error, "iterations": iterations, "seconds": seconds}


def tfpipe_command(folder: str) -> dict[str, float]:
    """`tfpipe train`. Adds `start`: seconds from the command's start to its first training step."""
    with tempfile.TemporaryDirectory() as workdir:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "tfpipe", "train", f"--dataset={folder}", f"--flagfile={FLAGFILE}",
             f"--workdir={workdir}/run"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr
        start = next(time.perf_counter() - begin for line in process.stderr if "compiled in" in line)
        stdout, stderr = process.communicate()
        if process.returncode:
            raise SystemExit(stderr)
    return json.loads(stdout.splitlines()[-1]) | {"start": start}


def in_own_process(contestant: str, folder: str) -> dict[str, float]:
    run = subprocess.run([sys.executable, __file__, contestant, folder], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def import_seconds() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tensorflow"], capture_output=True, check=True)
    return time.perf_counter() - begin


def main() -> None:
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    if not folder:
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    runs: dict[str, list[dict[str, float]]] = {"numpy": [], "tfpipe": []}
    imports = []
    for _ in range(ROUNDS):
        runs["numpy"].append(in_own_process("numpy", folder))
        runs["tfpipe"].append(tfpipe_command(folder))
        imports.append(import_seconds())
    for name, results in runs.items():
        for result in results:
            for figure, value in EXPECTED.items():
                if abs(result[figure] - value) > 1e-9:
                    raise SystemExit(f"{name}: {figure} is {result[figure]}, expected {value}")

    seconds = {name: [result["seconds"] for result in results] for name, results in runs.items()}
    start = statistics.median(result["start"] for result in runs["tfpipe"])
    figures = {
        "seconds": seconds,
        "ratio": statistics.median(seconds["tfpipe"]) / statistics.median(seconds["numpy"]),
        "start": start,
        "import_tensorflow": statistics.median(imports),
        "start_above_import": start - statistics.median(imports),
        "cores": os.cpu_count(),
    }
    for name, values in seconds.items():
        print(
            f"{name:8} {'  '.join(f'{v:.2f}' for v in values)}  median {statistics.median(values):.2f} s",
            file=sys.stderr,
        )
    print(f"tfpipe / numpy: {figures['ratio']:.2f}", file=sys.stderr)
    print(
        f"command to first step: {start:.1f} s, {figures['start_above_import']:.1f} s above the import of TensorFlow",
        file=sys.stderr,
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["numpy"]:
        print(json.dumps(numpy_program(sys.argv[2])))
    else:
        main()

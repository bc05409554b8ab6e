"""Training from a file that is larger than memory, by both solvers: seconds a pass, rate, and memory.

    python experiments/benchmark_out_of_core.py [--rows=10000000] [--columns=768] [--folder=FOLDER] [--publish]

Writes a float32 matrix to FOLDER (default: a temporary one), trains from it with `tfpipe train` as a user would, and
deletes it, also if it fails or is ended: 10 million rows of 768 columns are 31 GB. SGD trains one shuffled epoch;
L-BFGS takes one value of l2, and so few iterations that it ends in some minutes.

Each begins when the system's cache of files has dropped the file, beside the time that `cat` takes then; and where
memory could hold it, again with what the cache has kept. For comparison as many of the rows as fill 1 GB train from
memory. A pass is an epoch, or an evaluation: all else that a search reads the rows for, once or twice each, is in its
seconds too. Memory is the peak of RssAnon and RssShmem in /proc/PID/status: what the process holds; mapped pages of the
file, which the kernel can drop at any time, are RssFile and do not count.

Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import measuring
import numpy as np

from tfpipe import memory

CLASSES = 10
BLOCK = 100_000
OF_MEMORY = 1e9  # Bytes that train from memory, for comparison.
EACH = ("--validation_split=10000", "--test_split=10000")
SOLVERS = {
    "sgd": (("--learning_rate=0.13", "--epochs=1"), ("--learning_rate=0.13", "--epochs=3")),
    "lbfgs": (("--l2=1e-3", "--standardize=none", "--max_iter=3"),) * 2,
}
PASSES = {"sgd": "epochs", "lbfgs": "evaluations"}
CASES = {"cold": "not in the cache", "again": "in the cache", "memory": f"{OF_MEMORY / 1e9:.0f} GB in memory"}


def write(folder: pathlib.Path, rows: int, columns: int) -> tuple[pathlib.Path, pathlib.Path]:
    """A matrix of noise around ten templates, and its labels."""
    random = np.random.default_rng(0)
    templates = random.uniform(0, 0.2, (CLASSES, columns)).astype(np.float32)
    noise = random.uniform(0, 0.8, (BLOCK, columns)).astype(np.float32)
    labels = random.integers(0, CLASSES, rows).astype(np.uint8)
    with open(folder / "images.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, BLOCK):
            part = labels[start : start + BLOCK]
            (templates[part] + noise[: len(part)]).tofile(file)
    np.save(folder / "labels.npy", labels)
    return folder / "images.npy", folder / "labels.npy"


def drop_from_cache(path: pathlib.Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())  # What is not on the disk yet cannot be dropped.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_to_read(path: pathlib.Path) -> float:
    begin = time.perf_counter()
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def train(solver: str, *arguments: str) -> dict[str, float]:
    """Runs the command and watches its memory."""
    begin, peak = time.perf_counter(), 0
    # What it logs goes to a file: a pipe that is not read would stop it at 64 KiB.
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "tfpipe", "train", f"--workdir={folder}/run", *EACH, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=measuring.environment())
        try:
            while process.poll() is None:
                peak = max(peak, measuring.held("RssAnon", "RssShmem", pid=process.pid))
                time.sleep(0.05)  # Until the next look at its memory.
        finally:
            process.kill()
        if process.returncode:
            log.seek(0)
            message = log.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{message}")
        report = json.loads(pathlib.Path(folder, "run", "report.json").read_text())
    passes = report[PASSES[solver]]
    return {
        "passes": passes,
        "seconds_of_pass": report["seconds"] / passes,
        "examples_per_second": report["train_examples"] * passes / report["seconds"],
        "command_seconds": time.perf_counter() - begin,
        "held_bytes": peak,
    }


def measure(folder: pathlib.Path, rows: int, columns: int) -> dict[str, Any]:
    """Seconds of `cat`, and by solver and case what the runs took."""
    images, labels = write(folder, rows, columns)
    of_file = f"--dataset={images}", f"--labels={labels}"
    drop_from_cache(images)
    found: dict[str, Any] = {"cat_seconds": seconds_to_read(images), "runs": {}}
    fits = images.stat().st_size < memory.available_memory()
    few = int(OF_MEMORY / (4 * columns))
    part = folder / "part.npz"
    np.savez(part, images=np.load(images, mmap_mode="r")[:few], labels=np.load(labels)[:few])
    for solver, (once, several) in SOLVERS.items():
        drop_from_cache(images)
        runs = {"cold": train(solver, *of_file, *once)}
        if fits:
            runs["again"] = train(solver, *of_file, *once)
        runs["memory"] = train(solver, f"--dataset={part}", *several)
        for case, run in runs.items():
            print(f"{solver}, {CASES[case]}: {run['seconds_of_pass']:.1f} s a pass", file=sys.stderr)
        found["runs"][solver] = runs
    return found


def table(results: dict[str, Any]) -> str:
    """In Markdown: of each run a pass over the rows that it trained on, the whole command, and what it held."""
    gigabytes = results["gigabytes"]
    header = ["", "passes", "seconds a pass", "µs a row", "GB/s", "whole command", "held"]
    lines = [["`cat`", "1", f"{results['cat_seconds']:.1f} s", "", f"{gigabytes / results['cat_seconds']:.2f}", "", ""]]
    for solver, runs in results["runs"].items():
        for case, run in runs.items():
            rate = run["examples_per_second"]
            cells = [f"{run['passes']}", f"{run['seconds_of_pass']:.2f} s", f"{1e6 / rate:.2f}"]
            cells += [f"{rate * 4e-9 * results['columns']:.2f}", f"{run['command_seconds']:.0f} s"]
            lines.append([f"{solver}, {CASES[case]}", *cells, f"{run['held_bytes'] / 1e9:.2f} GB"])
    return measuring.markdown_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--columns", type=int, default=768)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    size, free = 4 * arguments.rows * arguments.columns, shutil.disk_usage(arguments.folder).free
    if size + 2 * OF_MEMORY > free:
        parser.error(f"{arguments.folder} has {free / 1e9:.0f} GB free; the rows take {size / 1e9:.0f}, and 2 more")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the folder is deleted.
    surroundings = measuring.Surroundings()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = measure(pathlib.Path(folder), arguments.rows, arguments.columns)
    results = {
        "machine": surroundings.as_json(),
        "versions": measuring.versions("tfpipe", "tensorflow", "numpy"),
        "rows": arguments.rows,
        "columns": arguments.columns,
        "gigabytes": size / 1e9,
        **found,
    }
    text = f"{arguments.rows:,} rows of {arguments.columns}, {size / 1e9:.1f} GB.\n\n{table(results)}"
    print(text, file=sys.stderr)
    print(json.dumps(results))
    if arguments.publish:
        measuring.publish("out_of_core", results, f"{text}\n\n{measuring.told(results)}")


if __name__ == "__main__":
    main()

"""What it costs to watch a run: in time, in bytes, and until TensorBoard shows it.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_tensorboard.py

1. The tutorial's run on MNIST with and without --tensorboard, in turn, seven rounds: the training loop, which has a
   validation every 83 iterations, and the whole process.
2. 1,000 validations of 64 heads on made-up images: the size of the event files, and how long a TensorBoard takes from
   its start until it has read them all.

Prints one JSON object to stdout.
"""

import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any

import measuring
import numpy as np

ROUNDS = 7
VALIDATIONS, HEADS = 1000, 64
FLAGFILE = pathlib.Path(__file__).parent / "theano_tutorial.flags"


def cost(folder: str) -> dict[str, float]:
    """Ratios of the run that is watched to the one that is not, medians of the rounds."""
    ratios: dict[str, list[float]] = {"seconds": [], "process_seconds": []}
    for _ in range(ROUNDS):
        pair = []
        for flag in ("--tensorboard", "--notensorboard"):
            with tempfile.TemporaryDirectory() as workdir:
                arguments = (f"--dataset={folder}", f"--flagfile={FLAGFILE}", flag, f"--workdir={workdir}/run")
                pair.append(measuring.in_own_process("-m", "tfpipe", "train", *arguments))
        for name, values in ratios.items():
            values.append(pair[0][name] / pair[1][name])
        print({name: round(values[-1], 3) for name, values in ratios.items()}, file=sys.stderr)
    return {f"{name}_ratio": statistics.median(values) for name, values in ratios.items()}


def many_validations() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (1000, 16, 16)).astype(np.uint8), np.arange(1000) % 10
        np.savez(f"{folder}/data.npz", images=images, labels=labels)
        measuring.in_own_process(
            "-m", "tfpipe", "train", f"--dataset={folder}/data.npz", f"--learning_rate=log:0.001:0.1:{HEADS}",
            "--batch_size=100", f"--epochs={VALIDATIONS}", "--patience=2000000000", f"--workdir={folder}/run",
        )  # fmt: skip
        events = list(pathlib.Path(folder, "run", "tensorboard").rglob("*tfevents*"))
        validations = len(pathlib.Path(folder, "run", "metrics.jsonl").read_text().splitlines())
        size = sum(path.stat().st_size for path in events)
        return {"validations": validations, "event_files_MB": size / 1e6, "loaded_after_s": loading(f"{folder}/run")}


def loading(workdir: str) -> float:
    """Seconds from TensorBoard's start until it tells the last point of the last head."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    begin = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={workdir}", f"--port={port}", "--reload_interval=1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - begin < 120:
            tags = ask(port, "scalars/tags")
            heads = [run for run in tags or () if "heads" in run]
            if len(heads) == HEADS and all(len(tags[run]) == 5 for run in heads):
                return time.perf_counter() - begin
            time.sleep(0.1)
    finally:
        server.kill()
        server.wait()
    raise SystemExit("TensorBoard had not loaded the run after two minutes")


def ask(port: int, what: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/data/plugin/{what}", timeout=30) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, ConnectionError):
        return None


def main() -> None:
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    if not folder:
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    print(json.dumps({"machine": measuring.machine(), **cost(folder), **many_validations()}))


if __name__ == "__main__":
    main()

"""What it costs to watch a run: in time, in bytes, and until TensorBoard shows it.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_tensorboard.py

1. The tutorial's run on MNIST with and without --tensorboard, eight rounds, one first and then the other: the training
   loop, which has a validation every 83 iterations, and the whole process.
2. The same for a run of a minute whose best model changes all the time, so that pictures are drawn again and again;
   two rounds.
3. 1,000 validations of 64 heads on made-up images: the size of the event files, and how long a TensorBoard takes from
   its start until it has read them all. More than 50 MB or 10 s is an error.

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
import urllib.request
from typing import Any

import measuring
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

VALIDATIONS, HEADS = 1000, 64
MOST_MB, MOST_SECONDS = 50, 10
FLAGFILE = pathlib.Path(__file__).parent / "theano_tutorial.flags"
CURVES = ("train", "validation", "lowest", "highest")
# So slow to learn that nearly every validation is a new best.
LONG = ("--learning_rate=0.001", "--epochs=3500", "--patience=2000000000")


def cost(folder: str, rounds: int, *flags: str) -> dict[str, float]:
    """Ratios of the run that is watched to the one that is not, medians of the rounds; and of the watched alone."""
    found: dict[str, list[float]] = {"seconds_ratio": [], "process_seconds_ratio": [], "seconds": [], "pictures": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as workdir:
            results = {}
            for flag in ("--tensorboard", "--notensorboard")[:: 1 if number % 2 else -1]:
                results[flag] = measuring.in_own_process(
                    "-m", "tfpipe", "train", f"--dataset={folder}", f"--flagfile={FLAGFILE}", *flags, flag,
                    f"--workdir={workdir}/{flag}",
                )  # fmt: skip
            watched, other = results["--tensorboard"], results["--notensorboard"]
            found["pictures"].append(count_pictures(f"{workdir}/--tensorboard/tensorboard/test"))
        found["seconds"].append(watched["seconds"])
        for name in ("seconds", "process_seconds"):
            found[f"{name}_ratio"].append(watched[name] / other[name])
        print({name: round(values[-1], 3) for name, values in found.items()}, file=sys.stderr)
    return {name: statistics.median(values) for name, values in found.items()}


def count_pictures(folder: str) -> int:
    """How many times the templates were drawn."""
    events = EventAccumulator(folder, {"tensors": 0}).Reload()
    return len(events.Tensors("error/templates"))


def many_validations() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (1000, 16, 16)).astype(np.uint8), np.arange(1000) % 10
        np.savez(f"{folder}/data.npz", images=images, labels=labels)
        measuring.in_own_process(
            "-m", "tfpipe", "train", f"--dataset={folder}/data.npz", f"--learning_rate=log:0.001:0.1:{HEADS}",
            "--batch_size=100", f"--epochs={VALIDATIONS}", "--patience=2000000000", "--select=error",
            f"--workdir={folder}/run",
        )  # fmt: skip
        events = list(pathlib.Path(folder, "run", "tensorboard").rglob("*tfevents*"))
        metrics = pathlib.Path(folder, "run", "metrics.jsonl").read_text().splitlines()
        validations, last = len(metrics), json.loads(metrics[-1])["iteration"]
        size = sum(path.stat().st_size for path in events) / 1e6
        seconds = loading(f"{folder}/run/tensorboard", last)
        if validations != VALIDATIONS or size > MOST_MB or seconds > MOST_SECONDS:
            raise SystemExit(f"{validations} validations, {size:.1f} MB, loaded after {seconds:.1f} s")
        return {"validations": validations, "event_files_MB": size, "loaded_after_s": seconds}


def loading(folder: str, last: int) -> float:
    """Seconds from TensorBoard's start until it tells all heads, and each curve to the iteration `last`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    begin = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", f"--port={port}", "--reload_interval=1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - begin < 120:
            tags = ask(port, "scalars/tags")
            heads = [run for run in tags or () if "heads" in run]
            if len(heads) == HEADS and all(len(tags[run]) == 5 for run in heads):
                curves = [ask(port, f"scalars/scalars?run={run}&tag=cost") for run in CURVES]
                if all(points and points[-1][1] == last for points in curves):
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
    except OSError:
        return None


def main() -> None:
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    if not folder:
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    found = {
        "machine": measuring.machine(),
        "tutorial": cost(folder, 8),
        "minute": cost(folder, 2, *LONG),
        "many_validations": many_validations(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

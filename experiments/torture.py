"""Kills a training run again and again, lets it go on each time, and compares it with one that was left in peace.

    TFPIPE_MNIST_DIR=FOLDER python experiments/torture.py --kills=300 --solver=sgd

A shuffled grid of four heads (--solver=sgd), or a search for the best optimum (lbfgs), on MNIST (or --dataset=digits)
is trained once without interruption. Then the same command is started over and over, and its process ended by SIGKILL
at a random moment: mostly some time after it has saved its state for the first time, else while it starts. In the end
it is left to finish. Model, report, metrics, the last state and TensorBoard's curves must then be the same: to the bit,
but for times. When a run is finished before there were enough kills, another one begins.

Prints one JSON object to stdout; any difference is an error.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfpipe.config import TrainConfig
from tfpipe.disk import checkpoints
from tfpipe.disk.workdir import Workdir

# Two of the heads stop early: they leave the grid while the others train on.
_GRID = ["--shuffle", "--select=error", "--learning_rate=0.02,0.5", "--l2=0,0.01"]
SETTINGS = {
    ("sgd", "mnist"): [*_GRID, "--patience=8000", "--epochs=2500", "--split_order=end"],
    ("sgd", "digits"): [*_GRID, "--batch_size=100", "--patience=15000", "--epochs=10000"],
    ("lbfgs", "mnist"): [],
    # Folds, and two scales with a path of L2 each.
    ("lbfgs", "digits"): ["--standardize=none,columns"],
}
TIMES = ("seconds", "examples_per_second", "epochs_per_second", "workdir")
CURVES = ("train", "validation", "test", "lowest", "highest")
# Seconds between two states, one of them drawn for each start.
EVERY = {"mnist": (0.0, 0.05, 0.5, 15.0), "digits": (0.0, 0.05, 0.5)}
_LONGEST_START = 4.0
_MEAN_TRAINING = 0.2
_NOTHING_TRAINED = "000000000000.npz"


def command(solver: str, dataset: str, workdir: pathlib.Path, every: float) -> list[str]:
    path = os.environ["TFPIPE_MNIST_DIR"] if dataset == "mnist" else dataset
    return [
        sys.executable, "-m", "tfpipe", "train", f"--dataset={path}", f"--solver={solver}", *SETTINGS[solver, dataset],
        "--device=cpu", f"--checkpoint_every={every}", f"--workdir={workdir}",
    ]  # fmt: skip


def finish(arguments: list[str]) -> None:
    """Runs a command to its end. Raises SystemExit if it fails."""
    process = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {process.stderr}")


def kill(arguments: list[str], files: Workdir, dice: random.Random) -> str:
    """Starts a command and kills it at a random moment: at what stage it was, or `finished` if it was faster."""
    before = newest(files)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    stage = "starting"
    begin = time.monotonic()
    patience = dice.uniform(0, _LONGEST_START) if dice.random() < 0.2 else float("inf")
    while process.poll() is None and time.monotonic() - begin < patience:
        if stage == "starting" and newest(files) > max(before, _NOTHING_TRAINED):
            stage, begin, patience = "training", time.monotonic(), dice.expovariate(1 / _MEAN_TRAINING)
        time.sleep(0.002)
    process.kill()
    _, stderr = process.communicate()
    if process.returncode == 0:
        return "finished"
    if process.returncode > 0:
        raise SystemExit(f"exit status {process.returncode}: {stderr.decode()}")
    return stage


def newest(files: Workdir) -> str:
    """The name of the last state."""
    return max((path.name for path in files.checkpoints.glob("*.npz")), default="")


def is_inside_a_descent(files: Workdir) -> bool:
    """Whether the last state has heads of L-BFGS that are on their way."""
    with np.load(files.checkpoints / newest(files)) as arrays:
        return any(name.startswith("descent.") for name in arrays.files)


def differences(first: Workdir, second: Workdir) -> list[str]:
    """In what two runs differ, times and places apart."""
    found = [] if first.model.read_bytes() == second.model.read_bytes() else ["model.npz"]
    for one, other in zip(*([content(files) for files in (first, second)]), strict=True):
        found += [f"{name}: {one[name]} and {other[name]}" for name in one if one[name] != other[name]]
    return found


def content(files: Workdir) -> list[dict[str, Any]]:
    """All that must be the same."""
    report = without_times(json.loads(files.report.read_text()))
    metrics = {
        f"metrics.jsonl, line {number}": without_times(json.loads(line))
        for number, line in enumerate(files.metrics.read_text().splitlines(), start=1)
    }
    saved = checkpoints.Checkpoints(files.checkpoints).load()
    assert saved
    state = {f"{newest(files)}: {name}": array.tobytes().hex() for name, array in saved.arrays.items()}
    return [report, {"lines of metrics.jsonl": len(metrics)} | metrics, state, curves(files)]


def without_times(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in TIMES}


def curves(files: Workdir) -> dict[str, Any]:
    """Every point of the curves in TensorBoard, but for those of the speed."""
    found = {}
    for run in CURVES:
        events = EventAccumulator(str(files.tensorboard / run), {"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            is_curve = events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
            if is_curve and tag != "training/examples_per_second":
                found[f"{run}/{tag}"] = [
                    (event.step, event.tensor_proto.SerializeToString()) for event in events.Tensors(tag)
                ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--solver", choices=("sgd", "lbfgs"), default="sgd")
    parser.add_argument("--dataset", choices=("mnist", "digits"), default="mnist")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    solver, dataset, dice = arguments.solver, arguments.dataset, random.Random(arguments.seed)
    counts, inside = {"starting": 0, "training": 0, "finished": 0}, 0
    with tempfile.TemporaryDirectory() as folder:
        reference = Workdir(f"{folder}/reference")
        finish(command(solver, dataset, reference.path, TrainConfig.checkpoint_every))
        runs = 0
        while counts["starting"] + counts["training"] < arguments.kills:
            runs += 1
            files = Workdir(f"{folder}/{runs}")
            stage = ""
            while stage != "finished" and counts["starting"] + counts["training"] < arguments.kills:
                stage = kill(command(solver, dataset, files.path, dice.choice(EVERY[dataset])), files, dice)
                counts[stage] += 1
                inside += stage == "training" and is_inside_a_descent(files)
                print(runs, stage, newest(files), file=sys.stderr)
            finish(command(solver, dataset, files.path, 0.0))
            if different := differences(reference, files):
                raise SystemExit(f"after {counts}: {len(different)} differences, such as {different[0]:.500}")
        report = json.loads(reference.report.read_text())
    kept = {"iterations_of_heads": [head["iterations"] for head in report["grid"]], "runs": runs}
    kills = counts | {"inside_descents": inside}
    print(json.dumps({"solver": solver, "dataset": dataset, "kills": kills, "differences": 0} | kept))


if __name__ == "__main__":
    main()

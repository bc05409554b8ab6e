"""What it costs to be able to go on: the training loop with states saved, and without.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_checkpoints.py

Two runs on MNIST, the tutorial's and a grid of 64 heads, neither ended by patience. Each is trained three times a
round, in turning order: with no state but the last, with one every 15 seconds (the default), and with one after every
span that finds the one before on the disk. The last tells what a state costs the loop; from that follows, free of the
noise between runs, the share that one every 15 seconds takes. More than 2 % is an error.

Prints one JSON object to stdout.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from typing import Any

import measuring

MOST = 0.02
ROUNDS = 3
RUNS: dict[str, dict[str, Any]] = {
    "tutorial": {"epochs": 1500, "learning_rate": 0.13},
    "64 heads": {
        "epochs": 120,
        "learning_rate": tuple(0.01 * 1.7**n for n in range(8)),
        "l2": (0.0, *(10.0**-n for n in range(2, 9))),
    },
}
EVERY = {"never": 1e9, "default": 15.0, "always": 0.0}


def train(name: str, every: float) -> dict[str, float]:
    """One run, in this process: the seconds of its loop and the states that were saved in it."""
    import tfpipe
    from tfpipe.compute import cpu
    from tfpipe.disk.checkpoints import Checkpoints

    save, kept = Checkpoints.save, []

    def count(checkpoints: Checkpoints, number: int, saved: Any) -> None:
        kept.append(number)
        save(checkpoints, number, saved)

    setattr(Checkpoints, "save", count)  # noqa: B010
    cpu.use_one_thread()  # As the command does for programs of this size.
    splits = tfpipe.load(os.environ["TFPIPE_MNIST_DIR"], validation_split=10_000, split_order="end", pixel_max=256)
    config = tfpipe.TrainConfig(
        **RUNS[name], patience=2**31 - 1, shuffle=False, drop_remainder=True, device="cpu", checkpoint_every=every
    )
    with tempfile.TemporaryDirectory() as workdir:
        report = tfpipe.train(config, splits, workdir).report
    return {"seconds": report["seconds"], "states": len(kept)}


def compare(name: str) -> dict[str, float]:
    """Medians over the rounds."""
    found: dict[str, list[float]] = {"ratio_default": [], "ratio_always": [], "ms_a_state": [], "seconds": []}
    order = list(EVERY)
    for number in range(ROUNDS):
        runs = {
            kind: measuring.in_own_process(__file__, f"--run={name}", f"--every={EVERY[kind]}")
            for kind in order[number % len(order) :] + order[: number % len(order)]
        }
        never = runs["never"]["seconds"]
        found["seconds"].append(never)
        found["ratio_default"].append(runs["default"]["seconds"] / never)
        found["ratio_always"].append(runs["always"]["seconds"] / never)
        found["ms_a_state"].append(1000 * (runs["always"]["seconds"] - never) / runs["always"]["states"])
        print(name, {key: round(values[-1], 4) for key, values in found.items()}, file=sys.stderr)
    medians = {key: statistics.median(values) for key, values in found.items()}
    return medians | {"share_of_default": medians["ms_a_state"] / 1000 / EVERY["default"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", choices=RUNS, help="one run, in this process")
    parser.add_argument("--every", type=float, default=EVERY["default"], help="seconds between its states")
    arguments = parser.parse_args()
    if not os.environ.get("TFPIPE_MNIST_DIR"):
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    if arguments.run:
        print(json.dumps(train(arguments.run, arguments.every)))
        return
    found = {name: compare(name) for name in RUNS}
    print(json.dumps({"machine": measuring.machine()} | found))
    if max(figures["share_of_default"] for figures in found.values()) > MOST:
        raise SystemExit(f"more than {MOST:.0%} of the time")


if __name__ == "__main__":
    main()

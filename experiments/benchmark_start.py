"""How long a first result takes: `tfpipe train` on the built-in digits, from the command to its end.

    python experiments/benchmark_start.py [--rounds=5] [--publish]

Beside it the floor, a process that imports TensorFlow and adds two tensors in an XLA program, and the same without
Keras, which `tfpipe` does without. A command may take 1.25 times the floor, and half a second.

Each is a process of its own, in turn; the first round, in which files come from the disk, does not count.
Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
from typing import Any

import measuring

FLOOR = """
import json
import tensorflow as tf

@tf.function(jit_compile=True)
def add(a, b):
    return a + b

print(json.dumps({"sum": float(add(tf.constant(1.0), tf.constant(2.0)))}))
"""
WITHOUT_KERAS = f"import os; os.environ['TF_USE_LEGACY_KERAS'] = '1'\n{FLOOR}"
DIGITS = pathlib.Path(__file__).parent / "digits.flags"
TRAIN = ("-m", "tfpipe", "train")
FLOORS = {"floor": ("-c", FLOOR), "floor without Keras": ("-c", WITHOUT_KERAS)}
CONTESTANTS = FLOORS | {
    "tfpipe train, lbfgs": (*TRAIN, "--dataset=digits"),
    "tfpipe train, sgd (`make train`)": (*TRAIN, f"--flagfile={DIGITS}"),
}


def run(arguments: tuple[str, ...]) -> dict[str, float]:
    """Seconds from the start of a process to its end, and megabytes. A command gets a workdir that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = (f"--workdir={folder}/run",) if arguments[: len(TRAIN)] == TRAIN else ()
        found = measuring.in_own_process(*arguments, *workdir)
    return {"seconds": found["process_seconds"], "peak_rss_MB": found["peak_rss_MB"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    surroundings = measuring.Surroundings()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for number in range(arguments.rounds + 1):
        for name, command in CONTESTANTS.items():
            found = run(command)
            if number:
                runs[name].append(found)
    contestants = {
        name: {key: statistics.median(one[key] for one in of_name) for key in of_name[0]}
        | {"seconds_of_rounds": [one["seconds"] for one in of_name]}
        for name, of_name in runs.items()
    }
    results: dict[str, Any] = {
        "machine": surroundings.as_json(),
        "versions": measuring.versions("tfpipe", "tensorflow", "numpy", "matplotlib"),
        "rounds": arguments.rounds,
        "contestants": contestants,
    }
    print(table(contestants), file=sys.stderr)
    print(json.dumps(results))
    if arguments.publish:
        measuring.publish("start", results, f"{table(contestants)}\n\n{measuring.told(results)}")


def table(contestants: dict[str, dict[str, Any]]) -> str:
    """In Markdown; with what a command may take by each of the floors."""
    floors = [row["seconds"] for name, row in contestants.items() if name in FLOORS]
    lines = []
    for name, row in contestants.items():
        low, high = min(row["seconds_of_rounds"]), max(row["seconds_of_rounds"])
        may = ["" if name in FLOORS else f"{1.25 * floor + 0.5:.2f} s" for floor in floors]
        lines.append(
            [name, f"{row['seconds']:.2f} s", f"{low:.2f} to {high:.2f}", *may, f"{row['peak_rss_MB']:.0f} MB"]
        )
    header = ["", "whole process", "rounds", *(f"1.25 of {name} + 0.5 s" for name in FLOORS), "peak memory"]
    return measuring.markdown_table(header, lines)


if __name__ == "__main__":
    main()

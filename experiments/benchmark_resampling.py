"""Draws of training rows, few shots or a bootstrap: tfpipe against a loop of scikit-learn over the same draws.

    [TFPIPE_MNIST_DIR=FOLDER] python experiments/benchmark_resampling.py [--bootstrap] [--rounds=1]
        [--tolerances=FILE] [--publish] [NAME ...]

Few shots: 1, 2, 4, 8 and 16 rows of each of 100 classes, five draws of each, from 20,000 rows of 768 features; of each
draw eight values of l2, 1e-1 to 1e-5, of which the validation rows choose one (`--reselect`). The bootstrap: 200 draws
of 50,000 images of MNIST, l2 1e-4; the others fit three of these, which is told for 200.

tfpipe is timed as the difference of two runs, with the draws and without: `seconds` of its draws, with all that is
compiled for them. The others loop over the draws: they get the largest tolerances that bring the first draw of each
size within 1e-4 of the least objective, value by value, which are looked for beforehand, or are those of --tolerances:
for few shots experiments/peers/tolerances_shots.json is what was found. tfpipe certifies that.

Each runs in a process of its own, in turn. Libraries that are not installed are named and left out.
Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import importlib.util
import json
import pathlib
import statistics
import sys
from typing import Any

import measuring
import numpy as np

PROGRAM = str(pathlib.Path(__file__).parent / "peers" / "resampled.py")
MODULES = {"tfpipe": "tfpipe", "scikit-learn": "sklearn", "scikit-learn-intelex": "sklearnex"}
OURS = "tfpipe"
SHOTS = {
    "data": "features", "rows": 20_000, "columns": 768, "classes": 100,
    "l2": np.geomspace(1e-1, 1e-5, 8).tolist(), "shots": [1, 2, 4, 8, 16], "seeds": 5,
}  # fmt: skip
BOOTSTRAP = {"data": "mnist", "l2": [1e-4], "bootstrap": 200}
OF_OTHERS = 3


def run(name: str, task: dict[str, Any], **more: Any) -> dict[str, Any]:
    return measuring.in_own_process(PROGRAM, name, json.dumps(task | more))


def measured(name: str, task: dict[str, Any], tolerances: list[float]) -> dict[str, float]:
    """The seconds of all draws, and the mean of their test errors."""
    if name == OURS:
        found, without = (run(name, task, without=which) for which in (False, True))
        return {"seconds": found["seconds"] - without["seconds"], "error": statistics.mean(found["errors"])}
    few = {"bootstrap": OF_OTHERS} if "bootstrap" in task else {}
    found = run(name, task | few, tolerances=tolerances)
    scale = task["bootstrap"] / OF_OTHERS if few else 1
    return {"seconds": found["seconds"] * scale, "error": statistics.mean(found["errors"])}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tolerances", type=pathlib.Path)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    task: dict[str, Any] = BOOTSTRAP if arguments.bootstrap else SHOTS
    missing = [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]
    names = [
        name for name in MODULES
        if name not in missing and any(part in name for part in arguments.names or [""])
    ]  # fmt: skip
    given = measuring.tolerances(arguments.tolerances) | {OURS: []}
    tolerances = {name: given[name] if name in given else run(name, task, search=True)["tolerances"] for name in names}
    surroundings = measuring.Surroundings()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name, of_name in runs.items():
            of_name.append(measured(name, task, tolerances[name]))
            print(f"{name}: {of_name[-1]['seconds']:.1f} s", file=sys.stderr)
    contestants = {
        name: {key: statistics.median(one[key] for one in of_name) for key in of_name[0]}
        | {"seconds_of_rounds": [one["seconds"] for one in of_name], "tolerances": tolerances[name]}
        for name, of_name in runs.items()
    }
    results: dict[str, Any] = {
        "machine": surroundings.as_json(),
        "versions": measuring.versions(*names, "tensorflow", "numpy"),
        "task": task, "rounds": arguments.rounds, "contestants": contestants, "not_installed": missing,
    }  # fmt: skip
    print(table(contestants), file=sys.stderr)
    print(json.dumps(results))
    if arguments.publish:
        name = "resampling_bootstrap" if arguments.bootstrap else "resampling_shots"
        measuring.publish(name, results, f"{table(contestants)}\n\n{measuring.told(results)}")


def table(contestants: dict[str, dict[str, Any]]) -> str:
    """In Markdown, the fastest first; ratios to tfpipe, where it took part."""
    ours = contestants.get(OURS, {}).get("seconds")
    lines = []
    for name, row in sorted(contestants.items(), key=lambda item: item[1]["seconds"]):
        ratio = "" if ours is None else f"{row['seconds'] / ours:.1f}"
        lines.append([name, f"{row['seconds']:.1f} s", ratio, f"{row['error']:.2%}"])
    return measuring.markdown_table(["", "seconds", "to tfpipe", "mean test error"], lines)


if __name__ == "__main__":
    main()

"""Softmax regression of MNIST with L2, to the optimum: tfpipe against other libraries, all to the same objective.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_optimum.py [--values=path|one | --folds=5]
        [--rows=50000] [--rounds=3] [--tolerances=FILE] [--publish] [NAME ...]

What is minimized is the mean log loss plus l2/2 times the squared norm of W, along a path of 16 values of l2, 1e-1 to
1e-5, or for 1e-3 alone. With --folds each library chooses among eight values, 1e-1 to 1e-5, by its own
cross-validation, and fits all rows with the one it chose.

An objective must be within 1e-4 of the least, relative to it; which is known within 1e-6 from a run of tfpipe
beforehand, by its certificate; where tfpipe runs alone, by that of the run itself. tfpipe is asked for that. What the
others call a tolerance says nothing of it: for them the largest one that reaches it is searched for beforehand, value
by value, in half decades. With --folds they get the smallest of those; there the objective is that of the final fit,
and the log loss over the folds is told. The search takes longer than all else: --tolerances gives them by an object of
JSON, from names of libraries to a list, one for each value; tolerances_path.json and tolerances_one.json in
experiments/peers are what was found. An objective that they miss ends the run all the same.
The others fit one value after the other, each from the last one's end, as their users would; tfpipe tries all in one
`tfpipe.train`, which validates them too, and fits the one that it takes to 1e-5. For one value it is SoftmaxClassifier.

Each runs in a process of its own, in turn. `seconds` are of the fits, with all that is compiled, without imports and
loading. The floor is of one evaluation of all rows for each of a library's own iterations: it takes at
least that. Libraries that are not installed are named and left out. NAME: a part of the names of those that shall run.

Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import sys
from typing import Any, NamedTuple

import measuring
import numpy as np
import roofline

PROGRAM = str(pathlib.Path(__file__).parent / "peers" / "to_optimum.py")
VALUES = {
    "one": [1e-3],
    "path": np.geomspace(1e-1, 1e-5, 16).tolist(),
    "folds": np.geomspace(1e-1, 1e-5, 8).tolist(),
}
ABOVE_LEAST, OF_REFERENCE = 1e-4, 1e-6
OURS = "tfpipe"
N_IN, N_OUT = 784, 10
# tfpipe's: of four values side by side, on rows of 2 MiB.
PRODUCTS = {name: roofline.Products(4 * N_OUT if name == "path" else N_OUT, N_IN, 625) for name in ("path", "one")}


class Contestant(NamedTuple):
    """A library of experiments/peers/to_optimum.py.

    Attributes:
      module: what must be installed for it.
      tolerance: at which the search for its tolerance begins; None: it is what is asked for.
      has_folds: whether it cross-validates.
    """

    module: str
    tolerance: float | None
    has_folds: bool = True


CONTESTANTS = {
    OURS: Contestant("tfpipe", None),
    "scikit-learn": Contestant("sklearn", 1e-2),
    # Its tolerance is of the sum over the rows.
    "scikit-learn-intelex": Contestant("sklearnex", 1e3),
    "cyanure": Contestant("cyanure", 10.0, has_folds=False),
}


def run(name: str, **task: Any) -> dict[str, Any]:
    return measuring.in_own_process(PROGRAM, name, json.dumps(task))


def least(rows: int, l2: list[float]) -> list[float]:
    """Below the least objective of each value, by 1e-6 of it."""
    return bounds_of(run(OURS, rows=rows, l2=l2, tolerances=[OF_REFERENCE] * len(l2)))


def bounds_of(figures: dict[str, Any]) -> list[float]:
    """Below the least objectives: by the certificates of a run of tfpipe."""
    return [F - above for F, above in zip(figures["objectives"], figures["certificates"], strict=True)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--values", choices=("path", "one"), default="path")
    what.add_argument("--folds", type=int, default=0)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tolerances", type=pathlib.Path)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.publish and arguments.names:
        parser.error("--publish is for a run with all contestants")
    for part in arguments.names:
        if not any(part.lower() in name.lower() for name in CONTESTANTS):
            parser.error(f"no contestant {part}; there are: {'; '.join(CONTESTANTS)}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if not os.environ.get("TFPIPE_MNIST_DIR"):
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    task = "folds" if arguments.folds else arguments.values
    missing = [name for name, one in CONTESTANTS.items() if importlib.util.find_spec(one.module) is None]
    for name in missing:
        print(f"{name}: {CONTESTANTS[name].module} is not installed", file=sys.stderr)
    names = [
        name
        for name, contestant in CONTESTANTS.items()
        if name not in missing
        and (contestant.has_folds or not arguments.folds)
        and any(part.lower() in name.lower() for part in arguments.names or [""])
    ]

    rows, l2 = arguments.rows, VALUES[task]
    below = [] if names == [OURS] else least(rows, l2)
    given = measuring.tolerances(arguments.tolerances)
    tolerances = {name: given.get(name) or tolerances_of(name, rows, l2, below) for name in names}
    surroundings = measuring.Surroundings([PRODUCTS[task]] if task in PRODUCTS else [])
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name, of_name in runs.items():
            # Several values are for its own search.
            by_search = {"search": True} if name == OURS and len(l2) > 1 else {}
            if arguments.folds:
                exact = min(tolerances[name])
                figures = run(name, rows=rows, l2=l2, folds=arguments.folds, tolerance=exact, **by_search)
                bounds = below and [below[int(np.argmin(np.abs(np.log(l2) - np.log(figures["l2"]))))]]
            else:
                figures, bounds = run(name, rows=rows, l2=l2, tolerances=tolerances[name], **by_search), below
            if not below:
                bounds = bounds_of(figures)
            above = max(F / bound - 1 for F, bound in zip(figures["objectives"], bounds, strict=True))
            if above > ABOVE_LEAST + 2 * OF_REFERENCE:
                raise SystemExit(f"{name}: an objective is {above:.2g} above the least, expected {ABOVE_LEAST:g}")
            of_name.append(figures | {"above_least": above})
            print(f"{name}: {figures['seconds']:.2f} s, process {figures['process_seconds']:.1f} s", file=sys.stderr)

    contestants = {name: as_row(of_name) | {"tolerances": tolerances[name]} for name, of_name in runs.items()}
    results: dict[str, Any] = {
        "machine": surroundings.as_json(),
        "versions": measuring.versions(*names, "tensorflow", "numpy"),
        "rows": rows,
        "l2": l2,
        "folds": arguments.folds,
        "rounds": arguments.rounds,
        "contestants": contestants,
        "not_installed": missing,
    }
    for row in contestants.values() if task in PRODUCTS else ():
        if row["iterations"] is not None:
            operations = {"float32": row["iterations"] * 4.0 * N_OUT * N_IN * rows}
            least_seconds = roofline.floor(surroundings.roofline, PRODUCTS[task], operations)
            row["of_the_floor"] = least_seconds / row["seconds"]
    if OURS in contestants:
        ours = contestants[OURS]["seconds"]
        results["to_tfpipe"] = {name: row["seconds"] / ours for name, row in contestants.items()}
    print(table(results), file=sys.stderr)
    print(json.dumps(results))
    if arguments.publish:
        measuring.publish(f"optimum_{task}", results, as_text(results))


def tolerances_of(name: str, rows: int, l2: list[float], below: list[float]) -> list[float]:
    """With which it reaches what is asked for, of each value."""
    first = CONTESTANTS[name].tolerance
    if first is None:
        return [ABOVE_LEAST] * len(l2)
    found = run(name, rows=rows, l2=l2, most=[bound * (1 + ABOVE_LEAST) for bound in below], tolerance=first)
    print(f"{name}: tolerances {', '.join(f'{one:.2g}' for one in found['tolerances'])}", file=sys.stderr)
    return list(found["tolerances"])


def as_row(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds, the seconds of each, and what was reached."""
    kept = ("objectives", "seconds_of_values", "l2", "losses", "iterations")
    return {
        **{
            name: statistics.median(one[name] for one in runs) for name in ("seconds", "process_seconds", "peak_rss_MB")
        },
        "seconds_of_rounds": [one["seconds"] for one in runs],
        "above_least": max(one["above_least"] for one in runs),
        **{name: runs[-1][name] for name in kept if name in runs[-1]},
    }


def table(results: dict[str, Any]) -> str:
    """In Markdown, the fastest first; ratios to tfpipe, where it took part."""
    rows, to_ours = results["contestants"], results.get("to_tfpipe", {})
    header = ["", "seconds", "to tfpipe", "of the floor", "process", "memory", "above the least", "tolerance"]
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: item[1]["seconds"]):
        smallest, largest = min(row["tolerances"]), max(row["tolerances"])
        spread = f"{largest:.2g}" if smallest == largest else f"{largest:.2g} to {smallest:.2g}"
        line = [f"**{name}**" if name == OURS else name, f"{row['seconds']:.2f} s"]
        line.append(f"{to_ours[name]:.2f}" if to_ours else "")
        line.append(f"{row['of_the_floor']:.0%}" if "of_the_floor" in row else "")
        line.append(f"{row['process_seconds']:.1f} s")
        line += [f"{row['peak_rss_MB']:.0f} MB", f"{row['above_least']:.1e}"]
        line.append(f"{smallest:.2g}" if results["folds"] else spread)
        if results["folds"]:
            line += [f"{row['l2']:.2g}", f"{min(row['losses']):.5f}"]
        lines.append(line)
    if results["folds"]:
        header += ["chosen l2", "its loss over the folds"]
    return measuring.markdown_table(header, lines)


def as_text(results: dict[str, Any]) -> str:
    """A section of docs/benchmarks.md."""
    return f"""
{table(results)}

{results["rows"]:,} rows.
{measuring.told(results)}
"""


if __name__ == "__main__":
    main()

"""The tutorial's run on MNIST: tfpipe against the programs that users of other libraries would write.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_peers.py [--rounds=3] [--publish] [NAME ...]

Each contestant, experiments/peers/, runs in a process of its own, in turn, three rounds. Those that can stop inside an
epoch must reach 720/9600 and 719/9600 after 6,141 iterations, and Keras comes within 5 of each. `seconds` are of the
training loop, with validation and test, without loading and compiling; `process_seconds` of the whole process, where
nothing was compiled before; `process_again_seconds` of the next one, for libraries that keep on disk what they compile.
Contestants whose library is not installed are named and left out. NAME: a part of the names of those that shall run.

Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any, NamedTuple

import measuring

WRONG = {"validation_error": 720, "test_error": 719}
N_EVALUATED, ITERATIONS = 9600, 6141
HERE = pathlib.Path(__file__).parent
OURS = "tfpipe"


class Contestant(NamedTuple):
    """A program of experiments/peers.

    Attributes:
      arguments: its file there, and what it is called with.
      module: what must be installed for it.
      tolerance: by how many its wrong predictions and its iterations may differ; None: it does another computation.
      keeps_compiled: whether its library keeps on disk what it compiles.
    """

    arguments: tuple[str, ...]
    module: str
    tolerance: int | None = 0
    keeps_compiled: bool = False


CONTESTANTS = {
    OURS: Contestant((), "tfpipe"),
    "NumPy": Contestant(("with_numpy.py",), "numpy"),
    "PyTorch": Contestant(("with_pytorch.py", "eager"), "torch"),
    "PyTorch, gradient by hand": Contestant(("with_pytorch.py", "manual"), "torch"),
    "PyTorch, torch.compile": Contestant(("with_pytorch.py", "compile"), "torch", keeps_compiled=True),
    "JAX, lax.scan": Contestant(("with_jax.py", "scan"), "jax"),
    "JAX, in parts": Contestant(("with_jax.py", "parts"), "jax"),
    "PyTensor": Contestant(("with_pytensor.py",), "pytensor", keeps_compiled=True),
    "Keras fit": Contestant(("with_keras.py",), "keras", tolerance=5),
    "scikit-learn MLPClassifier": Contestant(("with_scikit_learn.py", "mlp"), "sklearn"),
    "scikit-learn SGDClassifier": Contestant(("with_scikit_learn.py", "sgd"), "sklearn", tolerance=None),
    "floor": Contestant(("floor.py", "float32"), "tensorflow", tolerance=None),
    "floor, from bytes": Contestant(("floor.py", "bytes"), "tensorflow", tolerance=None),
    "floor, from bytes, one thread": Contestant(("floor.py", "whole"), "tensorflow", tolerance=None),
    "floor, in integers": Contestant(("floor.py", "integers"), "tensorflow", tolerance=None),
}


def is_floor(name: str) -> bool:
    return name.startswith("floor")


def run_program(name: str, folder: str) -> dict[str, Any]:
    if name == OURS:
        with tempfile.TemporaryDirectory() as workdir:
            return measuring.in_own_process(
                "-m", "tfpipe", "train", f"--dataset={folder}", f"--flagfile={HERE / 'theano_tutorial.flags'}",
                f"--workdir={workdir}/run",
            )  # fmt: skip
    program, *arguments = CONTESTANTS[name].arguments
    return measuring.in_own_process(str(HERE / "peers" / program), *arguments)


def run(name: str, folder: str) -> dict[str, Any]:
    """The figures of a run that starts with nothing compiled, its result checked."""
    with tempfile.TemporaryDirectory() as kept:
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": kept, "PYTENSOR_FLAGS": f"base_compiledir={kept}"}
        result = run_program(name, folder)
        if CONTESTANTS[name].keeps_compiled:
            result["process_again_seconds"] = run_program(name, folder)["process_seconds"]
    result["process_seconds"] += result.get("seconds_extrapolated", 0)
    tolerance = CONTESTANTS[name].tolerance
    if tolerance is not None:
        found = {figure: round(result[figure] * N_EVALUATED) for figure in WRONG} | {"iterations": result["iterations"]}
        for figure, value in (WRONG | {"iterations": ITERATIONS}).items():
            if abs(found[figure] - value) > tolerance:
                raise SystemExit(f"{name}: {figure} is {found[figure]}, expected {value}")
    return result


def import_memory() -> float:
    """The peak memory of a process that imports TensorFlow, in MB."""
    return measuring.in_own_process("-c", "import tensorflow; print('{}')")["peak_rss_MB"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.names and arguments.publish:
        parser.error("--publish is for a run with all contestants")
    for part in arguments.names:
        if not any(part.lower() in name.lower() for name in CONTESTANTS):
            parser.error(f"no contestant {part}; there are: {'; '.join(CONTESTANTS)}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    if not folder:
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    missing = [name for name, peer in CONTESTANTS.items() if importlib.util.find_spec(peer.module) is None]
    for name in missing:
        print(f"{name}: {CONTESTANTS[name].module} is not installed", file=sys.stderr)
    names = [
        name
        for name in CONTESTANTS
        if name not in missing and any(part.lower() in name.lower() for part in arguments.names or [""])
    ]

    surroundings = measuring.Surroundings()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name, of_name in runs.items():
            of_name.append(run(name, folder))
            seconds, process = of_name[-1]["seconds"], of_name[-1]["process_seconds"]
            print(f"{name}: loop {seconds:.2f} s, process {process:.1f} s", file=sys.stderr)

    rows = {name: as_row(of_name) for name, of_name in runs.items()}
    versions = measuring.versions(OURS)
    for of_name in runs.values():
        versions |= of_name[0].get("versions", {})
    results: dict[str, Any] = {
        "machine": surroundings.as_json(),
        "versions": versions,
        "rounds": arguments.rounds,
        "import_of_tensorflow_MB": import_memory(),
        "contestants": rows,
        "not_installed": missing,
    }
    if OURS in rows:
        results["to_tfpipe"] = {
            name: {what: row[what] / rows[OURS][what] for what in ("seconds", "process_seconds")}
            for name, row in rows.items()
        }
        results["tfpipe_to_floor"] = {
            name: rows[OURS]["seconds"] / row["seconds"] for name, row in rows.items() if is_floor(name)
        }
    print(table(rows), file=sys.stderr)
    print(json.dumps(results))
    if arguments.publish:
        draw(rows)
        measuring.publish("peers", results, as_text(results))


def as_row(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds, and the seconds of each."""
    last = runs[-1]
    medians = ("seconds", "process_seconds", "process_again_seconds", "peak_rss_MB")
    return {
        **{what: statistics.median(figures[what] for figures in runs) for what in medians if what in last},
        "seconds_of_rounds": [figures["seconds"] for figures in runs],
        "process_seconds_of_rounds": [figures["process_seconds"] for figures in runs],
        "extrapolated": "seconds_extrapolated" in last,
        **{figure: last.get(figure) for figure in (*WRONG, "iterations")},
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """In Markdown, the fastest loop first; ratios to tfpipe, where it took part."""
    ours = rows.get(OURS)
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: item[1]["seconds"]):
        about = "about " if row["extrapolated"] else ""
        line = [f"**{name}**" if name == OURS else name, f"{about}{row['seconds']:.2f} s"]
        line.append(f"{row['seconds'] / ours['seconds']:.2f}" if ours else "")
        if is_floor(name):
            lines.append([*line, *[""] * 6])
            continue
        line.append(f"{about}{row['process_seconds']:.1f} s")
        line.append(f"{row['process_seconds'] / ours['process_seconds']:.2f}" if ours else "")
        line.append(f"{row['process_again_seconds']:.1f} s" if "process_again_seconds" in row else "")
        line.append(f"{row['peak_rss_MB']:.0f} MB")
        lines.append([*line, *(f"{row[figure] * N_EVALUATED:.0f}" for figure in WRONG)])
    header = ["", "loop", "to tfpipe", "process", "to tfpipe", "again", "memory", "validation, wrong", "test, wrong"]
    return measuring.markdown_table(header, lines)


def as_text(results: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    rows = results["contestants"]
    above = rows[OURS]["peak_rss_MB"] - results["import_of_tensorflow_MB"]
    floors = "; ".join(f"{ratio:.2f} times the {name}" for name, ratio in results["tfpipe_to_floor"].items())
    return f"""
{measuring.shown("peers", "Seconds of the training loop and of the whole process, by contestant")}

{table(rows)}

The loop of `tfpipe` takes {floors}. Its memory is
{above:.0f} MB above that of a process that imports TensorFlow.

{measuring.told(results)}
"""


def draw(rows: dict[str, dict[str, Any]]) -> None:
    """Two rows of bars; without what is extrapolated, which would leave no room for the others."""
    import matplotlib.pyplot as plt

    names = sorted((name for name in rows if not rows[name]["extrapolated"]), key=lambda name: -rows[name]["seconds"])
    colors = ["#d95f02" if name == OURS else "#b8b8b8" if is_floor(name) else "#5b84b1" for name in names]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 0.36 * len(names) + 1.3), layout="constrained", sharey=True, width_ratios=(1, 1)
    )
    bars = left.barh(names, [rows[name]["seconds"] for name in names], color=colors)
    left.bar_label(bars, fmt="%.2f", padding=4)
    left.set_title("training loop: seconds", loc="left", fontsize="medium")

    # The floor is of a loop: its process says nothing. Pale: what only a first start takes, where compiled programs are
    # kept.
    first = [0 if is_floor(name) else rows[name]["process_seconds"] for name in names]
    again = [rows[name].get("process_again_seconds", seconds) for name, seconds in zip(names, first, strict=True)]
    behind = right.barh(names, first, color=colors, alpha=0.35)
    right.barh(names, again, color=colors)
    right.bar_label(behind, [f"{seconds:.1f}" if seconds else "" for seconds in first], padding=4)
    right.set_title("whole process: seconds (pale: only at the first start)", loc="left", fontsize="medium")

    for axis in (left, right):
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False, left=False)
        axis.margins(x=0.14, y=0.02)
    for label in left.get_yticklabels():
        if label.get_text() == OURS:
            label.set(color="#d95f02", fontweight="bold")
    figure.savefig(measuring.picture("peers"), dpi=130)


if __name__ == "__main__":
    main()

"""The tutorial's run on MNIST: tfpipe against the programs that users of other libraries would write.

    TFPIPE_MNIST_DIR=FOLDER python experiments/benchmark_peers.py [--publish] [NAME ...]

Each contestant, experiments/peers/, runs in a process of its own, in turn, three rounds. Those that can stop inside an
epoch must reach 720/9600 and 719/9600 after 6,141 iterations. `seconds` are of the training loop, with validation and
test, without loading and compiling; `process_seconds` of the whole process. Contestants whose library is not installed
are named and left out.

Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import importlib.util
import json
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any, NamedTuple

import measuring

ROUNDS = 3
EXPECTED = {"validation_error": 720 / 9600, "test_error": 719 / 9600, "iterations": 6141}
HERE = pathlib.Path(__file__).parent


class Contestant(NamedTuple):
    """A program of experiments/peers.

    Attributes:
      arguments: its file there, and what it is called with.
      module: what must be installed for it.
      stops_inside_epoch: whether its result must be the published one.
    """

    arguments: tuple[str, ...]
    module: str
    stops_inside_epoch: bool = True


CONTESTANTS = {
    "NumPy": Contestant(("with_numpy.py",), "numpy"),
    "PyTorch": Contestant(("with_pytorch.py", "eager"), "torch"),
    "PyTorch, gradient by hand": Contestant(("with_pytorch.py", "manual"), "torch"),
    "PyTorch, torch.compile": Contestant(("with_pytorch.py", "compile"), "torch"),
    "JAX, lax.scan": Contestant(("with_jax.py", "scan"), "jax"),
    "JAX, in parts": Contestant(("with_jax.py", "parts"), "jax"),
    "PyTensor": Contestant(("with_pytensor.py",), "pytensor"),
    "Keras fit": Contestant(("with_keras.py",), "keras", stops_inside_epoch=False),
    "scikit-learn MLPClassifier": Contestant(("with_scikit_learn.py", "mlp"), "sklearn"),
    "scikit-learn SGDClassifier": Contestant(("with_scikit_learn.py", "sgd"), "sklearn", stops_inside_epoch=False),
    "floor": Contestant(("floor.py", "float32"), "tensorflow", stops_inside_epoch=False),
    "floor, from bytes": Contestant(("floor.py", "bytes"), "tensorflow", stops_inside_epoch=False),
}


def run_tfpipe(folder: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as workdir:
        return measuring.in_own_process(
            "-m", "tfpipe", "train", f"--dataset={folder}", f"--flagfile={HERE / 'theano_tutorial.flags'}",
            f"--workdir={workdir}/run",
        )  # fmt: skip


def run(name: str, folder: str) -> dict[str, Any]:
    if name == "tfpipe":
        result = run_tfpipe(folder)
    else:
        program, *arguments = CONTESTANTS[name].arguments
        result = measuring.in_own_process(str(HERE / "peers" / program), *arguments)
    if name == "tfpipe" or CONTESTANTS[name].stops_inside_epoch:
        for figure, value in EXPECTED.items():
            if abs(result[figure] - value) > 1e-9:
                raise SystemExit(f"{name}: {figure} is {result[figure]}, expected {value}")
    return result


def import_memory() -> float:
    """The peak memory of a process that imports TensorFlow, in MB."""
    return measuring.in_own_process("-c", "import tensorflow; print('{}')")["peak_rss_MB"]


def main() -> None:
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    if not folder:
        raise SystemExit("TFPIPE_MNIST_DIR must name a folder with MNIST's IDX files")
    wanted = [argument for argument in sys.argv[1:] if argument != "--publish"]
    if unknown := set(wanted) - {"tfpipe", *CONTESTANTS}:
        raise SystemExit(f"no contestant {', '.join(unknown)}; there are tfpipe, {', '.join(CONTESTANTS)}")
    if wanted and "--publish" in sys.argv:
        raise SystemExit("--publish is for a run with all contestants")
    missing = [name for name, peer in CONTESTANTS.items() if importlib.util.find_spec(peer.module) is None]
    for name in missing:
        print(f"{name}: {CONTESTANTS[name].module} is not installed", file=sys.stderr)
    names = [name for name in wanted or ["tfpipe", *CONTESTANTS] if name not in missing]

    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, results in runs.items():
            results.append(run(name, folder))
            seconds, process = results[-1]["seconds"], results[-1]["process_seconds"]
            print(f"{name}: loop {seconds:.2f} s, process {process:.1f} s", file=sys.stderr)

    rows = {name: as_row(results) for name, results in runs.items()}
    results = {
        "machine": measuring.machine(),
        "versions": {
            name: version
            for name in ("tfpipe", "tensorflow", "numpy", "torch", "jax", "pytensor", "keras", "scikit-learn")
            if (version := measuring.version(name))
        },
        "import_of_tensorflow_MB": import_memory(),
        "contestants": rows,
        "not_installed": missing,
    }
    print(table(rows), file=sys.stderr)
    print(json.dumps(results))
    if "--publish" in sys.argv:
        draw(rows)
        measuring.publish("peers", results, as_text(results))


def as_row(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds, and the seconds of each."""
    last = results[-1]
    return {
        "seconds": statistics.median(result["seconds"] for result in results),
        "process_seconds": statistics.median(result["process_seconds"] for result in results),
        "peak_rss_MB": statistics.median(result["peak_rss_MB"] for result in results),
        "seconds_of_rounds": [result["seconds"] for result in results],
        "process_seconds_of_rounds": [result["process_seconds"] for result in results],
        "extrapolated": last.get("extrapolated", False),
        **{figure: last.get(figure) for figure in EXPECTED},
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """In Markdown, the fastest loop first; ratios to tfpipe, where it took part."""
    ours = rows.get("tfpipe")
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: item[1]["seconds"]):
        loop, process = f"{row['seconds']:.2f} s", f"{row['process_seconds']:.1f} s"
        ratios = ["", ""]
        if ours:
            ratios = [f"{row[what] / ours[what]:.2f}" for what in ("seconds", "process_seconds")]
        errors = ["" if row[figure] is None else f"{row[figure]:.3%}" for figure in ("validation_error", "test_error")]
        name = f"**{name}**" if name == "tfpipe" else name
        about = "about " if row["extrapolated"] else ""
        lines.append([name, about + loop, ratios[0], process, ratios[1], f"{row['peak_rss_MB']:.0f} MB", *errors])
    header = ["", "loop", "to tfpipe", "process", "to tfpipe", "memory", "validation error", "test error"]
    return measuring.markdown_table(header, lines)


def as_text(results: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    machine, rows = results["machine"], results["contestants"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    above = rows["tfpipe"]["peak_rss_MB"] - results["import_of_tensorflow_MB"]
    missing = f"\n\nNot installed: {', '.join(results['not_installed'])}." if results["not_installed"] else ""
    return f"""
![Seconds of the training loop and of the whole process, by contestant](benchmarks/peers.png)

{table(rows)}

{machine["cpu"]}, {machine["cores"]} cores, {machine["memory_GiB"]} GiB; Python {machine["python"]}; {versions}.
The memory of `tfpipe` is {above:.0f} MB above that of a process that imports TensorFlow.{missing}
"""


def draw(rows: dict[str, dict[str, Any]]) -> None:
    import matplotlib.pyplot as plt

    names = sorted((name for name in rows if not rows[name]["extrapolated"]), key=lambda name: -rows[name]["seconds"])
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.34 * len(names) + 1), layout="constrained", sharey=True)
    titles = {"seconds": "training loop, seconds", "process_seconds": "whole process, seconds"}
    for axis, (what, title) in zip(axes, titles.items(), strict=True):
        colors = [
            "tab:orange" if name == "tfpipe" else "0.8" if name.startswith("floor") else "tab:blue" for name in names
        ]
        bars = axis.barh(names, [rows[name][what] for name in names], color=colors)
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_title(title, fontsize="medium")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    figure.savefig(measuring.picture("peers"), dpi=120)


if __name__ == "__main__":
    main()

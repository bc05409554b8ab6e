"""What training costs, against the number of images, pixels, classes, heads, and images in a minibatch: both solvers.

    python experiments/benchmark_scaling.py [--rounds=3] [--publish] [--only=SOLVER[:SIZE]]

Bytes of noise in labelled classes; a tenth as many validate, and are the test. One size varies, the others stay as in
MNIST in minibatches of 600: 20,000 images of 784 pixels in 10 classes, one head; of the largest sizes there are fewer
images (FEWER). Each figure is the median of the rounds, one of which takes five minutes on two cores.

sgd: nanoseconds for an image and epoch, of all heads, shuffled and with validation. lbfgs: nanoseconds for an image and
evaluation, which is the cost of one head and its gradient, of a search to the optimum: the seconds that its report
tells, with its metric, the validation and the last fit; heads are values of l2, of which four go side by side. Neither
counts compilation, but of lbfgs at 10,000 classes, where there is one search, of one iteration. The floor is that of
the products: of lbfgs in float32, or in float64 where it computes in no other; where rows have many more columns than
there are rows, of what is left of them in their span.

Memory is the peak beyond the import of TensorFlow and the images; beside it the estimate that a run makes before it
begins.

Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import itertools
import json
import statistics
import sys
from typing import Any, NamedTuple

import measure_memory
import measuring
import numpy as np
import roofline

from tfpipe.compute import cpu

SIZES = {
    "N": [5_000, 20_000, 320_000],
    "D": [49, 784, 12_544, 200_704],
    "K": [2, 10, 1_000, 10_000],
    "H": [1, 64, 1_024],
    "B": [20, 600, 2_400],
}
# Images, where an epoch of 20,000 would take many seconds, or gigabytes.
FEWER = {
    ("D", 12_544): {"sgd": 4_800, "lbfgs": 3_600},
    ("D", 200_704): {"sgd": 1_200, "lbfgs": 300},
    ("K", 1_000): {"sgd": 4_800, "lbfgs": 1_200},
    ("K", 10_000): {"sgd": 4_800, "lbfgs": 600},
    ("H", 1_024): {"sgd": 4_800, "lbfgs": 600},
}
WORDS = {"N": "images", "D": "pixels of an image", "K": "classes", "H": "heads", "B": "images in a minibatch"}
# What is counted in the place of images by a solver, and the sizes that it knows.
PASSES = {"sgd": "epoch", "lbfgs": "evaluation"}
SOLVERS = {"sgd": "NDKHB", "lbfgs": "NDKH"}
SECONDS = 0.5
SIDE_BY_SIDE, MOST_ITERATIONS, TO_COMPILE = 4, 20, 1
# Where a search of one iteration takes half a minute: there is no other, so its programs are compiled in its seconds.
MANY_CLASSES = 10_000


class Run(NamedTuple):
    """A solver, and sizes: images, their pixels, classes, heads, and images in a minibatch."""

    solver: str
    N: int = 20_000
    D: int = 784
    K: int = 10
    H: int = 1
    B: int = 600

    @classmethod
    def of(cls, solver: str, name: str, size: int) -> "Run":
        """One of SIZES."""
        return cls(solver, **{"N": FEWER.get((name, size), {}).get(solver, cls("").N)} | {name: size})

    @property
    def most_iterations(self) -> int:
        """At which a search of lbfgs ends, if it has not found the optimum."""
        return TO_COMPILE if self.K >= MANY_CLASSES else MOST_ITERATIONS

    def products(self, in_span: bool) -> roofline.Products:
        """Of each of the programs: heads are divided among them by sgd, and images by lbfgs.

        `in_span`: the images are fitted in their span, where each has as many coordinates as there are images.
        """
        if self.solver == "sgd":
            return roofline.Products.of_heads(self.H, self.K, self.D, self.B, cpu.cores())
        inputs = self.N if in_span else self.D
        return roofline.Products.of_heads(min(self.H, SIDE_BY_SIDE), self.K, inputs, self.N, 1)

    def operations(self, in_span: bool) -> float:
        """For an image and epoch, of all heads, or an image and evaluation, of one."""
        if self.solver == "sgd":
            # Four for a weight and image of training, two for one of the tenth that validates.
            return 4.2 * self.H * self.K * self.D
        return 4.0 * self.K * (self.N if in_span else self.D)


def measure(run: Run) -> dict[str, Any]:
    """Trains on made-up images of these sizes, for about SECONDS, or to the optimum.

    Returns nanoseconds an image and pass, the type of the products, whether they are `in_span`, the peak and the
    estimate in bytes; of lbfgs `evaluations`, how many.
    """
    import tfpipe
    from tfpipe import memory
    from tfpipe.compute import device
    from tfpipe.solvers import row_space
    from tfpipe.solvers.passes import SMALL
    from tfpipe.solvers.sgd import Sgd
    from tfpipe.training import plan

    solver, n, d, k, n_heads, batch_size = run
    images = memory.empty((n + n // 10, 1, d), np.uint8)
    np.copyto(images, np.frombuffer(np.random.default_rng(0).bytes(images.size), np.uint8).reshape(images.shape))
    whole = tfpipe.Examples(images, np.arange(len(images)) % k)
    train, held_out = whole.take(np.arange(n)), whole.take(np.arange(n, len(images)))
    splits = tfpipe.Splits(train, held_out, held_out, tuple(map(str, range(k))), 255.0)

    def by_sgd(epochs: int) -> tfpipe.TrainConfig:
        return tfpipe.TrainConfig(
            batch_size=batch_size,
            learning_rate=tuple(np.geomspace(0.001, 0.01, n_heads)),
            epochs=epochs,
            patience=2**31 - 1,
            validation_frequency=-(-n // batch_size),
        )

    def by_lbfgs(max_iter: int) -> tfpipe.TrainConfig:
        values = np.geomspace(1e-3, 1e-4, n_heads)
        if max_iter == TO_COMPILE:
            values = values[:SIDE_BY_SIDE]
        # Without another fit of all rows: so all evaluations are of the same.
        return tfpipe.TrainConfig(l2=tuple(values), max_iter=max_iter, refit=False)

    settings = by_sgd if solver == "sgd" else by_lbfgs
    # As the command does.
    if solver == "sgd" and plan.wants_one_thread(splits, Sgd(by_sgd(1), splits), device.select("auto")):
        cpu.use_one_thread()
    estimated = measure_memory.estimate(settings(run.most_iterations), splits)
    held = measure_memory.begin()

    def report(passes: int) -> dict[str, Any]:
        return tfpipe.train(settings(passes), splits, workdir=None).report

    first = report(TO_COMPILE)
    passes = max(2, round(SECONDS / first["seconds"])) if solver == "sgd" else run.most_iterations
    found = first if passes == TO_COMPILE else report(passes)
    own = {"products": found["products"], "in_span": False}
    if solver == "lbfgs":
        passes, in_span = evaluations(found), row_space.pays(n, d)
        dtype = "float64" if in_span or n * d * k <= SMALL else "float32"
        own = {"products": dtype, "in_span": in_span, "evaluations": passes}
    return own | {"nanoseconds": 1e9 * found["seconds"] / passes / n, "peak": held.bytes, "estimate": estimated}


def evaluations(report: dict[str, Any]) -> int:
    """How many a search made, each of one head; the report counts those of heads side by side as one."""
    of_heads = [setting["evaluations"] for setting in report["grid"]]
    groups = [of_heads[begin : begin + SIDE_BY_SIDE] for begin in range(0, len(of_heads), SIDE_BY_SIDE)]
    of_last_fit = report["evaluations"] - sum(map(max, groups))
    return sum(of_heads) + of_last_fit


def share(of_all: float) -> str:
    """In per cent."""
    return "under 1%" if of_all < 0.01 else f"{of_all:.0%}"


def table(solver: str, name: str, rows: list[dict[str, Any]]) -> str:
    """What one size changes, in Markdown."""
    lines = [[f"ns for an image and {PASSES[solver]}", *(f"{row['nanoseconds']:,.0f}" for row in rows)]]
    lines.append(["of the floor", *(share(row["floor"] / row["nanoseconds"]) for row in rows)])
    if solver == "lbfgs":
        lines.append(["evaluations", *(f"{row['evaluations']:,}" for row in rows)])
    lines.append(["memory, MB", *(f"{row['peak'] / 1e6:,.0f}" for row in rows)])
    lines.append(["estimate, MB", *(f"{row['estimate'] / 1e6:,.0f}" for row in rows)])
    lines.append(["memory for an image, kB", *(f"{row['peak'] / row['images'] / 1e3:,.1f}" for row in rows)])
    lines.append(["rounds", *(f"{len(row['nanoseconds_of_rounds'])}" for row in rows)])
    if any((name, row["size"]) in FEWER for row in rows):
        lines.insert(0, ["images", *(f"{row['images']:,}" for row in rows)])
    words = "values of l2" if (solver, name) == ("lbfgs", "H") else WORDS[name]
    return measuring.markdown_table([f"{solver}: {words}", *(f"{row['size']:,}" for row in rows)], lines)


def rates_of(runs: dict[Run, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By type what roofline.py measures of the products of those runs that multiply in it."""
    wanted: dict[str, list[roofline.Products]] = {}
    for run, found in runs.items():
        wanted.setdefault(found[-1]["products"], []).append(run.products(found[-1]["in_span"]))
    return {dtype: roofline.measure(of_type, (dtype,)) for dtype, of_type in wanted.items()}


def as_row(name: str, run: Run, found: list[dict[str, Any]], measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Medians of the rounds, beside the floor and the estimate."""
    medians = {of: statistics.median(one[of] for one in found) for of in ("nanoseconds", "peak")}
    last = {of: value for of, value in found[-1].items() if of in ("estimate", "evaluations", "products", "in_span")}
    dtype, in_span = last["products"], last["in_span"]
    floor = 1e9 * roofline.floor(measured[dtype], run.products(in_span), {dtype: run.operations(in_span)})
    of_rounds = [one["nanoseconds"] for one in found]
    own = {"solver": run.solver, "varies": name, "size": getattr(run, name), "images": run.N}
    return own | medians | last | {"floor": floor, "nanoseconds_of_rounds": of_rounds}


def rows_of(results: dict[str, Any], solver: str, name: str) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if (row["solver"], row["varies"]) == (solver, name)]


def as_text(results: dict[str, Any]) -> str:
    """The plots and the figures, in Markdown."""
    parts = [
        measuring.shown("scaling", "Nanoseconds for an image and pass, by each size, of both solvers"),
        measuring.shown("scaling_memory", "Megabytes beyond the images, by each size, of both solvers"),
    ]
    parts += [
        table(solver, name, rows_of(results, solver, name)) for solver, names in SOLVERS.items() for name in names
    ]
    return "\n\n".join([*parts, measuring.told(results)])


def draw(results: dict[str, Any], figure_of: str, dotted: str, unit: float, label: str, picture: str) -> None:
    """A figure of all runs by each size, and another one dotted."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SIZES), figsize=(3 * len(SIZES), 3.2), layout="constrained", sharey=True)
    for axis, name in zip(axes, SIZES, strict=True):
        for (solver, names), color in zip(SOLVERS.items(), ("C0", "C1"), strict=True):
            if name in names:
                rows = rows_of(results, solver, name)
                sizes = [row["size"] for row in rows]
                axis.plot(sizes, [row[figure_of] / unit for row in rows], "o-", color=color, label=solver)
                axis.plot(sizes, [row[dotted] / unit for row in rows], ":", color=color, label=f"{solver}, {dotted}")
        axis.set(xscale="log", yscale="log", xlabel="heads, or values of l2" if name == "H" else WORDS[name])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(label)
    axes[0].legend()
    figure.savefig(measuring.picture(picture), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--only", help="sgd, lbfgs, or with what varies, as sgd:N")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(Run(*arguments.one))))
        return
    if arguments.publish and arguments.only:
        parser.error("--publish is for a run of all sizes")
    wanted = [
        (name, Run.of(solver, name, size))
        for solver, names in SOLVERS.items()
        for name in names
        for size in SIZES[name]
        if f"{solver}:{name}".startswith(arguments.only or "")
    ]
    runs: dict[Run, list[dict[str, Any]]] = {run: [] for _, run in wanted}  # Several tables share one.
    surroundings = measuring.Surroundings()
    for _, (run, found) in itertools.product(range(arguments.rounds), runs.items()):
        found.append(measuring.in_own_process(__file__, f"--one={json.dumps(run)}"))
        seconds = found[-1]["process_seconds"]
        print(f"{run}: {found[-1]['nanoseconds']:.0f} ns; process {seconds:.1f} s", file=sys.stderr)
    measured = rates_of(runs)
    results = {
        "machine": surroundings.as_json(),
        "versions": measuring.versions("tfpipe", "tensorflow", "numpy"),
        "rows": [as_row(name, run, runs[run], measured) for name, run in wanted],
        "rates": {dtype: one["rates"] for dtype, one in measured.items()},
    }
    for solver, names in SOLVERS.items():
        for name in names:
            if rows := rows_of(results, solver, name):
                print(f"\n{table(solver, name, rows)}", file=sys.stderr)
    print(json.dumps(results))
    if arguments.publish:
        of_time = "ns for an image and pass"
        draw(results, "nanoseconds", "floor", 1.0, of_time, "scaling")
        draw(results, "peak", "estimate", 1e6, "MB beyond the images", "scaling_memory")
        measuring.publish("scaling", results, as_text(results))


if __name__ == "__main__":
    main()

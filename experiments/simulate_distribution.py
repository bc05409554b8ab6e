"""How far a run can be shared among workers: the model of tfpipe/training/distribution.py, up to 1,024 GPUs.

    python experiments/simulate_distribution.py [--measured=FILE.json] [--publish]

For some works, on GPUs and on cores, and for some networks: seconds by a single worker, how many times as fast more of
them are, where that ends, and what bounds it. It ends at the number from which on twice as many workers take more than
0.9 of the time. The start of the cluster, which comes once, is left out. Nothing is measured, and nothing drawn at
random: the tables are the same each time.

--measured: what runs took, in docs/benchmarks/MACHINE/distributed.json, say. An object of JSON with `machine` and
`network`, names of MACHINES and NETWORKS; `cores`, how many the machine has, among which workers of one core each are
divided; and `runs`, objects with `name`, `work` (the fields of distribution.Work), `workers`, and `seconds`.

Prints tables to stderr and one JSON object to stdout, how many times as fast each number of workers is; with --publish
the tables stand in docs/distributed.md, beside the plot.
"""

import argparse
import json
import pathlib
import sys
from typing import Any, NamedTuple

import measuring

from tfpipe.compute import speeds
from tfpipe.compute.speeds import Machine, Network
from tfpipe.solvers.optimum import sample_rows
from tfpipe.solvers.passes import BLOCKS, MINIBATCH_BYTES
from tfpipe.training import distribution
from tfpipe.training.distribution import Work

COUNTS = [1 << power for power in range(11)]
# Of the time that twice as many workers take: more, and it is not worth them.
WORTH = 0.9
PICTURE = "distributed.png"
GRID = "benchmarks/amd-epyc-avx512-bf16-2-cores/grid.json"
IMAGES, VALIDATED, BATCH_SIZE = 49_800, 9_600, 600  # Of MNIST, in full minibatches.


class Stated(NamedTuple):
    """A machine or a network, and where its constants come from."""

    constants: Any
    source: str


MACHINES = {
    "core": Stated(speeds.CORE, "measured: a core of an AMD EPYC with AVX512_BF16"),
    "GPU": Stated(
        speeds.GPU,
        "assumed: half of the 67 TFLOP/s in float32 and 3.35 TB/s of NVIDIA's data sheet of the H100 SXM, 20 kernels of"
        " 5 µs a minibatch; NumPy as on the EPYC",
    ),
}
# Latency and hop of TensorFlow's own ring are those of its software: the wire has 0.02 ms in it.
OVER_TCP = speeds.PROCESSES
NETWORKS = {
    "devices": Stated(speeds.DEVICES, "measured: calls and copies of one process; `auto` takes it for devices"),
    "loopback": Stated(OVER_TCP, "measured: processes of one machine, gRPC; `auto` takes it for all processes"),
    "Ethernet, 10 Gb/s": Stated(
        OVER_TCP._replace(bandwidth=1.25e9), "assumed: gRPC's latency as measured, the line's rate, which it may miss"
    ),
    "Ethernet, 100 Gb/s": Stated(OVER_TCP._replace(bandwidth=12.5e9), "assumed: likewise"),
    "InfiniBand, 400 Gb/s": Stated(
        OVER_TCP._replace(latency=50e-6, hop=10e-6, bandwidth=50e9),
        "assumed: NCCL, whose own model (`src/graph/tuning.cc`) has 8.4 µs and 10 to 14 µs a hop, and 40 µs for"
        " TensorFlow to begin; NDR's rate",
    ),
    "NVLink": Stated(
        OVER_TCP._replace(latency=50e-6, hop=3.4e-6, bandwidth=450e9),
        "assumed: NCCL, 3.4 µs a hop there; half of the H100's 900 GB/s, which are of both directions; as if it joined"
        " all GPUs",
    ),
}


def mnist(solver: str, heads: int, passes: int) -> Work:
    """MNIST, with a validation and a test after each epoch of sgd, in its minibatches."""
    if solver == "sgd":
        return Work(solver, IMAGES, 784, 10, heads, passes, BATCH_SIZE, 784, validations=passes, measured=2 * VALIDATED)
    sample, batch_size = sample_rows(784, 10), MINIBATCH_BYTES // (4 * 784)
    return Work(solver, 50_000, 784, 10, heads, passes, batch_size, 784, blocks=BLOCKS, sample=sample)


def features(solver: str, rows: int, n_out: int, heads: int, passes: int) -> Work:
    """Rows of 768 features in float32; a tenth as many are measured after each epoch of sgd."""
    if solver == "sgd":
        return Work(solver, rows, 768, n_out, heads, passes, BATCH_SIZE, 3072, validations=passes, measured=rows // 10)
    sample, batch_size = sample_rows(768, n_out), MINIBATCH_BYTES // 3072
    return Work(solver, rows, 768, n_out, heads, passes, batch_size, 3072, blocks=BLOCKS, sample=sample)


# Between which workers are compared: of each machine.
BETWEEN = {
    "GPU": ("Ethernet, 10 Gb/s", "Ethernet, 100 Gb/s", "InfiniBand, 400 Gb/s", "NVLink"),
    "core": ("loopback", "Ethernet, 10 Gb/s"),
}
# Evaluations and epochs are round numbers: how many times as fast more workers are does not depend on them.
WORKS = {
    "MNIST, sgd, 1 head": mnist("sgd", 1, 100),
    "MNIST, sgd, 64 heads": mnist("sgd", 64, 100),
    "MNIST, sgd, 1,024 heads": mnist("sgd", 1024, 100),
    "MNIST, lbfgs, 1 head": mnist("lbfgs", 1, 100),
    "MNIST, lbfgs, 16 heads": mnist("lbfgs", 16, 100),
    "1M x 768, 1,000 classes, sgd, 64 heads": features("sgd", 1_000_000, 1000, 64, 30),
    "1M x 768, 1,000 classes, lbfgs, 1 head": features("lbfgs", 1_000_000, 1000, 1, 100),
    "1M x 768, 1,000 classes, lbfgs, 16 heads": features("lbfgs", 1_000_000, 1000, 16, 100),
    "1M x 768, 1,000 classes, lbfgs, 64 heads": features("lbfgs", 1_000_000, 1000, 64, 100),
    "10M x 768, 10 classes, lbfgs, 4 heads": features("lbfgs", 10_000_000, 10, 4, 100),
    "10M x 768, 1,000 classes, lbfgs, 4 heads": features("lbfgs", 10_000_000, 1000, 4, 100),
}
BOUNDS = {
    "rows": "rows, which all read",
    "steps": "minibatches",
    "serial": "the chief",
    "latency": "latency",
    "transfer": "bandwidth",
}


def without_start(network: str) -> Network:
    """One of NETWORKS, whose workers know each other from the beginning."""
    constants: Network = NETWORKS[network].constants
    return constants._replace(start=0.0)


def speedup(work: Work, machine: Machine, network: Network, workers: int) -> float:
    """How many times as fast so many workers are as one."""
    return distribution.alone(work, machine).total / distribution.shared(work, machine, network, workers).total


def ends(work: Work, machine: Machine, network: Network) -> tuple[int, str]:
    """From how many workers on twice as many are not worth it; and what bounds it there, in words.

    It is bounded by the largest of what those take; or, where that has been divided into as many parts as there are, by
    their number.
    """
    for workers in COUNTS:
        now, then = (distribution.shared(work, machine, network, count) for count in (workers, 2 * workers))
        if then.total > WORTH * now.total:
            break
    largest = max(then._fields, key=lambda name: float(getattr(then, name)))
    is_by_heads = distribution.FORMS[work.solver] == distribution.BY_HEADS
    if largest in (("products",) if is_by_heads else ("products", "rows", "steps")):
        return workers, f"{work.parts:,} {'head' if is_by_heads else 'block'}{'s' * (work.parts > 1)}"
    return workers, BOUNDS[largest]


def scaling(machine: str) -> str:
    """Where each work ends to gain by more workers, in Markdown."""
    lines = []
    for name, work in WORKS.items():
        constants = MACHINES[machine].constants
        cells = []
        for network in map(without_start, BETWEEN[machine]):
            workers, bound = ends(work, constants, network)
            found = f"{speedup(work, constants, network, workers):.1f} by {workers:,}" if workers > 1 else "no gain"
            cells.append(f"{found}: {bound}")
        lines.append([name, f"{distribution.alone(work, constants).total:,.1f} s", *cells])
    return measuring.markdown_table(["work", "alone", *BETWEEN[machine]], lines)


def curves(machine: str) -> dict[str, dict[str, list[float]]]:
    """How many times as fast each of COUNTS is, of each work, by network."""
    constants = MACHINES[machine].constants
    return {
        name: {
            network: [speedup(work, constants, without_start(network), count) for count in COUNTS]
            for network in BETWEEN[machine]
        }
        for name, work in WORKS.items()
    }


def constants() -> str:
    """What each machine and each network is taken for, in Markdown."""
    header = ["", "GFLOP/s", "rows, GB/s", "minibatch, µs", "weight, ns", "metric, GFLOP/s", "where from"]
    machines = [
        [
            name,
            f"{one.product_rate / 1e9:,.0f}",
            f"{one.row_rate / 1e9:,.1f}",
            f"{one.step_seconds * 1e6:.0f}",
            f"{one.number_seconds * 1e9:.0f}",
            f"{one.metric_rate / 1e9:.0f}",
            source,
        ]
        for name, (one, source) in MACHINES.items()
    ]
    networks = [
        [
            name,
            f"{one.latency * 1e3:.2f}",
            f"{one.hop * 1e3:.4f}",
            f"{one.bandwidth / 1e9:,.2f}",
            f"{one.start:.0f}",
            source,
        ]
        for name, (one, source) in NETWORKS.items()
    ]
    tables = [(header, machines), (["", "latency, ms", "hop, ms", "GB/s", "start, s", "where from"], networks)]
    return "\n\n".join(measuring.markdown_table(*table) for table in tables)


def against_one_worker(docs: pathlib.Path = measuring.DOCS) -> str:
    """The grids of MNIST that docs/benchmarks.md has of two cores, beside the model, in Markdown."""
    machine = speeds.CORE._replace(programs=2)
    lines = []
    for row in json.loads((docs / GRID).read_text())["heads"]:
        if row["precision"] == "float32":
            epochs = round(row["head_epochs_per_second"] * row["seconds"] / row["heads"])
            found = distribution.alone(mnist("sgd", row["heads"], epochs), machine).total
            lines.append([str(row["heads"]), str(epochs), *compared(row["seconds"], found)])
    return measuring.markdown_table(["heads", "epochs", "measured", "model", "model to measured"], lines)


def against_measured(results: dict[str, Any]) -> str:
    """What runs took, beside the model, in Markdown. See --measured.

    Raises:
      SystemExit: a name or a field is not known.
    """
    lines = []
    alone: dict[str, float] = {}
    try:
        machine = MACHINES[results["machine"]].constants
        network = NETWORKS[results["network"]].constants
        for run in results["runs"]:
            work, workers = Work(**run["work"]), run["workers"]
            # More workers than cores take turns.
            share = min(1.0, results["cores"] / workers)
            of_worker = machine._replace(
                product_rate=share * machine.product_rate,
                row_rate=share * machine.row_rate,
                step_seconds=machine.step_seconds / share,
            )
            found = distribution.shared(work, of_worker, network, workers).total
            if workers == 1:
                alone[run["name"]] = run["seconds"]
            by_one = distribution.alone(work, machine).total
            lines.append(
                [
                    run["name"],
                    str(workers),
                    *compared(run["seconds"], found),
                    f"{alone[run['name']] / run['seconds']:.2f}" if run["name"] in alone else "",
                    f"{by_one / found:.2f}",
                ]
            )
    except (KeyError, TypeError) as error:
        raise SystemExit(f"--measured: {error!r}: the file is not as simulate_distribution.py describes it") from error
    header = ["work", "workers", "measured", "model", "model to measured", "times as fast, measured", "by the model"]
    return measuring.markdown_table(header, lines)


def compared(measured: float, model: float) -> list[str]:
    return [f"{measured:.2f} s", f"{model:.2f} s", f"{model / measured:.2f}"]


def draw(path: pathlib.Path) -> None:
    """How many times as fast more GPUs are, each work by itself."""
    import matplotlib.pyplot as plt

    of_works = {name: curve for name, curve in curves("GPU").items() if WORKS[name].parts > 1}
    figure, axes = plt.subplots(2, 5, figsize=(15, 6), layout="constrained", sharex=True, sharey=True)
    for axis, (name, of_networks) in zip(axes.flat, of_works.items(), strict=True):
        for network, found in of_networks.items():
            axis.plot(COUNTS, found, "o-", markersize=3, label=network)
        axis.plot(COUNTS, COUNTS, ":", color="gray", label="as many times as there are")
        axis.set_xscale("log", base=2)
        axis.set(yscale="log", xlim=(1, 1024), ylim=(0.1, 40))
        axis.set_xticks(COUNTS[::2], map(str, COUNTS[::2]))
        axis.set_title(name.replace(" classes, ", " classes,\n"), fontsize=10)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("GPUs")
    for axis in axes[:, 0]:
        axis.set_ylabel("times as fast as one")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def tables() -> dict[str, str]:
    """What docs/distributed.md has between its marks, but for what was measured of several workers."""
    return {
        "constants": constants(),
        "one worker": against_one_worker(),
        "GPUs": scaling("GPU"),
        "cores": scaling("core"),
    }


def put(page: pathlib.Path, name: str, text: str) -> None:
    """Puts a table between the marks of its name. Raises SystemExit if the page has none."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    content = page.read_text("utf-8")
    if begin not in content or end not in content:
        raise SystemExit(f"{page}: has no lines {begin.strip()} and {end.strip()}, between which the table would stand")
    before, rest = content.split(begin)
    page.write_text(f"{before}{begin}{text}\n{end}{rest.split(end)[1]}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--measured", type=pathlib.Path)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    found = tables()
    if arguments.measured:
        found["measured"] = against_measured(json.loads(arguments.measured.read_text("utf-8")))
    for name, text in found.items():
        print(f"{name}\n\n{text}\n", file=sys.stderr)
        if arguments.publish:
            put(measuring.DOCS / "distributed.md", name, text)
    print(json.dumps({machine: curves(machine) for machine in BETWEEN}))
    if arguments.publish:
        draw(measuring.DOCS / PICTURE)


if __name__ == "__main__":
    main()

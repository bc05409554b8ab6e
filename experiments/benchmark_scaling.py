"""What training costs, against the number of images, pixels, classes, heads, and images in a minibatch.

    python experiments/benchmark_scaling.py [--rounds=3] [--publish]

Bytes of noise in labelled classes, shuffled; each figure is the median of the rounds: nanoseconds for an image and
epoch, validation included (a tenth of the images), compilation not; and as a share of them the floor of the products of
training and validation. One size varies, the others stay as in MNIST in
minibatches of 600: 20,000 images of 784 pixels in 10 classes, one head.

Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import itertools
import json
import statistics
import sys
from typing import Any

import measuring
import numpy as np
import roofline

from tfpipe.compute import cpu

AS_MNIST = {"N": 20_000, "D": 784, "K": 10, "H": 1, "B": 600}
SIZES = {
    "N": [5_000, 20_000, 80_000, 320_000],
    "D": [49, 196, 784, 3_136, 12_544],
    "K": [2, 10, 50, 250, 1_000],
    "H": [1, 4, 16, 64, 256],
    "B": [20, 60, 200, 600, 2_400],
}
WORDS = {"N": "images", "D": "pixels of an image", "K": "classes", "H": "heads", "B": "images in a minibatch"}
SECONDS = 1.0


def products(sizes: dict[str, int]) -> roofline.Products:
    """Of each of the programs among which the heads are divided."""
    return roofline.Products.of_heads(sizes["H"], sizes["K"], sizes["D"], sizes["B"], cpu.cores())


def measure(sizes: dict[str, int]) -> dict[str, Any]:
    """Trains on made-up images of these sizes, for about SECONDS.

    Returns nanoseconds an image and epoch, and the type of the products.
    """
    import tfpipe
    from tfpipe.compute import device
    from tfpipe.solvers.sgd import Sgd
    from tfpipe.training import plan

    n, d, k = sizes["N"], sizes["D"], sizes["K"]
    random = np.random.default_rng(0)
    images = np.frombuffer(random.bytes(n * d), np.uint8).reshape(n, d)
    labels = np.arange(n) % k
    train, held_out = (tfpipe.Examples(images[part], labels[part]) for part in (slice(None), slice(n // 10)))
    splits = tfpipe.Splits(train, held_out, held_out, tuple(map(str, range(k))), 255.0)

    def settings(epochs: int) -> tfpipe.TrainConfig:
        return tfpipe.TrainConfig(
            batch_size=sizes["B"],
            learning_rate=tuple(np.geomspace(0.001, 0.01, sizes["H"])),
            epochs=epochs,
            patience=2**31 - 1,
            validation_frequency=-(-n // sizes["B"]),
            device="auto",
        )

    solver = Sgd(settings(1), splits)
    if plan.wants_one_thread(splits, solver, device.select("auto")):  # As the command does.
        cpu.use_one_thread()

    def report(epochs: int) -> dict[str, Any]:
        return tfpipe.train(settings(epochs), splits, workdir=None).report

    epochs = max(2, round(2 * SECONDS / report(2)["seconds"]))
    found = report(epochs)
    return {"nanoseconds": 1e9 * found["seconds"] / epochs / n, "products": found["products"]}


def as_text(results: dict[str, Any]) -> str:
    """The plots and the figures, in Markdown."""
    parts = [measuring.shown("scaling", "Nanoseconds for an image and epoch, by each size")]
    for name, row in results["nanoseconds_per_image_and_epoch"].items():
        header = [WORDS[name], *(f"{int(size):,}" for size in row)]
        of_the_floor = results["of_the_floor"][name].values()
        rows = [
            ["ns for an image and epoch", *(f"{value:.0f}" for value in row.values())],
            ["of the floor", *(f"{share:.0%}" for share in of_the_floor)],
        ]
        parts.append(measuring.markdown_table(header, rows))
    return "\n\n".join([*parts, measuring.told(results)])


def draw(results: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    rows = results["nanoseconds_per_image_and_epoch"]
    figure, axes = plt.subplots(1, len(rows), figsize=(3 * len(rows), 3), layout="constrained", sharey=True)
    for axis, (name, row) in zip(axes, rows.items(), strict=True):
        sizes, values = [int(size) for size in row], list(row.values())
        axis.plot(sizes, values, "o-")
        if name in "DKH":  # What the arithmetic grows with: from the largest down.
            axis.plot(
                sizes, [values[-1] * size / sizes[-1] for size in sizes], ":", color="gray", label="in proportion"
            )
            axis.legend()
        axis.set(xscale="log", yscale="log", xlabel=WORDS[name])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ns for an image and epoch")
    figure.savefig(measuring.picture("scaling"), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    runs: dict[tuple[str, int], list[float]] = {}
    floors: dict[tuple[str, int], float] = {}
    points = [(name, size) for name, sizes in SIZES.items() for size in sizes]
    surroundings = measuring.Surroundings(products(AS_MNIST | {name: size}) for name, size in points)
    for _, (name, size) in itertools.product(range(arguments.rounds), points):
        all_sizes = AS_MNIST | {name: size}
        figures = measuring.in_own_process(__file__, f"--one={json.dumps(all_sizes)}")
        runs.setdefault((name, size), []).append(figures["nanoseconds"])
        # Four for a weight and image of training, two for one of the tenth that validates.
        operations = {figures["products"]: 4.2 * all_sizes["H"] * all_sizes["K"] * all_sizes["D"]}
        floors[name, size] = 1e9 * roofline.floor(surroundings.roofline, products(all_sizes), operations)
        print(f"{WORDS[name]} {size:,}: {figures['nanoseconds']:.0f} ns", file=sys.stderr)
    medians = {point: statistics.median(values) for point, values in runs.items()}
    results = {
        "machine": surroundings.as_json(),
        "versions": measuring.versions("tfpipe", "tensorflow", "numpy"),
        "rounds": arguments.rounds,
        "others": AS_MNIST,
        "nanoseconds_per_image_and_epoch": {
            name: {str(size): medians[name, size] for size in sizes} for name, sizes in SIZES.items()
        },
        "of_the_floor": {
            name: {str(size): floors[name, size] / medians[name, size] for size in sizes}
            for name, sizes in SIZES.items()
        },
    }
    print(json.dumps(results))
    if arguments.publish:
        draw(results)
        measuring.publish("scaling", results, as_text(results))


if __name__ == "__main__":
    main()

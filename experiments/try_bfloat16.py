"""Which sizes end the process, or go wrong, where SGD multiplies in bfloat16 on this processor.

    python experiments/try_bfloat16.py [--sizes=1700] [--seed=1]

Draws sizes of minibatches, rows, classes and heads, round ones and odd ones, and takes two steps of the training
program for each, the second on a minibatch that is not full: with bytes and with floats, by one thread and by two,
forty sizes a process. After a process that ends it names the size, and goes on with the next one. Costs and W are
compared with NumPy, which rounds to bfloat16 what is rounded. Prints what went wrong, and how many sizes were tried.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np

Size = tuple[int, int, int, int, str]

MINIBATCHES = (
    1, 2, 3, 5, 7, 8, 10, 15, 16, 17, 20, 31, 32, 33, 50, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257, 500, 511,
    512, 513, 600, 601, 1000, 1023, 1024, 1025, 2000, 4096, 5000, 9600, 10000,
)  # fmt: skip
INPUTS = (
    1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 30, 31, 32, 33, 45, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 300, 400,
    511, 512, 513, 700, 768, 783, 784, 785, 1000, 1023, 1024, 1025, 1536, 2047, 2048, 2049, 3072, 4095, 4096, 4097,
    5000,
)  # fmt: skip
CLASSES_AND_HEADS = (
    (2, 1), (3, 1), (5, 1), (7, 1), (10, 1), (11, 1), (16, 1), (17, 1), (26, 1), (31, 1), (32, 1), (33, 1), (64, 1),
    (65, 1), (100, 1), (101, 1), (257, 1), (512, 1), (640, 1), (10, 2), (3, 3), (10, 3), (10, 4), (10, 6), (10, 8),
    (7, 9), (10, 12), (10, 16), (10, 24), (10, 32), (10, 48), (10, 64), (2, 64), (3, 200), (5, 128), (2, 320), (100, 6),
    (47, 13),
)  # fmt: skip
MOST_PRODUCTS, MOST_VALUES = 1e9, 8e7  # So that each size takes seconds at most.
A_PROCESS = 40


def sizes(count: int, seed: int) -> list[Size]:
    """Minibatch, D, K, H, and the type of the images."""
    generator, found = random.Random(seed), set[Size]()
    while len(found) < count:
        batch_size, n_in = generator.choice(MINIBATCHES), generator.choice(INPUTS)
        n_out, heads = generator.choice(CLASSES_AND_HEADS)
        if generator.random() < 0.3:
            batch_size, n_in = (int(10 ** generator.uniform(0, 3.7)) for _ in range(2))
            n_out = generator.choice((2, 3, 10, generator.randint(2, 300)))
            heads = generator.randint(1, max(1, 640 // n_out))
        products = batch_size * n_in * n_out * heads
        if products < MOST_PRODUCTS and batch_size * n_in < MOST_VALUES:
            found.add((batch_size, n_in, n_out, heads, generator.choice(("uint8", "float32"))))
    return sorted(found, key=lambda size: hash((seed, *size[:4])))


def take_steps(batch_size: int, n_in: int, n_out: int, n_heads: int, dtype: str) -> float:
    """How far costs and W are from NumPy's, at most."""
    import tensorflow as tf

    from tests import minibatches

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, batch_size, n_in)).astype(dtype)
    images += np.float32(0.3) if dtype == "float32" else np.uint8(0)
    labels, start = generator.integers(0, n_out, (2, batch_size)), generator.normal(size=(n_heads, n_out, n_in)) / 20
    counts, factor = (batch_size, max(1, batch_size * 2 // 3)), np.float32(1 / 255)
    heads = minibatches.group([(0.1, 0.0)] * n_heads, n_in, n_out)
    heads.W.assign(start)
    objective = minibatches.objective(labels, arithmetic="bfloat16")
    span = minibatches.span(images, counts)
    found = minibatches.sgd(2).advance(span, objective, heads, tf.fill([n_heads], tf.int64.max), 1)

    def rounded(values: Any) -> np.ndarray:
        return np.asarray(tf.cast(tf.cast(values, tf.bfloat16), tf.float32))

    W, b, off = start.astype(np.float32), np.zeros((n_heads, n_out), np.float32), 0.0
    for step, count in enumerate(counts):
        x, is_label = rounded(images[step, :count]), np.arange(n_out)[:, np.newaxis] == labels[step, :count]
        z = rounded(W * factor) @ x.T + b[..., np.newaxis]
        z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
        off = max(off, float(np.abs(found.costs[step] + (z * is_label).sum(axis=1).mean(axis=1)).max()))
        dz = (np.exp(z) - is_label) / np.float32(count)
        W, b = W - np.float32(0.1) * factor * (rounded(dz) @ x), b - np.float32(0.1) * dz.sum(axis=2)
    return max(off, float(np.abs(heads.W.numpy() - W).max()))


def in_this_process(threads: int) -> None:
    """Takes sizes from stdin, one JSON array a line, and prints a distance for each."""
    from tfpipe.compute import startup

    startup.import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    for line in sys.stdin:
        print(take_steps(*json.loads(line)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, default=1700)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        in_this_process(arguments.threads)
        return
    left, tried, bad, threads = sizes(arguments.sizes, arguments.seed), 0, 0, 1
    while left:
        part, threads = left[:A_PROCESS], 3 - threads
        process = subprocess.run(
            [sys.executable, __file__, f"--threads={threads}"],
            input="".join(f"{json.dumps(size)}\n" for size in part),
            stdout=subprocess.PIPE, text=True, check=False, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        distances = [float(line) for line in process.stdout.splitlines()]
        for size, distance in zip(part, distances, strict=False):
            if not distance < 2e-3:
                bad += 1
                print(f"{size}: {distance:.1e} from NumPy")
        taken = len(distances)
        if process.returncode:
            bad, taken = bad + 1, taken + 1
            print(f"{part[taken - 1]}: ended the process, {threads} threads, exit status {process.returncode}")
        left, tried = left[taken:], tried + taken
        print(f"{tried} sizes tried, {bad} of them bad", file=sys.stderr)
    print(f"{tried} sizes tried, {bad} of them bad")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    main()

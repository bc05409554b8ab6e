"""How fast this machine multiplies matrices: what the figures of the benchmarks are held against.

    python experiments/roofline.py [--publish]

The products are those of a training step: `z = W x^T`, then `z x`, in an XLA program that does nothing else but to
change W a little, so that each step needs the one before. In float32 and float64; in bfloat16, summed in float32; in
int8, summed in int32. By one program with one thread, and by as many at once as there are cores, each in a process of
its own: in one process two of them may wait for each other. The best of five: a rate is what the machine can do,
undisturbed.

A reference product is measured again and again for a second. Benchmarks do that before and after their rounds: if the
machine was quiet, most of its rates are near the best one.

Prints a table to stderr and one JSON object to stdout; with --publish also into docs/benchmarks.md.
"""

import argparse
import functools
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from tfpipe.compute import cpu, startup

TYPES = ("float32", "float64", "int8", "bfloat16")
# A product of float32 with bytes is three of int8, see tfpipe/compute/int8.py.
PRODUCTS_FOR_ONE = {"int8": 3}
MOST_BYTES, FEWEST_ROWS = 2 << 20, 32
ROUNDS, SECONDS_OF_ROUND = 5, 0.03
REFERENCE_ROUNDS, REFERENCE_SECONDS = 20, 0.05


class Products(NamedTuple):
    """The sizes of a step's two products: `z = W x^T` and `z x`, for W `[rows, inputs]` and x `[batch, inputs]`."""

    rows: int
    inputs: int
    batch: int

    @classmethod
    def of_heads(cls, heads: int, n_out: int, n_in: int, batch: int, programs: int) -> "Products":
        """Those of one of `programs` programs, among which heads with `n_out` classes are divided.

        Of a minibatch so much as stays in a core's cache: the fastest way is to take it in such parts; but not of a few
        rows each, which all go through W and its gradient.
        """
        return cls(-(-heads // programs) * n_out, n_in, min(batch, max(FEWEST_ROWS, MOST_BYTES // (4 * n_in))))

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 4.0 * self.rows * self.inputs * self.batch


REFERENCE = Products(320, 784, 600)
PUBLISHED = (*(Products(rows, 784, 600) for rows in (10, 40, 320, 1280)), Products(1000, 768, 600))


def measure(products: Iterable[Products] = (), types: Iterable[str] = TYPES) -> dict[str, Any]:
    """The rates of the reference and of some products, in processes of their own.

    Returns:
      `reference`: operations a second of each round; `rates`: an object for each of the products, the reference first,
      with its `sizes`, and for each type operations a second of `one_core` and `all_cores`; `ended`: the type in which
      some products ended their process, or None. Nothing was measured after them.
    """
    sizes: list[dict[str, Any]] = [{"sizes": one} for one in dict.fromkeys([REFERENCE, *products])]
    found: dict[str, Any] = {"reference": [], "rates": sizes, "ended": None}
    programs = [_Program() for _ in range(cpu.cores())]
    try:
        found["reference"] = _rates(programs, REFERENCE, "float32", REFERENCE_ROUNDS, REFERENCE_SECONDS)
        for dtype, rates in itertools.product(types, sizes):
            found["ended"] = dtype  # Until it is known better.
            rates[dtype] = {
                name: max(_rates(some, rates["sizes"], dtype, ROUNDS, SECONDS_OF_ROUND))
                for name, some in (("one_core", programs[:1]), ("all_cores", programs))
            }
        found["ended"] = None
    except EOFError:
        if not found["ended"]:
            raise SystemExit("roofline.py: the process of the reference product has ended") from None
    finally:
        for program in programs:
            program.close()
    return found


def floor(measured: dict[str, Any], products: Products, operations: dict[str, float]) -> float:
    """Seconds that all cores need for the products of a run, and nothing else.

    Args:
      measured: what `measure` found.
      products: whose rates those are: among the measured.
      operations: of each type; of int8 as many as they would be in float32.
    """
    rates = next(one for one in measured["rates"] if Products(*one["sizes"]) == products)
    return sum(
        count * PRODUCTS_FOR_ONE.get(dtype, 1) / rates[dtype]["all_cores"] for dtype, count in operations.items()
    )


def quietness(before: dict[str, Any], after: dict[str, Any]) -> float:
    """In (0, 1]: the lesser of the median rates of the reference, before and after, as a share of the best one."""
    rates = before["reference"], after["reference"]
    return min(map(statistics.median, rates)) / max(map(max, rates))


def table(measured: dict[str, Any]) -> str:
    """Rates in GFLOP/s, in Markdown."""
    header = ["W", "minibatch", *(f"{dtype}, {cores}" for dtype in TYPES for cores in ("one core", "all"))]
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    for one in measured["rates"]:
        rows, inputs, batch = one["sizes"]
        rates = [one.get(dtype, {}).get(cores) for dtype in TYPES for cores in ("one_core", "all_cores")]
        cells = ["" if rate is None else f"{rate / 1e9:.0f}" for rate in rates]
        lines.append([f"{rows:,} x {inputs}", f"{batch:,} x {inputs}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class _Program:
    """A process with one thread, which takes steps when it is told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--program"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def begin(self, products: Products, dtype: str, steps: int) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps([products, dtype, steps]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise EOFError from error

    def end(self) -> None:
        """Waits for the steps. It and `begin` raise EOFError if the process has ended."""
        assert self._process.stdout
        if not self._process.stdout.readline():
            raise EOFError

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _rates(programs: list[_Program], products: Products, dtype: str, rounds: int, seconds: float) -> list[float]:
    """Operations a second of all these programs at once, in rounds of about `seconds`."""

    def take(steps: int) -> float:
        begin = time.perf_counter()
        for program in programs:
            program.begin(products, dtype, steps)
        for program in programs:
            program.end()
        return time.perf_counter() - begin

    take(1)  # Compiled here.
    steps = max(2, round(2 * seconds / take(2)))
    return [len(programs) * steps * products.operations / take(steps) for _ in range(rounds)]


def _be_a_program() -> None:
    """Takes steps: a line of stdin, `[products, type, steps]`, is answered by an empty one when they are done."""
    startup.import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    for line in sys.stdin:
        products, dtype, steps = json.loads(line)
        _step(Products(*products), dtype)(steps)
        print(flush=True)


@functools.cache
def _step(products: Products, dtype: str) -> Callable[[int], None]:
    """What takes so many steps."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    drawn = generator.normal(0, 1e-3, (products.rows, products.inputs))
    W = tf.constant(drawn, tf.float64 if dtype == "float64" else tf.float32)
    x = generator.integers(-128, 128, (products.batch, products.inputs))
    inputs = tf.constant(x.astype(np.int8)) if dtype == "int8" else tf.cast(x / np.float32(256), dtype)

    def by_floats(W: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        z = tf.matmul(tf.cast(W, x.dtype), x, transpose_b=True, output_type=W.dtype)
        return W - 1e-9 * tf.matmul(tf.cast(z, x.dtype), x, output_type=W.dtype)

    def by_integers(W: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        z = tf.matmul(W, x, transpose_b=True, output_type=tf.int32)
        gradient = tf.matmul(tf.cast(z, tf.int8), x, output_type=tf.int32)
        return W + tf.cast(tf.sign(gradient), tf.int8)

    advance, start = (by_integers, tf.cast(W * 1e4, tf.int8)) if dtype == "int8" else (by_floats, W)

    @tf.function(jit_compile=True, autograph=False)
    def loop(W: tf.Tensor, x: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda i, _: i < steps, lambda i, W: (i + 1, advance(W, x)), (tf.constant(0), W))[1]

    return lambda steps: loop(start, inputs, tf.constant(steps)).numpy()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--program", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.program:
        _be_a_program()
        return

    import measuring

    surroundings = measuring.Surroundings(PUBLISHED)
    results = {"machine": surroundings.as_json(), "versions": measuring.versions("tensorflow", "numpy")}
    text = f"{table(surroundings.roofline)}\n\n{measuring.told(results)}"
    print(text, file=sys.stderr)
    print(json.dumps(results))
    if arguments.publish:
        measuring.publish("roofline", results, text)


if __name__ == "__main__":
    main()

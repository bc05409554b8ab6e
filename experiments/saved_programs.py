"""XLA programs of tfpipe as a file, and what another XLA than TensorFlow's makes of them: JAX's.

    python saved_programs.py FILE NAME DEVICE SECONDS

runs one of them on DEVICE (cpu or gpu) through JAX, which is all that it needs beside NumPy; it prints one JSON object,
see `measured`. `gpu_check.py --save_programs=FILE` makes the file, where TensorFlow is.

The file is an `.npz`: `programs`, a JSON object as bytes; the text of each program in StableHLO, as bytes; and arrays,
each of which is there once, however many programs take it.
"""

import hashlib
import io
import json
import pathlib
import sys
import time
import zipfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tfpipe
    from tfpipe.compute.workers import Workers

HEADS = 1, 64, 1024
# Of L-BFGS, side by side.
HEADS_OF_SUMS = 4
BATCH_SIZE = 600
# How far a result may be from TensorFlow's on the CPU, relative to the largest number in it. In float32 sums in another
# order make 2e-7 of that, and TensorFloat-32, with 10 bits behind the point, in NumPy 2e-5 and more.
TOLERANCES = {"float32": 3e-6, "float64": 1e-12, "tf32": 1e-3}
# Of the costs of minibatches: logarithms and exponentials of two versions of XLA make 5e-6 of that.
TOLERANCE_OF_COSTS = 1e-4


class Saved(NamedTuple):
    """A program as it lies in the file.

    Attributes:
      kind: `sgd`, all steps of an epoch; or `sums`, of L-BFGS: the cost and its gradients on all rows.
      heads: H.
      arithmetic: in what it multiplies: a name of TOLERANCES.
      examples: rows that a call goes through.
      estimate: bytes that a run of it is said to take at most, its images included; None: that is not said.
      stablehlo: the program.
      inputs: see `tfpipe.compute.programs.Portable`.
      variables: likewise.
      expected: by the number of a result what the CPU found, or its last rows.
    """

    kind: str
    heads: int
    arithmetic: str
    examples: int
    estimate: int | None
    stablehlo: str
    inputs: list[np.ndarray]
    variables: list[int]
    expected: dict[int, np.ndarray]

    @property
    def name(self) -> str:
        """What it is called, for people and on the command line."""
        heads = "1 head" if self.heads == 1 else f"{self.heads:,} heads"
        return f"{self.kind}, {heads}, {self.arithmetic}"

    def tolerance(self, number: int) -> float:
        """How far this result may be from the CPU's."""
        are_costs = self.kind == "sgd" and number == 0
        return max(TOLERANCES[self.arithmetic], TOLERANCE_OF_COSTS if are_costs else 0.0)


def save(path: pathlib.Path, splits: "tfpipe.Splits", heads: tuple[int, ...] = HEADS) -> list[str]:
    """Makes the programs that a single device runs on these data, calls them on the CPU, and keeps all in a file.

    Returns:
      Their names: of SGD for each number of `heads`, the last one with TensorFloat-32 too; and the sums of L-BFGS.
    """
    from tfpipe.compute.device import Device
    from tfpipe.compute.workers import Workers
    from tfpipe.disk.files import write_whole

    saved = []
    for tf32 in (False, True):
        # As of a GPU: one program has all heads, and multiplies no bytes.
        device = Device("/CPU:0", "cpu", tf32=tf32)
        with device.scope(), Workers(device) as workers:
            if not tf32:
                saved += [_sums(splits, workers, arithmetic) for arithmetic in ("float32", "float64")]
            saved += [_sgd(splits, workers, number) for number in (heads[-1:] if tf32 else heads)]
    write_whole(path, _packed(saved))
    return [each.name for each in saved]


def _sgd(splits: "tfpipe.Splits", workers: "Workers", n_heads: int) -> Saved:
    """The first epoch of heads with learning rates side by side."""
    import tensorflow as tf

    import tfpipe
    from tfpipe.pipeline import residency
    from tfpipe.solvers.base import Group
    from tfpipe.solvers.objective import Objective
    from tfpipe.solvers.sgd import Sgd
    from tfpipe.training import footprint

    solver = Sgd(tfpipe.TrainConfig(solver="sgd", learning_rate=rates(n_heads), batch_size=BATCH_SIZE), splits)
    (train,) = residency.place([splits.train])
    weights = np.ones((1, len(splits.train)), np.float32)
    objective = Objective.of(splits.scaling, train.labels, weights, solver.examples, "float32")
    shape = n_heads, splits.n_out, splits.n_in
    group = Group(
        tf.Variable(tf.zeros(shape)),
        tf.Variable(tf.zeros(shape[:2])),
        {name: tf.constant([each[name] for each in solver.settings]) for name in solver.settings[0]},
        tf.zeros(n_heads, tf.int32),
        {name: tf.Variable(value) for name, value in solver.slots(*shape).items()},
    )
    span = next(solver.spans(train, first=0, period=solver.per_epoch, length=solver.per_epoch))
    program, arguments = solver.program(span, objective, group, tf.fill(n_heads, np.int64(solver.steps)), 1)
    portable = program.portable(*arguments)  # Before the call, which changes the variables.
    returned = [part for part in tf.nest.flatten(program(*arguments)) if part is not None]
    estimate = footprint.of_sgd(footprint.Sizes.of(splits), n_heads, solver.batch_size, programs=1)
    return Saved(
        "sgd",
        n_heads,
        "tf32" if workers.device.tf32 else "float32",
        solver.examples,
        estimate + splits.train.stored.nbytes,
        *portable,
        expected={0: returned[0].numpy(), len(returned): group.W.numpy()[-1:]},
    )


def _sums(splits: "tfpipe.Splits", workers: "Workers", arithmetic: str) -> Saved:
    """The cost and its gradients on all rows for training, of heads at parameters that are drawn."""
    from tfpipe.solvers.sharing import Wanted, own_rows

    wanted = Wanted(splits.train, np.ones((1, len(splits.train)), np.float32), (arithmetic,))
    (((branch,)),) = own_rows([wanted], splits.scaling, HEADS_OF_SUMS * splits.n_out, workers, 0, 1)
    random, shape = np.random.default_rng(0), (HEADS_OF_SUMS, splits.n_out, splits.n_in)
    W, b = random.normal(0, 0.01, shape), random.normal(0, 0.01, shape[:2])
    at = branch.objectives[arithmetic], W, b, np.zeros(HEADS_OF_SUMS, np.int32)
    program, arguments = branch.passes.program(*at)
    returned = program(*arguments)
    return Saved(
        "sums",
        HEADS_OF_SUMS,
        arithmetic,
        len(splits.train),
        None,
        *program.portable(*arguments),
        expected={number: part.numpy() for number, part in enumerate(returned)},
    )


def rates(n_heads: int) -> tuple[float, ...]:
    """Learning rates of so many heads, none of which diverges on MNIST."""
    return tuple(np.geomspace(0.01, 0.5, n_heads).tolist()) if n_heads > 1 else (0.13,)


def _packed(saved: Iterable[Saved]) -> bytes:
    arrays: dict[str, np.ndarray] = {}

    def put(array: np.ndarray) -> str:
        array = np.asarray(array)
        name = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]
        arrays[name] = array
        return name

    found = []
    for each in saved:
        names = {
            "stablehlo": put(np.frombuffer(each.stablehlo.encode(), np.uint8)),
            "inputs": list(map(put, each.inputs)),
            "expected": {str(number): put(array) for number, array in each.expected.items()},
        }
        found.append({**each._asdict(), **names})
    file = io.BytesIO()
    np.savez_compressed(file, programs=np.frombuffer(json.dumps(found).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def load(path: pathlib.Path) -> list[Saved]:
    """The programs that `save` has kept in a file.

    Raises:
      SystemExit: it is no such file.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [
                Saved(
                    **{
                        **each,
                        "stablehlo": arrays[each["stablehlo"]].tobytes().decode(),
                        "inputs": [arrays[name] for name in each["inputs"]],
                        "expected": {int(number): arrays[name] for number, name in each["expected"].items()},
                    }
                )
                for each in json.loads(arrays["programs"].tobytes())
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise SystemExit(
            f"{path}: holds no programs: {error}; gpu_check.py --save_programs makes such a file"
        ) from error


def measured(saved: Saved, platform: str, seconds: float) -> dict[str, Any]:
    """Runs a program through JAX's XLA, for about so many seconds.

    Returns:
      `device`: which JAX names; `xla`: through what.
      `away`: by the number of a result how far it is from the CPU's, relative to the largest number there; and
      `tolerance`, how far it may be.
      `same_bits`: whether a second call with the same inputs gives the same; `digest`: of all results.
      `head_epochs_per_second`: of calls one after the other; those of SGD go on where the one before ended.
      `compile_seconds`.
      `peak`: bytes that the device held at most, by its allocator, or null; `takes`: a call, by the compiler.
    """
    import jax
    from jax.extend import backend

    jax.config.update("jax_enable_x64", True)  # Numbers of rows are int64.
    client = backend.get_backend(platform)
    device = client.local_devices()[0]
    begin = time.perf_counter()
    executable = client.compile_and_load(saved.stablehlo, [device], backend.get_compile_options(1, 1))
    compiled = time.perf_counter() - begin

    def call(inputs: list[Any]) -> list[Any]:
        found = executable.execute_sharded(inputs).disassemble_into_single_device_arrays()
        return [jax.block_until_ready(array) for (array,) in found]

    def placed() -> list[Any]:
        return [jax.device_put(array, device) for array in saved.inputs]

    first = [np.asarray(array) for array in call(placed())]
    inputs = placed()
    is_same, calls, took = True, 0, 0.0
    while took < seconds:
        begin = time.perf_counter()
        results = call(inputs)
        took += time.perf_counter() - begin
        if not calls:
            is_same = all(a.tobytes() == np.asarray(b).tobytes() for a, b in zip(first, results, strict=True))
        # A call takes the memory of its variables: those that it has made are the next one's.
        for place, array in zip(saved.variables, results[len(results) - len(saved.variables) :], strict=True):
            inputs[place] = array
        calls += 1
    takes = executable.get_compiled_memory_stats()
    return {
        "program": saved.name,
        "device": device.device_kind,
        "xla": f"JAX {jax.__version__}",
        "away": {number: away(first[number], expected) for number, expected in saved.expected.items()},
        "tolerance": {number: saved.tolerance(number) for number in saved.expected},
        "same_bits": is_same,
        "digest": hashlib.sha256(b"".join(map(np.ndarray.tobytes, first))).hexdigest(),
        "head_epochs_per_second": saved.heads * calls / took,
        "compile_seconds": compiled,
        "peak": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "takes": takes.argument_size_in_bytes + takes.output_size_in_bytes + takes.temp_size_in_bytes
        - takes.alias_size_in_bytes,
        "estimate": saved.estimate,
    }  # fmt: skip


def away(found: np.ndarray, expected: np.ndarray) -> float:
    """How far an array, or its last rows, are from what is expected, relative to the largest number there."""
    part = found[len(found) - len(expected) :]
    return float(np.max(np.abs(part - expected)) / np.max(np.abs(expected)))


def main() -> None:
    path, name, platform, seconds = sys.argv[1:]
    programs = {each.name: each for each in load(pathlib.Path(path))}
    print(json.dumps(measured(programs[name], platform, float(seconds))))


if __name__ == "__main__":
    main()

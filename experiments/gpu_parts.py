"""What gpu_check.py has TensorFlow do, each part in a process of its own.

    python gpu_parts.py PART OPTIONS

PART is a function below, OPTIONS a JSON object with its arguments. The last line of stdout is a JSON object.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import measuring
import numpy as np
import saved_programs

import tfpipe

if TYPE_CHECKING:
    from tfpipe.compute.device import Device

L2, TOLERANCE = 1e-3, 1e-4
BLOCK = 5000
# The first NVIDIA GPUs with TensorFloat-32.
CAPABILITY_OF_TF32 = 8, 0


def data() -> tfpipe.Splits:
    """MNIST as the tutorial divides it, where TFPIPE_MNIST_DIR names it; else the built-in digits."""
    folder = os.environ.get("TFPIPE_MNIST_DIR")
    return tfpipe.load(folder, validation_split=10000, split_order="end") if folder else tfpipe.load("digits")


def found(device: str) -> dict[str, Any]:
    """The device that a run would have, tried out by an XLA program; how many there are, and what they can."""
    import tensorflow as tf

    from tfpipe.compute import device as devices

    devices.grow_gpu_memory()
    every = devices.select(device, strategy="auto")
    with every.at_most(1).scope():
        total = float(tf.function(lambda x: tf.reduce_sum(x @ x), jit_compile=True)(tf.ones([64, 64])))
    if total != 64.0**3:
        raise SystemExit(f"{every.label}: the sum of a product of ones is {total}, and not {64.0**3}")
    capability = None
    if every.is_gpu:
        card = tf.config.list_physical_devices("GPU")[0]
        capability = tf.config.experimental.get_device_details(card).get("compute_capability")
    return {
        "device": every.label,
        "devices": 1 + len(every.others),
        "capability": capability,
        "tf32": capability is not None and tuple(capability) >= CAPABILITY_OF_TF32,
        "bfloat16": every.multiplies_bfloat16,
        # While this process has computed, and has not ended.
        "gpus": nvidia_smi(),
    }


def nvidia_smi() -> list[dict[str, str]] | None:
    """What NVIDIA's driver says of each GPU, in MiB; None where it has no such program, or does not tell all of it."""
    fields = "name", "driver_version", "memory.used", "memory.total"
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    gpus = [dict(zip(fields, line.split(", "), strict=False)) for line in said.stdout.splitlines()]
    # Of a part of a GPU it says [N/A].
    is_told = all(gpu.get(field, "").isdecimal() for gpu in gpus for field in fields[2:])
    return gpus if gpus and is_told and said.returncode == 0 else None


def grid(
    device: str,
    heads: int,
    epochs: int,
    precision: str = "float32",
    tf32: bool = False,
    strategy: str = "none",
) -> dict[str, Any]:
    """A grid of SGD, none of whose heads stops: how fast it is, what memory it takes, and its figures.

    These are `W` of the best head, all its numbers in turn; and `digest`, of that, of its b, and of the validation
    costs of all heads after each epoch, to the bit.
    """
    from tfpipe.compute import device as devices
    from tfpipe.solvers.sgd import Sgd
    from tfpipe.training import footprint

    devices.grow_gpu_memory()
    splits = data()
    config = tfpipe.TrainConfig(
        solver="sgd",
        learning_rate=saved_programs.rates(heads),
        batch_size=saved_programs.BATCH_SIZE,
        epochs=epochs,
        patience=10**9,
        precision=precision,
        tensorboard=False,
    )
    chosen = devices.select(device, tf32=tf32, strategy=strategy)
    solver = Sgd(config, splits)
    itemsize = 8 if precision == "float64" else 4
    estimate = footprint.of_sgd(footprint.Sizes.of(splits), heads, solver.batch_size, chosen.programs, itemsize)
    held = _peak(chosen)
    result = tfpipe.train(config, splits, device=chosen)
    assert result.model  # It is no worker of a cluster.
    seconds = result.report["seconds"]
    costs = np.array([event.validation_cost for event in result.history])
    bits = b"".join(array.tobytes() for array in (costs, result.model.W.numpy(), result.model.b.numpy()))
    return {
        "device": chosen.words,
        "heads": heads,
        "epochs": epochs,
        "seconds": seconds,
        "head_epochs_per_second": heads * epochs / seconds,
        "examples_per_second": solver.examples * epochs / seconds,
        # The images are on a GPU beside what a run takes; on a CPU they are there before.
        "estimate": estimate + (_image_bytes(splits) if chosen.is_gpu else 0),
        "peak": held(),
        "W": result.model.W.numpy().ravel().tolist(),
        "digest": hashlib.sha256(bits).hexdigest(),
    }


def _image_bytes(splits: tfpipe.Splits) -> int:
    return sum(split.stored.nbytes for split in (splits.train, splits.validation, splits.test))


def _peak(device: "Device") -> Any:
    """Begins to look at the memory of a device. The result, called later, gives the most bytes that were held."""
    import tensorflow as tf

    with device.scope():
        tf.function(lambda x: x + x, jit_compile=True)(tf.zeros(3))
    if device.is_gpu:
        name = device.name.lstrip("/")
        return lambda: tf.config.experimental.get_memory_info(name)["peak"]
    peak = measuring.Peak()
    return lambda: peak.bytes


def optimum(device: str) -> dict[str, Any]:
    """L-BFGS for one value of L2: its certificate, its errors, and what it minimizes, computed here in float64."""
    from tfpipe.compute import device as devices

    devices.grow_gpu_memory()
    splits = data()
    config = tfpipe.TrainConfig(solver="lbfgs", l2=(L2,), folds=0, refit=False, tolerance=TOLERANCE, tensorboard=False)
    result = tfpipe.train(config, splits, device=devices.select(device, strategy="none"))
    assert result.model
    W, b = (part.numpy().astype(np.float64) for part in (result.model.W, result.model.b))
    report = result.report
    return {
        "device": report["device"],
        "objective": objective(W, b, splits),
        "certificate": report["certificate"],
        "validation_wrong": round(report["validation_error"] * len(splits.validation)),
        "test_wrong": round(report["test_error"] * len(splits.test)),
        "evaluations": report["evaluations"],
        "seconds": report["seconds"],
    }


def objective(W: np.ndarray, b: np.ndarray, splits: tfpipe.Splits) -> float:
    """The mean log loss on the examples for training, and L2 / 2 times the squared norm of W for scaled images."""
    images, labels = splits.train.images.reshape(len(splits.train), -1), splits.train.labels
    loss = 0.0
    for begin in range(0, len(labels), BLOCK):
        part = slice(begin, begin + BLOCK)
        z = images[part].astype(np.float64) @ W + b
        z -= z.max(axis=1, keepdims=True)
        loss += float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels[part]]).sum())
    return loss / len(labels) + L2 / 2 * float(np.square(splits.pixel_max * W).sum())


def save(path: str) -> dict[str, Any]:
    """Keeps programs for `saved_programs.py` in a file."""
    return {"programs": saved_programs.save(pathlib.Path(path), data())}


PARTS = {part.__name__: part for part in (found, grid, optimum, save)}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](**json.loads(sys.argv[2]))))

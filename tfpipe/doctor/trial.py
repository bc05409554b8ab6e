"""A program: compiles a small program for each device, runs it there, and says what came of it in lines of JSON.

It runs in a process of its own: a device that lists fine can still end the process when XLA compiles for it. The names
on its command line are devices to leave out, such as `GPU:0`, or `GPU` for all of a kind.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from tfpipe.compute import startup


def _say(**facts: Any) -> None:
    os.write(_output, json.dumps(facts).encode() + b"\n")


def _program(tf: Any, x: Any, W: Any) -> Any:
    """Products, exponentials and a loop, as a training has them: by cuBLAS, libdevice, and XLA's own kernels."""

    def step(i: Any, W: Any) -> Any:
        return i + 1, W - 0.1 * tf.matmul(x, tf.nn.softmax(tf.matmul(x, W)), transpose_a=True)

    return tf.while_loop(lambda i, _: i < 3, step, (0, W))[1]


def _oracle(x: np.ndarray, W: np.ndarray) -> np.ndarray:
    """The same by NumPy."""
    for _ in range(3):
        exponentials = np.exp(x @ W)
        W = W - 0.1 * x.T @ (exponentials / exponentials.sum(axis=1, keepdims=True))
    return W


def _tried(tf: Any, device: str) -> None:
    _say(begins=device)
    begin = time.monotonic()
    x, W = np.arange(64 * 32).reshape(64, 32) % 7 / 7, np.arange(32 * 4).reshape(32, 4) % 5 / 5
    try:
        with tf.device(f"/{device}"):
            arguments = [tf.constant(array, tf.float32) for array in (x, W)]
            found = tf.function(lambda *arguments: _program(tf, *arguments), jit_compile=True)(*arguments).numpy()
    except Exception as error:
        _say(device=device, error=" ".join(str(error).split())[:500] or type(error).__name__)
        return
    seconds = round(time.monotonic() - begin, 3)
    # A GPU may round the factors of products to TensorFloat-32, which has 10 bits behind the point.
    farthest = float(np.abs(found - _oracle(x, W)).max())
    wrong = None if farthest < 0.02 else f"the result is wrong: {farthest:.2g} from that of NumPy"
    _say(device=device, seconds=seconds, error=wrong)


def _tensorboard() -> str:
    """Why TensorBoard cannot be used; empty: it can."""
    try:
        import tensorboard.default
        import tensorboard.main
        import tensorboard.plugins.hparams.summary_v2
        import tensorboard.plugins.scalar.summary_v2  # noqa: F401
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


if __name__ == "__main__":
    # What libraries write to standard output goes to standard error.
    _output = os.dup(1)
    os.dup2(2, 1)
    left_out = sys.argv[1:]
    _say(tensorboard=_tensorboard())
    startup.open_cusolver()
    import tensorflow as tf

    if "GPU" in left_out:
        tf.config.set_visible_devices([], "GPU")
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    devices = [f"{device.device_type}:{number}" for kind in ("CPU", "GPU")
               for number, device in enumerate(tf.config.get_visible_devices(kind))]  # fmt: skip
    _say(devices=devices)
    for device in devices:
        if device not in left_out:
            _tried(tf, device)
    os._exit(0)  # Taking it down takes time, and has nothing to tell.

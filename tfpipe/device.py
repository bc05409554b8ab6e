"""Where a run computes: the choice of the device, said aloud, never changed in silence."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from tfpipe.exceptions import DeviceError

_LOG_PREFIX = re.compile(r"^[WEF]\d{4} [^\]]*\] ")


class Device(NamedTuple):
    """A device that works.

    Attributes:
      place: TensorFlow's name for it, as `tf.device` takes it.
      label: what log and report call it: `cpu`, or `gpu` with the name of the card.
      tf32: whether matrix products may round their inputs to TensorFloat-32.
    """

    place: str
    label: str
    tf32: bool

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Places what is computed inside on this device. Restores the process's TF32 setting at the end."""
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(self.tf32)
        try:
            with tf.device(self.place):
                yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)


def select(wanted: str, *, tf32: bool = False) -> Device:
    """Finds the device and tries it out.

    Args:
      wanted: `cpu`; `gpu`; or `auto`, the first GPU if there is a usable one, else the CPU.
      tf32: see Device.

    Raises:
      DeviceError: `gpu` is wanted and there is none, or there is one and it does not work; the message holds
        TensorFlow's reason.
    """
    cpu = Device("/CPU:0", "cpu", tf32)
    gpus = tf.config.list_physical_devices("GPU") if wanted != "cpu" else []
    if gpus:
        return Device("/GPU:0", f"gpu ({_prepared(gpus[0])})", tf32)
    if wanted == "gpu":
        raise DeviceError(f"--device=gpu: TensorFlow {tf.__version__} finds no usable GPU: {_reason()}")
    return cpu


def _prepared(gpu: tf.config.PhysicalDevice) -> str:
    """Makes the GPU ready, tries it out, and returns its name."""
    try:
        # Growth, so that other programs keep their share of the memory.
        tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        logging.info("memory growth of the GPU cannot be changed any more: %s", error)
    try:
        with tf.device("/GPU:0"):
            tf.add(tf.zeros([1]), 1.0).numpy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise DeviceError(f"the GPU does not work (--device=cpu does without): {error}") from error
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))


def _reason() -> str:
    """Why TensorFlow finds no GPU: it says so once in a process, to standard error, so a fresh process is asked."""
    program = "import tensorflow as tf; tf.config.list_physical_devices('GPU')"
    log = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"},
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    ).stderr
    reasons = [_LOG_PREFIX.sub("", line) for line in log.splitlines() if _LOG_PREFIX.match(line)]
    return "; ".join(reasons) or "it gives no reason (BUILD.md tells how to install it for GPUs)"

"""Where a run computes: the choice of the device, said aloud, never changed in silence."""

import contextlib
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import tensorflow as tf
from absl import logging

from tfpipe.exceptions import DeviceError

_CPU_INFO = pathlib.Path("/proc/cpuinfo")
_CPU_QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")
_LOG_PREFIX = re.compile(r"^[WEF]\d{4} [^\]]*\] ")


class Device(NamedTuple):
    """A device that works.

    Attributes:
      place: TensorFlow's name for it, as `tf.device` takes it.
      label: what log and report call it: `cpu`, or `gpu` with the name of the card.
      tf32: whether matrix products may round their inputs to TensorFloat-32.
      programs: how many it runs side by side: one on each core of a CPU, one on a GPU.
      multiplies_int8: whether its matrix products of int8 are so fast that three beat one of float32.
    """

    place: str
    label: str
    tf32: bool = False
    programs: int = 1
    multiplies_int8: bool = False

    def check_precision(self, precision: str) -> None:
        """Raises DeviceError for a precision that has no use on this device."""
        # XLA computes such products in float32 on CPUs: 1.0 to 1.1 times the time. And some sizes end the process.
        if precision == "bfloat16" and "GPU" not in self.place:
            raise DeviceError("precision", precision, "is for GPUs, a CPU is no faster with it; take float32")

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


class Workers:
    """Threads that compute on a device: enough to train as many programs as it runs, to measure two splits beside, and
    to draw and save.

    A context manager: at its end it waits for the calls that have begun, which cannot start others any more.

    Attributes:
      device: on which.
    """

    def __init__(self, device: Device):
        self.device = device
        self._pool = ThreadPoolExecutor(3 * device.programs + 4)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def start(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Calls `function` in a thread."""

        def work() -> Any:
            with tf.device(self.device.place):  # Which holds for one thread.
                return function(*arguments)

        return self._pool.submit(work)

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """As the built-in function, but the calls side by side. If one raises, so does this; the others go on."""
        return [future.result() for future in [self.start(function, *each) for each in zip(*arguments, strict=True)]]


def cores() -> int:
    """How many this process may use: by its affinity, and by the quota of a container."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CPU_QUOTA.read_text("utf-8").split()
        return max(1, min(there, int(quota) // int(period)))
    except (OSError, ValueError):  # Another system; or `max`, no quota.
        return there


def use_one_thread() -> bool:
    """Gives each program of this process one thread; whether it could: not any more once TensorFlow has computed."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        return False
    return True


def processor() -> str:
    """The name of the CPU's model."""
    try:
        names = re.findall(r"^model name\s*: (.+)$", _CPU_INFO.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:  # Another system than Linux.
        names = []
    return names[0] if names else platform.processor()


def threads() -> int:
    """How many a program of this process may use."""
    return tf.config.threading.get_intra_op_parallelism_threads() or cores()


def _has_amx() -> bool:
    """Whether the processor has a unit for matrices of int8: products on others were not measured."""
    try:
        return "amx_int8" in _CPU_INFO.read_text("utf-8", "replace").split()
    except OSError:  # Another system than Linux.
        return False


def select(wanted: str, *, tf32: bool = False) -> Device:
    """Finds the device and tries it out.

    Args:
      wanted: `cpu`; `gpu`; or `auto`, the first GPU if there is a usable one, else the CPU.
      tf32: see Device.

    Raises:
      DeviceError: `gpu` is wanted and there is none, or there is one and it does not work; the message holds
        TensorFlow's reason.
    """
    cpu = Device("/CPU:0", "cpu", tf32, programs=cores(), multiplies_int8=_has_amx())
    gpus = tf.config.list_physical_devices("GPU") if wanted != "cpu" else []
    if gpus:
        _prepare(gpus)
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
        return Device("/GPU:0", f"gpu ({name})", tf32)
    if wanted == "gpu":
        raise DeviceError("device", wanted, f"TensorFlow {tf.__version__} finds no usable GPU: {_reason()}")
    return cpu


def _prepare(gpus: list[tf.config.PhysicalDevice]) -> None:
    """Makes the GPUs ready, and tries the first one out."""
    try:
        # Growth, so that other programs keep their share of the memory; TensorFlow wants it the same for all GPUs.
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        logging.info("memory growth of the GPU cannot be changed any more: %s", error)
    try:
        with tf.device("/GPU:0"):
            place = tf.add(tf.zeros([1]), 1.0).device
    except (tf.errors.OpError, RuntimeError) as error:
        raise DeviceError("device", "gpu", f"the GPU does not work: {error}; device=cpu does without") from error
    if "GPU" not in place:  # TensorFlow falls back in silence.
        raise DeviceError(
            "device", "gpu", f"the GPU does not work: TensorFlow computed on {place}; device=cpu does without"
        )


def _reason() -> str:
    """Why TensorFlow finds no GPU: it says so once in a process, to standard error, so a fresh process is asked."""
    program = "import tensorflow as tf; tf.config.list_physical_devices('GPU')"
    try:
        log = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        ).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be asked for the reason: {error}"
    reasons = [_LOG_PREFIX.sub("", line) for line in log.splitlines() if _LOG_PREFIX.match(line)]
    return "; ".join(reasons) or "it gives no reason (BUILD.md tells how to install it for GPUs)"

"""Where a run computes: the choice of the device, said aloud, never changed in silence."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple, Self

import tensorflow as tf

from tfpipe.compute import cpu
from tfpipe.exceptions import DeviceError

# For a fresh process to import TensorFlow, on a machine that is busy with other things.
_MOST_SECONDS = 300
_LOG_PREFIX = re.compile(r"^[WEF]\d{4} [^\]]*\] ")


class Device(NamedTuple):
    """A device that works, or several of one kind that share the work.

    Attributes:
      name: TensorFlow's, as `tf.device` takes it: of several, the first one's.
      label: what log and report call it: `cpu`, or `gpu` with the name of the card.
      tf32: whether matrix products may round their inputs to TensorFloat-32.
      programs: how many all of them run side by side: one on each core of a CPU, one on a GPU.
      multiplies_int8: whether its matrix products of int8 are so fast that three beat one of float32.
      multiplies_bfloat16: whether those of bfloat16, summed in float32, are faster than those of float32.
      others: the names of the others, in order.
      remarks: what must be said of it: that there is a better one which cannot be used.
    """

    name: str
    label: str
    tf32: bool = False
    programs: int = 1
    multiplies_int8: bool = False
    multiplies_bfloat16: bool = False
    others: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_gpu(self) -> bool:
        return "GPU" in self.name

    @property
    def words(self) -> str:
        """All of them, for log and report: their label, and, of several, how many there are."""
        return f"{1 + len(self.others)} x {self.label}" if self.others else self.label

    @property
    def each(self) -> "list[Device]":
        """Each of them, as a device of its own."""
        names = self.name, *self.others
        return [self._replace(name=name, programs=self.programs // len(names), others=()) for name in names]

    def at_most(self, count: int) -> Self:
        """Of several, the first so many: for no more parts of the work than that."""
        others = self.others[: count - 1]
        return self._replace(programs=self.programs // (1 + len(self.others)) * (1 + len(others)), others=others)

    def check_precision(self, precision: str) -> None:
        """Raises DeviceError for a precision that has no use on this device."""
        if precision in ("bfloat16", "screen") and not self.multiplies_bfloat16:
            problem = "is for GPUs and processors with AVX512_BF16: others are no faster, and with AMX some sizes crash"
            raise DeviceError("precision", precision, f"{problem}; take float32")

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Places what is computed inside on this device. Restores the process's TF32 setting at the end."""
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(self.tf32)
        try:
            with tf.device(self.name):
                yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)


def select(wanted: str, *, tf32: bool = False, strategy: str = "none") -> Device:
    """Finds the device, or several, and tries them out.

    Args:
      wanted: `cpu`; `gpu`; or `auto`, GPUs if there is a usable one, else the CPU.
      tf32: see Device.
      strategy: `devices`, all that this process has of the kind; `auto`, all GPUs, and of a CPU the first; else the
        first one.

    Raises:
      DeviceError: `gpu` is wanted and there is none, or there is one and it does not work, and the message holds
        TensorFlow's reason; or there is a single one where there are to be several.
    """
    gpus = tf.config.list_physical_devices("GPU") if wanted != "cpu" else []
    if not gpus and wanted == "gpu":
        raise DeviceError("device", wanted, f"TensorFlow {tf.__version__} finds no usable GPU: {_reason()}")
    kind = "GPU" if gpus else "CPU"
    if gpus:
        _try_out("/GPU:0")
    are_several = strategy == "devices" or (strategy == "auto" and gpus)
    name, *others = _names(kind) if are_several else [f"/{kind}:0"]
    if strategy == "devices" and not others:
        problem = f"is for several devices, and this process has one {kind}"
        raise DeviceError("strategy", strategy, f"{problem}; leave it out, or give strategy=none")
    if gpus:
        for other in others:
            _try_out(other)
        card = tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
        programs = 1 + len(others)
        return Device(name, f"gpu ({card})", tf32, programs, multiplies_bfloat16=True, others=tuple(others))
    # Those of a CPU, which TensorFlow was told to divide, have its cores together.
    of_each = max(1, cpu.cores() // (1 + len(others)))
    programs = of_each * (1 + len(others))
    return Device(name, "cpu", tf32, programs, cpu.has_amx(), cpu.has_bfloat16(), tuple(others))


def _names(kind: str) -> list[str]:
    """What `tf.device` calls those of a kind; one that TensorFlow was told to divide is several."""
    # To list what became of them would have TensorFlow begin, and its threads could not be set any more.
    physical = tf.config.list_physical_devices(kind)
    parts = [tf.config.get_logical_device_configuration(device) or [None] for device in physical]
    return [f"/{kind}:{number}" for number in range(sum(map(len, parts)))]


def grow_gpu_memory() -> bool:
    """Lets TensorFlow take the memory of GPUs as it needs it, and leave the rest to others; by default it takes all.

    It holds for the whole process, so it is for those to call to whom the process belongs.

    Returns:
      Whether it could: not any more once TensorFlow has computed.
    """
    try:
        # TensorFlow wants it the same for all GPUs.
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        return False
    return True


def _try_out(name: str) -> None:
    """Computes on a GPU. Raises DeviceError if it cannot."""
    try:
        with tf.device(name):
            where = tf.add(tf.zeros([1]), 1.0).device
    except (tf.errors.OpError, RuntimeError) as error:
        raise DeviceError("device", "gpu", f"the GPU does not work: {error}; device=cpu does without") from error
    if "GPU" not in where:  # TensorFlow falls back in silence.
        raise DeviceError(
            "device", "gpu", f"the GPU does not work: TensorFlow computed on {where}; device=cpu does without"
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
            timeout=_MOST_SECONDS,
            check=False,
        ).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be asked for the reason: {error}"
    reasons = [_LOG_PREFIX.sub("", line) for line in log.splitlines() if _LOG_PREFIX.match(line)]
    return "; ".join(reasons) or "it gives no reason (BUILD.md tells how to install it for GPUs)"

"""How TensorFlow is imported: without its greetings, without Keras, and with a library that it does not find itself."""

import contextlib
import ctypes
import importlib.util
import os
import pathlib
import re
import sys
import threading
from collections.abc import Iterator

from absl import logging

from tfpipe.compute import host

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# TensorFlow's levels: 0 logs all, 1 no information, 2 no warnings, 3 no errors either, only what is fatal.
_QUIET = "3"
_LETTERS = "IWE"
CUSOLVER = "libcusolver.so.11"
# By which a GPU is reached: of NVIDIA's driver, and in Windows' Linux.
_DEVICE_FILES = "nvidiactl", "dxg"
_DEV = pathlib.Path("/dev")


def import_tensorflow() -> None:
    """Imports TensorFlow, unless that is done.

    Its C++ side greets, of its CPU instructions, of GPUs that are not there, on file descriptor 2. That is kept back
    unless it is asked for, by TF_CPP_MIN_LOG_LEVEL=0 or by absl's verbosity of DEBUG (`--verbosity=1`). TensorFlow
    reads the variable once, so without it nothing but fatal errors is logged by that side as long as this process
    lives; what fails raises an exception all the same. Afterwards the file descriptor,
    the environment and the filters of warnings are as they were: what TensorFlow sets there for itself and for h5py,
    they read while they are imported.
    """
    # One after the other: each takes file descriptor 2 over, and gives it back.
    with host.undoing_imports(), contextlib.ExitStack() as stack:
        open_cusolver()
        if "tensorflow" in sys.modules:
            return
        stack.enter_context(_without_keras())
        if logging.get_verbosity() < logging.DEBUG:
            level = os.environ.get(_LEVEL, _QUIET)
            stack.enter_context(_variable(_LEVEL, level))
            if unwanted := _LETTERS[: int(level)] if level.isdecimal() else "":
                stack.enter_context(_without_log_lines(unwanted))  # Some come before TensorFlow reads the variable.
        import tensorflow  # noqa: F401


def open_cusolver() -> None:
    """Opens what pip's package `nvidia-cusolver-cu12` has brought, where there are GPUs: TensorFlow then finds it open.

    It looks for the seven libraries that it needs in folders of pip's packages, and TensorFlow 2.21 has forgotten this
    one's: without $LD_LIBRARY_PATH it lists no GPU, though `tensorflow[and-cuda]` has brought all of them.
    """
    if (path := path_of_cusolver()) is not None:
        with contextlib.suppress(OSError):  # Of a library that it needs in turn: `tfpipe doctor` tells which.
            ctypes.CDLL(str(path))


def path_of_cusolver(dev: pathlib.Path = _DEV) -> pathlib.Path | None:
    """The file; None: pip has brought none, or there is no GPU. `dev` is where device files lie."""
    if not any((dev / name).exists() for name in _DEVICE_FILES):
        return None
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        return None
    path = pathlib.Path(spec.origin).parents[1] / "nvidia/cusolver/lib" / CUSOLVER
    return path if path.exists() else None


def _without_keras() -> contextlib.AbstractContextManager[None]:
    """Keeps TensorFlow from importing Keras at once, which here nothing needs; `tf.keras` imports it when it is used.

    The import then takes 1.5 s instead of 2.5, and 1.5 instead of 5.1 where JAX is installed; and 110 MB less.
    """
    return _variable("TF_USE_LEGACY_KERAS", "1")  # An older Keras, in a package that TensorFlow does not bring.


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Gives an environment variable another value for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _without_log_lines(levels: str) -> Iterator[None]:
    """Keeps log lines of C++ from file descriptor 2, unless an exception comes: then they are shown after all.

    Other lines pass, those of other threads and of processes that they start.

    Args:
      levels: the first letters of the lines.
    """
    # A log of Python's absl looks alike, but names files that end in .py.
    log_line = re.compile(
        rf"[{levels}]\d{{4}} [\d:.]+ +\d+ \S+\.(cc|h):\d+\] |WARNING: All log messages before".encode()
    )
    try:
        stderr = os.dup(2)
    except OSError:  # It is closed.
        yield
        return
    source, sink = os.pipe()
    kept: list[bytes] = []
    reader = threading.Thread(target=_pass_on, args=(source, stderr, log_line, kept), daemon=True)
    reader.start()
    os.dup2(sink, 2)
    os.close(sink)
    failed = False
    try:
        yield
    except Exception:
        failed = True
        raise
    finally:
        os.dup2(stderr, 2)
        # Which closes the pipe, unless a process that was started meanwhile has it too: then the reader goes on.
        reader.join(timeout=1)
        if failed:
            with contextlib.suppress(OSError):
                os.write(2, b"".join(kept))


def _pass_on(source: int, sink: int, unwanted: re.Pattern[bytes], kept: list[bytes]) -> None:
    """Writes to `sink` the lines that come from `source`; those that begin with what is `unwanted` are `kept`."""
    with open(source, "rb") as lines, open(sink, "wb", buffering=0) as output:
        for line in lines:
            if unwanted.match(line):
                kept.append(line)
            else:
                with contextlib.suppress(OSError):
                    output.write(line)

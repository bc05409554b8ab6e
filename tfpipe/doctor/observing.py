"""The machine is looked at: what fails of it is a fact like any other."""

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import tfpipe
from tfpipe import memory
from tfpipe.compute import cpu
from tfpipe.disk import files
from tfpipe.disk.workdir import Workdir
from tfpipe.doctor import children, cuda, gpu_rules, nvidia_smi, trial
from tfpipe.doctor.facts import Folder, Library, Machine, Smi, Trial
from tfpipe.exceptions import StoreError, TfpipeError, brief
from tfpipe.stores import address as addresses
from tfpipe.stores import home
from tfpipe.version import __version__

TRIAL = (sys.executable, "-P", trial.__file__)
_PACKAGES = (
    "tensorflow", "keras", "numpy", "scipy", "scikit-learn", "tensorboard", "tensorflow-datasets", "absl-py",
)  # fmt: skip
# By name, for others begin with TF_ too, and hold secrets: those of Terraform.
_VARIABLES = re.compile(
    r"CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|CACHE_\w+|MODULE_LOADING)|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES|TF32_OVERRIDE)"
    r"|TF_(CPP_\w+|GPU_\w+|CUDNN_\w+|FORCE_GPU_ALLOW_GROWTH|MIN_GPU_MULTIPROCESSOR_COUNT|XLA_FLAGS|ENABLE_ONEDNN_OPTS)"
    r"|XLA_FLAGS|LD_LIBRARY_PATH|LD_PRELOAD"
)
_FEATURES = re.compile(r"avx\w*|amx_\w+|fma|sse4_\d|asimd\w*|sve\w*|i8mm|bf16")
_PORT = 6006
_HOME = pathlib.Path(tfpipe.__file__).parent.parent  # The program imports tfpipe too, wherever it lies.
_LOG_LINE = re.compile(r"^(?:\d{4}-\d\d-\d\d [\d:.]+: )?[IWEF](?:\d{4} [^\]]*| [^\]]*)\] ")
_FATAL = re.compile(r"LLVM ERROR: |(?:\S+ \S+ )?F(?:\d{4}| ).*\] ")
_OF_GPUS = re.compile(r"gpu|cuda|cuinit|cudnn|driver", re.IGNORECASE)

_T = TypeVar("_T")


def machine(device: str, workdir: pathlib.Path | str, seconds: float, program: Sequence[str] = TRIAL) -> Machine:
    """All that can be observed.

    Args:
      device: what `--device` says.
      workdir: where runs are to be kept, and need not be there: a path, or an address, checked by `address.check`.
      seconds: after which a program that tries a device is ended, and a store is not tried again.
      program: that program, see `trial`.
    """
    failed: dict[str, str] = {}
    found = gpus(device, failed)
    left_out = ["GPU"] if device == "cpu" else []
    of_program = _attempt("programs", failed, lambda: tried(program, left_out, seconds), Tried())
    return found._replace(
        processor=_attempt("processor", failed, cpu.processor, ""),
        features=_attempt("processor", failed, _features, ()),
        cores=_attempt("cores", failed, cpu.cores, 1),
        memory=_attempt("memory", failed, memory.total_memory, None),
        free=_attempt("memory", failed, memory.available_memory, None),
        trials=of_program.trials,
        log=of_program.log,
        tensorboard=of_program.tensorboard,
        port_is_free=_attempt("port", failed, _port_is_free, True),
        workdir=_attempt("workdir", failed, lambda: _workdir(workdir, seconds), None),
        failed=failed,
    )


def gpus(device: str, failed: dict[str, str] | None = None) -> Machine:
    """What there is to observe of GPUs without a program that computes on them.

    Args:
      device: what `--device` says.
      failed: takes observations that failed, and how.
    """
    failed = {} if failed is None else failed
    found = Machine(
        platform.system(),
        platform.machine(),
        {"tfpipe": __version__, "Python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        environment={name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)},
        build=_attempt("TensorFlow's build", failed, cuda.build, None),
        failed=failed,
    )
    if device == "cpu":
        return found
    found = found._replace(
        smi=_attempt("nvidia-smi", failed, nvidia_smi.asked, Smi(nvidia_smi.path(), error="it could not be asked")),
        device_files=_attempt("device files", failed, cuda.device_files, {}),
        cuda_packages=_attempt("packages", failed, cuda.packages, {}),
    )
    is_built = found.build is not None and found.build.cuda is not None
    if not is_built or not (gpu_rules.is_wanted(found, device) or found.device_files):
        return found
    nothing: tuple[str | None, str | None] = (None, None)
    libdevice, ptxas = _attempt("libdevice", failed, cuda.compiler, nothing)
    libraries: dict[str, Library] = _attempt("libraries", failed, cuda.libraries, {})
    cache = _attempt("the driver's cache", failed, cuda.cache, None)
    return found._replace(libraries=libraries, libdevice=libdevice, ptxas=ptxas, cache=cache)


class Tried(NamedTuple):
    """What came of a small program on each device; its fields are those of Machine."""

    trials: Mapping[str, Trial] = {}
    log: tuple[str, ...] = ()
    tensorboard: str | None = None


def tried(program: Sequence[str], left_out: Sequence[str], seconds: float) -> Tried:
    """Runs it.

    A device that ends the program, or on which it does not end, is left out, and it is started again for the others.

    Args:
      program: see `trial`.
      left_out: devices that are not tried.
      seconds: after which it is ended.
    """
    trials: dict[str, Trial] = {}
    log: list[str] = []
    tensorboard = None
    paths = filter(None, (str(_HOME), os.environ.get("PYTHONPATH")))
    env = {"TF_CPP_MIN_LOG_LEVEL": "0", "PYTHONPATH": os.pathsep.join(paths)}
    while True:
        ended = children.run([*program, *left_out, *trials], seconds, env)
        log += [line for line in _said(ended.log) if line not in log]
        begun, devices = None, None
        for line in ended.output.splitlines():
            told = _told(line)
            tensorboard = told.get("tensorboard", tensorboard)
            devices = told.get("devices", devices)
            begun = told.get("begins", begun)
            if "device" in told:
                trials[told["device"]] = Trial(told.get("seconds"), told.get("error"))
        how = ": ".join(filter(None, (ended.problem, _last_word(ended))))
        if devices is None:
            return Tried({**trials, "TensorFlow": Trial(error=how)}, tuple(log), tensorboard)
        if begun is not None and begun not in trials:
            trials[begun] = Trial(error=how)
        elif not ended.problem or set(devices) <= trials.keys():
            return Tried(trials, tuple(log), tensorboard)
        else:
            return Tried({**trials, "TensorFlow": Trial(error=how)}, tuple(log), tensorboard)


def _last_word(ended: children.Ended) -> str:
    """What it said before it ended: what LLVM or a check that failed said, behind which addresses may stand."""
    fatal = [line for line in ended.log.splitlines() if _FATAL.match(line)]
    if fatal:
        return _LOG_LINE.sub("", fatal[-1])
    # What a program says before it is ended, or of its progress, is no reason.
    is_reason = not ended.is_late and not _told(ended.last_line)
    return _LOG_LINE.sub("", ended.last_line) if is_reason else ""


def _told(line: str) -> dict[str, Any]:
    """What the program says in a line; nothing, where it is not the program that wrote it."""
    with contextlib.suppress(ValueError):
        told = json.loads(line)
        return told if isinstance(told, dict) else {}
    return {}


def _said(log: str) -> list[str]:
    """Lines of TensorFlow's log that speak of GPUs, without what stands before them."""
    lines = [_LOG_LINE.sub("", line) for line in log.splitlines() if _LOG_LINE.match(line)]
    return list(dict.fromkeys(line for line in lines if _OF_GPUS.search(line) and "StreamExecutor" not in line))


def _attempt(what: str, failed: dict[str, str], observe: Callable[[], _T], otherwise: _T) -> _T:
    """What is observed; if that fails, for whatever reason, that it did is noted."""
    try:
        return observe()
    except Exception as error:
        failed[what] = brief(error)
        return otherwise


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _features() -> tuple[str, ...]:
    """Those instructions of the processor that products are made of."""
    return tuple(sorted(name for name in cpu.features() if _FEATURES.fullmatch(name)))


def _port_is_free() -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("localhost", _PORT))
        except OSError:
            return False
    return True


def _workdir(workdir: pathlib.Path | str, seconds: float) -> Folder:
    """Whether a run could be kept there."""
    is_address = addresses.is_address(str(workdir))
    return _store(str(workdir), seconds) if is_address else _folder(pathlib.Path(workdir))


def _store(address: str, seconds: float) -> Folder:
    """An object is written below an address, read and removed; then the folder is tried in which such a run lies.

    What is free, is free in that folder.
    """
    from tfpipe.stores.access import Store, limits_of  # For addresses alone.

    shown, name, content = addresses.shown(address), f".doctor-{uuid.uuid4().hex}", b"once"
    try:
        limits = limits_of(os.environ)
        whole = min(limits.whole, seconds)
        store = Store(address, limits=limits._replace(call=min(limits.call, whole), whole=whole))
        store.write(name, content)
        try:
            if store.read(name) != content:
                raise StoreError(f"{shown}: what was written is not what is read")
        finally:
            store.remove(name)
        here = _folder(home.home() / "runs")
    except StoreError as error:
        return Folder(shown, str(error))
    if here.error:
        return here._replace(error=f"{here.error}; {home.VARIABLE} names another folder")
    return here._replace(path=f"{shown}, by way of {here.path},")


def _folder(path: pathlib.Path) -> Folder:
    """A workdir is made, written as a run writes, and removed."""
    try:
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        Workdir(path).check()
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as folder:
            run = Workdir(pathlib.Path(folder, "run"))
            with run.owned():
                for content in (b"once", b"and again"):
                    files.write_whole(run.report, content)
                if run.report.read_bytes() != content:
                    raise OSError("what was written is not what is read")
            locks = _locks(pathlib.Path(folder, "lock"))
        return Folder(str(path), None, shutil.disk_usage(there).free, locks)
    except (OSError, TfpipeError) as error:
        return Folder(str(path), getattr(error, "strerror", None) or str(error))


def _locks(path: pathlib.Path) -> bool:
    with open(path, "wb") as file, contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False

"""What GPUs are reached by: device files, and the libraries that TensorFlow and XLA open, and from where."""

import functools
import grp
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import runpy
import shlex
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping

from tfpipe.compute import startup
from tfpipe.doctor import children, opening, run_path
from tfpipe.doctor.facts import Build, DeviceFile, Folder, Library
from tfpipe.doctor.gpu_rules import DRIVER, NEEDED, OPTIONAL

_OPENING_SECONDS = 60.0
_DATA_DIR = "--xla_gpu_cuda_data_dir"
_LIBDEVICE = "libdevice.10.bc"
# By the packages that have been made of it; the first that is there.
_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow-intel", "tensorflow-macos", "tf-nightly")


def device_files(root: pathlib.Path = pathlib.Path("/dev")) -> dict[str, DeviceFile]:
    """Those of GPUs, of what controls them, and of their memory; Windows' Linux has one for all."""
    found = {}
    for path in sorted([*root.glob("nvidia[0-9]*"), root / "nvidiactl", root / "nvidia-uvm", root / "dxg"]):
        if path.exists():
            about = path.stat()
            try:
                group = grp.getgrgid(about.st_gid).gr_name
            except KeyError:
                group = str(about.st_gid)
            found[str(path)] = DeviceFile(os.access(path, os.R_OK | os.W_OK), stat.filemode(about.st_mode), group)
    return found


def _tensorflow() -> pathlib.Path:
    """The folder that it is installed in. Raises ImportError: it is not."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ImportError("tensorflow is not installed")
    return pathlib.Path(spec.origin).parent


def build() -> Build:
    """For what TensorFlow was built, as a file of it says; it is not imported.

    Raises:
      ImportError, OSError, KeyError: it is not installed, or does not say.
    """
    info = runpy.run_path(str(_tensorflow() / "python/platform/build_info.py"))["build_info"]
    package = next((name for name in _PACKAGES if _version(name)), "tensorflow")
    if not info["is_cuda_build"]:
        return Build(package)
    return Build(package, info["cuda_version"], info["cudnn_version"], tuple(info["cuda_compute_capabilities"]))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def packages() -> dict[str, str]:
    """Pip's packages of NVIDIA, with their versions."""
    return {one.metadata["Name"]: one.version for one in _distributions()}


@functools.cache
def _distributions() -> list[importlib.metadata.Distribution]:
    return [one for one in importlib.metadata.distributions() if (one.metadata["Name"] or "").startswith("nvidia-")]


def libraries() -> dict[str, Library]:
    """Those that TensorFlow opens, opened by their names, from where it opens them.

    It looks where $LD_LIBRARY_PATH says, then where its own file says, then where the system does. A process with the
    first two in its $LD_LIBRARY_PATH does the same, and need not import it. One that it has forgotten is opened before,
    see `startup.open_cusolver`.

    Raises:
      ImportError, OSError, ValueError: TensorFlow's libraries are not there, or are none of a 64-bit Linux.
    """
    folder = _tensorflow()
    places = [str(place) for place in run_path.folders(folder / "libtensorflow_framework.so.2") if place.is_dir()]
    given = os.environ.get("LD_LIBRARY_PATH")
    env = {"LD_LIBRARY_PATH": ":".join([*([given] if given else []), *places])}
    brought, before = _brought(), startup.path_of_cusolver()
    found: dict[str, Library] = {}
    left = [DRIVER, *NEEDED, *OPTIONAL]
    while left:
        names = [f"{name}={before}" if before and name == startup.CUSOLVER else name for name in left]
        ended = children.run([sys.executable, "-P", opening.__file__, *names], _OPENING_SECONDS, env)
        begun = _take(ended.output, folder, brought, found)
        if begun is None:  # It did not even begin.
            return found | {name: Library(error=ended.problem or ended.last_line) for name in left}
        if begun not in found:
            found[begun] = Library(error=f"opening it {ended.problem}: {ended.last_line}")
        left = left[left.index(begun) + 1 :]
    return found


def _take(output: str, folder: pathlib.Path, brought: Mapping[str, str], found: dict[str, Library]) -> str | None:
    """Adds what the program has found; gives the name of the library that came last."""
    name = None
    for line in output.splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            name = told.pop("name")
            if told:
                found[name] = Library(**told)
                if file := found[name].file:
                    found[name] = found[name]._replace(package=brought.get(os.path.realpath(file)))
                else:
                    found[name] = found[name]._replace(elsewhere=_first(folder.parent.glob(f"nvidia/*/lib/{name}")))
    return name


def _brought() -> dict[str, str]:
    """The package that brought a file, with its version, by the file's path."""
    return {
        os.path.realpath(str(one.locate_file(file))): f"{one.metadata['Name']} {one.version}"
        for one in _distributions()
        for file in one.files or []
        if ".so" in file.name
    }


def compiler() -> tuple[str | None, str | None]:
    """The files of libdevice and ptxas that XLA takes; None: it finds none.

    Raises:
      ImportError: TensorFlow is not installed.
    """
    site = _tensorflow().parent
    flags = shlex.split(os.environ.get("XLA_FLAGS", ""))
    given = [flag.partition("=")[2] for flag in flags if flag.startswith(f"{_DATA_DIR}=")]
    of_conda = site.parents[2] if len(site.parents) > 2 else site
    places: list[str | pathlib.Path] = [
        *given,
        "/usr/local/cuda",
        "/opt/cuda",
        site / "nvidia/cuda_nvcc",
        of_conda,
        ".",
    ]
    roots = [pathlib.Path(place) for place in places]
    libdevice = _first([*(root / "nvvm/libdevice" / _LIBDEVICE for root in roots), pathlib.Path(_LIBDEVICE)])
    return libdevice, shutil.which("ptxas") or _first(root / "bin/ptxas" for root in roots)


def _first(paths: Iterable[pathlib.Path]) -> str | None:
    return next((str(path) for path in paths if path.is_file()), None)


def cache() -> Folder:
    """Where the driver keeps what it has compiled."""
    path = pathlib.Path(os.environ.get("CUDA_CACHE_PATH") or pathlib.Path.home() / ".nv/ComputeCache")
    if os.environ.get("CUDA_CACHE_DISABLE", "0") not in ("", "0"):
        return Folder(str(path), "CUDA_CACHE_DISABLE is set")
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    return Folder(str(path), None if os.access(there, os.W_OK | os.X_OK) else "no permission")

"""A program: opens libraries by the names on its command line, and says what it found, a line of JSON for each.

After a name `=` and a path may stand: of a file that is opened before, as tfpipe does it before it imports TensorFlow.
It runs in a process of its own, so that a library that ends the process ends none of ours. It needs nothing but Python.
"""

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Callable


class _LinkMap(ctypes.Structure):
    """What the system's loader keeps of a library, in its first fields (`<link.h>`)."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


_RTLD_DI_LINKMAP = 2  # From <dlfcn.h>.


def _file(library: ctypes.CDLL) -> str:
    """Which file was opened."""
    found = ctypes.POINTER(_LinkMap)()
    ctypes.CDLL(None).dlinfo(ctypes.c_void_p(library._handle), _RTLD_DI_LINKMAP, ctypes.byref(found))
    return os.fsdecode(found.contents.name)


def _by_property(function: str) -> Callable[[ctypes.CDLL], str]:
    """Of the libraries of the toolkit: major, minor, patch."""

    def version(library: ctypes.CDLL) -> str:
        numbers = [ctypes.c_int(-1) for _ in range(3)]
        for kind, number in enumerate(numbers):
            getattr(library, function)(kind, ctypes.byref(number))
        return ".".join(str(number.value) for number in numbers)

    return version


def _by_number(function: str, *units: int) -> Callable[[ctypes.CDLL], str]:
    """Of those that write one number: 12080 is 12.8 by units of 1000 and 10."""

    def version(library: ctypes.CDLL) -> str:
        number = ctypes.c_int(-1)
        getattr(library, function)(ctypes.byref(number))
        return _divided(number.value, *units)

    return version


def _cudnn(library: ctypes.CDLL) -> str:
    library.cudnnGetVersion.restype = ctypes.c_size_t
    return _divided(library.cudnnGetVersion(), 10000, 100, 1)


def _divided(number: int, *units: int) -> str:
    parts = []
    for unit in units:
        part, number = divmod(number, unit)
        parts.append(str(part))
    return ".".join(parts)


_VERSIONS: dict[str, Callable[[ctypes.CDLL], str]] = {
    "libcuda": _by_number("cuDriverGetVersion", 1000, 10),
    "libcudart": _by_number("cudaRuntimeGetVersion", 1000, 10),
    "libcublas": _by_property("cublasGetProperty"),
    "libcublasLt": _by_property("cublasLtGetProperty"),
    "libcufft": _by_property("cufftGetProperty"),
    "libcusolver": _by_property("cusolverGetProperty"),
    "libcusparse": _by_property("cusparseGetProperty"),
    "libcudnn": _cudnn,
    "libnccl": _by_number("ncclGetVersion", 10000, 100, 1),
}


def _opened(name: str) -> dict[str, str | None]:
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        return {"error": str(error)}
    try:
        version = _VERSIONS[name.partition(".")[0]](library)
    except (AttributeError, KeyError):  # An older one has no such function.
        version = None
    return {"file": _file(library), "version": version}


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        print(json.dumps({"name": name}), flush=True)  # If it ends the process, it is known which one.
        if path:
            with contextlib.suppress(OSError):
                ctypes.CDLL(path)
        print(json.dumps({"name": name, **_opened(name)}), flush=True)

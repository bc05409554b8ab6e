"""The processor: its cores, its name, and what it is good at."""

import contextlib
import functools
import os
import pathlib
import platform
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import threadpoolctl

from tfpipe.compute import host

# TensorFlow is imported by what asks it: readers of data count cores too, and need none.

CPU_INFO = pathlib.Path("/proc/cpuinfo")
_of_thread = threading.local()


def cores() -> int:
    """How many this process may use: by its affinity, by the quota of a container, and by $LOKY_MAX_CPU_COUNT."""
    if "joblib" not in sys.modules:
        with host.undoing_imports():  # Of a variable for Intel's OpenMP.
            import joblib
    import joblib

    return joblib.cpu_count()


def shares(count: int) -> list[tuple[int, ...]]:
    """Which cores each of `count` processes takes: equally many, at least one, and none that another takes.

    Where there are fewer cores than processes, some take the same. What does not divide evenly is left: processes that
    wait for each other gain nothing by it. Empty where the system does not let a process choose.
    """
    if not hasattr(os, "sched_setaffinity"):
        return [()] * count
    there = sorted(os.sched_getaffinity(0))
    each = max(1, len(there) // count)
    return [tuple(there[(number * each + i) % len(there)] for i in range(each)) for number in range(count)]


def processor(cpu_info: pathlib.Path = CPU_INFO) -> str:
    """The name of the model. `cpu_info` is what Linux knows of it."""
    return _values("model name", cpu_info) or platform.processor()


def features(cpu_info: pathlib.Path = CPU_INFO) -> frozenset[str]:
    """The instructions that it has, by Linux's names for them."""
    return frozenset(_values("(?:flags|Features)", cpu_info).split())  # On x86, and on ARM.


def has_amx(cpu_info: pathlib.Path = CPU_INFO) -> bool:
    """Whether it has a unit for matrices of int8: products on other processors were not measured."""
    return "amx_int8" in features(cpu_info)


def has_bfloat16(cpu_info: pathlib.Path = CPU_INFO) -> bool:
    """Whether it multiplies bfloat16 faster than float32, and soundly: by AVX512_BF16, and not by AMX.

    With AMX some sizes have ended the process (TensorFlow 2.21, an Intel Xeon), and it was not found which.
    """
    # XLA leaves these products to a library that asks the processor itself: `--xla_cpu_max_isa` does not hold it back.
    return "avx512_bf16" in features(cpu_info) and "amx_bf16" not in features(cpu_info)


def threads() -> int:
    """How many a program of this process may use."""
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads() or cores()


def use_one_thread() -> bool:
    """Gives each program of this process one thread; whether it could: not any more once TensorFlow has computed.

    It holds for the whole process, so it is for those to call to whom the process belongs.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        return False
    return True


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Gives each product of NumPy inside one thread.

    Two of OpenBLAS wait for each other, busily, while XLA's have the cores: an `eigh` of 784 columns takes 1.5 s on two
    busy cores, and 0.2 with one thread.
    """
    with _blas().limit(limits=1, user_api="blas"):
        yield


@contextlib.contextmanager
def a_thread_a_core() -> Iterator[ThreadPoolExecutor]:
    """As many threads as cores, and products inside have no others: so the bits of a call do not depend on how many.

    They are the same for all calls: of each new thread glibc keeps what it has freed. A call by one of them has threads
    of its own, or it would wait for itself.
    """
    with one_blas_thread():
        if not getattr(_of_thread, "is_of_a_core", False):
            yield _kept_threads(cores())
            return
        with _threads(cores()) as threads:
            yield threads


def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, initializer=lambda: setattr(_of_thread, "is_of_a_core", True))


_kept_threads = functools.lru_cache(maxsize=1)(_threads)
os.register_at_fork(after_in_child=_kept_threads.cache_clear)  # Threads stay with the parent.


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def _values(name: str, cpu_info: pathlib.Path) -> str:
    """What is told of the first core; nothing on another system than Linux."""
    try:
        found = re.search(rf"^{name}\s*: (.+)$", cpu_info.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""

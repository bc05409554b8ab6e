"""What no sound file exceeds, and what no machine holds."""

import os
import pathlib

from tfpipe.exceptions import DataError

# Deflate, in gzip and zip, cannot expand a byte to more than this many (zlib's technical details): a larger claim is
# false, and is found out before memory is taken for it.
DEFLATE_MOST = 1032
_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_OWN_CGROUPS = pathlib.Path("/proc/self/cgroup")


def memory() -> int:
    """How many bytes this process may use at most: the machine's memory, or the limit of a container."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_cgroup_limits()])


def available_memory() -> int:
    """How many bytes this process could still use, for the system's cache of files too."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([memory(), *available])


def check_fits_memory(where: str, size: int) -> None:
    """Raises DataError if `size` bytes, which a file asks for, are more than there are: before they are taken."""
    most = memory()
    if size > most:
        raise DataError(
            f"{where}: would take {size / 2**30:.1f} GiB of memory, and there are {most / 2**30:.1f}; an .npy "
            "file that numpy.save wrote may be larger than memory"
        )


def no_memory(where: str) -> DataError:
    """The error for a file that asked for more memory than there was, be it large or damaged."""
    return DataError(f"{where}: asks for more memory than is free; it is too large for this machine, or damaged")


def _cgroup_limits() -> list[int]:
    """The limits of the control groups that this process is in, and of those around them: versions 1 and 2."""
    try:
        groups = [line.split(":", 2) for line in _OWN_CGROUPS.read_text().splitlines()]
    except OSError:
        return []  # Not Linux.
    limits = []
    for _, controllers, path in groups:
        root, name = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
        if controllers and "memory" not in controllers.split(","):
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (folder / name).is_file():
                limit = (folder / name).read_text().strip()
                limits += [int(limit)] if limit.isdigit() else []  # Or `max`: none.
    return limits

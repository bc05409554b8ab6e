"""What no sound file exceeds, and what no machine holds."""

import os
import pathlib

from tfpipe.exceptions import DataError

# Deflate, in gzip and zip, cannot expand a byte to more than this many (zlib's technical details): a larger claim is
# false, and is found out before memory is taken for it.
DEFLATE_MOST = 1032


def physical_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_memory() -> int:
    """How many bytes the system could still use, for its cache of files too; all it has where it does not say."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return physical_memory()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def check_fits_memory(where: str, size: int) -> None:
    """Raises DataError if `size` bytes, which a file asks for, are more than the machine has: before they are taken."""
    memory = physical_memory()
    if size > memory:
        raise DataError(
            f"{where}: would take {size / 2**30:.1f} GiB of memory, and this machine has {memory / 2**30:.1f}; an .npy "
            "file that numpy.save wrote may be larger than memory"
        )

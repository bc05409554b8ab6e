"""What no sound file exceeds, and what no machine holds."""

import os

from tfpipe.exceptions import DataError

# Deflate, in gzip and zip, cannot expand a byte to more than this many (zlib's technical details): a larger claim is
# false, and is found out before memory is taken for it.
DEFLATE_MOST = 1032


def check_fits_memory(where: str, size: int) -> None:
    """Raises DataError if `size` bytes, which a file asks for, are more than the machine has: before they are taken."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise DataError(
            f"{where}: would take {size / 2**30:.1f} GiB of memory, and this machine has {memory / 2**30:.1f}; an .npy "
            "file that numpy.save wrote may be larger than memory"
        )

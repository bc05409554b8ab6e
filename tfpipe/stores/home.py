"""The folder for what is kept of stores on this machine."""

import os
import pathlib

from tfpipe.exceptions import StoreError

VARIABLE = "TFPIPE_CACHE_DIR"


def home() -> pathlib.Path:
    """`$TFPIPE_CACHE_DIR`, or `~/.cache/tfpipe`. Raises StoreError if there is no home."""
    if given := os.environ.get(VARIABLE):
        return pathlib.Path(given).absolute()
    try:
        return pathlib.Path("~/.cache/tfpipe").expanduser()
    except RuntimeError:
        raise StoreError(f"~/.cache/tfpipe: there is no home; name a folder by {VARIABLE}") from None

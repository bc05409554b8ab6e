"""The versions that the figures of a run may depend on."""

import numpy as np
import tensorflow as tf

from tfpipe.version import __version__


def versions() -> dict[str, str]:
    """By package."""
    return {"tfpipe": __version__, "tensorflow": tf.__version__, "numpy": np.__version__}

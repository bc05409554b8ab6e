"""TensorFlow without its greetings."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from absl import logging


def import_tensorflow() -> None:
    """Imports TensorFlow, and keeps its greetings back unless `--verbosity` asks for them."""
    if logging.get_verbosity() >= logging.DEBUG:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet():  # Some lines come before TensorFlow reads that variable.
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what is written to file descriptor 2, unless an exception comes: then it is shown after all.

    The C++ side of TensorFlow writes there past Python.
    """
    with tempfile.TemporaryFile() as file:
        original = os.dup(2)
        os.dup2(file.fileno(), 2)
        failed = False
        try:
            yield
        except Exception:
            failed = True
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
            if failed:
                file.seek(0)
                os.write(2, file.read())

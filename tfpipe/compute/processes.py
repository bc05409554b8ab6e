"""TensorFlow and forks: threads do not follow into a child, which would wait for them for ever."""

import os

from tfpipe.exceptions import ProcessError

_began_in: int | None = None


def check_not_forked() -> None:
    """Notes that this process computes.

    Raises:
      ProcessError: the process was forked from one that had computed.
    """
    global _began_in
    if _began_in not in (None, os.getpid()):
        raise ProcessError(
            f"this process was forked from process {_began_in}, in which TensorFlow was at work, and would wait for "
            "its threads for ever; start it by multiprocessing.get_context('spawn')"
        )
    _began_in = os.getpid()

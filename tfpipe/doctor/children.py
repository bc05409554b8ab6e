"""Programs that are asked, in processes that cannot take ours along, and not for longer than a while."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tfpipe.doctor.facts import LATE

# Seconds in which a process that is killed is gone.
_GRACE = 10.0


class Ended(NamedTuple):
    """What came of a program.

    Attributes:
      output, log: what it wrote to standard output and to standard error.
      problem: how it ended, if that was not well: a status, a signal, or that it did not end; empty: it was.
    """

    output: str
    log: str
    problem: str

    @property
    def is_late(self) -> bool:
        """Whether it was ended because it took too long."""
        return self.problem.startswith(LATE)

    @property
    def last_line(self) -> str:
        """The last thing that it said, to standard error or else to standard output."""
        lines = [line for text in (self.output, self.log) for line in text.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def run(command: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> Ended:
    """Runs a program to its end, or ends it, with all that it has started, after so many seconds.

    Args:
      command: the program and its arguments.
      seconds: after which it is ended.
      env: what its environment has besides.

    Raises:
      OSError: it cannot be started.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # So that what it has started can be ended with it.
    )
    try:
        output, log = process.communicate(timeout=seconds)
        return Ended(output, log, _how(process.returncode))
    except subprocess.TimeoutExpired:
        output, log = _killed(process)
        return Ended(output, log, f"{LATE} within {seconds:g} s")
    except BaseException:
        _killed(process)
        raise


def _killed(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends it, with all that it has started, and gives what it wrote.

    A driver that hangs keeps even a process that is killed: it is left.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        return "", "and cannot be killed: the driver hangs"


def _how(returncode: int) -> str:
    if returncode < 0:
        number = -returncode
        return f"ended by {signal.Signals(number).name if number in set(signal.Signals) else number}"
    return f"ended with status {returncode}" if returncode else ""

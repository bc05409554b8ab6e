"""Runs the command line as its users do: in a process of its own."""

import json
import os
import subprocess
import sys


def tfpipe(*arguments, timeout=300, **options):
    """The finished process, with `stdout` and `stderr` as text."""
    return subprocess.run(
        [sys.executable, "-m", "tfpipe", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )


def python(program):
    """The finished process of a Python program that is given as text, with `stdout` and `stderr` as text."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def python_module(name, *arguments):
    """The finished process of `python -m NAME ARGUMENTS`, which must succeed, with `stdout` as text."""
    return subprocess.run(
        [sys.executable, "-m", name, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )


def result(process):
    """The JSON object on the last line of stdout of a process that succeeded."""
    assert process.returncode == 0, (process.returncode, process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def without_root_rights():
    """For `preexec_fn`: file permissions hold for the new process even if root started it."""
    if os.geteuid() == 0:
        import ctypes

        drop_from_bounding_set, override_permissions = 24, 1
        if ctypes.CDLL(None, use_errno=True).prctl(drop_from_bounding_set, override_permissions) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

"""Runs the command line as its users do: in a process of its own."""

import concurrent.futures
import ctypes
import json
import multiprocessing
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile

# To import TensorFlow takes seconds, so one process does it, and others are forked from that: see tests.preloaded.
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["tests.preloaded"])


class Command:
    """A command that has begun, in a process of its own in which TensorFlow is imported already.

    Args:
      arguments: of `tfpipe`.
      stdout, stderr: paths to which it writes; by default of new files.
      cwd: its working directory.
      env: what its environment has besides.
      prepare: called in the process before the command; a function of a module.
    """

    def __init__(self, *arguments, stdout=None, stderr=None, cwd=None, env=None, prepare=None):
        self.args = ["tfpipe", *map(str, arguments)]
        self._folder = tempfile.TemporaryDirectory()
        self._output = [stdout or f"{self._folder.name}/stdout", stderr or f"{self._folder.name}/stderr"]
        options = (self.args, self._output, cwd, env or {}, prepare)
        self._process = _FORKED.Process(target=_run, args=options, daemon=True)
        self._process.start()

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        """Ends it, if it has not ended."""
        if self._process.is_alive():
            self._process.kill()

    def finished(self, timeout=300):
        """The finished process, with what it wrote to new files as text, in `stdout` and `stderr`."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            self._process.join()
        texts = [path.read_text() if path.is_file() else None for path in map(pathlib.Path, self._output)]
        self._folder.cleanup()
        assert status is not None, f"{self.args} does not end; it said {texts}"
        return subprocess.CompletedProcess(self.args, status, *texts)


def _run(args, output, cwd, env, prepare):
    for number, path in enumerate(output, start=1):
        with open(path, "a") as file:
            os.dup2(file.fileno(), number)
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # It is ignored where tests run in the background.
    if cwd:
        os.chdir(cwd)
    if prepare:
        prepare()
    from tfpipe.cli.main import main

    sys.exit(main(args))


def tfpipe(*arguments, timeout=300, **options):
    """The finished process of a Command, with `stdout` and `stderr` as text."""
    return Command(*arguments, **options).finished(timeout)


def in_a_process(function, *arguments):
    """What `function`, of a module, gives in a process in which TensorFlow is imported and has not computed."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=_FORKED) as pool:
        return pool.submit(function, *arguments).result(timeout=300)


def tfpipe_afresh(*arguments, timeout=300, **options):
    """The finished process of `python -m tfpipe`, with `stdout` and `stderr` as text: nothing is imported before."""
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


def read_until(pattern, file):
    """What is read from a descriptor until `pattern` is in it, as text."""
    said = ""
    while not re.search(pattern, said):
        assert select.select([file], [], [], 60)[0], f"nothing for a minute after {said}"
        said += os.read(file, 1 << 16).decode(errors="replace")
    return said


def result(process):
    """The JSON object on the last line of stdout of a process that succeeded."""
    assert process.returncode == 0, (process.returncode, process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def without_root_rights():
    """Permissions of files hold for this process from now on, even if root started it."""
    if os.geteuid() == 0:
        version, rights = 0x20080522, 1 << 1 | 1 << 2  # To override permissions; to enter and list any folder.
        header = (ctypes.c_uint32 * 2)(version, 0)
        sets = (ctypes.c_uint32 * 6)()  # What is effective, permitted and inherited, 32 bits each; and the next 32.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.capget(header, sets) == 0:
            sets[0] &= ~rights
            sets[1] &= ~rights
            if libc.capset(header, sets) == 0:
                return
        raise OSError(ctypes.get_errno(), "capset")

"""The folder of a run: the names of its files, and that one process at a time has it."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import socket
from collections.abc import Iterator

from tfpipe.disk import files
from tfpipe.exceptions import WorkdirError
from tfpipe.log import log
from tfpipe.text import is_one_line


class Workdir:
    """The paths of a run.

    Attributes:
      path: the folder as it was given, `~` replaced.
      checkpoints: the state of the run, see `checkpoints`.
      flags: every flag of the run, as a flagfile.
      metrics: one JSON object a line, one line a validation.
      tensorboard: event files.
      model: the best model so far, see `artifact`.
      report: the result, as JSON.
      page: the result, as a page with pictures.
      screen: the folder of the run in bfloat16 of a grid that is screened.

    Raises:
      WorkdirError: what is given is no path; an empty one would be the current folder.
    """

    def __init__(self, path: pathlib.Path | str):
        if not str(path).strip():
            raise WorkdirError("workdir", repr(str(path)), "must be a path")
        try:
            self.path = pathlib.Path(path).expanduser()
        except RuntimeError as error:  # Nobody has that name.
            raise WorkdirError(
                "workdir", path, "is in the home of a user who is not there; give another path"
            ) from error
        self.checkpoints = self.path / "checkpoints"
        self.flags = self.path / "flags.txt"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.model = self.path / "model.npz"
        self.report = self.path / "report.json"
        self.page = self.path / "report.html"
        self.screen = self.path / "screen"

    @property
    def absolute(self) -> pathlib.Path:
        """The folder from wherever one looks; links stay."""
        return self.path.absolute()

    def check(self) -> None:
        """Raises WorkdirError if the folder cannot be written, as far as can be told."""
        name = str(self.path)
        if not is_one_line(name) or name != name.strip():
            raise self.error("has characters that flags.txt cannot hold; give a folder with another name")
        there = next(path for path in (self.path, *self.absolute.parents) if path.exists())
        if not there.is_dir():
            raise self.error(f"{there} is a file; give a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise self.error(f"{there} cannot be written; give a folder that can")

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Makes the folder, and keeps other processes out of it as long as this one lives.

        Raises:
          WorkdirError: it cannot be written, or another process has it.
        """
        self.check()
        with self.writing("checkpoints"):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            files.sync(self.path)
            with contextlib.suppress(OSError):  # It need not be ours to open.
                files.sync(self.absolute.parent)
            lock = open(self.checkpoints / "lock", "a+b", buffering=0)
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # The system gives it back, however a process ends.
            except BlockingIOError:
                lock.seek(0)
                holder = " ".join(lock.read(200).decode(errors="replace").split()) or "another process"
                raise self.error(f"is in use by {holder}; wait for its end, or give another workdir") from None
            except OSError as error:  # A file system without locks.
                log.warning("%s cannot be locked: %s; a second run there would not notice", self.path, error)
            with contextlib.suppress(OSError):  # On a full disk the name is missing, and the lock holds all the same.
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            for folder in (self.path, self.checkpoints):
                files.remove_leftovers(folder)
            yield

    def name_files(self) -> list[str]:
        """The names of those files of a run that are there, but for its state."""
        return [path.name for path in self._files() if path.exists()]

    def clear(self) -> None:
        """Removes the files of a run, but for its state.

        Raises:
          OSError: one cannot be removed.
        """
        for path in self._files():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _files(self) -> tuple[pathlib.Path, ...]:
        return self.flags, self.metrics, self.tensorboard, self.model, self.report, self.page, self.screen

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Turns an OSError inside into a WorkdirError that says what could not be written."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise self.error(f"{what} cannot be written: {reason}; when it can, the same command goes on") from error

    def error(self, problem: str) -> WorkdirError:
        """What is wrong with the folder."""
        return WorkdirError("workdir", self.path, problem)

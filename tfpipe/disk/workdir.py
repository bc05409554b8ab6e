"""The folder of a run: the names of its files, and that one process at a time has it."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tfpipe.disk import files, lock
from tfpipe.exceptions import WorkdirError
from tfpipe.stores.address import check_path
from tfpipe.text import is_one_line

if TYPE_CHECKING:
    from tfpipe.disk.mirror import Mirror


class Workdir:
    """The paths of a run.

    Args:
      path: the folder.
      mirror: keeps it on an object store; None: nothing does.
      name: what people know it by; None: the path, or the address of the store.

    Attributes:
      path: the folder as it was given, `~` replaced.
      name: what people know it by.
      is_elsewhere: whether it is kept on an object store, and the folder is only for now.
      checkpoints: the state of the run, see `checkpoints`.
      flags: every flag of the run, as a flagfile.
      metrics: one JSON object a line, one line a validation.
      tensorboard: event files.
      model: the best model so far, see `artifact`.
      report: the result, as JSON.
      page: the result, as a page with pictures.
      screen: the folder of the run in bfloat16 of a grid that is screened.

    Raises:
      ConfigError: it is an address that lost a slash.
      WorkdirError: what is given is no path; an empty one would be the current folder.
    """

    def __init__(self, path: pathlib.Path | str, mirror: "Mirror | None" = None, name: str | None = None):
        if not str(path).strip():
            raise WorkdirError("workdir", repr(str(path)), "must be a path")
        check_path("workdir", str(path))
        try:
            self.path = pathlib.Path(path).expanduser()
        except RuntimeError as error:  # Nobody has that name.
            raise WorkdirError(
                "workdir", path, "is in the home of a user who is not there; give another path"
            ) from error
        self._mirror = mirror
        self.is_elsewhere = name is not None or mirror is not None
        self.name = name or (mirror.name if mirror else str(self.path))
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

    @property
    def full_name(self) -> str:
        """What names it from wherever one looks: the folder, or the address of the store that keeps it."""
        return self.name if self.is_elsewhere else str(self.absolute)

    def shown(self, path: pathlib.Path) -> str:
        """The name of one of its files for people."""
        return f"{self.name}/{path.relative_to(self.path)}" if self.is_elsewhere else str(path)

    def part(self) -> "Workdir":
        """The folder of the run in bfloat16, kept where this one is."""
        return Workdir(self.screen, self._mirror, f"{self.name}/{self.screen.name}" if self.is_elsewhere else None)

    def publish(self, *, ends: bool = False, stops: Callable[[], bool] = lambda: False) -> None:
        """Brings what is there to the store that keeps it, if one does.

        Args:
          ends: whether the run ends.
          stops: whether it is to stop, so that a store which does not answer is not waited for.

        Raises:
          StoreError: the store does not take it; the message says where all is.
          WorkdirError: another process has written there.
        """
        if self._mirror:
            with self.writing("the version for the store"):
                self._mirror.publish(ends=ends, stops=stops)

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
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock.held(self.checkpoints / "lock", str(self.path)))
            except lock.HeldError as error:
                raise self.error(f"is in use by {error}; wait for its end, or give another workdir") from None
            except OSError as error:
                raise self._not_written("checkpoints", error) from error
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
            raise self._not_written(what, error) from error

    def _not_written(self, what: str, error: OSError) -> WorkdirError:
        reason = error.strerror or error
        problem = f"{what} cannot be written: {reason}; when it can, the same command goes on"
        return WorkdirError("workdir", self.path, problem)

    def error(self, problem: str) -> WorkdirError:
        """What is wrong with the run that is there."""
        return WorkdirError("workdir", self.name, problem)

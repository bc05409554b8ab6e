"""The folder of a run: the names of its files, and that it belongs to one run alone."""

import os
import pathlib

from tfpipe.exceptions import WorkdirError


class Workdir:
    """The paths of a run.

    Attributes:
      flags: every flag of the run, as a flagfile.
      metrics: one JSON object a line, one line a validation.
      tensorboard: event files.
      model: the best model so far, see `artifact`.
      report: the result, as JSON.
      page: the result, as a page with pictures.
    """

    def __init__(self, path: pathlib.Path | str):
        self.path = pathlib.Path(path).expanduser()
        self.flags = self.path / "flags.txt"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.model = self.path / "model.npz"
        self.report = self.path / "report.json"
        self.page = self.path / "report.html"

    def check(self) -> None:
        """Raises WorkdirError if the folder holds a run already, or cannot be written as far as can be told."""
        name = str(self.path)
        if not name.isprintable() or name != name.strip():
            raise self._error("has characters that flags.txt cannot hold; give a folder with another name")
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise self._error(f"{there} is a file; give a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise self._error(f"{there} cannot be written; give a folder that can")
        for file in (self.flags, self.metrics, self.tensorboard, self.model, self.report, self.page):
            if file.exists():
                raise self._error(f"holds another run ({file.name}), which is never overwritten; give another workdir")

    def claim(self, flag_lines: list[str]) -> None:
        """Makes the folder and writes `flags.txt`, by which it belongs to this run: `flag_lines` and the workdir.

        Raises:
          WorkdirError: it cannot be written, or holds another run.
        """
        self.check()
        lines = sorted([*flag_lines, f"--workdir={self.path}"])
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Mode x: of two runs that start at once, one fails here.
            with open(self.flags, "xb") as file:
                file.write(data)
        except OSError as error:
            raise self._error(f"cannot be written: {error.strerror}; give another workdir") from error

    def _error(self, problem: str) -> WorkdirError:
        return WorkdirError("workdir", self.path, problem)

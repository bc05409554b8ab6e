"""Begins runs, and dies at each operation on files: python -m tests.kill_points_begin FOLDER. See `kill_points`."""

import sys

import numpy as np

from tests import kill_points
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import WorkdirError
from tfpipe.training.patience import FIELDS
from tfpipe.training.resume import restore_or_begin
from tfpipe.training.state import AT_THE_START, Origin, pack


class Begin:
    """Begins a run in a folder that is not there yet."""

    origin = Origin({"epochs": "3", "patience": "4"}, "data", "abc", (1, 2, 3), {})

    def prepare(self, folder):
        pass

    def save(self, folder):
        self.restore(folder, resume=True)

    def restore(self, folder, *, resume):
        files = Workdir(folder / "run")
        with files.owned():
            return restore_or_begin(files, self.origin, ["--epochs=3"], resume=resume, overwrite=not resume)

    def read(self, folder):
        assert self.restore(folder, resume=True) == AT_THE_START
        assert (folder / "run" / "flags.txt").read_text() == f"--epochs=3\n--workdir={folder}/run\n"
        return "newer"


class Anew(Begin):
    """Begins anew in the folder of another run."""

    def prepare(self, folder):
        self.restore(folder, resume=True)
        numbers = {"test_error": 1, "cost_sum": 1, "count": 1, "b": (1, 2), "best_b": (1, 2)}
        matrices = dict.fromkeys(("W", "W_before", "best_W"), (1, 2, 3))
        arrays = {name: np.ones(shape, np.float32) for name, shape in (numbers | matrices).items()}
        patience = {name: np.zeros(1, dtype) for name, dtype in FIELDS.items()}
        state = AT_THE_START._replace(
            iteration=9, validated=9, arrays=arrays | {"in_grid": np.zeros(1, np.int64)}, patience=patience
        )
        Checkpoints(folder / "run" / "checkpoints").save(10, pack(state, self.origin))
        (folder / "run" / "metrics.jsonl").write_text("{}\n")
        (folder / "run" / "tensorboard").mkdir()
        (folder / "run" / "tensorboard" / "events").write_text("...")
        for name in ("report.json", "model.npz"):
            (folder / "run" / name).write_text("of before")

    def save(self, folder):
        assert self.restore(folder, resume=False) == AT_THE_START

    def read(self, folder):
        try:
            state = self.restore(folder, resume=True)
        except WorkdirError as error:
            return "refused" if "without its state" in str(error) else str(error)
        if state.iteration == 9:
            return "older"
        names = {path.name for path in (folder / "run").iterdir()}
        assert state == AT_THE_START, state
        assert names == {"checkpoints", "flags.txt"}, names
        return "newer"


KINDS = {"begin": Begin, "anew": Anew}

if __name__ == "__main__":
    kill_points.main(KINDS, sys.argv[1])

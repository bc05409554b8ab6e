"""Begins runs, and dies at each operation on files: python -m tests.kill_points_begin FOLDER. See `kill_points`."""

import sys

import numpy as np

from tests import kill_points
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import WorkdirError
from tfpipe.training.identity import RunIdentity, pack
from tfpipe.training.resume import restore_or_begin
from tfpipe.training.state import State

SIZES = 1, 2, 3


class Begin:
    """Begins a run in a folder that is not there yet."""

    identity = RunIdentity({"epochs": "3", "patience": "4"}, "data", "abc", SIZES, {})

    def prepare(self, folder):
        pass

    def save(self, folder):
        self.restore(folder, resume=True)

    def restore(self, folder, *, resume):
        files = Workdir(folder / "run")
        with files.owned():
            return restore_or_begin(
                files, self.identity, ["--epochs=3"], begin=State(),
                check_fits=lambda state: state.check_fits(SIZES, (), {}), resume=resume, overwrite=not resume,
            )  # fmt: skip

    def read(self, folder):
        assert self.restore(folder, resume=True).steps == 0
        assert (folder / "run" / "flags.txt").read_text() == f"--epochs=3\n--workdir={folder}/run\n"
        return "newer"


class Anew(Begin):
    """Begins anew in the folder of another run."""

    def prepare(self, folder):
        self.restore(folder, resume=True)
        W, b, of_head, whole = np.ones((1, 2, 3)), np.ones((1, 2)), np.ones(1), np.zeros(1, np.int64)
        arrays = {"numbers": whole, "W": W, "b": b, "best_W": W, "best_b": b, "test_error": of_head}
        figures = {"best_error": of_head, "best_cost": of_head, "best_steps": whole, "patience": of_head}
        diverged = {"diverged": np.zeros(1, bool), "diverged_at": whole}
        state = State(10, 10, **arrays, **figures, **diverged)
        Checkpoints(folder / "run" / "checkpoints").save(10, pack(state, self.identity))
        (folder / "run" / "metrics.jsonl").write_text("{}\n")
        (folder / "run" / "tensorboard").mkdir()
        (folder / "run" / "tensorboard" / "events").write_text("...")
        for name in ("report.json", "model.npz"):
            (folder / "run" / name).write_text("of before")

    def save(self, folder):
        assert self.restore(folder, resume=False).steps == 0

    def read(self, folder):
        try:
            state = self.restore(folder, resume=True)
        except WorkdirError as error:
            return "refused" if "without its state" in str(error) else str(error)
        if state.steps == 10:
            return "older"
        names = {path.name for path in (folder / "run").iterdir()}
        assert state.steps == 0, state
        assert names == {"checkpoints", "flags.txt"}, names
        return "newer"


KINDS = {"begin": Begin, "anew": Anew}

if __name__ == "__main__":
    kill_points.main(KINDS, sys.argv[1])

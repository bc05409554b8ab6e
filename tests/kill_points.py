"""Saves again and again, and dies at each operation on files: python -m tests.kill_points FOLDER KIND.

Prints one JSON object: the names of the operations, and what could be read after a death before and after each of them:
`older`, `newer`, or `refused`. A program of its own, because it forks: which takes a process with a single thread.
"""

import json
import os
import pathlib
import sys

import numpy as np

from tests import faults
from tfpipe.disk.checkpoints import Checkpoints, Saved
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import WorkdirError
from tfpipe.model import artifact
from tfpipe.training.patience import FIELDS
from tfpipe.training.resume import restore_or_begin
from tfpipe.training.state import AT_THE_START, Origin, pack

KILLED = 9


class States:
    """Saves a state beside two older ones."""

    def prepare(self, folder):
        for number in (5, 10):
            Checkpoints(folder).save(number, self._state(number))

    def save(self, folder):
        Checkpoints(folder).save(20, self._state(20))

    def read(self, folder):
        saved = Checkpoints(folder).load()
        number = saved.facts["number"]
        np.testing.assert_array_equal(saved.arrays["W"], self._state(number).arrays["W"])
        return {10: "older", 20: "newer"}[number]

    def _state(self, number):
        return Saved({"number": number}, {"W": np.full((3, 4), number, np.float32)})


class Models:
    """Replaces a model."""

    def prepare(self, folder):
        artifact.save(folder / "model.npz", self._model(10))

    def save(self, folder):
        artifact.save(folder / "model.npz", self._model(20))

    def read(self, folder):
        model = artifact.load(folder / "model.npz")
        number = int(model.b[0])
        np.testing.assert_array_equal(model.W, self._model(number).W)
        return {10: "older", 20: "newer"}[number]

    def _model(self, number):
        return artifact.TrainedModel(
            np.full((4, 2), number, np.float32), np.full(2, number, np.float32), ("a", "b"), (4,), 1.0, {}
        )


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


KINDS = {"state": States, "model": Models, "begin": Begin, "anew": Anew}


def main(folder, what):
    kind = KINDS[what]()
    folder = pathlib.Path(folder)
    for name in ("first", "counted"):  # The first imports modules from files.
        (folder / name).mkdir()
        kind.prepare(folder / name)
    kind.save(folder / "first")
    with faults.traced(faults.nothing, most=256) as names:
        kind.save(folder / "counted")
    found = {}
    for when in ("before", "after"):
        found[when] = []
        for place in range(len(names)):
            own = folder / f"{when}{place}"
            own.mkdir()
            kind.prepare(own)
            if os.fork() == 0:

                def die(number, name, call, place=place, when=when):
                    if number == place and when == "before":
                        os._exit(KILLED)
                    try:
                        return call()
                    finally:  # Also if there was nothing to unlink.
                        if number == place:
                            os._exit(KILLED)

                with faults.traced(die, most=256):
                    kind.save(own)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == KILLED
            found[when].append(kind.read(own))
            kind.save(own)  # And the next save is not hindered by what is left.
            assert kind.read(own) == "newer"
    print(json.dumps({"operations": names, **found}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Saves again and again, and dies at each operation on files: python -m tests.kill_points FOLDER.

Prints one JSON object, by kind of what is saved: the names of the operations, and what could be read after a death
before and after each of them: `older`, `newer`, or `refused`. A program of its own, because it forks: which takes a
process with a single thread.
"""

import json
import os
import pathlib
import sys

import numpy as np

from tests import faults
from tfpipe.disk.checkpoints import Checkpoints, Saved
from tfpipe.model import artifact

KILLED = 9


class States:
    """Saves a state beside two older ones."""

    def prepare(self, folder):
        for number in (5, 10):
            Checkpoints(folder).save(number, self.state(number))

    def save(self, folder):
        Checkpoints(folder).save(20, self.state(20))

    def read(self, folder):
        saved = Checkpoints(folder).load()
        number = saved.facts["number"]
        np.testing.assert_array_equal(saved.arrays["W"], self.state(number).arrays["W"])
        return {10: "older", 20: "newer"}[number]

    def state(self, number):
        return Saved({"number": number}, {"W": np.full((3, 4), number, np.float32)})


class Models:
    """Replaces a model."""

    def prepare(self, folder):
        artifact.save(folder / "model.npz", self.model(10))

    def save(self, folder):
        artifact.save(folder / "model.npz", self.model(20))

    def read(self, folder):
        model = artifact.load(folder / "model.npz")
        number = int(model.b[0])
        np.testing.assert_array_equal(model.W, self.model(number).W)
        return {10: "older", 20: "newer"}[number]

    def model(self, number):
        return artifact.TrainedModel(
            np.full((4, 2), number, np.float32), np.full(2, number, np.float32), ("a", "b"), (4,), 1.0, {}
        )


KINDS = {"state": States, "model": Models}


def deaths(kind, folder):
    """What is printed of a kind: it has prepare(folder), save(folder), in which the process dies, and read(folder)."""
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
    return {"operations": names, **found}


def main(kinds, folder):
    found = {}
    for name, kind in kinds.items():
        own = pathlib.Path(folder, name)
        own.mkdir()
        found[name] = deaths(kind(), own)
    print(json.dumps(found))


if __name__ == "__main__":
    main(KINDS, sys.argv[1])

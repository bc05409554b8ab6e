"""The Theano tutorial's run on the real MNIST, to the last digit. Needs its IDX files in TFPIPE_MNIST_DIR."""

import functools
import gzip
import json
import os
import pathlib
import pickle
import unittest
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import tfpipe
from tests import oracle
from tests.command import result
from tests.command import tfpipe as command
from tfpipe.compute import cpu
from tfpipe.model import artifact

MNIST = os.environ.get("TFPIPE_MNIST_DIR")
FLAGFILE = pathlib.Path(__file__).parent.parent / "experiments" / "theano_tutorial.flags"

# Wrong predictions among the 9,600 validation examples after these epochs, and the published end of the run.
PATH = {1: 1196, 2: 1057, 10: 840, 30: 771, 69: 723, 70: 721, 71: 722, 72: 721, 73: 720}
EPOCH = 83


@functools.cache
def by_oracle():
    splits = tfpipe.load(MNIST, validation_split=10000, split_order="end")
    parts = ((s.images.reshape(len(s), -1) / 256.0, s.labels) for s in (splits.train, splits.validation, splits.test))
    return oracle.train(*parts, 10, batch_size=600, learning_rate=0.13, drop_remainder=True)


@unittest.skipUnless(MNIST, "TFPIPE_MNIST_DIR names no folder with MNIST's IDX files")
class TutorialTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def assert_is_the_published_run(self, figures):
        self.assertEqual(figures["validation_error"], 720 / 9600)
        self.assertEqual(figures["test_error"], 719 / 9600)
        self.assertEqual(
            (figures["epochs"], figures["iterations"], figures["best_iteration"]), (74, 6141, 73 * EPOCH - 1)
        )

    def assert_follows_the_path(self, workdir, head=0):
        errors = {}
        for line in (workdir / "metrics.jsonl").read_text().splitlines():
            event = json.loads(line)
            self.assertEqual((event["iteration"] + 1) % EPOCH, 0)
            if event["validation_error"][head] is not None:
                errors[event["epoch"]] = round(event["validation_error"][head] * 9600)
        self.assertEqual({epoch: errors[epoch] for epoch in PATH}, PATH)
        self.assertEqual(max(errors), 73)

    def train(self, *arguments):
        workdir = self.folder / "run"
        arguments = (f"--dataset={MNIST}", f"--flagfile={FLAGFILE}", f"--workdir={workdir}", *arguments)
        figures = result(command("train", *arguments))
        self.assert_is_the_published_run(figures)
        self.assertEqual(figures["test_examples"], 9600)
        self.assert_follows_the_path(workdir)
        return workdir

    def test_from_the_idx_files(self):
        self.train()

    @parameterized.parameters(("float32", 5e-6), ("float64", 1e-13))
    @pytest.mark.exhaustive
    def test_its_w_against_numpy(self, precision, most):
        workdir = self.train(f"--precision={precision}")
        expected = by_oracle()
        self.assertEqual((expected.iterations, expected.best_wrong, expected.test_wrong), (6141, 720, 719))
        model = artifact.load(workdir / "model.npz")
        difference = max(np.abs(model.W * 256.0 - expected.W).max(), np.abs(model.b - expected.b).max())
        print(f"W and b in {precision} differ from NumPy's in float64 by {difference:.2g} at most")
        self.assertEqual((model.W.dtype, model.b.dtype), (precision, precision))
        self.assertLess(difference, most)

    @parameterized.parameters(("int8", True), ("float32", False))
    @pytest.mark.exhaustive
    def test_with_both_kinds_of_products(self, products, has_amx):
        splits = tfpipe.load(MNIST, validation_split=10000, split_order="end", pixel_max=256.0)
        config = tfpipe.TrainConfig(
            learning_rate=0.13, shuffle=False, drop_remainder=True, select="error", device="cpu"
        )
        with mock.patch.object(cpu, "has_amx", return_value=has_amx):
            report = tfpipe.train(config, splits).report
        self.assert_is_the_published_run(report)
        self.assertEqual(report["products"], products)

    @pytest.mark.exhaustive
    def test_from_the_tutorials_own_file(self):
        splits = tfpipe.load(MNIST, validation_split=10000, split_order="end")
        content = tuple(
            ((s.images.reshape(len(s), -1) / np.float32(256)), s.labels.astype(np.int64))
            for s in (splits.train, splits.validation, splits.test)
        )
        path = self.folder / "mnist.pkl.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            pickle.dump(content, file, protocol=2)
        workdir = self.folder / "run"
        # Its values are pixel / 256 already: the flagfile's --pixel_max must not divide them again.
        arguments = (f"--dataset={path}", f"--flagfile={FLAGFILE}", f"--workdir={workdir}")
        self.assert_is_the_published_run(result(command("train", *arguments)))
        self.assert_follows_the_path(workdir)

        # The kept model takes the file's own rows.
        model = artifact.load(workdir / "model.npz")
        images, labels = content[2]
        wrong = (images[:9600] @ model.W + model.b).argmax(axis=1) != labels[:9600]
        self.assertEqual(wrong.sum(), 719)

    @pytest.mark.exhaustive
    def test_the_same_head_inside_a_grid_of_8(self):
        workdir = self.folder / "run"
        rates = "--learning_rate=0.01,0.5,0.13,0.05"
        figures = result(
            command(
                "train", f"--dataset={MNIST}", f"--flagfile={FLAGFILE}", rates, "--l2=0,0.0001", "--epochs=80",
                f"--workdir={workdir}",
            )
        )  # fmt: skip
        self.assertEqual(figures["heads"], 8)
        grid = json.loads((workdir / "report.json").read_text())["grid"]
        head = grid[4]
        self.assertEqual((head["learning_rate"], head["l2"]), (0.13, 0.0))
        self.assert_is_the_published_run(head)
        self.assert_follows_the_path(workdir, head=4)


if __name__ == "__main__":
    tf.test.main()

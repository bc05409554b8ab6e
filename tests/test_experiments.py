"""The flagfiles show what their headers promise (the tutorial's has its own test)."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl.testing import absltest

from experiments import fuzz_readers
from tests import made
from tests.command import result, tfpipe

EXPERIMENTS = pathlib.Path(__file__).parent.parent / "experiments"
FORMATS = 37
SAMPLE = 24


class DigitsTest(absltest.TestCase):
    def test_the_first_result(self):
        workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
        figures = result(tfpipe("train", f"--flagfile={EXPERIMENTS / 'digits.flags'}", f"--workdir={workdir}"))
        self.assertEqual((figures["learning_rate"], figures["l2"], figures["heads"]), (0.3, 0.0, 6))
        self.assertAlmostEqual(figures["validation_error"] * 359, 5, delta=1.01)
        self.assertAlmostEqual(figures["test_error"] * 359, 16, delta=1.01)


class FuzzTest(absltest.TestCase):
    def test_some_damaged_files_end_in_an_error_or_a_sound_load(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        formats = list(fuzz_readers.formats(folder))
        self.assertLen(formats, FORMATS)
        for form in formats:
            form.save(form.path, form.data)
            self.assertEqual(fuzz_readers.outcome(form.read), "sound", form.name)
            damaged = list(fuzz_readers.every_cut_and_flip(form.data))
            outcomes = []
            for data in damaged[:: -(-len(damaged) // SAMPLE)]:
                form.save(form.path, data)
                outcomes.append(fuzz_readers.outcome(form.read))
            self.assertGreater(outcomes.count("error"), 5, form.name)

    @pytest.mark.exhaustive
    def test_damaged_files_end_in_an_error_or_a_sound_load(self):
        process = subprocess.run(
            [sys.executable, EXPERIMENTS / "fuzz_readers.py", "20"], capture_output=True, text=True, check=False
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        counts = json.loads(process.stdout)
        self.assertLen(counts["formats"], FORMATS)
        for name, count in counts["formats"].items():
            self.assertGreater(count["errors"], 50, name)
            self.assertGreaterEqual(count["sound"], 1, name)


class OptimumTest(absltest.TestCase):
    @pytest.mark.exhaustive
    def test_all_reach_the_same_objective(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        # So many that they are not separable: scikit-learn's float32 does not get within 1e-4 of a cost near 0.
        made.write_idx_folder(folder, n_train=600)
        program = [sys.executable, EXPERIMENTS / "benchmark_optimum.py", "--rows=600", "--rounds=1"]
        for task in ("--values=one", "--folds=3"):
            process = subprocess.run(
                [*program, task, "tfpipe", "learn"],
                capture_output=True, text=True, check=False, env=os.environ | {"TFPIPE_MNIST_DIR": str(folder)},
            )  # fmt: skip
            self.assertEqual(process.returncode, 0, process.stderr)
            results = json.loads(process.stdout)
            self.assertEqual(results["to_tfpipe"]["tfpipe"], 1)
            objectives = []
            for name in ("tfpipe", "scikit-learn"):
                row = results["contestants"][name]
                self.assertLess(row["above_least"], 1.1e-4)
                objectives.append(row["objectives"])
            np.testing.assert_allclose(*objectives, rtol=1e-4)


if __name__ == "__main__":
    absltest.main()

"""The flagfiles show what their headers promise (the tutorial's has its own test)."""

import json
import pathlib
import subprocess
import sys

from absl.testing import absltest

from tests.command import result, tfpipe

EXPERIMENTS = pathlib.Path(__file__).parent.parent / "experiments"


class DigitsTest(absltest.TestCase):
    def test_the_first_result(self):
        workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
        figures = result(tfpipe("train", f"--flagfile={EXPERIMENTS / 'digits.flags'}", f"--workdir={workdir}"))
        self.assertEqual((figures["learning_rate"], figures["l2"], figures["heads"]), (1.0, 0.0, 6))
        self.assertAlmostEqual(figures["validation_error"] * 359, 14, delta=1.01)
        self.assertAlmostEqual(figures["test_error"] * 359, 37, delta=1.01)


class FuzzTest(absltest.TestCase):
    def test_damaged_files_end_in_an_error_or_a_sound_load(self):
        process = subprocess.run(
            [sys.executable, EXPERIMENTS / "fuzz_readers.py", "20"], capture_output=True, text=True, check=False
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        counts = json.loads(process.stdout)
        self.assertLen(counts["formats"], 19)
        for name, count in counts["formats"].items():
            self.assertGreater(count["errors"], 50, name)
            self.assertGreaterEqual(count["sound"], 1, name)


if __name__ == "__main__":
    absltest.main()

"""The flagfiles show what their headers promise (the tutorial's has its own test)."""

import pathlib

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


if __name__ == "__main__":
    absltest.main()

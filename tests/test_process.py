"""Training in somebody's process: again and again, stopped by Ctrl-C, in threads and in children."""

import gc
import json
import multiprocessing
import os
import pathlib
import signal
import threading
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import made, oracle
from tests.command import python
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.compute import programs
from tfpipe.exceptions import WorkdirError
from tfpipe.training import loop, run_report

BESIDE = loop.Pace(span_validations=1)
MANY_RUNS = """
import json, pathlib
import tfpipe
from tests import made

def resident():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096

config = tfpipe.TrainConfig(batch_size=10, epochs=3, learning_rate=(0.1, 0.3), device="cpu")
sizes = []
for number in range(30):
    splits = made.splits(pixel_max=200.0 + number)
    tfpipe.train(config, splits)
    sizes.append(resident())
print(json.dumps(sizes))
"""


def config(**options):
    default = {"batch_size": 10, "learning_rate": 0.13, "epochs": 4, "shuffle": False, "device": "cpu"}
    return TrainConfig(**(default | options))


def other_splits():
    """Of the shapes of `made.splits()`, with other images, classes and scale."""
    parts = (Examples(*made.images(n, seed=seed)) for seed, n in enumerate((100, 40, 30), start=7))
    changed = (Examples(255 - part.images, (part.labels + 1) % 3) for part in parts)
    return Splits(*changed, class_names=("x", "y", "z"), pixel_max=100.0)


class AgainTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((loop.Pace(),), (BESIDE,))
    def test_a_second_run_on_other_data_makes_no_program_and_is_right(self, pace):
        loop.train(config(l2=0.1), made.splits(), pace=pace)  # With weight decay: then the model is certified too.
        made_before = programs.count()
        for splits, options in (
            (other_splits(), {"learning_rate": 0.02, "l2": 0.01}),
            (made.splits(), {"learning_rate": 0.13, "class_weight": "balanced", "epochs": 2}),
        ):
            report = loop.train(config(**options), splits, pace=pace)
            parts = (made.as_float64(part, splits.pixel_max) for part in (splits.train, splits.validation, splits.test))
            weights = None
            if options.pop("class_weight", None):
                counts = np.bincount(splits.train.labels)
                weights = counts.sum() / (3 * counts)
            expected = oracle.train(*parts, 3, batch_size=10, class_weight=weights, **({"epochs": 4} | options))
            self.assertAllClose(report.model.W * splits.pixel_max, expected.W, rtol=0, atol=1e-6)
            self.assertEqual(report.report["validation_error"], expected.best_wrong / 40)
            self.assertEqual(report.report["test_error"], expected.test_wrong / 30)
        self.assertEqual(programs.count(), made_before)

    @pytest.mark.exhaustive
    def test_a_second_run_with_another_number_of_examples(self):
        loop.train(config(), made.splits(100, 40, 30))
        gc.collect()  # The variables of the first run are gone.
        splits = made.splits(100, 80, 30)
        report = loop.train(config(), splits).report
        parts = (made.as_float64(part, 255.0) for part in (splits.train, splits.validation, splits.test))
        expected = oracle.train(*parts, 3, batch_size=10, learning_rate=0.13, epochs=4)
        self.assertEqual(report["validation_error"], expected.best_wrong / 80)

    @parameterized.parameters(10, 600)
    @pytest.mark.exhaustive
    def test_about_as_many_examples_and_heads_share_programs(self, batch_size):
        options = {"batch_size": batch_size, "epochs": 4}
        loop.train(config(learning_rate=tuple(np.geomspace(0.01, 0.1, 11)), **options), made.splits(95, 38, 31))
        made_before = programs.count()
        loop.train(config(learning_rate=tuple(np.geomspace(0.01, 0.1, 12)), **options), made.splits(94, 40, 30))
        self.assertEqual(programs.count(), made_before)

    def test_a_clock_that_stands_still(self):
        result = loop.train(config(), made.splits(), pace=loop.Pace(clock=lambda: 0.0))
        self.assertEqual(result.report["seconds"], 0.0)

    @pytest.mark.exhaustive
    def test_thirty_runs_take_no_more_memory_than_three(self):
        process = python(MANY_RUNS)
        self.assertEqual(process.returncode, 0, process.stderr)
        sizes = json.loads(process.stdout.splitlines()[-1])
        self.assertLess(sizes[-1] - sizes[2], 50e6)


class StoppedTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
        self.expected = loop.train(config(epochs=30), made.splits(), pace=BESIDE)

    def assert_goes_on(self, result):
        self.assertTrue(result.report["interrupted"])
        self.assertLess(result.report["iterations"], self.expected.report["iterations"])
        self.assertTrue((self.workdir / "model.npz").exists())
        again = loop.train(config(epochs=30), made.splits(), self.workdir, pace=BESIDE)
        self.assertEqual(again.model.W.numpy().tobytes(), self.expected.model.W.numpy().tobytes())
        self.assertEqual(again.report["grid"], self.expected.report["grid"])

    def test_ctrl_c_saves_the_state_and_returns_what_there_is(self):
        looks = []

        def look():
            looks.append(1)
            if len(looks) == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return False

        before = signal.getsignal(signal.SIGINT)
        result = loop.train(config(epochs=30), made.splits(), self.workdir, should_stop=look, pace=BESIDE)
        self.assertIs(signal.getsignal(signal.SIGINT), before)
        self.assert_goes_on(result)

    def test_a_second_one_is_raised(self):
        def look():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return False

        with self.assertRaises(KeyboardInterrupt):
            loop.train(config(), made.splits(), should_stop=look, pace=BESIDE)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    def test_one_that_the_program_raises_itself(self):
        looks = iter(range(100))

        def look():
            if next(looks) == 4:
                raise KeyboardInterrupt
            return False

        self.assert_goes_on(loop.train(config(epochs=30), made.splits(), self.workdir, should_stop=look, pace=BESIDE))

    def test_one_that_comes_after_the_last_look_is_raised_when_all_is_kept(self):
        build = run_report.build

        def interrupted(*arguments, **options):
            os.kill(os.getpid(), signal.SIGINT)
            return build(*arguments, **options)

        with mock.patch.object(run_report, "build", interrupted), self.assertRaises(KeyboardInterrupt):
            loop.train(config(epochs=30), made.splits(), self.workdir, pace=BESIDE)
        again = loop.train(config(epochs=30), made.splits(), self.workdir, pace=BESIDE)
        self.assertFalse(again.report["interrupted"])
        self.assertEqual(again.report["grid"], self.expected.report["grid"])

    def test_in_another_thread(self):
        found = []
        thread = threading.Thread(
            target=lambda: found.append(loop.train(config(epochs=30), made.splits(), pace=BESIDE))
        )
        thread.start()
        thread.join()
        self.assertEqual(found[0].report["grid"], self.expected.report["grid"])

    def test_the_current_folder_is_no_default(self):
        with self.assertRaisesRegex(WorkdirError, "workdir="):
            loop.train(config(), made.splits(), "")


class ForkTest(tf.test.TestCase):
    def test_a_forked_child_says_so_and_does_not_hang(self):
        loop.train(config(epochs=1), made.splits())
        context = multiprocessing.get_context("fork")
        answers = context.Queue()

        def train():
            try:
                loop.train(config(epochs=1), made.splits())
            except Exception as error:
                answers.put(f"{type(error).__name__}: {error}")

        child = context.Process(target=train)
        child.start()
        answer = answers.get(timeout=120)
        child.join()
        self.assertRegex(answer, rf"^ProcessError: this process was forked from process {os.getpid()}, .*'spawn'")


if __name__ == "__main__":
    tf.test.main()

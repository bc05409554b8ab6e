"""A run that was ended, in whatever way, goes on as if nothing had happened."""

import errno
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import faults, made
from tests.command import python, result, tfpipe
from tfpipe import Examples, Splits, TrainConfig, load, monitor
from tfpipe.compute import cpu
from tfpipe.compute.device import Device
from tfpipe.disk import checkpoints, files
from tfpipe.exceptions import OptionError, WorkdirError
from tfpipe.monitor import metrics
from tfpipe.solvers.sgd import Sgd
from tfpipe.training import loop

TIMES = ("seconds", "examples_per_second", "epochs_per_second", "workdir")
# Validations inside epochs, minibatches that are not full, several spans between validations.
OPTIONS = {
    "batch_size": 10, "learning_rate": 0.13, "epochs": 6, "validation_frequency": 7, "device": "cpu",
    "checkpoint_every": 0.0, "select": "error",
}  # fmt: skip
GRID = {"learning_rate": (0.3, 1e38, 0.01, 0.1), "patience": 25}


class Died(BaseException):
    """Stands for the end of the process: what was not on the disk by then is lost."""


def after(spans, end=lambda: True):
    """For `should_stop`: asks for an end when so many spans are trained."""
    calls = iter(range(10**6))
    return lambda: next(calls) == spans and end()


def die():
    raise Died


def config(**options):
    return TrainConfig(**(OPTIONS | options))


# Spans of three minibatches, and a validation after the last of an interval; or spans of two intervals.
BESIDE = loop.Pace(span_bytes=3 * 10 * 16, span_validations=1)
SEVERAL = loop.Pace(span_bytes=2 * 7 * 10 * 16)
# Spans of four minibatches, measured by the core that trains.
FULL = loop.Pace(span_bytes=4 * 10 * 16)
TWO_CORES = Device("/CPU:0", "cpu", programs=2)
# Of which one is left to measure heads beside the training.
MANY_CORES = Device("/CPU:0", "cpu", programs=8)


class ResumeTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.workdir = self.folder / "run"
        self.splits = made.splits()
        self.pace = BESIDE
        self.device = None

    def train(self, should_stop=lambda: False, workdir=None, **options):
        return loop.train(
            config(**options), self.splits, workdir or self.workdir,
            should_stop=should_stop, pace=self.pace, device=self.device,
        )  # fmt: skip

    def assert_same(self, result, expected):
        """Two runs agree, to the bit, in the folders `run` and `whole` and in what they return."""
        self.assertEqual(*((self.folder / name / "model.npz").read_bytes() for name in ("run", "whole")))
        of_run, of_whole = (
            [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
            for name in ("run", "whole")
        )
        self.assertEqual([without_times(line) for line in of_run], [without_times(line) for line in of_whole])
        seconds = [line["seconds"] for line in of_run]
        self.assertEqual(seconds, sorted(seconds))
        reports = [json.loads((self.folder / name / "report.json").read_text()) for name in ("run", "whole")]
        self.assertEqual(*map(without_times, reports))
        self.assertEqual(*(without_times(r.report) for r in (result, expected)))
        self.assertEqual(result.model.W.numpy().tobytes(), expected.model.W.numpy().tobytes())
        self.assertLen(result.history, len(expected.history))
        for mine, other in zip(result.history, expected.history, strict=True):
            mine, other = (event._asdict() | dict(event.reports) for event in (mine, other))
            self.assertEqual(mine.keys(), other.keys())
            for name, value in mine.items():
                if name not in (*TIMES, "reports"):
                    np.testing.assert_array_equal(value, other[name], name)
        self.assertEqual(*(curves(self.folder / name / "tensorboard") for name in ("run", "whole")))

    @pytest.mark.exhaustive
    def test_a_run_that_is_stopped_again_and_again(self):
        self.assert_goes_on_again_and_again(GRID, SEVERAL)

    @parameterized.named_parameters(
        ("shuffled", {"seed": 3}, BESIDE),
        ("in_order", {"shuffle": False}, BESIDE),
        ("until_patience_ends", {"patience": 16, "patience_increase": 1.5, "learning_rate": 0.02}, BESIDE),
        ("grid", GRID, BESIDE),
        ("float64", {"precision": "float64", "learning_rate": (0.1, 0.2)}, BESIDE),
        ("by_balanced_errors", GRID | {"select": "balanced_error"}, BESIDE),
        ("several_by_balanced_errors", GRID | {"select": "balanced_error"}, SEVERAL),
        ("every_core_trains", GRID, FULL),
        ("several_until_patience_ends", {"patience": 16, "patience_increase": 1.5, "learning_rate": 0.02}, SEVERAL),
    )
    @pytest.mark.exhaustive
    def test_every_run_that_is_stopped_again_and_again(self, options, pace):
        self.assert_goes_on_again_and_again(options, pace)

    def assert_goes_on_again_and_again(self, options, pace):
        self.pace = pace
        self.device = TWO_CORES if pace is FULL else MANY_CORES
        spans = 2 if pace is SEVERAL else 9
        with made.told_of_validations() as are_beside:
            expected = self.train(workdir=self.folder / "whole", **options)
        self.assertEqual(any(are_beside), pace is not FULL)
        parts = [result := self.train(after(spans), **options)]
        while result.report["interrupted"]:
            parts.append(result := self.train(after(spans), **options))
        self.assertGreater(len(parts), 1)
        self.assert_same(result, expected)

    @parameterized.parameters(
        {"learning_rate": (0.02, 0.1, 0.3), "precision": "float64"}, {"learning_rate": 0.02, "patience": 20}
    )
    def test_states_change_nothing_where_patience_ends_in_a_span(self, **options):
        # In float64 sums of costs tell by their last bits where spans are cut.
        self.pace, self.device = SEVERAL, MANY_CORES
        options = {"patience": 17, "patience_increase": 3.0, "epochs": 12, "checkpoint_every": 1e9} | options
        expected = self.train(workdir=self.folder / "whole", **options)
        while (result := self.train(after(1), **options)).report["interrupted"]:
            pass
        self.assert_same(result, expected)

    def test_a_head_diverges_when_the_others_have_ended(self):
        parts = []
        for seed, n in ((1, 1000), (2, 40), (3, 30)):
            pixels, labels = made.images(n, (4, 6), 3, seed)
            parts.append(Examples((pixels / 255).astype(np.float32), labels))
        parts[0].images[600:610] = 3e38 * np.sign(np.random.default_rng(0).normal(size=(10, 4, 6)))
        self.splits = Splits(*parts, class_names=("a", "b", "c"), pixel_max=1.0)
        self.pace, self.device = loop.Pace(span_bytes=8 * 10 * 16), MANY_CORES
        options = {
            "validation_frequency": 2, "patience": 10, "patience_increase": 20.0, "improvement_threshold": 1.0,
            "shuffle": False, "learning_rate": (2e-38, 0.1), "epochs": 1, "checkpoint_every": 1e9, "select": "cost",
        }  # fmt: skip
        expected = self.train(workdir=self.folder / "whole", **options)
        self.assertEqual([row["diverged"] for row in expected.report["grid"]], [False, True])
        self.assertLess(expected.history[-1].iteration, 70)
        while (result := self.train(after(1), **options)).report["interrupted"]:
            pass
        self.assert_same(result, expected)

    @parameterized.parameters((MANY_CORES,), (TWO_CORES,))
    def test_a_validation_that_is_due_in_a_state_is_made_first(self, device):
        # States of older versions were taken before it.
        self.pace, self.device = loop.Pace(span_validations=1), device
        options = {"learning_rate": (0.02, 0.1, 0.3), "checkpoint_every": 1e9}
        expected = self.train(workdir=self.folder / "whole", **options)
        states = []
        for spans in (0, 1):
            self.train(after(spans), **options)
            newest = max((self.workdir / "checkpoints").glob("*.npz"))
            states.append(checkpoints.decode("here", newest.read_bytes()))
        earlier, now = states
        arrays = {name: array for name, array in now.arrays.items() if name in ("W", "b", "numbers") or "." in name}
        old = now._replace(facts=earlier.facts | {"steps": 7}, arrays=earlier.arrays | arrays)
        self.assertEqual((earlier.facts["steps"], now.facts["steps"], now.facts["validated"]), (0, 7, 7))
        newest.write_bytes(checkpoints.encode(old))
        self.assert_same(self.train(**options), expected)

    @parameterized.parameters((BESIDE, 8), (SEVERAL, 2))
    @pytest.mark.exhaustive
    def test_heads_that_left_the_others_stay_away(self, pace, spans):
        self.pace = pace._replace(flops_worth_leaving=1.0)
        options = {"learning_rate": (0.3, 1e38, 0.01, 0.1), "l2": (0.0, 0.01), "patience": 20, "epochs": 12}
        expected = self.train(workdir=self.folder / "whole", **options)
        with self.assertLogs("absl", "INFO") as log:
            while True:
                result = self.train(after(spans), **options)
                if not result.report["interrupted"]:
                    break
        self.assertRegex("\n".join(log.output), "heads have stopped")
        self.assertRegex("\n".join(log.output), r"[1-4] heads? in \d programs?")
        self.assert_same(result, expected)

    def test_a_run_that_dies(self):
        self.assert_goes_on_after_death(5, BESIDE)

    @parameterized.parameters((0, BESIDE), (1, BESIDE), (2, SEVERAL))
    @pytest.mark.exhaustive
    def test_a_run_that_dies_earlier(self, spans, pace):
        self.assert_goes_on_after_death(spans, pace)

    def assert_goes_on_after_death(self, spans, pace):
        self.pace = pace
        expected = self.train(workdir=self.folder / "whole", **GRID)
        with self.assertRaises(Died):
            self.train(after(spans, die), **GRID)
        # As if all states since some time had not been there yet, while lines and events had.
        newest = max((self.workdir / "checkpoints").glob("*.npz"))
        if spans == 5:
            newest.unlink()
        result = self.train(**GRID)
        self.assert_same(result, expected)

    def test_a_run_that_dies_before_it_has_saved_anything_begins_again(self):
        expected = self.train(workdir=self.folder / "whole", checkpoint_every=1e9)
        with self.assertRaises(Died):
            self.train(after(6, die), checkpoint_every=1e9)
        self.assertNotEmpty((self.workdir / "metrics.jsonl").read_text())
        self.assert_same(self.train(checkpoint_every=1e9), expected)

    def test_a_finished_run_gives_its_result_and_trains_nothing(self):
        expected = self.train()
        before = contents(self.workdir)

        class Idle(Sgd):
            def advance(self, *arguments):
                raise AssertionError

        with self.assertLogs("absl", "INFO") as log:
            result = loop.train(config(), self.splits, self.workdir, solver=Idle, pace=self.pace)
        self.assertRegex(log.output[-1], "run: the run is finished; with more --epochs or --patience it would go on")
        self.assertEqual(result.report, expected.report)
        self.assertEqual(result.model.W.numpy().tobytes(), expected.model.W.numpy().tobytes())
        self.assertEqual(result.model.b.numpy().tobytes(), expected.model.b.numpy().tobytes())
        self.assertLen(result.history, len(expected.history))
        self.assertEqual(contents(self.workdir), before)

    def test_what_a_finished_run_lost_is_made_again(self):
        expected = self.train(workdir=self.folder / "whole")
        self.train()
        for name in ("report.json", "model.npz"):
            (self.workdir / name).write_bytes(b"PK")
            self.assert_same(self.train(), expected)
        (self.workdir / "metrics.jsonl").write_text("{}\n")
        with self.assertLogs("absl", "WARNING") as log:
            self.train()
        self.assertRegex(log.output[0], r"metrics.jsonl: line 1 is no validation: .*; what follows is cut off")
        self.assertRegex(log.output[1], r"metrics.jsonl: validations before iteration \d+ are missing")

    def test_patience_may_be_raised(self):
        # Ends in the middle of an epoch, and of an interval.
        self.assert_may_be_raised({"patience": 16, "learning_rate": 1e-4}, {"patience": 40, "learning_rate": 1e-4})

    @pytest.mark.exhaustive
    def test_epochs_may_be_raised(self):
        self.assert_may_be_raised({"epochs": 3}, {"epochs": 6})

    def assert_may_be_raised(self, first, second):
        expected = self.train(workdir=self.folder / "whole", **second)
        shorter = self.train(**first)
        self.assertLess(shorter.report["iterations"], expected.report["iterations"])
        result = self.train(**second)
        for mine, other in zip(result.history, expected.history, strict=True):
            self.assertEqual(mine.iteration, other.iteration)
            self.assertAllEqual(mine.validation_cost, other.validation_cost)
        self.assertEqual(result.report["iterations"], expected.report["iterations"])
        self.assertEqual(result.model.W.numpy().tobytes(), expected.model.W.numpy().tobytes())
        self.assertIn(f"--epochs={config(**second).epochs}", (self.workdir / "flags.txt").read_text().splitlines())
        with self.assertRaisesRegex(WorkdirError, r"holds a run with \w+=\d+, which may be raised but not be \d+"):
            self.train(**first)

    def test_more_patience_that_would_change_the_validations_is_refused(self):
        self.train(after(2), validation_frequency=0, patience=11)
        with self.assertRaisesRegex(WorkdirError, "holds a run with validation_frequency=5, not 10;"):
            self.train(validation_frequency=0, patience=30)
        self.train(validation_frequency=5, patience=30)

    def test_heads_that_patience_stopped_long_ago_stay_as_they_are(self):
        options = {"learning_rate": (1e-4, 0.3), "patience_increase": 3.0, "epochs": 50}
        heads = self.train(patience=20, **options).report["grid"]
        self.assertLess(heads[1]["iterations"], heads[0]["iterations"])
        more = self.train(patience=300, **options).report["grid"]
        self.assertEqual(more[1], heads[1])
        self.assertEqual(more[0]["iterations"], 301)

    def test_another_run_is_refused_and_what_is_there_stays(self):
        self.train(after(2), l2=(0.0, 0.1))
        before = contents(self.workdir)
        for changes, message in (
            ({"seed": 1}, "seed=0, not 1;"),
            ({"l2": (0.0, 0.2), "batch_size": 11}, "l2=0.0,0.1, not 0.0,0.2; batch_size=10, not 11;"),
            ({"epochs": 5}, "epochs=6, which may be raised but not be 5;"),
        ):
            with self.assertRaisesRegex(
                WorkdirError, f"holds a run with {message} give another workdir, or --noresume"
            ):
                self.train(**({"l2": (0.0, 0.1)} | changes))
        images = self.splits.train.images
        images[0, 0, 0] ^= 1
        self.splits = made.splits()
        self.splits.train.images[5, 1, 1] ^= 1
        with self.assertRaisesRegex(WorkdirError, "holds a run with other values in the same form of data"):
            self.train(l2=(0.0, 0.1))
        self.splits = made.splits(n_train=99)
        with self.assertRaisesRegex(WorkdirError, "holds a run with 100 training, .*, not 99 training"):
            self.train(l2=(0.0, 0.1))
        self.assertEqual(contents(self.workdir), before)

    def test_a_run_from_before_there_was_another_solver_goes_on(self):
        expected = self.train(workdir=self.folder / "whole").report["grid"]
        self.train(after(2))
        # As it was kept then: without what there is to choose now.
        states = checkpoints.Checkpoints(self.workdir / "checkpoints")
        saved = states.load()
        identity = saved.facts["identity"]
        new = ("select", "max_iter", "tolerance", "folds", "refit")
        settings = {name: value for name, value in identity["settings"].items() if name not in new}
        facts = saved.facts | {"identity": identity | {"settings": settings}}
        arrays = {name: array for name, array in saved.arrays.items() if name != "best_balanced_error"}
        states.save(saved.facts["steps"], saved._replace(facts=facts, arrays=arrays))
        with self.assertRaisesRegex(WorkdirError, "holds a run with select=error, not cost; give another workdir"):
            self.train(select=None)
        self.assertEqual(self.train().report["grid"], expected)

    @pytest.mark.exhaustive
    def test_the_same_rows_are_drawn_when_it_goes_on(self):
        images, labels = made.images(120)
        np.savez(self.folder / "data.npz", images=images, labels=np.sort(labels))

        def train(workdir, epochs, **options):
            self.splits = load(self.folder / "data.npz", **options)
            return self.train(workdir=self.folder / workdir, epochs=epochs)

        expected = train("whole", 4)
        train("run", 2)
        result = train("run", 4)
        self.assertEqual(result.model.W.numpy().tobytes(), expected.model.W.numpy().tobytes())
        for options, how in (({"split_seed": 1}, "drawn by split_seed=1"), ({"split_order": "end"}, "from the end")):
            message = (
                f"3 classes; validation and test drawn by split_seed=0, not 72 training.* test {how}; give another"
            )
            with self.assertRaisesRegex(WorkdirError, message):
                train("run", 4, **options)
        self.splits = load(self.folder / "data.npz")
        with self.assertRaisesRegex(WorkdirError, "holds a run with seed=0, not 1; give another workdir"):
            self.train(epochs=4, seed=1)

    def test_what_changes_no_figure_may_change(self):
        expected = self.train(workdir=self.folder / "whole")
        self.train(after(4), tensorboard=False)
        result = self.train(checkpoint_every=3.0)
        self.assertEqual(result.model.W.numpy().tobytes(), expected.model.W.numpy().tobytes())

    def test_another_machine_is_said(self):
        self.train(after(2))
        with (
            mock.patch.object(cpu, "cores", return_value=17),
            self.assertLogs("absl", "WARNING") as log,
        ):
            self.train(after(1))
        self.assertRegex(log.output[0], r"goes on with cores \d+, now 17, .*as good, but not the same to the bit")

    def test_to_begin_anew_must_be_said_twice(self):
        self.train(after(2), seed=1)
        before = contents(self.workdir)
        with self.assertRaisesRegex(WorkdirError, r"holds a run \(flags.txt\), and --noresume would begin anew"):
            loop.train(config(), self.splits, self.workdir, resume=False, pace=self.pace)
        self.assertEqual(contents(self.workdir), before)
        expected = self.train(workdir=self.folder / "whole")
        result = loop.train(config(), self.splits, self.workdir, resume=False, overwrite=True, pace=self.pace)
        self.assert_same(result, expected)

    def test_a_run_without_its_state_is_refused(self):
        self.train(after(2))
        for path in (self.workdir / "checkpoints").glob("*.npz"):
            path.unlink()
        with self.assertRaisesRegex(WorkdirError, r"holds a run \(flags.txt\) without its state; give another workdir"):
            self.train()

    def test_a_damaged_state_is_put_aside_and_the_older_one_used(self):
        expected = self.train(workdir=self.folder / "whole")
        self.train(after(9))
        older, newer = sorted((self.workdir / "checkpoints").glob("*.npz"))
        newer.write_bytes(newer.read_bytes()[:-1])
        with self.assertLogs("absl", "INFO") as log:
            result = self.train()
        self.assertRegex("\n".join(log.output), rf"{newer.name}: damaged: .*; put aside as {newer.name}.damaged")
        self.assertRegex("\n".join(log.output), f"goes on after iteration {int(older.stem) - 1}, ")
        self.assert_same(result, expected)

    def test_if_every_state_is_damaged_it_is_refused(self):
        self.train(after(9))
        for path in (self.workdir / "checkpoints").glob("*.npz"):
            path.write_bytes(b"")
        with self.assertRaisesRegex(WorkdirError, "the state of the run is damaged, and no older one is left; .*anew"):
            self.train()

    def test_a_state_of_other_arrays_is_refused(self):
        self.train(after(4), **GRID)
        path = max((self.workdir / "checkpoints").glob("*.npz"))
        before = watched(self.workdir)
        saved = checkpoints.decode("", path.read_bytes())
        for changes in (
            {"W": np.zeros((1, 3, 24), np.float32)},
            {"numbers": np.array([0, 1, 2, 9])},
            {"numbers": np.array([0.0, 1, 2, 3])},
            {"numbers": np.zeros((1, 4), np.int64)},
            {"best_b": np.array(["a"])},
            {"best_error": np.zeros(5)},
            {"diverged": np.zeros(4)},
            {"more": np.zeros(4)},
            {"slots.more": np.zeros(4)},
            {"slots.cost_sum": np.zeros(5)},
            {"reports.cost": np.zeros((4, 4))},
        ):
            files.write_whole(path, checkpoints.encode(saved._replace(arrays=saved.arrays | changes)))
            with self.assertRaisesRegex(WorkdirError, "the state|not the state"):
                self.train(**GRID)
        arrays = {name: array for name, array in saved.arrays.items() if name != "best_W"}
        files.write_whole(path, checkpoints.encode(saved._replace(arrays=arrays)))
        with self.assertRaisesRegex(WorkdirError, "the arrays of the state are not those of 4 heads"):
            self.train(**GRID)
        written, identity = (saved.facts[name] for name in ("written", "identity"))
        events = {"../../run": 0}, {"/etc/passwd": 0}, {"train/x": -1}, {"train/x": 1.5}, []
        for changes in (
            {"steps": "4"}, {"steps": 10**30}, {"steps": -7}, {"validated": 10**9}, {"seconds": -1.0},
            {"x": 0}, {"written": None}, {"written": {"events": {}}}, {"written": written | {"last_model": "ab"}},
            *({"written": written | {"events": paths}} for paths in events),
            {"identity": None}, {"identity": identity | {"settings": identity["settings"] | {"epochs": [1]}}},
            {"identity": identity | {"sizes": [1, 2]}}, {"identity": identity | {"machine": "mine"}},
        ):  # fmt: skip
            files.write_whole(path, checkpoints.encode(saved._replace(facts=saved.facts | changes)))
            with self.assertRaisesRegex(WorkdirError, "not the state of a run"):
                self.train(**GRID)
        settings = identity["settings"] | {"epochs": "many"}
        changed = saved.facts | {"identity": identity | {"settings": settings}}
        files.write_whole(path, checkpoints.encode(saved._replace(facts=changed)))
        with self.assertRaisesRegex(WorkdirError, "holds a run with epochs=many, not 6;"):
            self.train(**GRID)
        self.assertEqual(watched(self.workdir), before)

    def test_a_state_of_the_version_before_is_refused_and_stays(self):
        self.train(after(4))
        path = max((self.workdir / "checkpoints").glob("*.npz"))
        saved = checkpoints.decode("", path.read_bytes())
        old = checkpoints.encode(saved._replace(facts={"format_version": 1, "iteration": 9, "validated": 6}))
        files.write_whole(path, old)
        message = f"{path.name}: a state of format version 1; this program reads 2; give another workdir, or --noresume"
        with self.assertRaisesRegex(WorkdirError, message):
            self.train()
        self.assertEqual(path.read_bytes(), old)

    def test_lines_that_are_missing_are_said(self):
        self.train(after(9))
        metrics = self.workdir / "metrics.jsonl"
        metrics.write_bytes(metrics.read_bytes().splitlines(keepends=True)[0])
        with self.assertLogs("absl", "WARNING") as log:
            self.train()
        self.assertRegex("\n".join(log.output), r"metrics.jsonl: validations before iteration \d+ are missing")

    def test_one_process_at_a_time(self):
        program = (
            "import sys, tfpipe.disk.workdir\n"
            f"with tfpipe.disk.workdir.Workdir({str(self.workdir)!r}).owned():\n"
            "    print('there', flush=True); sys.stdin.read()"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(holder.communicate)
        self.assertEqual(holder.stdout.readline(), "there\n")
        with self.assertRaisesRegex(
            WorkdirError, f"is in use by process {holder.pid} on .*; wait for its end, or give"
        ):
            self.train()
        holder.kill()
        holder.wait()
        self.train(after(0))  # The lock has died with its process.

    @parameterized.parameters(errno.ENOSPC, errno.EIO)
    def test_a_state_that_cannot_be_written_ends_the_run_and_it_goes_on_later(self, number):
        expected = self.train(workdir=self.folder / "whole")
        save, saves = checkpoints.Checkpoints.save, iter(range(100))

        def fail(checkpoints, *arguments):
            if next(saves) >= 3:
                raise OSError(number, os.strerror(number))
            save(checkpoints, *arguments)

        with mock.patch.object(checkpoints.Checkpoints, "save", fail):
            for _ in range(2):
                with self.assertRaisesRegex(
                    WorkdirError, rf"run: the state \(\d kB\) cannot be written: {os.strerror(number)}; when it can"
                ):
                    self.train()
        self.assert_same(self.train(), expected)

    @parameterized.parameters("model.npz", "report.json")
    def test_a_result_that_cannot_be_written_is_made_later(self, name):
        expected = self.train(workdir=self.folder / "whole")
        write = files.write_whole

        def fail(path, data):
            if path.name == name:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, data)

        with (
            mock.patch.object(files, "write_whole", fail),
            self.assertRaisesRegex(WorkdirError, f"{name} cannot be written: No space left on device; when it can"),
        ):
            self.train()
        self.assert_same(self.train(), expected)

    def test_lines_that_cannot_be_written_now_are_written_later(self):
        expected = self.train(workdir=self.folder / "whole")
        opened = []

        class Full:
            """A disk that takes a part, then nothing for a while."""

            def __init__(self, path, mode, buffering):
                self._file = open(path, mode, buffering=buffering)
                self._writes = 0
                opened.append(self)

            def write(self, data):
                self._writes += 1
                if not 4 < self._writes < 8:
                    return self._file.write(data[:100])
                raise OSError(errno.ENOSPC, "No space left on device")

            def __getattr__(self, name):
                return getattr(self._file, name)

        with (
            mock.patch.object(metrics, "open", Full, create=True),
            self.assertLogs("absl", "WARNING") as log,
        ):
            result = self.train()
        self.assertLen(opened, 1)
        self.assertLen([line for line in log.output if "metrics.jsonl" in line], 1)
        self.assertRegex(log.output[0], "metrics.jsonl of the workdir cannot be written: No space left on device")
        self.assertLen((self.workdir / "metrics.jsonl").read_text().splitlines(), len(expected.history))
        self.assert_same(result, expected)

    def test_lines_that_waited_for_the_disk_when_the_run_ended_are_not_lost(self):
        expected = self.train(workdir=self.folder / "whole")
        full = OSError(errno.ENOSPC, "No space left on device")
        flush, close = metrics.MetricsFile.flush, metrics.MetricsFile.close
        room = threading.Event()

        def flush_if_there_is_room(file):
            if not room.is_set():
                raise full
            flush(file)

        def close_with_room(file):  # There is some again at the very end.
            room.set()
            close(file)

        with (
            mock.patch.object(metrics.MetricsFile, "flush", flush_if_there_is_room),
            mock.patch.object(metrics.MetricsFile, "close", close_with_room),
        ):
            self.train(after(9))
        self.assert_same(self.train(), expected)

    @pytest.mark.exhaustive
    def test_pictures_are_not_shown_twice(self):
        self.pace = BESIDE._replace(monitor=monitor.DrawingPace(pause=0.0, share=1e9, growth=0.0))
        while self.train(after(9), epochs=8, learning_rate=0.02).report["interrupted"]:
            pass
        events = EventAccumulator(str(self.workdir / "tensorboard" / "train"), {"tensors": 0}).Reload()
        steps = [event.step for event in events.Tensors("weights/W")]
        self.assertEqual(steps, sorted(set(steps)))
        models = [event.tensor_proto.SerializeToString() for event in events.Tensors("weights/W")]
        self.assertLen(set(models), len(models))
        for tag in ("flags", "data"):
            self.assertLen(events.Tensors(tag), 1)

    def test_event_files_that_lost_something_are_said(self):
        self.train(after(9))
        for path in (self.workdir / "tensorboard").rglob("events.*"):
            os.truncate(path, 10)
        with self.assertLogs("absl", "WARNING") as log:
            self.train(after(1))
        self.assertRegex(log.output[0], r"events.out.tfevents.*: holds less than it did: .* gaps")

    @pytest.mark.exhaustive
    def test_a_bad_sector_is_damage(self):
        expected = self.train(workdir=self.folder / "whole")
        self.train(after(9))
        newest = max((self.workdir / "checkpoints").glob("*.npz"))
        read = pathlib.Path.read_bytes

        def fail(path):
            if path == newest:
                raise OSError(errno.EIO, "Input/output error")
            return read(path)

        with mock.patch.object(pathlib.Path, "read_bytes", fail), self.assertLogs("absl", "WARNING") as log:
            result = self.train()
        self.assertRegex(log.output[0], rf"{newest.name}: damaged: Input/output error; put aside")
        self.assert_same(result, expected)

    @pytest.mark.exhaustive
    def test_the_disk_may_be_full_from_any_moment_on(self):
        expected = self.train(workdir=self.folder / "whole")
        for spans in (None, 0, 4, 9, 16):  # None: before the run begins.
            shutil.rmtree(self.workdir, ignore_errors=True)
            is_full = threading.Event()
            if spans is None:
                is_full.set()

            def fail_if_full(number, name, call, is_full=is_full):
                if is_full.is_set() and name in ("write", "replace"):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return call()

            with (
                faults.traced(fail_if_full),
                self.assertRaisesRegex(WorkdirError, "run: .* cannot be written: No space left on device; when it can"),
            ):
                self.train(after(spans, is_full.set))
            self.assert_same(self.train(), expected)

    def test_a_state_is_kept_as_often_as_asked(self):
        seconds, kept = [0.0], []
        saved = threading.Event()

        def look():
            if seconds[0] and seconds[0] % 5 == 0:  # The span before began to save a state.
                self.assertTrue(saved.wait(timeout=600))
                saved.clear()
            seconds[0] += 1.0
            return False

        def count(_, number, saved_state):
            kept.append((seconds[0], number))
            if number:  # Nobody waits for that of the beginning.
                saved.set()

        self.pace = BESIDE._replace(clock=lambda: seconds[0])
        with mock.patch.object(checkpoints.Checkpoints, "save", count):
            self.train(look, checkpoint_every=5.0, learning_rate=1e-6)
        *regular, last = kept[1:]  # The first one is of the beginning.
        self.assertEqual([at for at, _ in regular], [5.0 * n for n in range(1, 1 + len(regular))])
        self.assertEqual(last[1], 60)
        self.assertGreater(len(regular), 2)

    def test_lines_and_events_are_on_the_disk_before_the_state_that_counts_them(self):
        calls = []
        sync, write = files.sync, files.write_whole

        def traced_sync(path):
            if path.is_file():
                calls.append((path.relative_to(self.workdir).parts[0], path.stat().st_size))
                sync(path)

        def traced_write(path, data):
            if path.parent.name == "checkpoints" and path.stem != "0" * 12:
                written = checkpoints.decode("", bytes(data)).facts["written"]
                expected = [("metrics.jsonl", 0)]
                expected += [("tensorboard", size) for size in written["events"].values()]
                for (what, synced), (kind, counted) in zip(calls, expected, strict=True):
                    self.assertEqual(what, kind)
                    self.assertGreaterEqual(synced, counted)
                self.assertNotEmpty(written["events"])
                calls.clear()
            write(path, data)

        with mock.patch.object(files, "sync", traced_sync), mock.patch.object(files, "write_whole", traced_write):
            self.train()

    def test_a_profile_needs_a_folder(self):
        with self.assertRaisesRegex(OptionError, "profile=True: has no workdir to be written to"):
            loop.train(config(profile=True), self.splits)


class CommandTest(tf.test.TestCase):
    @pytest.mark.exhaustive
    def test_a_disk_that_is_really_full(self):
        # No file may grow beyond 20 kB, and the state has more.
        folder = pathlib.Path(self.create_tempdir().full_path)
        images, labels = made.images(200, (30, 30))
        np.savez(folder / "data.npz", images=images, labels=labels)
        flags = f"'--dataset={folder}/data.npz', '--epochs=100', '--batch_size=20', '--checkpoint_every=0'"
        program = (
            "import {}; from tfpipe.cli.main import main; {}; main(['tfpipe', 'train', " + flags + ", '--workdir={}'])"
        )
        limit = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {}))"
        process = python(program.format("resource, signal", limit.format("-1"), folder / "run"))
        self.assertEqual(process.returncode, 1)
        self.assertRegex(
            process.stderr.splitlines()[-1],
            rf"^tfpipe train: --workdir={folder}/run: the state \(2\d kB\) cannot be written: File too large; when it "
            "can, the same command goes on$",
        )
        self.assertEqual(process.stdout, "")
        for name in ("run", "whole"):
            process = python(program.format("os", "0", folder / name))
            self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(*((folder / name / "model.npz").read_bytes() for name in ("run", "whole")))

    @pytest.mark.exhaustive
    def test_a_signal_saves_the_state_and_the_command_that_is_told_goes_on(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        flags = ("train", "--notensorboard", "--epochs=700", "--patience=1000000", "--checkpoint_every=1000")
        whole = result(tfpipe(*flags, f"--workdir={folder}/whole"))
        process = subprocess.Popen(
            [sys.executable, "-m", "tfpipe", *flags, f"--workdir={folder}/my run"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(process.kill)
        next(line for line in process.stderr if re.search(r"epoch \d+/", line))
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143, stderr)
        summary = json.loads(stdout.splitlines()[-1])
        self.assertTrue(summary["interrupted"])
        self.assertLess(summary["iterations"], whole["iterations"])
        states = sorted(path.name for path in (folder / "my run" / "checkpoints").glob("*.npz"))
        self.assertEqual(states, ["0" * 12 + ".npz", f"{summary['iterations']:012d}.npz"])

        (command,) = re.findall("to go on: tfpipe (.*)", stderr)
        process = tfpipe(*shlex.split(command))
        self.assertIn(f"goes on after iteration {summary['iterations'] - 1}, ", process.stderr)
        again = result(process)
        self.assertFalse(again["interrupted"])
        self.assertEqual(again["iterations"], whole["iterations"])
        self.assertEqual(*((folder / name / "model.npz").read_bytes() for name in ("my run", "whole")))

    @pytest.mark.exhaustive
    def test_twenty_kills_change_nothing(self):
        self.assert_kills_change_nothing("sgd", 20)

    @pytest.mark.exhaustive
    def test_ten_kills_of_a_search_change_nothing(self):
        kills = self.assert_kills_change_nothing("lbfgs", 10)
        self.assertGreaterEqual(kills["inside_descents"], 3)

    def assert_kills_change_nothing(self, solver, count):
        torture = pathlib.Path(__file__).parent.parent / "experiments" / "torture.py"
        process = subprocess.run(
            [sys.executable, torture, f"--solver={solver}", "--dataset=digits", f"--kills={count}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.assertEqual(process.returncode, 0, process.stderr)
        counts = json.loads(process.stdout)
        kills = counts["kills"]
        self.assertEqual(kills["starting"] + kills["training"], count)
        self.assertGreaterEqual(kills["training"], count // 2)
        self.assertEqual(counts["differences"], 0)
        return kills


def without_times(fields):
    return {name: value for name, value in fields.items() if name not in TIMES}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def watched(folder):
    return contents(folder / "tensorboard") | {"metrics.jsonl": (folder / "metrics.jsonl").read_bytes()}


def curves(folder):
    """All scalars, by run and tag: steps and values."""
    found = {}
    for name in ("train", "validation", "test", "lowest", "highest"):
        if (folder / name).exists():
            events = EventAccumulator(str(folder / name), {"tensors": 0}).Reload()
            for tag in set(events.Tags()["tensors"]) - {"training/examples_per_second"}:
                if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
                    points = [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in events.Tensors(tag)]
                    found[name, tag] = points
    return found


if __name__ == "__main__":
    tf.test.main()

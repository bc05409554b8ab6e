import base64
import datetime
import errno
import importlib.util
import io
import itertools
import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import termios
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import graph_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests import made, oracle
from tests.command import Command, read_until, tfpipe
from tfpipe import TrainConfig, monitor
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import OptionError
from tfpipe.model import artifact
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.monitor import Selected, tables
from tfpipe.monitor.tensorboard import TensorBoard
from tfpipe.training import loop

PER_HEAD = ("W_norm", "patience_left", "validation_error", "validation_cost", "test_error")
OF_SOLVER = ("cost", "gradient_norm")
# A picture of every model that is better than all before, and a validation at a time.
WATCHED = loop.Pace(span_validations=1, monitor=monitor.DrawingPace(pause=0.0, share=1e9, growth=0.0))


def is_number(value):
    return value is not None


class FilesTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        """One run for all tests, which only read what it left."""
        super().setUpClass()
        cls.workdir = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory())) / "run"
        cls.splits = made.splits(n_test=300)
        cls.config = TrainConfig(
            batch_size=10, epochs=8, learning_rate=(0.3, 1e38, 0.01), patience=60, select="error", device="cpu"
        )
        cls.result = loop.train(cls.config, cls.splits, cls.workdir)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def test_every_validation_is_a_line_of_metrics(self):
        lines = self.metrics()
        self.assertLen(lines, len(self.result.history))
        for line, event in zip(lines, self.result.history, strict=True):
            self.assertEqual((line["iteration"], line["epoch"]), (event.iteration, event.epoch))
            self.assertEqual((line["leader"], line["seconds"]), (event.leader, event.seconds))
            for name in PER_HEAD:
                values = [np.nan if value is None else value for value in line[name]]
                self.assertAllEqual(np.float64(values), getattr(event, name))
            for name in OF_SOLVER:
                values = [np.nan if value is None else value for value in line[name]]
                self.assertAllEqual(np.float64(values), event.reports[name])
            self.assertEqual(set(line), {*event._fields, *OF_SOLVER} - {"reports", "best_error"})
        self.assertIsNone(lines[-1]["validation_error"][1])  # The head that diverged.

    def metrics(self):
        return [json.loads(line) for line in (self.workdir / "metrics.jsonl").read_text().splitlines()]

    def events(self, run):
        events = EventAccumulator(str(self.workdir / "tensorboard" / run), {"tensors": 0, "graph": 1})
        return events.Reload()

    def curve(self, run, tag):
        return [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in self.events(run).Tensors(tag)]

    def test_the_curves_are_those_of_the_leading_head(self):
        lines = self.metrics()
        rates = [0.3, 1e38, 0.01]
        expected = {
            ("train", "cost"): lambda line: line["cost"][line["leader"]],
            ("train", "training/learning_rate"): lambda line: rates[line["leader"]],
            ("train", "training/patience_left"): lambda line: line["patience_left"][line["leader"]],
            ("train", "training/examples_per_second"): lambda line: line["examples_per_second"],
            ("train", "weights/norm"): lambda line: line["W_norm"][line["leader"]],
            ("train", "training/l2"): lambda line: 0.0,
            ("train", "training/gradient_norm"): lambda line: line["gradient_norm"][line["leader"]],
            ("validation", "cost"): lambda line: line["validation_cost"][line["leader"]],
            ("validation", "error"): lambda line: line["validation_error"][line["leader"]],
            ("test", "error"): lambda line: line["test_error"][line["leader"]],
            ("lowest", "error"): lambda line: min(filter(is_number, line["validation_error"])),
            ("highest", "error"): lambda line: max(filter(is_number, line["validation_error"])),
            ("lowest", "cost"): lambda line: min(filter(is_number, line["validation_cost"])),
            ("highest", "cost"): lambda line: max(filter(is_number, line["validation_cost"])),
        }
        for (run, tag), value in expected.items():
            points = [(line["iteration"], value(line)) for line in lines]
            points = [(step, np.float32(number)) for step, number in points if number is not None]
            self.assertEqual(self.curve(run, tag), points, (run, tag))
            self.assertNotEmpty(points)
        self.assertLess(len(self.curve("test", "error")), len(lines))  # At new bests alone.

    def test_norms_and_patience_against_numpy(self):
        splits = made.splits()
        options = {
            "batch_size": 25, "learning_rate": 0.13, "epochs": 3, "shuffle": False, "patience": 10, "device": "cpu"
        }  # fmt: skip
        history = loop.train(TrainConfig(**options), splits).history
        x, y = made.as_float64(splits.train, splits.pixel_max)
        W, b = np.zeros((24, 3)), np.zeros(3)
        for i in range(12):
            rows = slice(25 * (i % 4), 25 * (i % 4 + 1))
            before = W
            _, W, b = oracle.step(W, b, x[rows], y[rows], 0.13)
            if i % 4 == 3:
                event = history[i // 4]
                of_step = np.linalg.norm(W - before) / 0.13  # The gradient of the last minibatch.
                self.assertAllClose(event.reports["gradient_norm"], [of_step], rtol=1e-5)
                self.assertAllClose(event.W_norm, [np.linalg.norm(W)], rtol=1e-5)
        # Patience 10 lets iteration 10 be the last. The improvement after 3 leaves it there, that after 7 makes it 14;
        # but three epochs end with iteration 11.
        self.assertEqual([event.patience_left[0] for event in history], [7, 4, 0])

    def test_the_pictures_are_those_of_the_page(self):
        page = (self.workdir / "report.html").read_text()
        on_page = [base64.b64decode(code) for code in re.findall(r"data:image/png;base64,([^\"]+)", page)]
        events = self.events("test")
        tags = ["templates", "confusion_matrix", "mistakes", "reliability", "heat_map"]
        in_tensorboard = [events.Tensors(f"error/{tag}")[-1].tensor_proto.string_val for tag in tags]
        self.assertEqual([image[2] for image in in_tensorboard], on_page)
        for width, height, png in in_tensorboard:
            self.assertEqual(Image.open(io.BytesIO(png)).size, (int(width), int(height)))
        self.assertLess(len(page), 500_000)
        self.assertNotRegex(page, r"<script|https?://|src=.(?!data:)|<link")

    def test_tables_and_flags_are_there_as_text(self):
        def text(run, tag):
            return self.events(run).Tensors(tag)[-1].tensor_proto.string_val[0].decode()

        self.assertIn("    --learning_rate=0.3,1e+38,0.01", text("train", "flags").splitlines())
        data = "100 training, 40 validation, 300 test examples of 4 x 6 uint8, divided by 255; 3 classes"
        self.assertEqual(text("train", "data"), data)
        report = self.result.report
        self.assertIn(f"| validation error | {report['validation_error']:.2%} |", text("test", "report"))
        self.assertLen(text("test", "heads").splitlines(), 2 + 3)
        counts = np.array(report["confusion_matrix"])
        worst = np.argmax(1 - np.diag(counts) / counts.sum(axis=1))
        self.assertStartsWith(text("test", "worst_classes").splitlines()[2], f"| {worst} | {counts[worst].sum()} |")
        page = (self.workdir / "report.html").read_text()
        self.assertIn(f"<td>validation error</td><td>{report['validation_error']:.2%}</td>", page)

    def test_weights_are_there_as_histograms(self):
        model = artifact.load(self.workdir / "model.npz")
        for tag, values in (("weights/W", model.W), ("weights/b", model.b)):
            buckets = tf.make_ndarray(self.events("train").Tensors(tag)[-1].tensor_proto)
            self.assertEqual(buckets[:, 2].sum(), values.size)
            self.assertAllClose((buckets[0, 0], buckets[-1, 1]), (values.min(), values.max()))

    def test_the_graph_of_a_step_is_there(self):
        operations = {node.op for node in graph_pb2.GraphDef.FromString(self.events("train")._graph).node}
        self.assertContainsSubset({"GatherV2", "Exp", "AssignVariableOp"}, operations)

    def test_every_head_is_a_session_with_its_best_values(self):
        for number, head in enumerate(self.result.report["grid"]):
            events = self.events(f"heads/{number}")
            content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
            settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
            found = {name: value.number_value for name, value in settings.items()}
            self.assertEqual(found, {name: head[name] for name in ("learning_rate", "l2")})
            for name in ("validation_error", "validation_cost", "test_error", "best_iteration", "iterations"):
                points = self.curve(f"heads/{number}", f"trials/{name}") if head[name] is not None else []
                self.assertEqual([value for _, value in points], [np.float32(head[name])] * (head[name] is not None))
            ended = plugin_data_pb2.HParamsPluginData.FromString(
                events.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
            )
            self.assertEqual(ended.session_end_info.status, 2 if head["diverged"] else 1)

    def test_tensorboard_can_be_left_out(self):
        workdir = self.folder / "without"
        loop.train(TrainConfig(batch_size=10, epochs=1, tensorboard=False, device="cpu"), made.splits(), workdir)
        self.assertFalse((workdir / "tensorboard").exists())
        self.assertTrue((workdir / "report.html").exists())

    def test_a_profile_of_a_few_spans(self):
        workdir = self.folder / "profiled"
        config = TrainConfig(batch_size=10, epochs=6, profile=True, device="cpu")
        with self.assertLogs("absl", "INFO") as log:
            loop.train(config, self.splits, workdir, pace=WATCHED)
        self.assertRegex("\n".join(log.output), "a profile is in .*tensorboard; to open it .*pip install xprof")
        (path,) = workdir.glob("tensorboard/plugins/profile/*/*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
        names = [plane.event_metadata[event.metadata_id].name for plane in space.planes for line in plane.lines
                 for event in line.events]  # fmt: skip
        trained = sum("_advance" in name and name.startswith("EagerLocalExecute") for name in names)
        # Whether the first of four is seen to begin is a matter of microseconds, where it begins as the profiler does.
        self.assertIn(trained, (3, 4))

    def test_without_the_package_it_is_an_error_before_anything_is_written(self):
        workdir = self.folder / "without"
        with (
            mock.patch.dict(sys.modules, {"tensorboard": None}),
            mock.patch.object(importlib.util, "find_spec", return_value=None),
            self.assertRaisesRegex(OptionError, r"^tensorboard=True: .*pip install tensorboard"),
        ):
            loop.train(TrainConfig(epochs=1, device="cpu"), made.splits(), workdir)
        self.assertFalse(workdir.exists())

    @pytest.mark.exhaustive
    def test_a_full_disk_costs_a_warning_and_nothing_else(self):
        self.assert_a_full_disk_costs_a_warning("validated")

    @parameterized.parameters("started", "selected", "finished", "close")
    @pytest.mark.exhaustive
    def test_a_full_disk_at_any_time_costs_a_warning(self, method):
        self.assert_a_full_disk_costs_a_warning(method)

    def assert_a_full_disk_costs_a_warning(self, method):
        workdir = self.folder / "full"
        error = tf.errors.ResourceExhaustedError(None, None, "No space left on device")
        with (
            mock.patch.object(TensorBoard, method, side_effect=error),
            self.assertLogs("absl", "WARNING") as log,
        ):
            result = loop.train(self.config, self.splits, workdir, pace=WATCHED)
        warnings = [line for line in log.output if "diverged" not in line]
        self.assertLen(warnings, 1)
        self.assertRegex(warnings[0], "tensorboard of the workdir cannot be written: No space left on device;")
        self.assertEqual(result.report["grid"], self.result.report["grid"])
        self.assertEqual((workdir / "model.npz").read_bytes(), (self.workdir / "model.npz").read_bytes())

    def test_a_model_that_cannot_be_saved_now_is_saved_later(self):
        workdir = self.folder / "full"
        save, error = artifact.save, OSError(errno.ENOSPC, "No space left on device")
        with (
            mock.patch.object(artifact, "save", side_effect=[error, mock.DEFAULT], wraps=save) as saves,
            self.assertLogs("absl", "WARNING") as log,
        ):
            loop.train(self.config, self.splits, workdir)
        self.assertEqual(saves.call_count, 2)
        self.assertRegex("\n".join(log.output), "model.npz cannot be written now: No space left on device; tried again")
        self.assertEqual((workdir / "model.npz").read_bytes(), (self.workdir / "model.npz").read_bytes())

    def test_a_picture_that_cannot_be_drawn_leaves_the_curves(self):
        workdir = self.folder / "undrawn"
        with (
            mock.patch.object(monitor.pictures, "of_model", side_effect=ValueError("no such font")),
            self.assertLogs("absl", "WARNING") as log,
        ):
            loop.train(self.config, self.splits, workdir)
        (warning,) = (line for line in log.output if "diverged" not in line)
        self.assertRegex(warning, "pictures of the workdir cannot be written: .*no such font")
        events = EventAccumulator(str(workdir / "tensorboard" / "heads" / "0")).Reload()
        self.assertEqual(
            tf.make_ndarray(events.Tensors("trials/validation_error")[0].tensor_proto),
            np.float32(self.result.report["grid"][0]["validation_error"]),
        )

    def test_new_bests_are_shown_while_the_run_goes_on(self):
        workdir = self.folder / "watched"
        config = TrainConfig(batch_size=10, epochs=100, learning_rate=0.01, select="error", device="cpu")
        with (
            mock.patch.object(monitor.pictures, "of_model", return_value={}),
        ):
            history = loop.train(config, self.splits, workdir, pace=WATCHED).history
        events = EventAccumulator(str(workdir / "tensorboard" / "train"), {"tensors": 0}).Reload()
        steps = [event.step for event in events.Tensors("weights/W")]
        self.assertGreater(len(steps), 1)
        self.assertEqual(steps, sorted(set(steps)))
        self.assertContainsSubset(set(steps), {event.iteration for event in history})
        self.assertLess(steps[0], history[-1].iteration)

    @pytest.mark.exhaustive
    def test_a_disk_that_is_really_full(self):
        # No file of this process may grow beyond 40 kB: the event files reach that, model and report do not.
        workdir = self.folder / "full"
        program = (
            "import resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "import tfpipe; from tests import made\n"
            "splits = made.splits()\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
            "config = tfpipe.TrainConfig(batch_size=10, epochs=300, device='cpu')\n"
            f"print(len(tfpipe.train(config, splits, {str(workdir)!r}).history))"
        )
        process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.split()[-1], "300")
        for what in ("tensorboard", "metrics.jsonl", "report.html"):
            self.assertRegex(process.stderr, f"{what} of the workdir cannot be written: .*File too large;")
        self.assertTrue(artifact.load(workdir / "model.npz"))
        self.assertTrue(json.loads((workdir / "report.json").read_text()))


class PaceTest(tf.test.TestCase):
    def test_pictures_take_a_fiftieth_of_the_time_and_fewer_come_as_a_run_grows_old(self):
        now = [100.0]

        def draw(event):
            now[0] += 2.0
            return {}

        workdir = Workdir(self.create_tempdir().full_path)
        with (
            mock.patch.object(monitor.pictures, "of_model", side_effect=draw),
            mock.patch.object(TensorBoard, "selected") as shown,
            monitor.Monitor(
                workdir, TrainConfig(), [{"rate": 0.1}], -1, monitor.Written({}, None), clock=lambda: now[0]
            ) as listener,
        ):

            def wants(seconds, made):
                now[0] = 100.0 + seconds
                wanted = listener.wants_model(made)
                self.assertEqual(listener.wants_model(made), wanted)  # To ask changes nothing.
                if wanted:
                    listener.selecting(made)
                return wanted

            self.assertFalse(wants(4.9, (0, 3)))
            selected = mock.Mock()
            self.assertTrue(wants(5.0, (0, 3)))
            self.assertFalse(wants(6.0, (0, 5)))  # The one before is still being tested.
            listener.selected(lambda: selected)
            self.assertEqual(now[0], 108.0)
            self.assertFalse(wants(157.9, (0, 5)))  # Test and pictures took 3 s: 150 s for the others.
            self.assertFalse(wants(158.1, (0, 3)))
            self.assertTrue(wants(158.1, (0, 5)))
            listener.selected(lambda: selected)
            self.assertTrue(wants(1000.0, (0, 7)))
            listener.selected(lambda: selected)
            self.assertFalse(wants(1202.3, (1, 7)))  # A fifth of 1002 s.
            self.assertTrue(wants(1202.5, (1, 7)))
        self.assertEqual(shown.call_count, 3)

    def test_a_leader_that_diverges_does_not_turn_the_steps_back(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        W, b = np.eye(2, 3, dtype=np.float32), np.zeros(3, np.float32)
        model = artifact.TrainedModel(W, b, ("a", "b", "c"), (2,), 1.0, {})
        diagnosis = Diagnosis(np.array([0, 1]), np.array([0, 2]), np.array([0.5, 0.9]), 3)
        tensorboard = TensorBoard(folder, [{"rate": 0.1}], "cost", monitor.Written({}, None))
        for iteration, key in ((500, (0, 499)), (600, (1, 299)), (700, (1, 299))):
            tensorboard.selected(Selected(iteration, key, model, diagnosis, None), {})
        # Without waiting for the end: it can be seen at once.
        events = EventAccumulator(str(folder / "train"), {"tensors": 0}).Reload()
        self.assertEqual([event.step for event in events.Tensors("weights/W")], [500, 600])
        tensorboard.close()

    def test_balanced_errors_have_a_curve_of_their_own(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        tensorboard = TensorBoard(folder, [{"rate": 0.1}, {"rate": 0.2}], "balanced_error", monitor.Written({}, None))
        tensorboard.started(monitor.Started([], "", lambda: b""))
        two = np.array([0.5, 0.25])
        figures = [two, two, {}, two, two, two, 1, 0.25, np.array([0.75, 0.625])]
        tensorboard.validated([monitor.Validated(7, 1, 0.1, 100.0, *figures)])
        head = dict.fromkeys(("validation_error", "validation_cost", "test_error", "best_iteration", "iterations"))
        grid = [head | {"rate": 0.1, "diverged": False, "balanced_error": figure} for figure in (0.75, None)]
        tensorboard.finished(monitor.Finished("", [], 7, {"grid": grid, "test_examples": 9}, {}, None), {}, {})
        tensorboard.close()
        for run, tag, value in (
            ("validation", "error/balanced", 0.625), ("lowest", "error/balanced", 0.625),
            ("highest", "error/balanced", 0.75), ("heads/0", "trials/balanced_error", 0.75),
        ):  # fmt: skip
            points = EventAccumulator(str(folder / run), {"tensors": 0}).Reload().Tensors(tag)
            self.assertEqual([tf.make_ndarray(point.tensor_proto).item() for point in points], [value], (run, tag))

    def test_cells_of_tables_are_no_markup(self):
        rows = [("class", "error"), ("a|b", "*x*"), ("<b>\nc", "")]
        self.assertEqual(
            tables.markdown(rows), "| class | error |\n| --- | --- |\n| a\\|b | \\*x\\* |\n| &lt;b&gt; c |   |"
        )


class ProgressTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.create_tempdir().full_path)
        self.command = ("train", "--notensorboard", "--epochs=5000", "--patience=100000", f"--workdir={folder}/run")

    def test_a_live_line_on_a_terminal(self):
        terminal, end = pty.openpty()
        termios.tcsetwinsize(end, (50, 160))
        run = Command(*self.command, stderr=os.ttyname(end))
        text = read_until("everything is in", terminal)
        os.close(end)
        os.close(terminal)
        self.assertEqual(run.finished().returncode, 0)
        line = (
            r"\repoch \d+/5000  iteration \d+  [\d.]+[kM]? examples/s  cost \d\.\d{4}  "
            r"best validation error \d+\.\d\d%  \|.*\| at most \d\d:\d\d left"
        )
        self.assertRegex(text, line)

    @pytest.mark.exhaustive
    def test_plain_lines_elsewhere(self):
        process = tfpipe(*self.command)
        self.assertEqual(process.returncode, 0)
        self.assertNotIn("\r", process.stderr)
        lines = [line for line in process.stderr.splitlines() if "epoch " in line]
        times = [datetime.datetime.strptime(line.split()[0], "%H:%M:%S") for line in lines]
        for before, after in itertools.pairwise(times):
            self.assertGreaterEqual((after - before).seconds, 2)  # Also over midnight.
        self.assertRegex(
            lines[0],
            r"epoch \d+/5000  iteration \d+  [\d.]+[kM]? examples/s  cost \d\.\d{4}  best validation error \d+\.\d\d%$",
        )
        self.assertFalse(re.search("nan|inf ", lines[0]))


if __name__ == "__main__":
    tf.test.main()

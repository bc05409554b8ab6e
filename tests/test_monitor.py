import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import termios

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import made
from tfpipe import TrainConfig, training

PROGRAM = """
import tfpipe
from tests import made
tfpipe.train(tfpipe.TrainConfig(batch_size=10, epochs=300, device="cpu"), made.splits())
"""


class FilesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
        config = TrainConfig(batch_size=10, epochs=8, learning_rate=(0.3, 1e38, 0.01), patience=60, device="cpu")
        self.result = training.train(config, made.splits(), self.workdir)

    def test_every_validation_is_a_line_of_metrics(self):
        lines = [json.loads(line) for line in (self.workdir / "metrics.jsonl").read_text().splitlines()]
        self.assertLen(lines, len(self.result.history))
        for line, event in zip(lines, self.result.history, strict=True):
            self.assertEqual((line["iteration"], line["epoch"]), (event.iteration, event.epoch))
            self.assertEqual(line["leader"], event.leader)
            for name in ("cost", "validation_error", "validation_cost", "test_error"):
                values = [np.nan if value is None else value for value in line[name]]
                self.assertAllEqual(np.float64(values), getattr(event, name))
        self.assertIsNone(lines[-1]["validation_error"][1])  # The head that diverged.

    def test_tensorboard_shows_the_leading_heads_figures(self):
        history = self.result.history
        expected = {
            ("train", "cost"): [(e.iteration, e.cost[e.leader]) for e in history],
            ("validation", "cost"): [(e.iteration, e.validation_cost[e.leader]) for e in history],
            ("validation", "error"): [(e.iteration, e.validation_error[e.leader]) for e in history],
            ("test", "error"): [(e.iteration, e.test_error[e.leader]) for e in history],
        }
        for (run, tag), points in expected.items():
            points = [(step, np.float32(value)) for step, value in points if not np.isnan(value)]
            events = EventAccumulator(str(self.workdir / "tensorboard" / run))
            events.Reload()
            read = [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in events.Tensors(tag)]
            self.assertEqual(read, points)
            self.assertNotEmpty(points)
        self.assertLess(len(points), len(history))  # The test error: at new bests alone.

    def test_tensorboard_can_be_left_out(self):
        workdir = self.workdir.parent / "without"
        training.train(TrainConfig(batch_size=10, epochs=1, tensorboard=False, device="cpu"), made.splits(), workdir)
        self.assertFalse((workdir / "tensorboard").exists())


class ProgressTest(tf.test.TestCase):
    def test_a_live_line_on_a_terminal(self):
        terminal, child_end = pty.openpty()
        termios.tcsetwinsize(terminal, (50, 160))
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=child_end)
        os.close(child_end)
        shown = b""
        try:
            while part := os.read(terminal, 65536):
                shown += part
        except OSError:  # Linux: the other end was closed.
            pass
        self.assertEqual(process.wait(), 0)
        text = shown.decode()
        line = (
            r"\repoch \d+/300  iteration \d+  [\d.]+[kM]? examples/s  cost \d\.\d{4}  "
            r"best validation error \d+\.\d\d%  \|.*\| at most \d\d:\d\d left"
        )
        self.assertRegex(text, line)
        self.assertGreater(text.count("\r"), 1)

    def test_plain_lines_elsewhere(self):
        program = PROGRAM.replace(
            "import tfpipe\n", "import tfpipe\nfrom absl import logging\nlogging.set_verbosity(0)\n", 1
        )
        log = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True).stderr
        self.assertNotIn("\r", log)
        lines = [line for line in log.splitlines() if "epoch " in line]
        self.assertBetween(len(lines), 1, 5)  # At most one in two seconds.
        self.assertRegex(
            lines[0],
            r"epoch 1/300  iteration 9  [\d.]+[kM]? examples/s  cost \d\.\d{4}  best validation error \d+\.\d\d%$",
        )
        self.assertFalse(re.search("nan|inf ", lines[0]))


if __name__ == "__main__":
    tf.test.main()

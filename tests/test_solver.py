"""A second solver goes through train, stop, resume, report and pictures, and nothing else knows of it."""

import functools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import made, oracle
from tfpipe import TrainConfig
from tfpipe.compute.programs import Program
from tfpipe.exceptions import WorkdirError
from tfpipe.model import artifact
from tfpipe.pipeline import inputs
from tfpipe.pipeline.sampler import Sampler
from tfpipe.solvers.base import Advance, Solver
from tfpipe.training import loop


class Momentum(Solver):
    """Full-batch gradient descent with momentum: every step takes all examples."""

    name = "momentum"
    reports = ("cost", "velocity")

    def __init__(self, config, splits, *, rates, steps):
        self.config = config
        self.settings = [{"rate": rate, "momentum": 0.5} for rate in rates]
        self.batch_size = self.examples = len(splits.train)
        self.steps, self.frequency, self.per_epoch = steps, 2, 1

    def slots(self, n_heads, n_out, n_in):
        return {"velocity": np.zeros((n_heads, n_out, n_in), np.float32)}

    def spans(self, train, *, first, period, length):
        everything = Sampler(self.examples, self.examples, drop_remainder=False)
        return inputs.training_spans(train, everything, steps=self.steps, period=period, length=1, first=first)

    def advance(self, span, objective, group, last, room):
        return Advance(*_descend(span, objective, group, last))


@Program
def _descend(span, objective, group, last):
    W, b, velocity = group.W, group.b, group.slots["velocity"]

    def step(i, cost):
        with tf.GradientTape() as tape:
            cost = objective.cost(span, i, W, b, group.column)
        g_W, g_b = tape.gradient(cost, (W, b))
        trains = tf.cast(span.first + tf.cast(i, tf.int64) < last, W.dtype)
        rate, momentum = (trains * group.settings[name] for name in ("rate", "momentum"))
        velocity.assign((momentum + 1 - trains)[:, None, None] * velocity - rate[:, None, None] * g_W)
        W.assign(W + trains[:, None, None] * velocity)
        b.assign(b - rate[:, None] * g_b)
        return i + 1, cost

    _, cost = tf.while_loop(lambda i, _: i < span.end, step, (span.begin, tf.zeros(b.shape[:1])))
    return cost[None], {"cost": cost[None], "velocity": tf.norm(velocity, axis=(1, 2))[None]}


def by_numpy(splits, rate, steps):
    """W and b after each step, in float64."""
    x, y = made.as_float64(splits.train, splits.pixel_max)
    W, b, velocity = np.zeros((24, 3)), np.zeros(3), np.zeros((24, 3))
    for _ in range(steps):
        _, moved, b = oracle.step(W, b, x, y, rate)
        velocity = 0.5 * velocity + moved - W
        W = W + velocity
        yield W, b, velocity


class SecondSolverTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.splits = made.splits()
        self.rates, self.steps = (0.3, 1e-3, 0.1), 12

    def train(self, name, **options):
        config = TrainConfig(select="error", device="cpu", checkpoint_every=0.0)
        solver = functools.partial(Momentum, rates=self.rates, steps=self.steps)
        return loop.train(config, self.splits, self.folder / name, solver=solver, **options)

    def test_its_figures_against_numpy(self):
        result = self.train("run")
        validation, test = (made.as_float64(part, 255.0) for part in (self.splits.validation, self.splits.test))
        for head, rate in enumerate(self.rates):
            path = list(by_numpy(self.splits, rate, self.steps))[1::2]
            found = [oracle.measure(W, b, *validation) for W, b, _ in path]
            self.assertLen(result.history, len(path))
            for event, (wrong, cost), (_, _, velocity) in zip(result.history, found, path, strict=True):
                self.assertEqual(round(event.validation_error[head] * 40), wrong)
                self.assertAllClose(event.validation_cost[head], cost, rtol=1e-5)
                self.assertAllClose(event.reports["velocity"][head], np.linalg.norm(velocity), rtol=1e-4)
            best = min(range(len(found)), key=lambda i: (found[i][0], i))
            row = result.report["grid"][head]
            self.assertEqual((row["rate"], row["momentum"], row["iterations"]), (rate, 0.5, self.steps))
            self.assertEqual(row["best_iteration"], 2 * best + 1)
            self.assertEqual(round(row["test_error"] * 30), oracle.measure(*path[best][:2], *test)[0])
        selected = result.report["selected"]
        path_of = list(by_numpy(self.splits, self.rates[selected], self.steps))[result.report["best_iteration"]]
        self.assertAllClose(result.model.W * 255.0, path_of[0], rtol=0, atol=1e-5)

    def test_it_is_stopped_and_goes_on_to_the_same_bits(self):
        expected = self.train("whole")
        parts = 0
        while True:
            looks = iter([False, False, True])
            result = self.train("run", should_stop=lambda looks=looks: next(looks))
            parts += 1
            if not result.report["interrupted"]:
                break
        self.assertEqual(parts, 7)  # Six of two steps, and one that finds that nothing is left.
        self.assertEqual(*((self.folder / name / "model.npz").read_bytes() for name in ("run", "whole")))
        self.assertEqual(result.report["grid"], expected.report["grid"])
        for mine, other in zip(result.history, expected.history, strict=True):
            for name in Momentum.reports:
                self.assertAllEqual(mine.reports[name], other.reports[name])

    def test_it_is_reported_and_drawn(self):
        result = self.train("run")
        report = json.loads((self.folder / "run" / "report.json").read_text())
        self.assertEqual((report["solver"], report["settings"]), ("momentum", ["rate", "momentum"]))
        self.assertEqual(report["rate"], self.rates[report["selected"]])
        page = (self.folder / "run" / "report.html").read_text()
        for words in ("<th>rate</th>", "<th>momentum</th>", "What each class looks for", "The grid"):
            self.assertIn(words, page)
        line = json.loads((self.folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
        self.assertLen(line["velocity"], 3)
        events = EventAccumulator(str(self.folder / "run" / "tensorboard" / "train"), {"tensors": 0}).Reload()
        curve = [tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors("training/velocity")]
        expected = [event.reports["velocity"][event.leader] for event in result.history]
        self.assertEqual(curve, [np.float32(value) for value in expected])
        summary = artifact.load(self.folder / "run" / "model.npz").summary
        self.assertEqual((summary["solver"], summary["rate"]), ("momentum", report["rate"]))

    def test_names_that_are_taken_are_refused(self):
        class Wrong(Momentum):
            reports = ("cost", "seconds")

            def slots(self, n_heads, n_out, n_in):
                return {"W": np.zeros(n_heads)}

        solver = functools.partial(Wrong, rates=self.rates, steps=self.steps)
        with self.assertRaisesRegex(ValueError, "solver momentum: its W, seconds would take the place of another"):
            loop.train(TrainConfig(device="cpu"), self.splits, solver=solver)

    @pytest.mark.exhaustive
    def test_a_run_of_one_solver_is_none_of_another(self):
        self.train("run")
        with self.assertRaisesRegex(WorkdirError, "holds a run with .*solver=momentum, not sgd"):
            loop.train(TrainConfig(device="cpu", batch_size=100), self.splits, self.folder / "run")


if __name__ == "__main__":
    tf.test.main()

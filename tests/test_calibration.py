"""Temperatures: against SciPy on the function that is minimized, and through runs, read back from their files."""

import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from absl.testing import absltest, parameterized
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfpipe
from tests import made, problems
from tests.test_search import in_float64, optimum, splits
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.compute import device
from tfpipe.compute.workers import Workers
from tfpipe.data.folds import folds
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.exceptions import ConfigError
from tfpipe.model import artifact
from tfpipe.model.diagnosis import Diagnosis
from tfpipe.statistics import temperature
from tfpipe.training.fit import Fit
from tfpipe.training.fitted import Fitted


def drawn(n, n_out, seed=0, spread=2.0):
    """Logits `[n, K]`, and labels of just the probabilities that they give."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, n_out)) * spread
    return z, (z + random.gumbel(size=z.shape)).argmax(axis=1)


def function(z, labels, weights=None):
    """f of s = -log T, in long doubles."""
    z = z.astype(np.longdouble)
    w = np.ones(len(z)) if weights is None else weights * (weights.sum() / np.square(weights).sum())

    def of(s):
        scaled = z * np.exp(np.longdouble(s))
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        losses = np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(z)), labels]
        return (w * losses).sum() + np.longdouble(s) ** 2 / 2

    return of


def least(z, labels, weights=None, around=None):
    """T at the minimum, by SciPy: from the best of a grid, or of one around a value of s."""
    of = function(z, labels, weights)
    grid = np.linspace(-6, 14, 801) if around is None else around + np.linspace(-0.1, 0.1, 21)
    best = int(np.argmin([of(s) for s in grid]))
    bracket = tuple(grid[best - 1 : best + 2])
    return float(np.exp(-scipy.optimize.minimize_scalar(of, bracket, tol=1e-13).x))


class TemperatureTest(parameterized.TestCase):
    @parameterized.product(scale=(0.05, 0.5, 1.0, 3.0, 40.0), n_out=(2, 7), weighted=(False, True))
    def test_as_scipy_finds_it(self, scale, n_out, weighted):
        z, labels = drawn(60, n_out, seed=n_out)
        weights = np.random.default_rng(1).integers(0, 4, 60) / 2 if weighted else None
        found = temperature.fitted(z * scale, labels, weights)
        np.testing.assert_allclose(found, least(z * scale, labels, weights), rtol=1e-8)

    def test_the_best_of_two_minima(self):
        # With margins so small, the prior alone has a minimum near 1, and 900 of 1000 that are right another one.
        z, labels = np.tile([1e-4, 0.0], (1000, 1)), np.arange(1000) // 900
        of = function(z, labels)
        near_one = least(z, labels, around=0.04)
        self.assertLess(of(-np.log(near_one)), min(of(-0.2), of(0.3)))
        found = temperature.fitted(z, labels)
        np.testing.assert_allclose(found, least(z, labels), rtol=1e-8)
        self.assertLess(found, 1e-3)
        few = temperature.fitted(z[[*range(15), *range(900, 905)]], labels[[*range(15), *range(900, 905)]])
        self.assertAlmostEqual(few, 1, delta=1e-3)

    @parameterized.parameters(1.0, 3.0, 0.25)
    def test_what_calibrated_logits_are_multiplied_by(self, factor):
        z, labels = drawn(20_000, 5)
        self.assertAlmostEqual(temperature.fitted(factor * z, labels) / factor, 1, delta=0.03)

    @parameterized.parameters(0, 1, 2)
    def test_few_rows_of_many_classes(self, seed):
        self.assertAlmostEqual(temperature.fitted(*drawn(500, 100, seed)), 1, delta=0.1)

    def test_without_errors_it_is_one(self):
        z, _ = drawn(50, 4)
        self.assertEqual(temperature.fitted(z, z.argmax(axis=1)), 1.0)
        weights = np.ones(50)
        labels = z.argmax(axis=1)
        labels[7] = (labels[7] + 1) % 4
        self.assertNotEqual(temperature.fitted(z, labels, weights), 1.0)
        weights[7] = 0
        self.assertEqual(temperature.fitted(z, labels, weights), 1.0)
        self.assertEqual(temperature.fitted(z[:0], labels[:0]), 1.0)
        self.assertEqual(temperature.fitted(np.zeros((6, 3)), np.arange(6) % 3), 1.0)

    def test_weights_count_whatever_their_unit(self):
        z, labels = drawn(80, 3)
        weights = np.arange(80) % 3 + 0.5
        found = temperature.fitted(3 * z, labels, weights)
        np.testing.assert_allclose(temperature.fitted(3 * z, labels, 1e6 * weights), found, rtol=1e-10)
        of_equal = temperature.fitted(3 * z, labels, np.full(80, 7.0))
        np.testing.assert_allclose(of_equal, temperature.fitted(3 * z, labels), rtol=1e-10)

    def test_classes_that_are_left_out_have_no_probability(self):
        z, labels = drawn(80, 3)
        wider = np.concatenate([np.full((80, 1), -1e30), z], axis=1)
        np.testing.assert_allclose(temperature.fitted(3 * wider, labels + 1), temperature.fitted(3 * z, labels), 1e-12)


class LogitsTest(parameterized.TestCase):
    @parameterized.parameters(False, True)
    def test_each_row_by_its_head(self, has_validation):
        data, random = made.splits(n_train=90, n_validation=40), np.random.default_rng(0)
        weights = np.ones((4, 90))
        weights[1:] = np.arange(90) % 3 != np.arange(3)[:, np.newaxis]
        own = device.select("cpu")
        with own.scope(), Workers(own) as workers:
            fitted = Fitted(data, data.train, weights, "float32", data.validation if has_validation else None)
            fit = Fit(fitted, 3, workers)
            of = fit.problems("none", [0.1, 0.1, 0.1], np.arange(1, 4, dtype=np.int32))
            W, b = random.normal(size=(3, 3, 24)), random.normal(size=(3, 3))
            rows = data.validation if has_validation else data.train
            head = random.integers(0, 3, len(rows))
            found = fit.logits(of, of.coordinates(W, b), head)
        x, _ = made.as_float64(rows, 255.0)
        expected = np.einsum("nkd,nd->nk", W[head], x) + b[head]
        centred = (part - part.mean(axis=1, keepdims=True) for part in (found, expected))
        np.testing.assert_allclose(*centred, rtol=0, atol=1e-12)


def overfit(n=300, n_in=40):
    """Features of which few say anything, so that a small l2 is far too sure."""
    parts = []
    for seed, size in enumerate((n, n // 2, 600)):
        random = np.random.default_rng(seed)
        labels = np.arange(size, dtype=np.int32) % 3
        x = random.normal(size=(size, n_in))
        x[:, :3] += 1.2 * np.eye(3)[labels]
        parts.append(Examples(x.astype(np.float32), labels))
    return Splits(*parts, class_names=("a", "b", "c"))


class RunTest(parameterized.TestCase):
    def workdir(self):
        return pathlib.Path(self.create_tempdir().full_path) / "run"

    def config(self, **options):
        default = {"solver": "lbfgs", "l2": 1e-4, "tensorboard": False, "tolerance": 1e-8, "device": "cpu"}
        return TrainConfig(**default | {"calibrate": True} | options)

    def test_by_scikit_learn_s_heads_of_folds(self):
        data = splits()
        report = tfpipe.train(self.config(l2=1e-3, folds=3, tolerance=1e-11, precision="float64"), data).report
        pool = data.train.joined(data.validation)
        fold, z = folds(pool.labels, 3, 0), np.empty((len(pool), 3))
        for number in range(3):
            train, rest = pool.take(np.flatnonzero(fold != number)), pool.take(np.flatnonzero(fold == number))
            unit = in_float64(train)[0].std(axis=0) if report["standardize"] == "columns" else 1.0
            W, b = optimum(*in_float64(train, unit), 1e-3)
            z[fold == number] = in_float64(rest, unit)[0] @ W.T + b
        found = report["calibration"]
        np.testing.assert_allclose(found["temperature"], least(z, pool.labels), rtol=1e-5)
        wrong = int((z.argmax(axis=1) != pool.labels).sum())
        self.assertEqual((found["examples"], found["wrong"]), (220, wrong))

    def test_on_the_validation_split_without_a_refit(self):
        data = splits()
        result = tfpipe.train(self.config(folds=0, refit=False), data)
        T = result.report["calibration"]["temperature"]
        z = data.validation.images @ (T * result.model.W.numpy()) + T * result.model.b.numpy()
        np.testing.assert_allclose(T, least(z.astype(np.float64), data.validation.labels), rtol=1e-3)

    def test_what_changes_and_what_does_not(self):
        self.assert_calibrated("float32")

    @pytest.mark.exhaustive
    def test_in_float64(self):
        self.assert_calibrated("float64")

    def assert_calibrated(self, precision):
        data, workdir = overfit(), self.workdir()
        config = self.config(folds=5, l2=1e-3, tolerance=1e-6, precision=precision, tensorboard=True)
        before = tfpipe.train(dataclasses.replace(config, calibrate=False, tensorboard=False), data)
        with self.assertLogs("absl", "INFO") as log:
            tfpipe.train(config, data, workdir)
        report, model = json.loads((workdir / "report.json").read_text()), artifact.load(workdir / "model.npz")
        found = report["calibration"]
        T = found["temperature"]
        self.assertGreater(T, 1.5)
        self.assertEqual((model.temperature, model.summary["temperature"]), (T, T))
        self.assertEqual(str(model.W.dtype), precision)
        # The same is found, and only its logits are divided.
        for name in ("selected", "validation_error", "test_error", "evaluations", "confusion_matrix"):
            self.assertEqual(report[name], before.report[name])
        W, b = model.fitted
        np.testing.assert_allclose(W, before.model.W.numpy(), rtol=0, atol=1e-6 * np.abs(W).max())
        rows = data.train.joined(data.validation)
        x = rows.images.astype(np.float64)
        unit = x.std(axis=0) if report["standardize"] == "columns" else np.ones(40)
        of = problems.Data(x, rows.labels, np.ones(len(x)), 3)
        cost = problems.cost(of, 1e-3, unit, W.T, b)
        np.testing.assert_allclose(cost, model.summary["cost"], rtol=1e-12)
        self.assertLessEqual(cost - problems.least(of, 1e-3, unit), report["certificate"] + 1e-13)
        self.assertLessEqual(report["certificate"], 1e-6 * cost)
        # The figures are those of the two models.
        for when, (of_W, of_b) in (("before", (W, b)), ("after", (W / T, b / T))):
            p = scipy.special.softmax(data.test.images.astype(np.float64) @ of_W + of_b, axis=1)
            loss = -np.log(p[np.arange(600), data.test.labels]).mean()
            error = Diagnosis(data.test.labels, p.argmax(axis=1), p.max(axis=1), 3).calibration().error
            np.testing.assert_allclose(found[when]["cost"], loss, rtol=1e-6)
            np.testing.assert_allclose(found[when]["calibration_error"], error, rtol=1e-6)
        self.assertLess(found["after"]["cost"], 0.97 * found["before"]["cost"])
        self.assertLess(found["after"]["calibration_error"], 0.5 * found["before"]["calibration_error"])
        self.assertIn(f"calibrated: temperature {T:.4g}; test calibration error", "\n".join(log.output))
        page = (workdir / "report.html").read_text()
        self.assertIn("What they were worth before calibration", page)
        self.assertIn(f"temperature {T:.4g}", page)
        events = EventAccumulator(str(workdir / "tensorboard" / "test"), {"tensors": 0}).Reload()
        self.assertIn("error/reliability_before", events.Tags()["tensors"])
        self.assertIn("calibration", events.Tags()["tensors"])

    def test_without_test_examples(self):
        data = dataclasses.replace(overfit(), test=overfit().train.take([]))
        found, of_test = (tfpipe.train(self.config(), one).report["calibration"] for one in (data, overfit()))
        self.assertEqual(found, of_test | {"before": {}, "after": {}})

    def test_it_is_said_where_no_error_tells(self):
        random, labels = np.random.default_rng(0), np.arange(90, dtype=np.int32) % 3
        x = (5 * np.eye(3)[labels] + 0.1 * random.normal(size=(90, 3))).astype(np.float32)
        part = Examples(x, labels)
        report = tfpipe.train(self.config(folds=3), Splits(part, part, part, ("a", "b", "c"))).report
        self.assertEqual((report["calibration"]["temperature"], report["calibration"]["wrong"]), (1.0, 0))
        self.assertIn("no error among 180 validation examples", "\n".join(report["warnings"]))

    def test_rows_of_a_class_that_their_head_leaves_out_have_no_part(self):
        data = splits()
        train = data.train.take(np.flatnonzero((data.train.labels != 2) | (np.arange(160) < 3)))
        data = Splits(
            train.take(np.arange(0, len(train), 2)), train.take(np.arange(1, len(train), 2)), data.test, tuple("abc")
        )
        found = tfpipe.train(self.config(folds=2, l2=1e-2), data).report["calibration"]
        self.assertEqual(found["examples"], len(train) - 1)
        self.assertTrue(np.isfinite([found["temperature"], found["before"]["cost"]]).all())

    def test_weights(self):
        data = splits()
        weights = np.arange(160) % 2 + 0.0
        pool = [Examples(data.train.images, data.train.labels, weights=weights), data.validation]
        report = tfpipe.train(self.config(folds=3), Splits(*pool, data.test, ("a", "b", "c"))).report
        self.assertEqual(report["calibration"]["examples"], 80 + 60)

    def test_sgd_refuses_it(self):
        message = "^calibrate=True: is an option of lbfgs, and does not go with solver=sgd$"
        with self.assertRaisesRegex(ConfigError, message):
            TrainConfig(solver="sgd", calibrate=True)

    def test_a_state_from_before_there_was_a_choice_goes_on(self):
        workdir, stops = self.workdir(), itertools.count()
        config = self.config(calibrate=False)
        tfpipe.train(config, splits(), workdir, should_stop=lambda: next(stops) == 2)
        checkpoints = Checkpoints(workdir / "checkpoints")
        saved = checkpoints.load()
        del saved.facts["identity"]["settings"]["calibrate"], saved.facts["identity"]["settings"]["init"]
        checkpoints.save(99, saved)
        with self.assertRaisesRegex(tfpipe.exceptions.WorkdirError, "calibrate=None, not True"):
            tfpipe.train(self.config(), splits(), workdir)
        self.assertNotIn("calibration", tfpipe.train(config, splits(), workdir).report)

    def test_a_state_of_sgd_from_before_there_were_such_options_goes_on(self):
        workdir, data = self.workdir(), splits()
        config = TrainConfig(solver="sgd", learning_rate=0.1, epochs=3, batch_size=32, tensorboard=False)
        before = tfpipe.train(config, data, workdir).report
        checkpoints = Checkpoints(workdir / "checkpoints")
        saved = checkpoints.load()
        for name in ("calibrate", "init", "shots", "subsets", "seeds", "bootstrap", "reselect"):
            del saved.facts["identity"]["settings"][name]
        checkpoints.save(99, saved)
        self.assertEqual(tfpipe.train(config, data, workdir).report["grid"], before["grid"])
        longer = tfpipe.train(dataclasses.replace(config, epochs=6), data, workdir).report
        self.assertEqual(longer["grid"][0]["epochs"], 6)

    def test_it_goes_on_to_the_same_bits(self):
        self.assert_goes_on(folds=2)

    @pytest.mark.exhaustive
    def test_it_goes_on_to_the_same_bits_without_folds(self):
        self.assert_goes_on(folds=0)

    def assert_goes_on(self, *, folds):
        config = self.config(l2=1e-2, folds=folds, checkpoint_every=0.0)
        whole, workdir = self.workdir(), self.workdir()
        steps = tfpipe.train(config, splits(), whole).report["evaluations"]
        for after in (1, steps // 2, steps // 2 - 4):  # In the search, and in the last fit.
            calls = itertools.count()
            part = tfpipe.train(config, splits(), workdir, should_stop=lambda: next(calls) >= after)  # noqa: B023
            self.assertTrue(part.report["interrupted"])
            self.assertGreater(part.report["calibration"]["temperature"], 0)
        tfpipe.train(config, splits(), workdir)
        for name in ("model.npz", "report.json"):
            self.assertTrue((workdir / name).exists())
        self.assertEqual((workdir / "model.npz").read_bytes(), (whole / "model.npz").read_bytes())
        found, expected = (json.loads((of / "report.json").read_text())["calibration"] for of in (workdir, whole))
        self.assertEqual(found, expected)


if __name__ == "__main__":
    absltest.main()

"""The default: settings are tried, one is taken and fitted again; against scikit-learn in float64."""

import dataclasses
import itertools
import json
import math
import os
import pathlib
import warnings
from unittest import mock

import numpy as np
import pytest
import sklearn.datasets
from absl.testing import absltest, parameterized
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tfpipe
from tests import made, oracle
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.data.folds import folds
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.exceptions import WorkdirError
from tfpipe.model import artifact

# Of a report, what hangs on the clock or the place.
TIMES = ("seconds", "examples_per_second", "epochs_per_second", "workdir")
SCALES = np.array([1.0, 3.0, 0.1, 1.0, 20.0, 1.0])


def examples(n, seed, scales=SCALES):
    """Rows of features `[n, 6]` float32 around one mean for each of three classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    means = np.random.default_rng(77).normal(0, 1, (3, 6))
    x = (means[labels] + random.normal(0, 1.2, (n, 6))) * scales
    return Examples(x.astype(np.float32), labels.astype(np.int32))


def splits(sizes=(160, 60, 60), **options):
    parts = [examples(n, seed) for seed, n in enumerate(sizes, start=1)]
    return Splits(*parts, class_names=("a", "b", "c"), **options)


def in_float64(part, unit=1.0):
    return part.images.astype(np.float64) / unit, part.labels


def deviation(part):
    return part.images.astype(np.float64).std(axis=0)


def optimum(x, y, l2, weights=None):
    """scikit-learn's: W `[K, D]` and b `[K]`."""
    w = np.ones(len(y)) if weights is None else weights
    found = LogisticRegression(C=1 / (l2 * w.sum()), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    found.fit(x, y, w)
    return found.coef_, found.intercept_


def losses(x, y, W, b):
    z = x @ W.T + b
    z -= z.max(axis=1, keepdims=True)
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]


def objective(x, y, W, b, l2, weights=None):
    return np.average(losses(x, y, W, b), weights=weights) + l2 / 2 * np.square(W).sum()


def exactly(**options):
    return TrainConfig(**({"solver": "lbfgs", "tolerance": 1e-11, "precision": "float64"} | options))


def figures(report):
    return {name: value for name, value in report.items() if name not in TIMES}


class AgainstScikitLearnTest(parameterized.TestCase):
    def assert_optimal(self, result, x, y, unit, weights=None):
        """The model is the optimum of these rows, as its certificate says."""
        l2 = result.report["l2"]
        W, b = optimum(x, y, l2, weights)
        own_W, own_b = result.model.W.numpy().T * unit, result.model.b.numpy()
        np.testing.assert_allclose(own_W, W, rtol=0, atol=1e-3 * np.abs(W).max())
        least = objective(x, y, W, b, l2, weights)
        gap = objective(x, y, own_W, own_b, l2, weights) - least
        self.assertLess(gap, 1e-6 * least)
        self.assertGreaterEqual(result.report["certificate"], gap - 1e-14)
        self.assertTrue(result.report["converged"])

    @parameterized.parameters(1e-1, 1e-3)
    def test_both_scales_and_the_model_of_all_rows(self, l2):
        data = splits()
        result = tfpipe.train(exactly(l2=l2), data)
        self.assertEqual([head["standardize"] for head in result.report["grid"]], ["none", "columns"])
        for head, unit in zip(result.report["grid"], (1.0, deviation(data.train)), strict=True):
            W, b = optimum(*in_float64(data.train, unit), l2)
            expected = losses(*in_float64(data.validation, unit), W, b)
            self.assertAlmostEqual(head["validation_cost"], expected.mean(), delta=1e-6)
            self.assertAlmostEqual(head["standard_error"], expected.std(ddof=1) / math.sqrt(60), delta=1e-6)
        costs = [head["validation_cost"] for head in result.report["grid"]]
        self.assertEqual(result.report["selected"], int(np.argmin(costs)))
        both = data.train.joined(data.validation)
        unit = deviation(both) if result.report["standardize"] == "columns" else 1.0
        self.assert_optimal(result, *in_float64(both, unit), unit)

    def test_folds(self):
        data = splits()
        result = tfpipe.train(exactly(l2=1e-2, folds=3), data)
        pool = data.train.joined(data.validation)
        fold = folds(pool.labels, 3, 0)
        for head, is_scaled in zip(result.report["grid"], (False, True), strict=True):
            expected = np.empty(len(pool))
            for number in range(3):
                train, rest = pool.take(np.flatnonzero(fold != number)), pool.take(np.flatnonzero(fold == number))
                unit = deviation(train) if is_scaled else 1.0  # Of the rows of the fold alone.
                expected[fold == number] = losses(*in_float64(rest, unit), *optimum(*in_float64(train, unit), 1e-2))
            self.assertAlmostEqual(head["validation_cost"], expected.mean(), delta=1e-6)
        unit = deviation(pool) if result.report["standardize"] == "columns" else 1.0
        self.assert_optimal(result, *in_float64(pool, unit), unit)
        self.assertEqual((result.report["folds"], result.report["train_examples"]), (3, 220))

    def test_without_refit_it_is_the_optimum_of_the_training_rows(self):
        data = splits(standardization=None)
        result = tfpipe.train(exactly(l2=1e-2, refit=False), data)
        unit = deviation(data.train) if result.report["standardize"] == "columns" else 1.0
        self.assert_optimal(result, *in_float64(data.train, unit), unit)

    def test_weights_of_examples_and_of_classes(self):
        data = splits()
        weights = np.arange(160) // 3 % 3 + 0.0
        weights[data.train.labels == 2] *= 2
        train = Examples(data.train.images, data.train.labels, weights=weights)
        data = Splits(train, data.validation, data.test, data.class_names)
        result = tfpipe.train(exactly(l2=1e-2, refit=False, class_weight="balanced"), data)
        of_class = np.bincount(train.labels, weights)
        balanced = weights * (weights.sum() / (np.count_nonzero(of_class) * np.maximum(of_class, 1)))[train.labels]
        w = balanced / balanced.sum()
        mean = w @ train.images.astype(np.float64)
        unit = 1.0
        if result.report["standardize"] == "columns":
            unit = np.sqrt(w @ np.square(train.images.astype(np.float64) - mean))
        counted = weights > 0
        x, y = in_float64(train, unit)
        self.assert_optimal(result, x[counted], y[counted], unit, balanced[counted])


class PathTest(parameterized.TestCase):
    def test_pictures_have_one_scale_and_values_from_the_data(self):
        data = made.splits(n_train=300, n_validation=100)
        report = tfpipe.train(TrainConfig(), data).report
        self.assertEqual({head["standardize"] for head in report["grid"]}, {"none"})
        x, y = made.as_float64(data.train, 255.0)
        onehot = np.eye(3)[y]
        shares = onehot.mean(axis=0)
        gradient = (shares - onehot).T @ (x - x.mean(axis=0)) / len(x)
        largest = np.square(gradient).sum() / (-2 * (shares * np.log(shares)).sum())
        values = [head["l2"] for head in report["grid"]]
        np.testing.assert_allclose(values, 1000 * largest / math.sqrt(10) ** np.arange(len(values)), rtol=1e-6)
        costs = [head["validation_cost"] for head in report["grid"]]
        self.assertEqual(report["selected"], int(np.argmin(costs)))
        self.assertLess(len(values), 23)
        self.assertIn("the least validation cost", report["why"])

    def test_without_test_examples(self):
        data = tfpipe.load("digits", test_split=0)
        for n_folds, counts in ((None, (1797, 1797, 5)), (0, (1797, 359, 0))):
            report = tfpipe.train(TrainConfig(l2=1e-3, folds=n_folds), data).report
            found = tuple(report[name] for name in ("train_examples", "validation_examples", "folds"))
            self.assertEqual(found, counts)
            found = tuple(report[name] for name in ("test_examples", "test_error", "confusion_matrix"))
            self.assertEqual(found, (0, None, None))
            self.assertGreater(report["validation_error"], 0)

    def test_own_splits_without_test_examples(self):
        config, workdir = TrainConfig(l2=1e-2, tensorboard=False), self.create_tempdir().full_path
        calls = itertools.count()
        data = dataclasses.replace(splits(), test=splits().train.take([]))
        expected = tfpipe.train(config, splits())
        part = tfpipe.train(config, data, workdir, should_stop=lambda: next(calls) == 3).report
        self.assertEqual((part["interrupted"], part["test_error"]), (True, None))
        found = tfpipe.train(config, data, workdir)
        self.assertFalse(found.report["interrupted"])
        np.testing.assert_array_equal(found.model.W, expected.model.W)
        self.assertEqual((found.report["test_examples"], found.report["test_error"]), (0, None))
        message = "^test_split=0: goes with solver=lbfgs; sgd measures its models on test examples: take at least 1$"
        for refused in (data, tfpipe.load("digits", test_split=0)):
            with self.assertRaisesRegex(tfpipe.exceptions.ConfigError, message):
                tfpipe.train(TrainConfig(solver="sgd"), refused)

    def test_errors_may_decide(self):
        report = tfpipe.train(TrainConfig(solver="lbfgs", select="error"), made.splits()).report
        errors = [head["validation_error"] for head in report["grid"]]
        self.assertEqual(report["validation_error"], min(errors))

    def test_of_rare_classes_each_figure_takes_another_setting(self):
        data, found = made.rare_classes(), {}
        for select in ("cost", "error", "balanced_error"):
            config = TrainConfig(solver="lbfgs", select=select, folds=0, refit=False)
            found[select] = tfpipe.train(config, data)
        self.assertLen({result.report["selected"] for result in found.values()}, 3)
        result = found["balanced_error"]
        report, heads = result.report, result.report["grid"]
        self.assertEqual(report["balanced_error"], min(head["balanced_error"] for head in heads))
        self.assertIn("the least validation balanced error of", report["why"])
        self.assertIn(f"balanced error {report['balanced_error']:.2%}", report["why"])
        self.assertIn("balanced_error", report["columns"])
        self.assertNotIn("balanced_error", found["error"].report["columns"])
        predicted = result.model.predict(data.validation.images).numpy()
        expected = oracle.balanced_error(predicted, data.validation.labels)
        # The model that is saved was minimized further than the one that was tried.
        self.assertAlmostEqual(report["balanced_error"], expected, delta=1 / (3 * 10) + 1e-9)
        events = [event.balanced_error for event in result.history]
        self.assertEqual(np.nanmin(events), report["balanced_error"])

    def test_small_data_is_cross_validated_unless_a_split_is_asked_for(self):
        self.assertEqual(tfpipe.train(TrainConfig(l2=1e-3), tfpipe.load("digits")).report["folds"], 5)
        data = tfpipe.load("digits", validation_split=300)
        self.assertEqual(tfpipe.train(TrainConfig(l2=1e-3), data).report["folds"], 0)

    def test_a_file_of_splits_brings_them(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        images, labels = made.images(300)
        words = np.where(np.arange(300) % 5 == 0, "validation", np.where(np.arange(300) % 7 == 0, "test", "train"))
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", labels)
        (folder / "splits.txt").write_text("\n".join(words))
        data = tfpipe.load(folder / "images.npy", labels=folder / "labels.npy", split_file=folder / "splits.txt")
        report = tfpipe.train(TrainConfig(l2=1e-1), data).report
        counts = [(words == word).sum() for word in ("train", "validation", "test")]
        # The last fit is to the training and validation examples.
        expected = (0, counts[0] + counts[1], *counts[1:])
        names = ("folds", "train_examples", "validation_examples", "test_examples")
        self.assertEqual(tuple(report[name] for name in names), expected)


class WordsTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"l2": 1e-3, "max_iter": 1}, "not converged after 1 iterations"),
        ({"l2": 0.0}, "l2=0 has no certificate"),
        ({"l2": (1.0, 0.1)}, "l2=0.1 is the smallest that was tried"),
    )
    def test_what_must_be_said(self, options, words):
        report = tfpipe.train(TrainConfig(**options), splits()).report
        self.assertTrue(any(words in line for line in report["warnings"]), report["warnings"])

    def test_labels_that_have_nothing_to_do_with_the_images(self):
        parts = (examples(n, seed) for seed, n in enumerate((160, 60, 60), start=1))
        shuffled = [Examples(part.images[::-1].copy(), np.sort(part.labels)) for part in parts]
        report = tfpipe.train(TrainConfig(), Splits(*shuffled, ("a", "b", "c"))).report
        words = "no better than to name the largest class always"
        self.assertTrue(any(words in line for line in report["warnings"]), report["warnings"])

    def test_no_better_than_one_class_on_the_mean_over_the_classes(self):
        data = made.rare_classes()
        for l2, words in ((1e6, ["no better than to name one class always, which has a balanced error of 66.67%"]),
                          (1e-2, [])):  # fmt: skip
            config = TrainConfig(l2=l2, solver="lbfgs", select="balanced_error", folds=0)
            lines = [line for line in tfpipe.train(config, data).report["warnings"] if "no better" in line]
            self.assertEqual([word in line for word, line in zip(words, lines, strict=True)], [True] * len(words))

    def test_nothing_is_said_where_all_is_well(self):
        self.assertEqual(tfpipe.train(TrainConfig(), splits()).report["warnings"], [])

    def test_a_class_of_few_examples(self):
        train = examples(160, 1)
        kept = np.flatnonzero((train.labels != 2) | (np.arange(160) < 10))
        data = Splits(train.take(kept), examples(60, 2), examples(60, 3), ("a", "b", "c"))
        report = tfpipe.train(TrainConfig(l2=1e-2, refit=False), data).report
        self.assertIn("fewer than 5 training examples: 'c'", " ".join(report["warnings"]))

    @parameterized.parameters({"solver": "lbfgs", "l2": 1e-2, "refit": False}, {"solver": "sgd", "epochs": 2})
    def test_classes_that_are_missing_from_a_split(self, **options):
        parts = [
            part.take(np.flatnonzero(part.labels != k))
            for k, part in enumerate((examples(160, 1), examples(60, 2), examples(60, 3)))
        ]
        with self.assertLogs(level="WARNING") as log:
            report = tfpipe.train(TrainConfig(**options), Splits(*parts, ("a", "b", "c", "d"))).report
        for line in (
            "no training example: 'a', 'd'; such classes are wrong in validation, beside its cost",
            "no validation example: 'b'; what is chosen is not chosen by such classes",
            "no test example: 'c'; the test error says nothing of them",
        ):
            self.assertIn(line, report["warnings"])
            self.assertIn(line, " ".join(log.output))

    def test_a_class_of_the_validation_alone(self):
        train = examples(160, 1)
        data = Splits(train.take(np.flatnonzero(train.labels != 2)), examples(60, 2), examples(60, 3), ("a", "b", "c"))
        report = tfpipe.train(TrainConfig(l2=1e-2, refit=False), data).report
        self.assertIn("no training example: 'c'; such classes are", " ".join(report["warnings"]))
        self.assertGreaterEqual(report["grid"][0]["validation_error"], 1 / 3)

    def test_a_single_class_has_weight(self):
        train = examples(160, 1)
        train = Examples(train.images, train.labels, weights=train.labels == 1)
        data = Splits(train, examples(60, 2), examples(60, 3), ("a", "b", "c"))
        report = tfpipe.train(TrainConfig(refit=False), data).report
        self.assertIn("no training example has weight: 'a', 'c'; such classes are", " ".join(report["warnings"]))
        self.assertNotIn("no training example:", " ".join(report["warnings"]))
        self.assertEqual((report["converged"], report["certificate"]), (True, 0.0))
        self.assertAlmostEqual(report["validation_error"], 2 / 3)

    @parameterized.parameters((5, None, 4), (90, np.arange(90) // 30, 2))
    def test_no_more_folds_than_examples_or_groups(self, n, groups, expected):
        folder = self.create_tempdir().full_path
        train = examples(n, 1)
        np.savez(f"{folder}/data.npz", images=train.images, labels=train.labels % 2)
        options = {}
        if groups is not None:
            np.save(f"{folder}/groups.npy", groups)
            options = {"groups": f"{folder}/groups.npy"}
        report = tfpipe.train(TrainConfig(l2=1e-2), tfpipe.load(f"{folder}/data.npz", **options)).report
        self.assertEqual(report["folds"], expected)

    def test_a_fold_without_which_nothing_is_left(self):
        pool = examples(220, 1)
        pool = Examples(pool.images, pool.labels, weights=np.arange(220) == 7)
        parts = (pool.take(rows) for rows in np.split(np.arange(220), [160, 200]))
        with self.assertRaisesRegex(tfpipe.exceptions.ConfigError, "folds=2: put all examples that have weight into"):
            tfpipe.train(TrainConfig(folds=2), Splits(*parts, ("a", "b", "c")))

    def test_a_fold_that_lacks_a_class_counts_it_as_wrong(self):
        train = examples(160, 1)
        kept = np.flatnonzero((train.labels != 2) | (np.arange(160) < 3))  # One of class c.
        data = Splits(train.take(kept[::2]), train.take(kept[1::2]), examples(60, 3), ("a", "b", "c"))
        report = tfpipe.train(TrainConfig(l2=1e-2, folds=2), data).report
        self.assertTrue(all(np.isfinite(head["validation_cost"]) for head in report["grid"]))
        self.assertIn("1 validation examples are of classes", " ".join(report["warnings"]))
        labels = np.concatenate([data.train.labels, data.validation.labels])
        counted = report["validation_error"] * len(labels) - 1  # Without the one of class c.
        of_class = np.bincount(labels)
        self.assertGreaterEqual(counted, 0)
        self.assertLess(counted, of_class[:2].min())

    @parameterized.parameters(
        ({"folds": 3, "refit": False}, "refit"),
        ({"folds": 400}, "folds"),
        ({"solver": "lbfgs", "precision": "bfloat16", "device": "cpu"}, "precision"),
    )
    def test_what_cannot_be(self, options, name):
        with self.assertRaisesRegex(tfpipe.exceptions.TfpipeError, name):
            tfpipe.train(TrainConfig(**options), splits())


def of_size(parameters, n=220):
    """Pictures of 20 classes, with as many pixels as make so many parameters of a head."""
    random, size = np.random.default_rng(3), parameters // 20 - 1
    labels = np.arange(n, dtype=np.int32) % 20
    x = random.normal(size=(n, size)) + random.normal(size=(20, size))[labels]
    rows = Examples(x.astype(np.float32).reshape(n, 1, size), labels)
    return Splits(rows, rows.take(np.arange(20)), rows.take(np.arange(20)), tuple(map(str, range(20))))


def a_small_machine():
    """Of whose memory, 256 MiB, heads may take 64: 8,388,608 numbers."""
    sizes = {"SC_PHYS_PAGES": 1 << 16, "SC_PAGE_SIZE": 1 << 12}
    sysconf = os.sysconf
    return mock.patch.object(os, "sysconf", side_effect=lambda name: sizes.get(name) or sysconf(name))


class MemoryTest(parameterized.TestCase):
    """A head of P numbers that keeps m pairs takes (2 m + 90) P: five of 17,000 fit with m = 3, and not with m = 5."""

    CONFIG = TrainConfig(l2=1e-1, folds=5)

    def test_fewer_pairs_before_a_run_is_refused(self):
        data = of_size(17_000)
        with a_small_machine(), self.assertLogs("absl", "INFO") as log:
            result = tfpipe.train(self.CONFIG, data)
        self.assertTrue(any("memory allows 3 pairs of L-BFGS a head, not 10" in line for line in log.output))
        self.assertTrue(result.report["converged"])
        self.assertGreater(result.report["evaluations"], 3)
        x, y = in_float64(data.train.joined(data.validation))
        x, W, b = x.reshape(len(x), -1), result.model.W.numpy().T, result.model.b.numpy()
        cost = objective(x, y, W, b, 1e-1)
        self.assertLess(result.report["certificate"], 1e-4 * cost)
        p = np.exp(x @ W.T + b)
        p /= p.sum(axis=1, keepdims=True)
        gradient = (p - np.eye(20)[y]).T @ x / len(x) + 1e-1 * W
        self.assertLess(np.square(gradient).sum() / (2 * 1e-1), 1e-4 * cost)


class Died(BaseException):
    """Stands for the end of the process."""


class ResumeTest(parameterized.TestCase):
    CONFIG = TrainConfig(l2=(1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5), checkpoint_every=0.0, tensorboard=False)

    def setUp(self):
        super().setUp()
        self.config = self.CONFIG

    def run_(self, workdir, stop_after=None, **options):
        calls = itertools.count()
        stop = None if stop_after is None else lambda: next(calls) >= stop_after
        return tfpipe.train(self.config, splits(), workdir, **({"should_stop": stop} if stop else {}), **options)

    def files(self, workdir):
        model = artifact.load(workdir / "model.npz")
        report = figures(json.loads((workdir / "report.json").read_text()))
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        metrics = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
        return model.W.tobytes(), model.b.tobytes(), model.summary, report, metrics

    def workdir(self, name):
        import pathlib

        return pathlib.Path(self.create_tempdir().full_path) / name

    @pytest.mark.exhaustive
    def test_it_goes_on_to_the_same_bits_from_anywhere(self):
        whole = self.workdir("whole")
        steps = self.run_(whole).report["evaluations"]
        expected = self.files(whole)
        self.assertGreater(steps, 30)
        workdir = self.workdir("parts")
        for part in range(5):
            result = self.run_(workdir, stop_after=steps // 5 - part)
            self.assertEqual(result.report["interrupted"], True)
            self.assertIsNotNone(result.model)
        self.run_(workdir)
        self.assertEqual(self.files(workdir), expected)
        again = self.run_(workdir)  # It is finished: what it left is given.
        self.assertEqual(figures(again.report), expected[3])

    def test_evaluations_of_each_setting_and_of_all_side_by_side(self):
        report = self.run_(self.workdir("run"), stop_after=3).report
        self.assertEqual(report["evaluations"], 3)
        self.assertEqual([setting["evaluations"] for setting in report["grid"]], [3, 3, 3, 3])

    def test_what_ends_before_its_first_step_leaves_no_validation(self):
        whole, workdir = self.workdir("whole"), self.workdir("parts")
        self.run_(whole)
        result = self.run_(workdir, stop_after=0)
        self.assertEqual((result.report["evaluations"], result.history), (0, []))
        self.assertEqual((workdir / "metrics.jsonl").read_text(), "")
        self.run_(workdir)
        self.assertEqual(self.files(workdir), self.files(whole))

    def test_it_may_die_after_every_evaluation(self):
        self.assert_goes_on({"l2": (1e-1, 1e-3), "folds": 2, "select": "auc"}, self.dies)

    @parameterized.parameters(({"folds": 2}, "dies"), ({"folds": 2}, "is_stopped"), ({"precision": "float64"}, "dies"))
    @pytest.mark.exhaustive
    def test_a_path_may_end_after_every_evaluation(self, options, end):
        self.assert_goes_on({"l2": None} | options, getattr(self, end))

    def assert_goes_on(self, options, end):
        """Of a search with folds or without, at both scales, each part of which ends after one evaluation or two."""
        self.config = dataclasses.replace(self.CONFIG, solver="lbfgs", **options)
        whole, workdir = self.workdir("whole"), self.workdir("parts")
        steps = self.run_(whole).report["evaluations"]
        parts = 0
        while end(workdir, 1 + parts % 2):
            parts += 1
            self.assertLess(parts, 10 * steps)
        self.assertGreater(parts, steps // 3)
        self.assertEqual(self.files(workdir), self.files(whole))

    def is_stopped(self, workdir, after):
        return self.run_(workdir, stop_after=after).report["interrupted"]

    @parameterized.parameters(({"folds": 3}, True), ({"refit": False}, False))
    def test_one_that_is_stopped_says_whether_its_model_saw_the_validation(self, options, saw):
        workdir = self.workdir("stopped")
        self.config = dataclasses.replace(self.config, l2=(1.0,), **options)
        self.assertTrue(self.run_(workdir, stop_after=2).report["interrupted"])
        # In folds it is the mean of heads that together were fitted to all.
        self.assertEqual(artifact.load(workdir / "model.npz").summary["saw_validation"], saw)

    def dies(self, workdir, after):
        calls = itertools.count()

        def die():
            if next(calls) == after:
                raise Died
            return False

        try:
            tfpipe.train(self.config, splits(), workdir, should_stop=die)
        except Died:
            return True
        return False

    def test_a_state_from_before_there_were_more_figures_goes_on(self):
        whole, workdir = self.workdir("whole"), self.workdir("run")
        self.run_(whole)
        expected = self.files(whole)
        self.assertTrue(expected[3]["coefficients"].pop("path"))
        self.run_(workdir, stop_after=25)
        states = Checkpoints(workdir / "checkpoints")
        saved = states.load()
        new = {"trials.figure", "norms"}
        self.assertContainsSubset(new, saved.arrays)
        arrays = {name: array for name, array in saved.arrays.items() if name not in new}
        states.save(saved.facts["steps"], saved._replace(arrays=arrays))
        self.run_(workdir)
        found = self.files(workdir)
        found[3]["coefficients"].pop("path")  # Of what was tried before, norms are not known.
        self.assertEqual(found, expected)

    def test_it_does_not_go_on_with_other_pairs(self):
        workdir = self.workdir("run")
        data = of_size(17_000)
        config = TrainConfig(l2=1e-1, folds=5, tensorboard=False)
        tfpipe.train(config, data, workdir, should_stop=lambda: True)
        with a_small_machine(), self.assertRaisesRegex(WorkdirError, "pairs=10, not 3"):
            tfpipe.train(config, data, workdir)

    def test_the_state_of_another_search_is_refused(self):
        workdir = self.workdir("run")
        self.run_(workdir, stop_after=3)
        with self.assertRaisesRegex(WorkdirError, "tolerance=0.0001, not 0.01"):
            tfpipe.train(TrainConfig(l2=self.CONFIG.l2, tolerance=1e-2), splits(), workdir)
        with self.assertRaisesRegex(WorkdirError, "solver=lbfgs, not sgd"):
            tfpipe.train(TrainConfig(epochs=3), splits(), workdir)
        saved = Checkpoints(workdir / "checkpoints").load()
        damaged = saved._replace(arrays={name: array[..., :1] for name, array in saved.arrays.items()})
        Checkpoints(workdir / "checkpoints").save(99, damaged)
        with self.assertRaisesRegex(WorkdirError, "state"):
            self.run_(workdir)


def scaled_badly(random, n=600):
    x = random.normal(size=(n, 20))
    y = (x @ random.normal(size=(20, 4)) + 2 * random.gumbel(size=(n, 4))).argmax(axis=1)
    return x * 10.0 ** random.uniform(-3, 4, 20) + 5, y


def many_columns_scaled_badly(random, n=3000):
    x = random.normal(size=(n, 54))
    y = (x @ random.normal(size=(54, 7)) + 4 * random.gumbel(size=(n, 7))).argmax(axis=1)
    return x * 10.0 ** random.uniform(-3, 4, 54), y


def mostly_tiny_noise(random, n=600):
    x = random.normal(size=(n, 12))
    y = (x @ random.normal(size=(12, 4)) + 2 * random.gumbel(size=(n, 4))).argmax(axis=1)
    return np.concatenate([x, 1e-3 * random.normal(size=(n, 60))], axis=1), y


def rare_words(random, n=800):
    y = random.integers(0, 4, n)
    often = 0.02 * np.exp(random.normal(size=(4, 200)))
    return (random.random((n, 200)) < often[y]).astype(np.float32), y


def unit_norm(random, n=2000):
    centres, y = random.normal(size=(20, 128)), random.integers(0, 20, n)
    x = centres[y] + 3 * random.normal(size=(n, 128))
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def unit_norm_of_100_classes(random, n=5000):
    centres, y = random.normal(size=(100, 512)), random.integers(0, 100, n)
    x = centres[y] + 4 * random.normal(size=(n, 512))
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def a_huge_column_that_says_nothing(random, n=600):
    x = random.normal(size=(n, 12))
    y = (x @ random.normal(size=(12, 3)) + 2 * random.gumbel(size=(n, 3))).argmax(axis=1)
    x[:, 0] = 1e5 * random.normal(size=n)
    return x, y


class WithoutAnyOptionTest(parameterized.TestCase):
    """Test error within one standard error of the better of scikit-learn's two pipelines, on the same rows."""

    def check(self, x, y):
        folder = self.create_tempdir().full_path
        np.savez(f"{folder}/data.npz", images=x, labels=y)
        data = tfpipe.load(f"{folder}/data.npz")
        report = tfpipe.train(TrainConfig(), data).report
        pool = data.train.joined(data.validation)
        by_cost = LogisticRegressionCV(
            scoring="neg_log_loss", use_legacy_attributes=False, l1_ratios=(0,)
        )  # fmt: skip
        x = x.astype(np.float64)
        errors = []
        for pipeline in (by_cost, make_pipeline(StandardScaler(), by_cost)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # Of columns as they are it seldom does.
                pipeline.fit(x[pool.rows], y[pool.rows])
            errors.append((pipeline.predict(x[data.test.rows]) != y[data.test.rows]).mean())
        best, n = min(errors), len(data.test)
        self.assertLessEqual(report["test_error"], best + math.sqrt(max(best * (1 - best), 1 / n) / n), errors)
        self.assertTrue(report["converged"])

    @parameterized.parameters("iris", "wine")
    def test_small_sets(self, name):
        self.check(*getattr(sklearn.datasets, f"load_{name}")(return_X_y=True))

    def test_columns_of_bad_scales(self):
        self.check(*scaled_badly(np.random.default_rng(0)))

    @parameterized.parameters("breast_cancer", "digits")
    @pytest.mark.exhaustive
    def test_more_sets(self, name):
        self.check(*getattr(sklearn.datasets, f"load_{name}")(return_X_y=True))

    @parameterized.parameters(
        many_columns_scaled_badly, mostly_tiny_noise, rare_words, unit_norm, unit_norm_of_100_classes,
        a_huge_column_that_says_nothing,
    )  # fmt: skip
    @pytest.mark.exhaustive
    def test_made_sets(self, make):
        self.check(*make(np.random.default_rng(0)))


if __name__ == "__main__":
    absltest.main()

"""Draws of the training rows: each is the run on its rows alone."""

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest
import scipy.stats
from absl.testing import absltest, parameterized

import tfpipe
from tests import made
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.data import draws
from tfpipe.exceptions import ConfigError
from tfpipe.statistics.curves import spread
from tfpipe.statistics.figures import Outcomes
from tfpipe.training import report

# With a value of 0 heads are fitted in the columns as they are, side by side, and not apart in the basis of their rows.
UNCERTIFIED = (1e-1, 0.0)
FIGURES = ("cost", "error", "balanced_error", "macro_f1", "auc")


def examples(n, seed, n_classes=3):
    """Rows of features of very different scales `[n, 6]` around one mean for each class, of which the last is rare."""
    random = np.random.default_rng(seed)
    shares = np.array([0.5, 0.44, 0.06])
    labels = random.choice(n_classes, n, p=shares).astype(np.int32)
    means = np.random.default_rng(77).normal(0, 1, (n_classes, 6))
    x = (means[labels] + random.normal(0, 1.2, (n, 6))) * [1.0, 3.0, 0.1, 1.0, 20.0, 1.0]
    return Examples(x.astype(np.float32), labels)


def splits(sizes=(160, 60, 80), groups=None):
    parts = [examples(n, seed) for seed, n in enumerate(sizes, start=1)]
    if groups:
        parts = [part.annotated(None, np.arange(len(part)) // groups + 1000 * i) for i, part in enumerate(parts)]
    return Splits(*parts, class_names=("a", "b", "c"))


def config(**options):
    return TrainConfig(**{"l2": (1e-2,), "tolerance": 1e-8, "tensorboard": False, "solver": "lbfgs"} | options)


class DrawsTest(parameterized.TestCase):
    @parameterized.parameters(None, "balanced")
    def test_each_is_the_run_on_its_rows_alone(self, class_weight):
        data = splits()
        options = {"class_weight": class_weight, "precision": "float64"}
        found = tfpipe.train(config(shots=(2, 5), subsets=(0.3,), bootstrap=2, seeds=2, **options), data).report
        self.assertLen(found["draws"], 2 * 2 + 2 + 2)
        pool = data.train.joined(data.validation)
        for one in found["draws"]:
            if one["kind"] == "shots":
                counts = draws.shots(pool.labels, int(one["size"]), 0, one["number"])
            elif one["kind"] == "subsets":
                counts = draws.subset(pool.labels, one["size"], 0, one["number"])
            else:
                counts = draws.bootstrap(len(pool), 0, one["number"])
            self.assertEqual(one["rows"], np.count_nonzero(counts))
            rows = np.repeat(np.arange(len(pool)), counts.astype(int))
            alone = Splits(
                Examples(pool.images[rows], pool.labels[rows]), data.validation, data.test, class_names=("a", "b", "c")
            )
            kept = tfpipe.train(config(refit=False, l2=(one["l2"],), **options), alone)
            other = next(h for h in kept.report["grid"] if h["standardize"] == one["standardize"])
            self.assertAlmostEqual(one["train_cost"], other["train_cost"], delta=1e-6 * other["train_cost"])
            self.assertTrue(one["converged"])

    def test_the_figures_are_those_of_the_model_on_the_test(self):
        data = splits()
        found = tfpipe.train(config(subsets=(1,), seeds=1), data)
        (one,) = found.report["draws"]
        expected = Outcomes(data.test.labels, found.model.predict_proba(data.test.images).numpy()).figures()
        for name in FIGURES:
            self.assertAlmostEqual(one[name], expected[name], delta=1e-5, msg=name)
        self.assertIsNone(one["top5_error"])

    @parameterized.parameters("float32", "float64")
    def test_all_rows_are_the_plain_run(self, precision):
        data = splits((3000, 1000, 500))
        plain = tfpipe.train(config(precision=precision), data).report
        found = tfpipe.train(config(precision=precision, subsets=(0.1, 1), seeds=2), data).report
        self.assertEqual((found["train_cost"], found["l2"]), (plain["train_cost"], plain["l2"]))
        self.assertLen(found["draws"], 3)
        for one in found["draws"][2:]:
            self.assertEqual((one["size"], one["rows"]), (1.0, 4000))
            self.assertAlmostEqual(one["train_cost"], plain["train_cost"], delta=1e-6 * plain["train_cost"])
            self.assertAlmostEqual(one["error"], plain["test_error"], delta=1e-12)

    def test_points_of_curves(self):
        found = tfpipe.train(config(shots=(4, 1), bootstrap=7, seeds=3), splits()).report
        points = [(point["kind"], point["size"], point["draws"]) for point in found["curves"]]
        self.assertEqual(points, [("shots", 1.0, 3), ("shots", 4.0, 3), ("bootstrap", None, 7)])
        for point, of_point in zip(found["curves"], (range(3), range(3, 6), range(6, 13)), strict=True):
            own = [found["draws"][number] for number in of_point]
            self.assertEqual(point["rows"], np.mean([one["rows"] for one in own]))
            errors = [one["error"] for one in own]
            self.assertAlmostEqual(point["error"]["mean"], np.mean(errors))
            self.assertAlmostEqual(point["error"]["deviation"], np.std(errors, ddof=1))
            low, high = np.quantile(errors, [0.025, 0.975])
            if point["kind"] == "shots":
                mean = np.mean(errors)
                half = scipy.stats.t.ppf(0.975, 2) * np.std(errors, ddof=1) / math.sqrt(3) / (mean * (1 - mean))
                at = math.log(mean / (1 - mean))
                low, high = (1 / (1 + math.exp(-(at + sign * half))) for sign in (-1, 1))
            self.assertAlmostEqual(point["error"]["low"], low)
            self.assertAlmostEqual(point["error"]["high"], high)
        rows = report.tables(found)["curves"]
        self.assertEqual([row[0] for row in rows[1:]], ["shots 1", "shots 4", "bootstrap"])
        self.assertIn(f"{found['curves'][1]['error']['mean']:.2%}", rows[2])

    def test_a_draw_that_misses_a_class_says_so(self):
        found = tfpipe.train(config(subsets=(0.03, 0.5), seeds=4), splits()).report
        pool_labels = np.concatenate([part.labels for part in (splits().train, splits().validation)])
        lacks = [len(np.unique(pool_labels[draws.subset(pool_labels, 0.03, 0, number)])) < 3 for number in range(4)]
        self.assertTrue(any(lacks))
        self.assertEqual([one["missing"] for one in found["draws"]], [int(one) for one in lacks] + 4 * [0])
        self.assertEqual([point["missing"] for point in found["curves"]], [sum(lacks), 0])
        self.assertIn(
            f"{sum(lacks)} of 8 draws have no row of some class: it is wrong there wherever it occurs",
            found["warnings"],
        )
        one = found["draws"][lacks.index(True)]
        rare = float((splits().test.labels == 2).mean())
        self.assertGreaterEqual(one["error"], rare)
        self.assertIsNone(one["cost"])
        self.assertIsNotNone(found["draws"][-1]["cost"])

    def test_rows_without_weight_are_in_no_draw(self):
        data = splits()
        weights = np.ones(160)
        weights[::2] = 0
        data = dataclasses.replace(data, train=data.train.annotated(weights, None))
        found = tfpipe.train(config(subsets=(1,), shots=(1000,), seeds=3), data).report
        self.assertEqual([one["rows"] for one in found["draws"]], [140, 140])  # Of all rows one draw.

    def test_groups_are_drawn_whole(self):
        found = tfpipe.train(config(subsets=(0.25,), bootstrap=3, seeds=2), splits(groups=10)).report
        for one in found["draws"]:
            self.assertEqual(one["rows"] % 10, 0)


class ReselectTest(parameterized.TestCase):
    VALUES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)

    def test_on_the_validation_split(self):
        data = splits()
        found = tfpipe.train(config(l2=self.VALUES, folds=0, shots=(3, 12), seeds=2, reselect=True), data).report
        for one in found["draws"]:
            rows = draws.shots(data.train.labels, int(one["size"]), 0, one["number"])
            alone = Splits(
                Examples(data.train.images[rows], data.train.labels[rows]), data.validation, data.test,
                class_names=("a", "b", "c"),
            )  # fmt: skip
            grid = tfpipe.train(config(l2=self.VALUES, folds=0, refit=False), alone).report
            self.assertEqual((one["l2"], one["standardize"]), (grid["l2"], grid["standardize"]))
            self.assertAlmostEqual(one["choice_cost"], grid["validation_cost"], delta=1e-3)
            self.assertAlmostEqual(one["error"], grid["test_error"], delta=1e-12)

    def test_with_folds_on_the_rows_outside_of_the_largest_draw(self):
        data = splits()
        found = tfpipe.train(config(l2=self.VALUES, folds=3, shots=(3, 12), seeds=2, reselect=True), data).report
        pool = data.train.joined(data.validation)
        for one in found["draws"]:
            rows = draws.shots(pool.labels, int(one["size"]), 0, one["number"])
            outside = ~draws.shots(pool.labels, 12, 0, one["number"])
            parts = [Examples(pool.images[which], pool.labels[which]) for which in (rows, outside)]
            grid = tfpipe.train(
                config(l2=self.VALUES, folds=0, refit=False), Splits(*parts, data.test, class_names=("a", "b", "c"))
            ).report
            self.assertEqual((one["l2"], one["standardize"]), (grid["l2"], grid["standardize"]))
            self.assertAlmostEqual(one["choice_cost"], grid["validation_cost"], delta=1e-3)

    def test_a_bootstrap_chooses_out_of_the_bag(self):
        data = splits()
        found = tfpipe.train(config(l2=self.VALUES, folds=3, bootstrap=3, reselect=True), data).report
        pool = data.train.joined(data.validation)
        for one in found["draws"]:
            counts = draws.bootstrap(len(pool), 0, one["number"]).astype(int)
            rows = np.repeat(np.arange(len(pool)), counts)
            parts = [Examples(pool.images[which], pool.labels[which]) for which in (rows, counts == 0)]
            grid = tfpipe.train(
                config(l2=self.VALUES, folds=0, refit=False), Splits(*parts, data.test, class_names=("a", "b", "c"))
            ).report
            self.assertEqual((one["l2"], one["standardize"]), (grid["l2"], grid["standardize"]))
            self.assertAlmostEqual(one["choice"], grid["validation_cost"], delta=1e-3)


class RefusedTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"seeds": 3}, "seeds=3: goes with shots or subsets"),
        ({"reselect": True}, "reselect=True: goes with shots or subsets or bootstrap"),
        ({"shots": (1.5,)}, "shots=1.5: 1.5 is not a whole number of at least 1"),
        ({"subsets": (2,)}, "subsets=2: 2 is not a number above 0 and at most 1"),
        ({"bootstrap": 1}, "bootstrap=1: must be an integer of at least 2"),
        ({"subsets": (0.001,)}, "subsets=0.001: draw 1 has rows of one class alone; give more than 0.001"),
        ({"subsets": (0.5, 1), "reselect": True, "folds": 3},
         "subsets=0.5,1: leave no rows on which reselect could choose their settings; give smaller ones, or a val"),
        ({"shots": (3,), "solver": "sgd", "tolerance": None}, "shots=3: is an option of lbfgs, and does not go with"),
    )  # fmt: skip
    def test_what_cannot_be_drawn(self, options, message):
        with self.assertRaisesRegex(ConfigError, f"^{message}"):
            tfpipe.train(config(**options), splits())

    def test_without_test_examples(self):
        data = tfpipe.load("digits", test_split=0)
        message = "bootstrap=5: are measured on test examples; take at least 1 that has weight"
        with self.assertRaisesRegex(ConfigError, message):
            tfpipe.train(TrainConfig(bootstrap=5), data)
        data = splits()
        data = dataclasses.replace(data, test=data.test.annotated(np.zeros(80), None))
        with self.assertRaisesRegex(ConfigError, message):
            tfpipe.train(config(bootstrap=5), data)

    def test_a_bootstrap_of_rare_classes_and_few_groups(self):
        data = splits((1500, 60, 80))
        labels = np.where(np.arange(1500) == 7, 1, 0)
        rare = dataclasses.replace(data, train=Examples(data.train.images, labels))
        with self.assertRaisesRegex(ConfigError, "bootstrap=20: draw [0-9]+ has rows of one class alone; the other c"):
            tfpipe.train(config(bootstrap=20, folds=0, refit=False), rare)
        few = splits((1500, 60, 80), groups=600)
        with self.assertRaisesRegex(ConfigError, "bootstrap=60: leave no rows on which .*; give a validation split"):
            tfpipe.train(config(bootstrap=60, folds=2, reselect=True), few)


class SpreadTest(absltest.TestCase):
    def test_one_draw_and_none(self):
        self.assertEqual(spread([0.5], bootstrap=False, is_share=True)[0], 0.5)
        self.assertTrue(all(map(math.isnan, spread([0.5], bootstrap=True, is_share=True)[1:])))
        self.assertTrue(all(map(math.isnan, spread([math.nan, math.inf], bootstrap=True, is_share=True))))
        self.assertEqual(spread([1.0, math.inf, 3.0], bootstrap=False, is_share=False).mean, 2.0)

    def test_no_interval_leaves_the_scale(self):
        found = spread([0.01, 0.9], bootstrap=False, is_share=True)
        self.assertTrue(0 < found.low < 0.455 < found.high < 1)
        self.assertTrue(all(map(math.isnan, spread([0.0, 0.0], bootstrap=False, is_share=True)[2:])))
        cost = spread([0.1, 5.0], bootstrap=False, is_share=False)
        half = scipy.stats.t.ppf(0.975, 1) * np.std([0.1, 5.0], ddof=1) / math.sqrt(2) / 2.55
        np.testing.assert_allclose(cost[2:], [2.55 * math.exp(-half), 2.55 * math.exp(half)], rtol=1e-12)


class ResumeTest(parameterized.TestCase):
    def test_few_rows_may_be_stopped_between_any_two_values(self):
        self.check(stride=3, l2=(1e-1, 1e-3), reselect=True)

    def test_it_may_be_stopped_after_any_evaluation(self):
        self.check(stride=17, l2=UNCERTIFIED, reselect=True)

    @parameterized.product(l2=((1e-1, 1e-3), UNCERTIFIED), reselect=(True, None))
    @pytest.mark.exhaustive
    def test_it_is_stopped_after_every_evaluation(self, l2, reselect):
        self.check(stride=1, l2=l2, reselect=reselect)

    @parameterized.parameters(((1e-1, 1e-3),), (UNCERTIFIED,))
    def test_a_run_that_ends_on_the_way_tells_the_draws_that_are_done(self, l2):
        data, looks = splits(), []
        wanted = config(l2=l2, folds=3, shots=(2, 5), seeds=6, reselect=True, tolerance=1e-4)
        whole = tfpipe.train(wanted, data, should_stop=lambda: looks.append(0)).report
        stop = len(looks) - 3
        left = iter(range(10_000))
        found = tfpipe.train(wanted, data, should_stop=lambda: next(left) >= stop).report
        self.assertTrue(found["interrupted"])
        n = len(found["draws"])
        self.assertIn(f"{n} of 12 draws were made before the run ended", found["warnings"])
        self.assertEqual(found["draws"], whole["draws"][:n])
        self.assertGreater(n, 2)

    def check(self, stride, **options):
        data = made.splits(120, 40, 50)
        folder = pathlib.Path(self.create_tempdir().full_path)
        drawn = {"shots": (2, 5), "bootstrap": 2, "seeds": 2}
        wanted = config(folds=3, tolerance=1e-4, checkpoint_every=0.0, **drawn, **options)
        looks = []
        whole = tfpipe.train(wanted, data, folder / "whole", should_stop=lambda: looks.append(0)).report
        parts = 0
        while True:
            calls = iter(range(stride))
            found = tfpipe.train(wanted, data, folder / "parts", should_stop=lambda of=calls: next(of, None) is None)
            if not found.report["interrupted"]:
                break
            parts += 1
            self.assertLess(parts, 10 * len(looks))
        self.assertGreater(parts, len(looks) // (2 * stride))
        self.assertEqual(found.report["evaluations"], whole["evaluations"])
        self.assertEqual(found.report["draws"], whole["draws"])
        self.assertEqual(found.report["curves"], whole["curves"])
        self.assertEqual(found.report["train_cost"], whole["train_cost"])
        self.assertEqual(json.loads((folder / "parts" / "report.json").read_text())["draws"], whole["draws"])


if __name__ == "__main__":
    absltest.main()

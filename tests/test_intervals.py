import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from scipy import special, stats
from sklearn import metrics

import tfpipe
from tests import made
from tfpipe import Examples, TrainConfig
from tfpipe.model import artifact, tested
from tfpipe.statistics import figures, intervals
from tfpipe.statistics.figures import Outcomes

Z = stats.norm.ppf(0.975)


def of_losses(losses, wrong):
    """Two classes, all of class 0: each example has the loss, and is wrong or not."""
    of_label = np.exp(-np.asarray(losses, float))
    p = np.stack([of_label, 1 - of_label], axis=1)
    outcomes = Outcomes(np.zeros(len(p), int), p)
    np.testing.assert_array_equal(outcomes.wrong, wrong)
    return outcomes


def drawn(n, margin, random, n_out=11):
    """Labels `[n]` and probabilities `[n, K]` of a population in which they are the surer, the larger the margin."""
    labels = random.integers(0, n_out, n)
    z = random.normal(size=(n, n_out)) + margin * (np.arange(n_out) == labels[:, np.newaxis])
    p = np.exp(z)
    return labels, p / p.sum(axis=1, keepdims=True)


class WilsonTest(parameterized.TestCase):
    @parameterized.product(n=[1, 2, 10, 359, 10_000], share=[0, 0.01, 0.1, 0.5, 0.9, 1])
    def test_as_scipy(self, n, share):
        wrong = round(share * n)
        expected = stats.binomtest(wrong, n).proportion_ci(method="wilson")
        found = intervals.wilson(wrong / n, n)
        np.testing.assert_allclose(found, (expected.low, expected.high), rtol=0, atol=1e-10)
        self.assertBetween(wrong / n, *found)

    def test_by_hand(self):
        # (0.2 + 3.8415/20 ± 1.96 sqrt(0.016 + 3.8415/400)) / 1.38415
        np.testing.assert_allclose(intervals.wilson(0.2, 10), (0.0566822, 0.5098375), atol=1e-7)
        self.assertEqual(intervals.wilson(0.0, 10)[0], 0)
        self.assertAlmostEqual(intervals.wilson(0.0, 10)[1], Z**2 / (10 + Z**2), delta=1e-15)
        self.assertEqual(intervals.wilson(1.0, 10)[1], 1)

    def test_the_effective_number(self):
        self.assertEqual(intervals.effective(np.array([1.0, 1, 1, 0])), 3)
        self.assertAlmostEqual(intervals.effective(np.array([1.0, 2, 3])), 36 / 14)
        for factor in (1e-200, 1e200):
            self.assertAlmostEqual(intervals.effective(factor * np.array([1.0, 2, 3])), 36 / 14)

    @parameterized.product(n=[50, 1000], error=[0.01, 0.1, 0.5])
    @pytest.mark.exhaustive
    def test_coverage(self, n, error):
        found = [intervals.wilson(k / n, n) for k in range(n + 1)]
        covers = np.array([low <= error <= high for low, high in found])
        exact = stats.binom.pmf(np.arange(n + 1), n, error) @ covers
        self.assertBetween(exact, 0.9105, 0.9705)
        outcomes = np.random.default_rng(0).random((2000, n)) < error
        held = np.mean([covers[wrong.sum()] for wrong in outcomes])
        self.assertAlmostEqual(held, exact, delta=3 * np.sqrt(exact * (1 - exact) / 2000))


class EstimatesTest(parameterized.TestCase):
    def assert_spread(self, found, deviation, *, freedom, is_logit=False):
        """That a bootstrap interval has this standard deviation, within 4 errors of that of 500 draws."""
        value, (low, high) = found.value, found.interval
        if is_logit:
            value, low, high = special.logit((value, low, high))
            deviation /= found.value * (1 - found.value)
        else:
            value, low, high = np.log((value, low, high))
            deviation /= found.value
        np.testing.assert_allclose(high - value, value - low, rtol=1e-6)
        self.assertEqual(found.method, "bootstrap")
        np.testing.assert_allclose((high - low) / 2 / stats.t.ppf(0.975, freedom), deviation, rtol=4 / np.sqrt(1000))

    def test_two_examples_by_hand(self):
        # Of four draws two have both, one the first twice, and one the second: a variance of 0.95^2 / 2, and twice that
        # for one degree of freedom.
        found = intervals.estimates(of_losses([0.1, 2.0], [False, True]))
        self.assert_spread(found["cost"], 0.95, freedom=1)
        self.assertEqual(found["cost"][2:], ("bootstrap", 500, "of 2 examples alone, so rough"))
        self.assertEqual(found["error"].method, "wilson")
        np.testing.assert_allclose(found["error"].interval, intervals.wilson(0.5, 2))
        self.assertEqual((found["error"].draws, found["error"].note), (None, None))
        self.assert_spread(found["balanced_error"], 0.5, freedom=1, is_logit=True)
        self.assertTrue(np.isnan(found["auc"].value))
        self.assertEqual((found["auc"].interval, found["auc"].note), (None, "all examples are of one class"))

    def test_weights_by_hand(self):
        found = intervals.estimates(of_losses([0.1, 2.0, 7.0], [False, True, True]), np.array([3.0, 1, 0]))
        self.assertAlmostEqual(found["cost"].value, (3 * 0.1 + 2.0) / 4)
        # Draws of 0.1, 2.0 and, half of them, 0.575; that of weight 0 is in none.
        deviation = np.std([0.1, 2.0, 0.575, 0.575])
        self.assert_spread(found["cost"], np.sqrt(2) * deviation, freedom=1)
        self.assertEqual(found["error"].value, 0.25)
        np.testing.assert_allclose(found["error"].interval, intervals.wilson(0.25, 16 / 10))

    def test_groups_by_hand(self):
        # Four examples of one group are right, two of another wrong: as wholes they are drawn, for the error too.
        outcomes = of_losses([0.1] * 4 + [2.0] * 2, [False] * 4 + [True] * 2)
        groups = np.array([7, 7, 7, 7, 3, 3])
        found = intervals.estimates(outcomes, groups=groups)
        self.assertAlmostEqual(found["error"].value, 1 / 3)
        self.assert_spread(found["error"], np.sqrt(2) * np.std([0, 1, 1 / 3, 1 / 3]), freedom=1, is_logit=True)
        mixed = (4 * 0.1 + 2 * 2.0) / 6
        self.assert_spread(found["cost"], np.sqrt(2) * np.std([0.1, 2.0, mixed, mixed]), freedom=1)
        # A group whose examples have no weight is none.
        found = intervals.estimates(outcomes, np.array([1.0, 1, 1, 1, 0, 0]), groups)
        self.assertEqual((found["error"].value, found["error"].interval), (0, None))
        self.assertEqual(found["error"].note, "there is no interval of one group")

    def test_a_group_each_is_an_example_each(self):
        outcomes = Outcomes(*drawn(200, 1.5, np.random.default_rng(0)))
        plain, grouped = intervals.estimates(outcomes), intervals.estimates(outcomes, groups=np.arange(200))
        self.assertEqual(list(plain), list(figures.names(11)))
        for name in plain.keys() - {"error", "top5_error"}:
            self.assertEqual(plain[name], grouped[name])
        p = plain["error"].value
        self.assert_spread(grouped["error"], np.sqrt(p * (1 - p) / 199), freedom=199, is_logit=True)
        self.assert_spread(plain["cost"], outcomes.loss.std(ddof=1) / np.sqrt(200), freedom=199)

    def test_as_scipys_bootstrap(self):
        outcomes = Outcomes(*drawn(60, 1.5, np.random.default_rng(1)))
        found = intervals.estimates(outcomes)
        expected = stats.bootstrap((outcomes.loss,), np.mean, n_resamples=20_000, method="percentile", rng=2)
        self.assert_spread(found["cost"], expected.standard_error * np.sqrt(60 / 59), freedom=59)
        self.assertEqual(found, intervals.estimates(outcomes))

    @pytest.mark.exhaustive
    def test_as_scipys_bootstrap_of_scikit_learns_figures(self):
        labels, p = drawn(60, 1.5, np.random.default_rng(1), n_out=3)
        outcomes = Outcomes(labels, p)
        found = intervals.estimates(outcomes)

        def auc(rows):
            there = np.unique(labels[rows])
            return np.mean([metrics.roc_auc_score(labels[rows] == k, p[rows, k]) for k in there])

        def macro_f1(rows):
            there = np.unique(labels[rows])
            return metrics.f1_score(labels[rows], outcomes.predicted[rows], average="macro", labels=there)

        for name, figure in (("auc", auc), ("macro_f1", macro_f1)):
            expected = stats.bootstrap(
                (np.arange(60),), figure, n_resamples=1000, vectorized=False, method="percentile", rng=2
            )
            self.assertAlmostEqual(found[name].value, figure(np.arange(60)), delta=1e-10)
            deviation = expected.standard_error * np.sqrt(60 / 59)
            self.assert_spread(found[name], deviation, freedom=59, is_logit=True)

    def test_weights_that_are_alike(self):
        outcomes = Outcomes(*drawn(60, 1.0, np.random.default_rng(3)))
        weighted = intervals.estimates(outcomes, np.full(60, 2.5))
        for name, estimate in intervals.estimates(outcomes).items():
            np.testing.assert_allclose(weighted[name].interval, estimate.interval, rtol=1e-12)
            self.assertEqual(weighted[name].method, estimate.method)

    def test_what_has_no_interval(self):
        one = intervals.estimates(of_losses([2.0], [True]))
        self.assertEqual(one["error"].value, 1)
        self.assertEqual({estimate.interval for estimate in one.values()}, {None})
        self.assertEqual({estimate.note for estimate in one.values()}, {"there is no interval of one example"})
        self.assertEqual(one["cost"].value, 2.0)

        right = intervals.estimates(of_losses([0.1, 0.2, 0.3], [False] * 3))
        np.testing.assert_allclose(right["error"].interval, (0, Z**2 / (3 + Z**2)))
        self.assertEqual(right["balanced_error"].value, 0)
        self.assertIsNone(right["balanced_error"].interval)
        self.assertIn("the same in every draw", right["balanced_error"].note)
        grouped = intervals.estimates(of_losses([0.1, 0.2, 0.3], [False] * 3), groups=np.arange(3))
        self.assertIsNone(grouped["error"].interval)

        infinite = intervals.estimates(Outcomes(np.array([0, 1, 1]), np.array([[0.0, 1], [0.2, 0.8], [0.7, 0.3]])))
        self.assertEqual((infinite["cost"].value, infinite["cost"].interval), (np.inf, None))
        self.assertIn("infinite", infinite["cost"].note)
        self.assertIsNotNone(infinite["error"].interval)

        nothing = intervals.estimates(of_losses([0.1, 0.2], [False] * 2), np.zeros(2))
        self.assertTrue(all(np.isnan(estimate.value) for estimate in nothing.values()))
        self.assertEqual({estimate.note for estimate in nothing.values()}, {"no example has weight"})

    def test_draws_without_the_figure_are_left_out(self):
        # One example of ten is of another class: a draw has none of it with probability 0.9^10, and no AUC.
        random = np.random.default_rng(4)
        p = random.random(10)
        outcomes = Outcomes(np.arange(10) // 9, np.stack([p, 1 - p], axis=1))
        found = intervals.estimates(outcomes)["auc"]
        expected = 500 * (1 - 0.9**10)
        self.assertAlmostEqual(found.draws, expected, delta=4 * np.sqrt(expected * 0.9**10))
        self.assertIn(f"{found.draws} draws, not 500", found.note)

    def test_large_data_has_fewer_draws_or_none(self):
        n = 120_000  # Of 50 classes: 6 million scores, and 2^27 are ranked.
        random = np.random.default_rng(5)
        labels = random.integers(0, 50, n)
        p = random.random((n, 50))
        outcomes = Outcomes(labels, p / p.sum(axis=1, keepdims=True))
        # With 10 draws at least all others have their interval; AUC would take 22.
        found = intervals.estimates(outcomes, draws=100)
        self.assertEqual((found["auc"].interval, found["auc"].draws), (None, None))
        self.assertIn("there is time for 22 draws, and 100 are needed", found["auc"].note)
        self.assertEqual((found["cost"].draws, found["cost"].note), (100, None))
        self.assertEqual(found["top5_error"].method, "wilson")

    # Margins at which so many are wrong: 1 %, 10 % and 50 %.
    @parameterized.parameters((0.01, 4.29), (0.1, 3.03), (0.5, 1.53))
    @pytest.mark.exhaustive
    def test_coverage_of_the_bootstrap(self, error, margin):
        of_population = [Outcomes(*drawn(500_000, margin, np.random.default_rng(s))).figures() for s in range(4)]
        truth = {name: np.mean([figures[name] for figures in of_population]) for name in of_population[0]}
        self.assertAlmostEqual(truth["error"], error, delta=0.03 * error)
        random = np.random.default_rng(0)
        held = {name: [] for name in truth}
        for _ in range(2000):
            for name, found in intervals.estimates(Outcomes(*drawn(1000, margin, random)), draws=200).items():
                held[name].append(found.interval is not None and found.interval[0] <= truth[name] <= found.interval[1])
        for name in ("cost", "balanced_error", "macro_f1", "auc"):
            self.assertBetween(np.mean(held[name]), 0.92, 0.97, name)


class OutcomesInPiecesTest(parameterized.TestCase):
    def test_they_are_those_of_the_whole(self):
        labels = np.random.default_rng(0).integers(0, 12, 50)
        p = np.random.default_rng(1).dirichlet(np.ones(12), 50)
        whole, pieces = Outcomes(labels, p), Outcomes(labels, (p[begin : begin + 7] for begin in range(0, 50, 7)))
        self.assertEqual(whole.figures(), pieces.figures())
        np.testing.assert_array_equal(whole.confidence, p.max(axis=1))
        np.testing.assert_array_equal(pieces.confidence, p.max(axis=1))
        self.assertEqual(pieces.n_out, 12)

    def test_beyond_the_bound_nothing_is_ranked_or_kept(self):
        block = np.full((1 << 10, 1 << 12), 2.0**-12)
        pieces = itertools.repeat(block, 33)  # 2^27 + 2^22 scores, of which one piece is held.
        outcomes = Outcomes(np.zeros(33 << 10, int), pieces)
        found = intervals.estimates(outcomes, draws=2)
        self.assertEqual((found["error"].value, found["top5_error"].value), (0, 0))
        self.assertAlmostEqual(found["cost"].value, 12 * np.log(2))
        self.assertTrue(np.isnan(found["auc"].value))
        self.assertEqual(found["auc"].note, "too many examples and classes to be ranked")


class TestedTest(absltest.TestCase):
    def test_as_json(self):
        labels = np.array([0, 1, 1, 0])
        p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]])
        seen = np.array([True, False, False, True])
        found = tested.figures(Outcomes(labels, p), None, None, seen)
        self.assertEqual(json.loads(json.dumps(found, allow_nan=False)), found)
        self.assertEqual(list(found["figures"]), ["error", "cost", "balanced_error", "macro_f1", "auc"])
        low, high = intervals.wilson(0.5, 4)
        self.assertEqual(
            found["figures"]["error"],
            {"value": 0.5, "interval": [low, high], "method": "wilson", "draws": None, "note": None},
        )
        self.assertEqual((found["figures"]["cost"]["value"], found["figures"]["cost"]["interval"]), (None, None))
        self.assertEqual((found["examples"], found["groups"], found["effective_examples"]), (4, None, 4))
        self.assertEqual(found["duplicates"], {"examples": 2, "error": 0.5})
        line, of_duplicates = tested.lines("test", found)
        self.assertStartsWith(line, f"test: error 50.00% ({low:.2%} to {high:.2%}), cost -, balanced error 50.00% (")
        self.assertEqual(of_duplicates, "test: 2 of 4 examples are duplicates; error on the other 2: 50.00%")
        rows = tested.table(found)
        self.assertEqual(rows[1], ("error", "50.00%", f"{low:.2%} to {high:.2%}", "Wilson", ""))
        self.assertEqual(rows[-1][1], "50.00%")

    def test_duplicates_by_weights_and_where_no_other_is_left(self):
        outcomes = of_losses([0.1, 2.0, 2.0, 0.1], [False, True, True, False])
        seen = np.array([True, True, False, False])
        found = tested.figures(outcomes, np.array([1.0, 1, 3, 1]), None, seen)
        self.assertEqual(found["duplicates"], {"examples": 2, "error": 0.75})
        self.assertAlmostEqual(found["effective_examples"], 36 / 12)
        found = tested.figures(outcomes, None, None, np.ones(4, bool))
        self.assertEqual(found["duplicates"], {"examples": 4, "error": None})
        self.assertEqual(tested.lines("test", found)[1], "test: 4 of 4 examples are duplicates; there is no other")
        self.assertIsNone(tested.figures(outcomes)["duplicates"])

    def test_examples_that_the_model_has_seen_have_no_intervals(self):
        found = tested.figures(of_losses([0.1, 2.0], [False, True]), has_seen=True)
        self.assertEqual({figure["interval"] for figure in found["figures"].values()}, {None})
        self.assertEndsWith(tested.lines("train", found)[0], "; no interval: the model has seen these examples")

    def test_weights_and_groups_of_several_splits(self):
        images = np.zeros((2, 3))
        first = Examples(images, [0, 1], weights=np.array([2.0, 0.5]))
        second = Examples(images, [0, 1], groups=np.array([4, 4]))
        weights, groups = tested.weights_and_groups([first, second])
        self.assertEqual(weights.tolist(), [2, 0.5, 1, 1])
        self.assertEqual(len(set(groups[:2])), 2)
        self.assertEqual(groups[2:].tolist(), [4, 4])
        self.assertNotIn(4, groups[:2])
        self.assertEqual(tested.weights_and_groups([Examples(images, [0, 1])]), (None, None))


class RunTest(parameterized.TestCase):
    @parameterized.parameters("lbfgs", "sgd")
    def test_a_run_with_weights_and_duplicates(self, solver):
        splits = made.splits(n_test=40)
        test, train = splits.test, splits.train
        images = test.images.copy()
        images[[3, 8]] = train.images[[0, 7]]
        images[9] = splits.validation.images[4]
        labels = test.labels.copy()
        labels[9] = (labels[9] + 1) % 3
        weights = np.random.default_rng(0).integers(0, 4, 40).astype(float)
        weights[9] = 2
        splits = dataclasses.replace(splits, test=Examples(images, labels, weights=weights))
        options = {"l2": 1e-3} if solver == "lbfgs" else {"batch_size": 10, "epochs": 5, "learning_rate": (0.03, 0.3)}
        workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
        result = tfpipe.train(TrainConfig(solver=solver, device="cpu", tensorboard=False, **options), splits, workdir)
        report = json.loads((workdir / "report.json").read_text())
        model = artifact.load(workdir / "model.npz")
        p = model.probabilities(images)
        wrong = p.argmax(axis=1) != labels
        self.assertBetween(wrong.sum(), 1, 39)

        test, error = report["test"], weights @ wrong / weights.sum()
        n = weights.sum() ** 2 / np.square(weights).sum()
        low, high = intervals.wilson(error, n)
        self.assertAlmostEqual(test["figures"]["error"]["value"], error, delta=1e-15)
        self.assertAlmostEqual(test["effective_examples"], n)
        np.testing.assert_allclose(test["figures"]["error"]["interval"], (low, high), rtol=1e-12)
        self.assertAlmostEqual(
            test["figures"]["cost"]["value"], -weights @ np.log(p[np.arange(40), labels]) / weights.sum(), delta=1e-12
        )
        self.assertEqual(report["test_error"], test["figures"]["error"]["value"])
        self.assertEqual(report["test_error_interval"], test["figures"]["error"]["interval"])
        self.assertEqual(result.report["test"], test)
        for name in ("test_error", "test_error_interval"):
            self.assertEqual(model.summary[name], report[name])
        if solver == "sgd":
            self.assertAlmostEqual(report["grid"][report["selected"]]["test_error"], error, delta=1e-6)
        # Confusions are counted.
        self.assertEqual(np.sum(report["confusion_matrix"]), 40)

        rest = ~np.isin(np.arange(40), [3, 8, 9])
        of_rest = weights[rest] @ wrong[rest] / weights[rest].sum()
        self.assertEqual(test["duplicates"]["examples"], 3)
        self.assertAlmostEqual(test["duplicates"]["error"], of_rest, delta=1e-15)

        page = (workdir / "report.html").read_text()
        between = f"{low:.2%} to {high:.2%}"
        self.assertIn(f"<td>error</td><td>{error:.2%}</td><td>{between}</td><td>Wilson</td>", page)
        self.assertIn(f"test error {error:.2%} ({between})</title>", page)
        self.assertIn(f"validation examples</td><td>{of_rest:.2%}</td>", page)

    def test_only_examples_that_are_tested_count(self):
        config = TrainConfig(batch_size=12, epochs=2, learning_rate=0.1, drop_remainder=True, device="cpu")
        splits = made.splits()
        result = tfpipe.train(config, splits)
        self.assertEqual((result.report["test_examples"], result.report["test"]["examples"]), (24, 24))
        errors = result.model.errors(splits.test.images[:24], splits.test.labels[:24])
        self.assertAlmostEqual(float(errors), result.report["test"]["figures"]["error"]["value"], delta=1e-7)
        self.assertIsNotNone(result.report["test"]["duplicates"])


if __name__ == "__main__":
    absltest.main()

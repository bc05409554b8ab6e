"""What follows from what was tried, in numbers that can be worked out by hand."""

import math

import numpy as np
from absl.testing import absltest, parameterized

from tfpipe.solvers import path
from tfpipe.solvers.problem import Problems
from tfpipe.statistics.units import Units
from tfpipe.training import trials
from tfpipe.training.trials import Path, Trial


def trial(l2, cost, *, cost_error=0.1, error=0.2, certificate=0.0, standardize="none"):
    return Trial(standardize, l2, cost, cost_error, error, error, cost, certificate, 0.0, 5, 6, True, 0)


def around(mean, n=1000):
    """Losses with this mean that differ from example to example alike: [n] float32."""
    return (mean + np.random.default_rng(0).normal(0, 0.3, n)).astype(np.float32)


class UnitsTest(parameterized.TestCase):
    def test_examples(self):
        mean, error = Units.of(None).mean(np.array([1.0, 2.0, 4.0, np.nan]))
        self.assertAlmostEqual(mean, 7 / 3)
        self.assertAlmostEqual(error, np.std([1, 2, 4], ddof=1) / math.sqrt(3))

    def test_groups_that_repeat_an_example_tell_no_more_than_it(self):
        values = np.array([1.0, 2.0, 4.0, 3.0])
        alone = Units.of(None).mean(values)
        repeated = Units.of(np.repeat([7, 3, 9, 1], 5)).mean(np.repeat(values, 5))
        np.testing.assert_allclose(repeated, alone, rtol=1e-12)

    def test_one_example_has_no_error_that_is_known(self):
        self.assertEqual(Units.of(None).mean(np.array([2.0])), (2.0, math.inf))
        self.assertTrue(np.isnan(Units.of(None).mean(np.array([np.nan]))).all())

    def test_weights(self):
        values, weights = np.array([1.0, 2.0, 4.0, np.nan, 7.0]), np.array([1.0, 0.5, 2.0, 3.0, 0.0])
        mean, error = Units.of(None, weights).mean(values)
        self.assertAlmostEqual(mean, (1 + 0.5 * 2 + 2 * 4) / 3.5)
        rest = weights[:3] * (values[:3] - mean)
        self.assertAlmostEqual(error, math.sqrt(3 / 2 * np.square(rest).sum()) / 3.5)
        # Who counts nothing is not there, whatever it loses.
        found = Units.of(None, np.append(weights, 0.0)).mean(np.append(values, np.inf))
        self.assertEqual(found, (mean, error))

    def test_an_integer_weight_is_a_group_of_as_many_that_are_alike(self):
        random = np.random.default_rng(0)
        values, weights = random.normal(size=30), random.integers(0, 4, 30)
        groups = np.arange(30) // 2
        rows = np.repeat(np.arange(30), weights)
        for units, repeated in ((None, rows), (groups, groups[rows])):
            found = Units.of(units, weights.astype(float)).mean(values)
            np.testing.assert_allclose(found, Units.of(repeated).mean(values[rows]), rtol=1e-12)

    def test_equal_weights_are_none(self):
        values = np.random.default_rng(0).normal(size=30)
        for groups in (None, np.arange(30) // 4):
            found = Units.of(groups, np.full(30, 0.3)).mean(values)
            np.testing.assert_allclose(found, Units.of(groups).mean(values), rtol=1e-12)

    def test_figures_under_weights(self):
        random = np.random.default_rng(0)
        labels, weights = random.integers(0, 4, 60), random.integers(0, 4, 60).astype(float)
        weights[labels == 3] = 0
        loss, wrong = np.where(labels == 2, np.nan, random.gamma(1, size=60)), random.random(60) < 0.4
        found = trials.figures(loss, wrong, labels, Units.of(None, weights))
        rows = np.repeat(np.arange(60), weights.astype(int))
        expected = trials.figures(loss[rows], wrong[rows], labels[rows], Units.of(rows))
        for name in ("cost", "cost_error", "error", "balanced_error"):
            self.assertAlmostEqual(found[name], expected[name], delta=1e-12)
        self.assertEqual(found["left_out"], np.count_nonzero((labels == 2) & (weights > 0)))

    def test_figures(self):
        labels = np.array([0, 0, 0, 1, 2])
        loss, wrong = np.array([0.1, 0.3, 0.2, 1.4, np.nan]), np.array([False, False, True, True, True])
        found = trials.figures(loss, wrong, labels, Units.of(None))
        self.assertAlmostEqual(found["cost"], 0.5)
        self.assertAlmostEqual(found["error"], 0.6)
        self.assertAlmostEqual(found["balanced_error"], (1 / 3 + 1 + 1) / 3, delta=1e-14)

    def test_balanced_errors_are_equal_to_the_bit_where_they_are_equal(self):
        labels = np.repeat([0, 1, 3, 4], [7, 11, 3, 979])
        random, loss = np.random.default_rng(0), np.zeros(1000)
        found = set()
        for _ in range(20):  # Of each class as many, in whatever places.
            wrong = np.concatenate([random.permutation(n) < n // 2 for n in (7, 11, 3, 979)])
            found.add(trials.figures(loss, wrong, labels, Units.of(None))["balanced_error"])
        self.assertLen(found, 1)
        self.assertAlmostEqual(found.pop(), (3 / 7 + 5 / 11 + 1 / 3 + 489 / 979) / 4, delta=1e-11)
        alike = np.repeat([0, 1, 2], 7)
        wrong = np.arange(21) % 5 == 0
        self.assertEqual(trials.figures(loss[:21], wrong, alike, Units.of(None))["balanced_error"], 5 / 21)


class PathTest(parameterized.TestCase):
    def path(self, *steps):
        """Takes (l2, mean loss, certificate) one after the other: how many it took when it ended; None: it goes on."""
        taken = Path(Units.of(None))
        for number, (l2, mean, certificate) in enumerate(steps, start=1):
            loss = around(mean)
            taken.take(trial(l2, float(loss.mean()), cost_error=0.01, certificate=certificate), loss)
            if taken.ended:
                return number
        return None

    def test_it_ends_where_the_cost_rises_by_more_than_chance(self):
        self.assertIsNone(self.path((1, 1.0, 0), (0.3, 0.8, 0)))
        self.assertEqual(self.path((1, 1.0, 0), (0.3, 0.8, 0), (0.1, 0.81, 0)), 3)

    def test_not_where_that_may_be_what_is_not_yet_minimized(self):
        self.assertIsNone(self.path((1, 1.0, 0), (0.3, 0.8, 0.006), (0.1, 0.81, 0.005)))

    def test_it_ends_after_two_steps_that_change_nothing_far_below_the_first_value(self):
        flat = [(l2, 0.5 + change, 0) for l2, change in ((100, 0.4), (30, 0.0), (10, -5e-4), (3, -1e-3))]
        self.assertIsNone(self.path(*flat))  # Not far enough below the first.
        further = [(0.009, 0.4985, 0), (0.003, 0.498, 0)]
        self.assertEqual(self.path(*flat, *further), 6)
        self.assertIsNone(self.path(*flat, (0.009, 0.49, 0), (0.003, 0.4895, 0)))

    def test_it_goes_on_as_if_it_had_never_stopped(self):
        steps = [(1.0, 0.9), (0.3, 0.5), (0.1, 0.502)]
        losses = [around(mean) + np.float32(0.001 * i) for i, (_, mean) in enumerate(steps)]
        made = [trial(l2, float(loss.mean())) for (l2, _), loss in zip(steps, losses, strict=True)]
        whole, first, second = (Path(Units.of(None)) for _ in range(3))
        for one, loss in zip(made, losses, strict=True):
            whole.take(one, loss)
        for one, loss in zip(made[:2], losses, strict=False):
            first.take(one, loss)
        second.restore(made[:2], first.ended, first.flat, np.stack([first.best_loss, first.last_loss]))
        second.take(made[2], losses[2])
        self.assertEqual((second.ended, second.flat, second.best), (whole.ended, whole.flat, whole.best))

    def test_the_best(self):
        made = [
            trial(1, 0.5, error=0.1),
            trial(0.1, 0.4, error=0.2),
            trial(0.01, 0.4, error=0.1),
            trial(1e-3, math.nan),
        ]
        self.assertEqual(trials.best(made, "cost"), 1)  # Of equals the larger l2.
        self.assertEqual(trials.best(made, "error"), 2)
        balanced = [one._replace(balanced_error=figure) for one, figure in zip(made, (0.2, 0.3, 0.3, 0.3), strict=True)]
        self.assertEqual(trials.best(balanced, "balanced_error"), 0)
        self.assertEqual(trials.best(balanced[1:], "balanced_error"), 0)  # Of equals the smaller cost, then the l2.

    def test_the_best_by_a_figure_of_which_more_is_better(self):
        figures = (0.7, math.nan, 0.9, 0.9, 0.9, math.inf)
        costs = (0.1, 0.1, 0.4, 0.3, 0.3, 0.1)
        made = [
            trial(10.0**-i, cost)._replace(figure=figure)
            for i, (figure, cost) in enumerate(zip(figures, costs, strict=True))
        ]
        for name in ("macro_f1", "auc"):
            self.assertEqual(trials.best(made, name), 3)  # Of equals the smaller cost, then the larger l2.
        self.assertEqual(trials.best(made, "top5_error"), 0)
        words = trials.why(made, 3, "macro_f1", "out-of-fold")
        self.assertStartsWith(
            words,
            "taken: standardize=none, l2=0.001, the largest out-of-fold macro f1 of 6 settings, so somewhat too good:",
        )
        self.assertIn("error 20.00%, macro f1 0.9", words)
        words = trials.why(made, 0, "top5_error", "validation")
        self.assertIn("the least validation top5 error of 6 settings", words)
        self.assertIn("top5 error 70.00%", words)

    def test_a_scale_that_is_behind_leaves_after_twelve_values(self):
        good = [trial(1, 0.3)]
        for count, cost, leaves in ((12, 0.55, True), (11, 0.55, False), (12, 0.45, False)):
            self.assertEqual(trials.is_behind([trial(1, cost, cost_error=0.1)] * count, good), leaves)
        self.assertFalse(trials.is_behind([trial(1, 0.55)] * 12, []))


class ValuesTest(absltest.TestCase):
    def test_from_the_gradient_at_zero(self):
        # Two classes of equal share, one column with mean (x - m) y = -0.5 and 0.5; the cost of V = 0 is log 2.
        problems = Problems(
            np.zeros(1), np.zeros(1, np.int32), np.ones((1, 1)), np.zeros((1, 1)), np.ones(1),
            np.array([[0.5, 0.5]]), np.array([[[-0.5], [0.5]]]),
        )  # fmt: skip
        largest = 0.5 / (2 * math.log(2))
        self.assertAlmostEqual(path.largest(problems)[0], largest)
        values = path.values(problems)
        self.assertLen(values, 23)
        np.testing.assert_allclose(values[[0, 4, 22]], [1000 * largest, 10 * largest, 1e-8 * largest])


if __name__ == "__main__":
    absltest.main()

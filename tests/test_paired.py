"""Two models on the same examples: tests and intervals, by hand, by SciPy's, by what was published, by simulation."""

import functools
import math

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from scipy import optimize, stats

from tfpipe.statistics import paired

Z = stats.norm.ppf(0.975)
SETS = 2_000


class McNemarTest(parameterized.TestCase):
    @parameterized.parameters(
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 5, 2 / 32),
        (1, 5, 2 * (1 + 6) / 64),
        # Airway hyper-responsiveness before and after a transplantation: Fagerland, Lydersen and Laake (2014).
        (1, 7, 0.0703125),
    )
    def test_by_hand(self, only_first, only_second, expected):
        self.assertAlmostEqual(paired.mcnemar(only_first, only_second), expected, delta=1e-15)
        self.assertAlmostEqual(paired.mcnemar(only_second, only_first), expected, delta=1e-15)

    @parameterized.parameters((2, 11), (40, 20), (300, 361), (5_000, 5_300), (0, 60))
    def test_as_scipy(self, only_first, only_second):
        expected = stats.binomtest(only_first, only_first + only_second).pvalue
        np.testing.assert_allclose(paired.mcnemar(only_first, only_second), expected, rtol=1e-10)

    def test_its_exact_level(self):
        for n in range(300):
            k = np.arange(n + 1)
            refused = np.array([paired.mcnemar(of_first, n - of_first) <= 0.05 for of_first in k.tolist()])
            self.assertLessEqual(stats.binom.pmf(k, n, 0.5)[refused].sum(), 0.05)

    @parameterized.product(n=[50, 1_000], error=[0.01, 0.1, 0.5], shared=[0.0, 0.5, 0.9])
    @pytest.mark.exhaustive
    def test_its_level_by_simulation(self, n, error, shared):
        p_value = functools.cache(paired.mcnemar)
        random = np.random.default_rng(0)
        # `shared` of the examples have one outcome for both models.
        refused = 0
        for _ in range(10 * SETS):
            same = random.random(n) < shared
            first, second = random.random((2, n)) < error
            second = np.where(same, first, second)
            counts = int((first & ~second).sum()), int((second & ~first).sum())
            refused += p_value(*counts) <= 0.05
        self.assertLessEqual(refused / (10 * SETS), 0.05)


def score(difference, only_first, only_second, n):
    """Tango's statistic, its constrained shares found by a search for the largest likelihood."""

    def surprise(share):
        # Shares: `share` only the second wrong, `share + difference` only the first.
        rest = 1 - 2 * share - difference
        counts = (only_first, only_second, n - only_first - only_second)
        shares = (share + difference, share, rest)
        return -sum(count * math.log(max(p, 1e-300)) for count, p in zip(counts, shares, strict=True) if count)

    bounds = max(0.0, -difference), (1 - difference) / 2
    share = optimize.minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = n * (2 * share + difference * (1 - difference))
    return (only_first - only_second - n * difference) / math.sqrt(variance)


class ErrorDifferenceTest(parameterized.TestCase):
    def test_a_published_example(self):
        # Fagerland, Lydersen and Laake (2014), "Recommended tests and confidence intervals for paired binomial
        # proportions": -0.286, of which Tango's interval is -0.517 to -0.026.
        found = paired.error_difference(1, 7, 21)
        self.assertAlmostEqual(found.value, -6 / 21, delta=1e-15)
        self.assertEqual((round(found.low, 3), round(found.high, 3)), (-0.517, -0.026))

    @parameterized.parameters((1, 7, 21), (40, 20, 160), (0, 5, 100), (30, 29, 10_000), (10, 0, 12), (1, 0, 1_000))
    def test_the_ends_are_what_the_score_test_just_allows(self, only_first, only_second, n):
        found = paired.error_difference(only_first, only_second, n)
        for end, sign in ((found.low, 1), (found.high, -1)):
            self.assertAlmostEqual(score(end, only_first, only_second, n), sign * Z, delta=1e-4)
        mirrored = paired.error_difference(only_second, only_first, n)
        np.testing.assert_allclose((mirrored.low, mirrored.high), (-found.high, -found.low), rtol=1e-12)
        # 0 is outside where McNemar's asymptotic test refuses it.
        refused = (only_first - only_second) ** 2 > Z**2 * (only_first + only_second)
        self.assertEqual(not found.low <= 0 <= found.high, refused)

    def test_by_hand(self):
        # Without an example that tells them apart n d^2 = z^2 d (1 - d).
        found = paired.error_difference(0, 0, 100)
        np.testing.assert_allclose((found.low, found.high), (-(Z**2) / (100 + Z**2), Z**2 / (100 + Z**2)), rtol=1e-12)
        self.assertEqual((found.value, found.standard_error), (0, 0))
        self.assertEqual(paired.error_difference(5, 0, 5).high, 1)
        self.assertEqual(paired.error_difference(0, 5, 5).low, -1)
        self.assertTrue(math.isnan(paired.error_difference(1, 0, 1).standard_error))

    def test_the_standard_error_is_that_of_paired_differences(self):
        differences = np.repeat([1.0, -1.0, 0.0], [12, 5, 83])
        expected = stats.ttest_rel(differences, np.zeros(100))
        found = paired.error_difference(12, 5, 100)
        self.assertAlmostEqual(found.value / found.standard_error, expected.statistic, delta=1e-12)

    @parameterized.product(n=[50, 1_000], error=[0.01, 0.1, 0.5], shared=[0.0, 0.5, 0.9], gap=[0.0, 0.3])
    @pytest.mark.exhaustive
    def test_its_coverage_by_simulation(self, n, error, shared, gap):
        # The second has (1 - gap) of the error of the first, where their outcomes are not shared.
        p_first = (1 - shared) * error * (1 - (1 - gap) * error)
        p_second = (1 - shared) * (1 - gap) * error * (1 - error)
        difference = functools.cache(paired.error_difference)
        random = np.random.default_rng(0)
        covered = 0
        for counts in random.multinomial(n, [p_first, p_second, 1 - p_first - p_second], SETS).tolist():
            found = difference(*counts[:2], n)
            covered += found.low <= p_first - p_second <= found.high
        # Of few examples that tell the two apart it holds more; 2,000 sets tell the share within 1.5 %.
        self.assertBetween(covered / SETS, 0.935, 1.0 if n * (p_first + p_second) < 15 else 0.97)


class MeanDifferenceTest(parameterized.TestCase):
    def test_as_scipys_paired_t(self):
        first, second = np.random.default_rng(0).exponential(size=(2, 57))
        found = paired.mean_difference(first - second, None, None)
        expected = stats.ttest_rel(first, second)
        interval = expected.confidence_interval(0.95)
        self.assertAlmostEqual(found.value, first.mean() - second.mean(), delta=1e-14)
        self.assertAlmostEqual(found.value / found.standard_error, expected.statistic, delta=1e-10)
        np.testing.assert_allclose((found.low, found.high), interval, rtol=1e-10)

    def test_groups_by_hand(self):
        found = paired.mean_difference(np.array([1.0, 1, -1, 0]), None, np.array([7, 7, 3, 5]))
        # Around 1/4 the groups have 3/2, -5/4 and -1/4.
        error = math.sqrt(3 / 2 * (9 / 4 + 25 / 16 + 1 / 16)) / 4
        self.assertEqual(found.value, 0.25)
        self.assertAlmostEqual(found.standard_error, error, delta=1e-15)
        self.assertAlmostEqual(found.high, 0.25 + 4.302652729749462 * error, delta=1e-12)

    def test_a_weight_counts_as_so_many_examples_of_one_unit(self):
        random = np.random.default_rng(1)
        differences, counts = random.normal(size=30), random.integers(0, 4, 30)
        found = paired.mean_difference(differences, counts.astype(float), None)
        repeated = np.repeat(differences, counts)
        expected = paired.mean_difference(repeated, None, np.repeat(np.arange(30), counts))
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @parameterized.parameters(([0.5], None), ([0.0, 0.0, 0.0], None), ([1.0, 2.0], [4, 4]))
    def test_no_interval_where_no_spread_is_known(self, differences, groups):
        groups = None if groups is None else np.array(groups)
        found = paired.mean_difference(np.array(differences), None, groups)
        self.assertEqual(found.value, np.mean(differences))
        self.assertTrue(all(map(math.isnan, found[1:])))

    @pytest.mark.exhaustive
    def test_its_coverage_by_simulation(self):
        # 60 groups of 8, which are hard or easy as a whole: for the one model, and for the other.
        random = np.random.default_rng(2)
        groups = np.repeat(np.arange(60), 8)
        covered = of_examples = refused = 0
        for _ in range(SETS):
            errors = np.repeat(random.beta(0.5, 1.5, (2, 60)), 8, axis=1)
            first, second = random.random(errors.shape) < errors
            differences = first.astype(float) - second
            found = paired.mean_difference(differences, None, groups)
            covered += found.low <= 0 <= found.high
            counts = int((differences > 0).sum()), int((differences < 0).sum())
            wrong_unit = paired.error_difference(*counts, len(groups))
            of_examples += wrong_unit.low <= 0 <= wrong_unit.high
            refused += paired.sign_flips(differences, None, groups) <= 0.05
        self.assertBetween(covered / SETS, 0.935, 0.965)
        self.assertLess(of_examples / SETS, 0.85)  # As if examples were drawn one by one.
        self.assertBetween(refused / SETS, 0.035, 0.065)


class SignFlipsTest(parameterized.TestCase):
    @parameterized.parameters(
        ([], 1.0),
        ([0.0, 0.0], 1.0),
        ([2.0, 1.0], 2 / 4),
        ([2.0, -1.0], 1.0),
        ([3.0, 1.0, 1.0], 2 / 8),
        ([0.1, 0.2, 0.3, -0.6], 1.0),  # Their sum is 0 but for rounding.
    )
    def test_by_hand(self, differences, expected):
        self.assertEqual(paired.sign_flips(np.array(differences), None, None), expected)
        if differences:  # The same sums, of halves in groups.
            groups = np.repeat(np.arange(len(differences)), 2)
            self.assertEqual(paired.sign_flips(np.repeat(differences, 2) / 2, None, groups), expected)
            weights = np.full(len(differences), 4.0)
            self.assertEqual(paired.sign_flips(np.array(differences), weights, None), expected)

    @parameterized.parameters((0, 5), (3, 8), (7, 7))
    def test_of_single_examples_it_is_mcnemars(self, only_first, only_second):
        differences = np.repeat([1.0, -1.0, 0.0], [only_first, only_second, 40])
        found = paired.sign_flips(differences, None, None)
        self.assertAlmostEqual(found, paired.mcnemar(only_first, only_second), delta=1e-14)

    @parameterized.parameters((12, 24), (20, 25), (300, 340))
    def test_drawn_it_is_near_that(self, only_first, only_second):
        differences = np.repeat([1.0, -1.0], [only_first, only_second])
        found = paired.sign_flips(differences, None, None)
        expected = paired.mcnemar(only_first, only_second)
        self.assertAlmostEqual(found, expected, delta=4 * math.sqrt(expected * (1 - expected) / 9_999) + 1e-4)
        self.assertEqual(paired.sign_flips(differences, None, None), found)

    def test_examples_without_weight_have_no_part(self):
        differences = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
        found = paired.sign_flips(differences, np.array([1.0, 1, 1, 0, 0]), None)
        self.assertEqual(found, 2 / 8)


class HolmTest(parameterized.TestCase):
    @parameterized.parameters(
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.3], [0.3]),
        ([0.5, 0.9, 0.4], [1.0, 1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([], []),
    )
    def test_by_hand(self, p_values, expected):
        np.testing.assert_allclose(paired.holm(np.array(p_values)), expected, rtol=1e-14)


if __name__ == "__main__":
    absltest.main()

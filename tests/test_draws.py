import numpy as np
from absl.testing import absltest, parameterized

from tfpipe.data import draws


def labels_of(sizes, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


class DrawsTest(parameterized.TestCase):
    @parameterized.parameters(0, 1, 7)
    def test_shots_are_so_many_of_each_class_and_nested(self, number):
        labels = labels_of([50, 9, 3, 1])
        smaller = np.zeros(len(labels), bool)
        for count in (1, 2, 5, 16, 64):
            drawn = draws.shots(labels, count, 3, number)
            self.assertEqual(np.bincount(labels[drawn]).tolist(), [min(count, n) for n in (50, 9, 3, 1)])
            self.assertTrue(drawn[smaller].all())
            smaller = drawn

    @parameterized.parameters(0, 1, 7)
    def test_subsets_are_so_many_of_all_with_each_class_its_share_and_nested(self, number):
        sizes = np.array([500, 90, 30, 4])
        labels = labels_of(sizes)
        smaller = np.zeros(len(labels), bool)
        for share in (0.001, 0.01, 0.1, 0.5, 0.9, 1.0):
            drawn = draws.subset(labels, share, 3, number)
            self.assertEqual(drawn.sum(), max(1, round(share * len(labels))))
            self.assertLess(np.abs(np.bincount(labels[drawn], minlength=4) - share * sizes).max(), 2.5)
            self.assertTrue(drawn[smaller].all())
            smaller = drawn
        self.assertTrue(smaller.all())

    def test_other_seeds_and_numbers_are_other_draws(self):
        labels = labels_of([100, 100])
        for draw in (lambda *of: draws.shots(labels, 10, *of), lambda *of: draws.subset(labels, 0.1, *of),
                     lambda *of: draws.bootstrap(200, *of)):  # fmt: skip
            found = [draw(0, 0), draw(0, 1), draw(1, 0), draw(1, 1)]
            for i in range(4):
                for j in range(i):
                    self.assertGreater((found[i] != found[j]).sum(), 10)
            np.testing.assert_array_equal(draw(0, 1), found[1])

    def test_each_row_is_drawn_as_often_as_any_other(self):
        labels = labels_of([30, 10])
        drawn = [draws.subset(labels, 0.25, 0, number) for number in range(2000)]
        np.testing.assert_allclose(np.mean(drawn, axis=0), 0.25, atol=0.045)  # 4.6 standard errors.
        drawn = [draws.shots(labels, 5, 0, number) for number in range(2000)]
        np.testing.assert_allclose(np.mean(drawn, axis=0), np.where(labels == 0, 5 / 30, 5 / 10), atol=0.05)
        counts = [draws.bootstrap(40, 0, number) for number in range(2000)]
        np.testing.assert_allclose(np.mean(counts, axis=0), 1, atol=0.11)
        np.testing.assert_allclose(np.var(counts), 1 - 1 / 40, atol=0.03)

    def test_groups_stay_whole(self):
        random = np.random.default_rng(0)
        groups = random.integers(100, 140, 600)
        labels = random.integers(0, 3, 600)
        smaller = np.zeros(600, bool)
        for share in (0.001, 0.1, 0.5, 1.0):
            drawn = draws.subset(labels, share, 0, 0, groups)
            self.assertTrue(np.isin(groups[~drawn], groups[drawn], invert=True).all())
            self.assertLess(abs(drawn.sum() - share * 600), 30)
            self.assertTrue(drawn[smaller].all())
            smaller = drawn
        self.assertTrue(smaller.all())
        counts = draws.bootstrap(600, 0, 0, groups)
        of_group = [np.unique(counts[groups == group]) for group in np.unique(groups)]
        self.assertTrue(all(len(found) == 1 for found in of_group))
        self.assertEqual(sum(int(found[0]) for found in of_group), len(of_group))


if __name__ == "__main__":
    absltest.main()

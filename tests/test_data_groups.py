import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe import Examples
from tfpipe.config import DataConfig
from tfpipe.data.folds import folds
from tfpipe.data.groups import numbered
from tfpipe.data.readers.source import Source
from tfpipe.data.splitting import divide, in_whole_groups
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.log import log

seeds = st.integers(0, 2**63 - 1)


@st.composite
def grouped(draw, least):
    """Labels and groups: at least so many groups, of 1 to 12 examples."""
    of_group = draw(st.lists(st.integers(1, 12), min_size=least, max_size=30))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = random.permutation(np.repeat(random.permutation(len(of_group)) - 3, of_group))
    return random.integers(0, draw(st.integers(1, 6)), len(groups)), groups


def patients(n_groups, n_classes=4, seed=0):
    """Labels and groups: 5 to 24 examples a group, of mostly one class."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), random.integers(5, 25, n_groups))
    usual = random.integers(0, n_classes, n_groups)[groups]
    return np.where(random.uniform(size=len(groups)) < 0.7, usual, random.integers(0, n_classes, len(groups))), groups


def shares(labels, numbers):
    """`[S, K]`, how many examples of each class each part has."""
    return np.array([np.bincount(labels[part], minlength=labels.max() + 1) for part in numbers])


class NumberedTest(absltest.TestCase):
    def test_by_their_first_examples(self):
        for values in ([7, 7, -3, 9, -3], ["b", "b", "a", "c", "a"], np.array([2**64 - 1, 2**64 - 1, 4, 0, 4], "u8")):
            (numbers,) = numbered([(np.array(values), "these")])
            self.assertEqual((numbers.dtype, numbers.tolist()), (np.int64, [0, 0, 1, 2, 1]))

    def test_equal_values_of_two_splits_are_one_group(self):
        # Neighbours that float64 cannot tell apart.
        of_splits = [(np.array([2**60, 2**60 + 1]), "a"), (np.array([2**60 + 1, 3], np.uint64), "b")]
        self.assertEqual([numbers.tolist() for numbers in numbered(of_splits)], [[0, 1], [1, 2]])
        texts = [(np.array(["x", "long text"]), "a"), (np.array(["y", "x"]), "b")]
        self.assertEqual([numbers.tolist() for numbers in numbered(texts)], [[0, 1], [2, 0]])

    def test_other_values(self):
        for values, message in (
            ([0.5, 1], r"b: groups of shape \(2,\) and type float64; expected \[N\] integers or text"),
            ([[1], [2]], r"b: groups of shape \(2, 1\)"),
            (["x"], "b: groups of type <U1 beside int64 of a; expected integers in every split, or text of one kind"),
        ):
            with self.assertRaisesRegex(DataError, f"^{message}"):
                numbered([(np.array([1, 2]), "a"), (np.array(values), "b")])


class FoldsTest(parameterized.TestCase):
    @settings(deadline=None)
    @given(
        of_class=st.lists(st.integers(0, 30), min_size=1, max_size=8), n_folds=st.integers(2, 12), seed=seeds,
        order=st.integers(0, 99),
    )  # fmt: skip
    def test_sizes_and_shares_differ_by_one_at_most(self, of_class, n_folds, seed, order):
        labels = np.random.default_rng(order).permutation(np.repeat(np.arange(len(of_class)), of_class))
        if len(labels) < n_folds:
            return
        numbers = folds(labels, n_folds, seed)
        self.assertEqual((numbers.dtype, numbers.shape), (np.int8, labels.shape))
        found = shares(labels, [numbers == fold for fold in range(n_folds)])
        self.assertEqual(found.sum(), len(labels))
        self.assertLessEqual(np.ptp(found, axis=0).max(), 1)
        self.assertLessEqual(np.ptp(found.sum(axis=1)), 1)
        np.testing.assert_array_equal(numbers, folds(labels.astype(np.int32), n_folds, seed))

    @settings(deadline=None, max_examples=15)
    @given(data=st.data(), n_folds=st.integers(2, 8), seed=seeds)
    def test_groups_stay_whole(self, data, n_folds, seed):
        labels, groups = data.draw(grouped(n_folds))
        numbers = folds(labels, n_folds, seed, groups)
        self.assertEqual((numbers.dtype, set(numbers.tolist())), (np.int8, set(range(n_folds))))
        for group in np.unique(groups):
            self.assertLen(set(numbers[groups == group].tolist()), 1)
        np.testing.assert_array_equal(numbers, folds(labels, n_folds, seed, groups))
        # Only which ones are equal counts.
        np.testing.assert_array_equal(numbers, folds(labels, n_folds, seed, 3 * groups + 7))

    def test_folds_of_whole_groups_are_as_even_as_scikit_learns(self):
        from sklearn.model_selection import StratifiedGroupKFold

        ours, theirs = np.zeros(2), np.zeros(2)
        for seed in range(10):
            labels, groups = patients(40, seed=seed)
            splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            by_scikit_learn = [rows for _, rows in splitter.split(labels, labels, groups)]
            numbers = folds(labels, 5, seed, groups)
            for sums, parts in ((ours, [numbers == fold for fold in range(5)]), (theirs, by_scikit_learn)):
                found = shares(labels, parts)
                sums += np.ptp(found.sum(axis=1)), np.square(found - found.mean(axis=0)).sum()
        self.assertTrue((ours <= theirs).all(), (ours, theirs))
        self.assertLess(ours[0] / 10, 0.05 * 40 * 14.5)

    def test_the_known_folds_of_a_seed(self):
        labels = np.array([0] * 6 + [1] * 4)
        self.assertEqual(folds(labels, 3, 0).tolist(), [1, 2, 1, 2, 0, 0, 2, 0, 1, 2])
        self.assertEqual(folds(labels, 3, 0, np.arange(10) // 2).tolist(), [2, 2, 0, 0, 1, 1, 1, 1, 0, 0])

    def test_the_seed_draws_others(self):
        labels, groups = patients(30)
        for of_groups in (None, groups):
            drawn = {folds(labels, 5, seed, of_groups).tobytes() for seed in range(20)}
            self.assertLen(drawn, 20)
        # Every fold is as likely for an example: of 1,000 draws a fifth, by five standard deviations.
        labels, count = np.array([0, 1] + [2] * 8), np.zeros((10, 5))
        for seed in range(1000):
            count[np.arange(10), folds(labels, 5, seed)] += 1
        self.assertLess(np.abs(count - 200).max(), 5 * np.sqrt(1000 * 0.2 * 0.8))

    def test_many_folds(self):
        numbers = folds(np.zeros(300, int), 300, 0)
        self.assertEqual((numbers.dtype, sorted(numbers)), (np.int16, list(range(300))))

    def test_fewer_than_folds(self):
        with self.assertRaisesRegex(DataError, "^3 examples for 4 folds; expected at least as many examples as folds$"):
            folds(np.zeros(3, int), 4, 0)
        with self.assertRaisesRegex(DataError, "^2 groups for 3 folds; expected at least as many groups as folds$"):
            folds(np.zeros(6, int), 3, 0, np.array([5, 5, 9, 9, 9, 5]))


class InWholeGroupsTest(absltest.TestCase):
    @settings(deadline=None, max_examples=15)
    @given(data=st.data(), seed=seeds)
    def test_every_example_is_in_one_split_with_its_group(self, data, seed):
        labels, groups = data.draw(grouped(3))
        test = data.draw(st.integers(1, len(labels) - 2))
        sizes = {"test": test, "validation": data.draw(st.integers(1, len(labels) - 1 - test))}
        numbers = in_whole_groups(labels, groups, sizes, seed)
        self.assertEqual(list(numbers), ["test", "validation", "train"])
        self.assertEqual(np.sort(np.concatenate(list(numbers.values()))).tolist(), list(range(len(labels))))
        of_splits = [set(groups[rows].tolist()) for rows in numbers.values()]
        self.assertEqual(sum(map(len, of_splits)), len(np.unique(groups)))
        for rows in numbers.values():
            self.assertGreater(len(rows), 0)
            self.assertTrue((np.diff(rows) > 0).all())
        again = in_whole_groups(labels, 5 * groups, sizes, seed)
        other = in_whole_groups(labels, groups, {"test": test, "validation": 1}, seed)
        for name, rows in numbers.items():
            np.testing.assert_array_equal(rows, again[name])
        np.testing.assert_array_equal(numbers["test"], other["test"])

    def test_sizes_and_shares_come_near(self):
        for seed in range(4):
            labels, groups = patients(100, seed=seed)
            wanted = round(len(labels) / 5)
            numbers = in_whole_groups(labels, groups, {"test": wanted, "validation": wanted}, seed)
            for name in ("test", "validation"):
                self.assertLessEqual(abs(len(numbers[name]) - wanted), 0.03 * wanted)
                found = np.bincount(labels[numbers[name]], minlength=4) / len(numbers[name])
                self.assertLess(np.abs(found - np.bincount(labels) / len(labels)).max(), 0.05)

    def test_groups_of_one_example_are_drawn_as_examples_are(self):
        labels = np.repeat(np.arange(4), [50, 30, 15, 5])
        for seed in range(2):
            numbers = in_whole_groups(labels, np.arange(100), {"test": 20, "validation": 20}, seed)
            self.assertEqual(shares(labels, numbers.values()).tolist(), [[10, 6, 3, 1]] * 2 + [[30, 18, 9, 3]])

    def test_the_seed_draws_other_groups(self):
        labels, groups = patients(30)
        drawn = [in_whole_groups(labels, groups, {"test": 80}, seed)["test"] for seed in range(30)]
        self.assertGreater(len({rows.tobytes() for rows in drawn}), 20)
        tested = np.zeros(30)
        for rows in drawn:
            tested[np.unique(groups[rows])] += 1
        self.assertGreater(np.count_nonzero(tested), 25)  # Large groups too.


class DivideTest(parameterized.TestCase):
    def source(self, groups, labels=None, **others):
        labels = np.arange(len(groups)) % 2 if labels is None else labels
        train = Examples(np.arange(len(groups))[:, np.newaxis] / 1.0, labels, "these", groups=groups)
        return Source(train, others.get("validation"), others.get("test"), 1.0)

    def test_groups_stay_whole_in_splits_that_are_taken(self):
        labels, groups = patients(30)
        with self.assertLogs("absl", "INFO") as logged:
            log.info("the first")
            splits = divide(self.source(groups, labels), DataConfig(validation_split=61, test_split=0.2))
        wanted = {"test": round(0.2 * len(labels)), "validation": 61}
        expected = in_whole_groups(labels, groups, wanted, 0)
        for name, rows in expected.items():
            part = getattr(splits, name)
            np.testing.assert_array_equal(part.rows, rows)
            np.testing.assert_array_equal(part.groups, groups[rows])
        lines = [
            f"these: {name} takes {len(expected[name])} examples, not {size}: groups stay whole"
            for name, size in wanted.items()
            if len(expected[name]) != size
        ]
        self.assertEqual([record.getMessage() for record in logged.records[1:]], lines)

    def test_beside_a_split_that_the_data_brings(self):
        test = Examples(np.zeros((2, 1)), [0, 1])
        splits = divide(self.source([1, 1, 2, 2, 3, 3], test=test), DataConfig(validation_split=2))
        self.assertIs(splits.test, test)
        self.assertLen(set(splits.validation.groups.tolist()), 1)

    def test_too_few_groups(self):
        message = "^these: 2 groups for training and test and validation; expected at least one for each$"
        with self.assertRaisesRegex(DataError, message):
            divide(self.source([1, 1, 1, 2, 2, 2]), DataConfig(validation_split=1, test_split=1))

    def test_without_test_examples(self):
        labels, groups = patients(30)
        source = self.source(groups, labels)
        splits = divide(source, DataConfig(validation_split=61, test_split=0))
        expected = in_whole_groups(labels, groups, {"validation": 61}, 0)
        for name in ("validation", "train"):
            np.testing.assert_array_equal(getattr(splits, name).rows, expected[name])
        self.assertEqual((len(splits.test), splits.test.groups.tolist()), (0, []))
        source = self.source([3, 3, 3, 1, 1, 7, 7, 7, 0, 0])
        splits = divide(source, DataConfig(validation_split=5, test_split=0, split_order="end"))
        self.assertEqual((splits.validation.rows.tolist(), len(splits.test)), ([5, 6, 7, 8, 9], 0))
        message = "^these: 1 groups for training and validation; expected at least one for each$"
        with self.assertRaisesRegex(DataError, message):
            divide(self.source([1, 1, 1, 1]), DataConfig(validation_split=1, test_split=0))

    def test_from_the_end_between_groups(self):
        source = self.source([3, 3, 3, 1, 1, 7, 7, 7, 0, 0])
        splits = divide(source, DataConfig(validation_split=3, test_split=2, split_order="end"))
        self.assertEqual(splits.validation.rows.tolist(), [5, 6, 7])

    @parameterized.parameters(
        ([3, 3, 3, 1, 1, 7, 7, 7, 0, 0], {"test": 3, "validation": 2}, "test", 7, "; take 2 or 5 examples"),
        ([3, 3, 3, 1, 1, 7, 7, 7, 0, 0], {"test": 2, "validation": 4}, "validation", 4, "; take 3 or 5 examples"),
        ([3, 3, 3, 1, 1, 7, 7, 7, 0, 0], {"test": 2, "validation": 6}, "validation", 2, "; take 5 examples"),
        ([3, 3, 3, 1, 1, 7, 7, 7, 0, 0], {"test": 1, "validation": 1}, "test", 9, "; take 2 examples"),
        ([1, 2, 3, 1, 2, 3, 1, 2, 3, 1], {"test": 2, "validation": 2}, "test", 8, ""),
        ([3, 3, 3, 1, 1, 7, 3, 7, 0, 0], {"test": 2, "validation": 3}, "validation", 5, ""),  # Groups come again.
    )
    def test_a_boundary_from_the_end_within_a_group(self, groups, sizes, name, begin, remedy):
        message = (
            f"{name}_split={sizes[name]}: would begin at example {begin}, within a group{remedy}; "
            "split_order=stratified keeps groups whole"
        )
        options = {f"{split}_split": size for split, size in sizes.items()}
        with self.assertRaisesRegex(ConfigError, f"^{message}$"):
            divide(self.source(groups), DataConfig(split_order="end", **options))


if __name__ == "__main__":
    absltest.main()

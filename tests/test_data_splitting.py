import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe import Examples
from tfpipe.config import DataConfig
from tfpipe.data.readers.source import Source
from tfpipe.data.splitting import divide, from_the_end, stratified
from tfpipe.exceptions import ConfigError, DataError
from tfpipe.log import log


def numbered(n):
    """Examples whose images hold their own number."""
    return Examples(np.arange(n, dtype=np.float32)[:, np.newaxis], np.arange(n) % 2)


class DivideTest(parameterized.TestCase):
    def numbers(self, source, **options):
        splits = divide(source, DataConfig(**options))
        return [part.images.ravel().tolist() for part in (splits.train, splits.validation, splits.test)]

    def test_the_ends_of_the_training_examples_the_test_split_last(self):
        source = Source(numbered(10), None, None, 1.0)
        parts = self.numbers(source, validation_split=2, test_split=0.3, split_order="end")
        self.assertEqual(parts, [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])

    def test_a_split_that_the_data_brings_is_used(self):
        source = Source(numbered(10), None, numbered(4), 1.0)
        parts = self.numbers(source, validation_split=3, split_order="end")
        self.assertEqual(parts, [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9], [0, 1, 2, 3]])
        train, validation, test = self.numbers(source, validation_split=4)
        self.assertEqual((sorted(train + validation), test), (list(range(10)), [0, 1, 2, 3]))
        self.assertEqual([number % 2 for number in validation].count(1), 2)
        parts = self.numbers(Source(numbered(3), numbered(2), numbered(4), 1.0), validation_split=3)
        self.assertEqual(parts, [[0, 1, 2], [0, 1], [0, 1, 2, 3]])

    @parameterized.parameters("stratified", "end")
    def test_the_splits_are_rows_of_one_array(self, order):
        train = numbered(10)
        config = DataConfig(validation_split=2, test_split=3, split_order=order)
        splits = divide(Source(train, None, None, 1.0), config)
        parts = (splits.train, splits.validation, splits.test)
        for part in parts:
            self.assertIs(part.stored, train.stored)
            self.assertTrue((np.diff(part.rows) > 0).all())
            np.testing.assert_array_equal(part.labels, train.labels[part.rows])
        self.assertEqual(np.sort(np.concatenate([part.rows for part in parts])).tolist(), list(range(10)))
        self.assertEqual(splits.taken, ("validation", "test"))

    def test_which_splits_the_data_did_not_bring(self):
        for source, taken in (
            (Source(numbered(9), None, numbered(4), 1.0), ("validation",)),
            (Source(numbered(9), numbered(2), None, 1.0), ("test",)),
            (Source(numbered(9), numbered(2), numbered(4), 1.0), ()),
        ):
            self.assertEqual(divide(source, DataConfig()).taken, taken)

    def test_the_split_that_is_named_first_comes_last(self):
        numbers = from_the_end(9, {"test": 2, "validation": 3})
        self.assertEqual(
            {name: of_split.tolist() for name, of_split in numbers.items()},
            {"test": [7, 8], "validation": [4, 5, 6], "train": [0, 1, 2, 3]},
        )

    def test_no_test_examples_are_taken(self):
        source = Source(numbered(10), None, None, 1.0)
        parts = self.numbers(source, validation_split=2, test_split=0, split_order="end")
        self.assertEqual(parts, [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9], []])
        train, validation, test = self.numbers(source, validation_split=0.2, test_split=0)
        self.assertEqual((sorted(train + validation), test), (list(range(10)), []))
        self.assertEqual([number % 2 for number in validation].count(1), 1)
        self.assertEqual(divide(source, DataConfig(test_split=0)).taken, ("validation",))
        # What the data brings stays.
        parts = self.numbers(Source(numbered(3), numbered(2), None, 1.0), test_split=0)
        self.assertEqual(parts, [[0, 1, 2], [0, 1], []])
        parts = self.numbers(Source(numbered(3), numbered(2), numbered(4), 1.0), test_split=0)
        self.assertEqual(parts, [[0, 1, 2], [0, 1], [0, 1, 2, 3]])

    @settings(deadline=None)
    @given(data=st.data())
    def test_every_example_is_in_one_split(self, data):
        total = data.draw(st.integers(3, 60))
        share = st.integers(1, 30) | st.floats(0.01, 0.99)
        options = {"validation_split": data.draw(share), "test_split": data.draw(share), "split_order": "end"}
        try:
            train, validation, test = self.numbers(Source(numbered(total), None, None, 1.0), **options)
        except ConfigError:
            return  # They take more than there is.
        self.assertEqual(train + validation + test, list(range(total)))
        self.assertTrue(train and validation and test)

    @parameterized.parameters(
        ({"validation_split": 10}, "validation_split=10: would take 10 of the 8 examples"),
        ({"test_split": 10}, "test_split=10: would take 10 of the 10 examples"),
        ({"test_split": 0.01}, "test_split=0.01: would take 0 of the 10 examples"),
    )
    def test_a_split_leaves_and_takes_something(self, options, message):
        with self.assertRaisesRegex(ConfigError, message):
            self.numbers(Source(numbered(10), None, None, 1.0), **options)


def draw(labels, seed=0, **sizes):
    """Numbers of the examples of each split, and how many each has of each class."""
    numbers = stratified(np.asarray(labels), sizes, seed)
    n_classes = max(labels) + 1
    return numbers, {name: np.bincount(np.asarray(labels)[rows], minlength=n_classes) for name, rows in numbers.items()}


class StratifiedTest(parameterized.TestCase):
    @settings(deadline=None)
    @given(data=st.data())
    def test_sizes_and_shares(self, data):
        of_class = np.array(data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=8)))
        total = int(of_class.sum())
        if total < 3:
            return
        test = data.draw(st.integers(1, total - 2))
        sizes = {"test": test, "validation": data.draw(st.integers(1, total - 1 - test))}
        labels = np.repeat(np.arange(len(of_class)), of_class)
        labels = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(labels)
        numbers = stratified(labels, sizes, data.draw(st.integers(0, 2**63 - 1)))
        self.assertEqual(np.sort(np.concatenate(list(numbers.values()))).tolist(), list(range(total)))
        shares = {name: size * of_class / total for name, size in sizes.items()}
        counts = {name: np.bincount(labels[rows], minlength=len(of_class)) for name, rows in numbers.items()}
        for name, size in sizes.items():
            self.assertLen(numbers[name], size)
            self.assertTrue((np.diff(numbers[name]) > 0).all())
        there = of_class > 0
        if len(numbers["train"]) >= there.sum():
            self.assertGreaterEqual(counts["train"][there].min(), 1)
        if (sum(map(np.ceil, shares.values())) < of_class)[there].all():  # No class is too small to give its share.
            for name, share in shares.items():
                self.assertLessEqual(np.abs(counts[name] - share).max(), 1)

    def test_the_largest_remainders_are_rounded_up(self):
        # Shares of the test: 2.5, 1.25, 1.25; of validation the same, and the class that gave least comes first.
        _, counts = draw([0] * 10 + [1] * 5 + [2] * 5, test=5, validation=5)
        self.assertEqual(counts["test"].tolist(), [3, 1, 1])
        self.assertEqual(counts["validation"][0], 2)
        self.assertEqual(sorted(counts["validation"][1:]), [1, 2])
        self.assertEqual(counts["train"][0], 5)

    def test_of_many_small_classes_a_draw_says_which_are_tested(self):
        labels = np.repeat(np.arange(100), 4)
        tested = [set(np.flatnonzero(draw(labels, seed, test=20, validation=20)[1]["test"])) for seed in range(80)]
        self.assertEqual({len(classes) for classes in tested}, {20})
        self.assertEqual(set.union(*tested), set(range(100)))
        _, counts = draw(labels, test=20, validation=20)
        self.assertEqual((counts["test"] + counts["validation"]).max(), 1)
        self.assertEqual(counts["train"].min(), 3)

    def test_it_is_drawn_by_the_seed_alone(self):
        labels = np.random.default_rng(0).integers(0, 5, 300)
        first, again, other = (draw(labels, seed, test=60, validation=60)[0] for seed in (3, 3, 4))
        for name, rows in first.items():
            self.assertEqual(rows.tolist(), again[name].tolist())
            self.assertNotEqual(rows.tolist(), other[name].tolist())
        # Every example of a class is as likely as any other of it: of 1,000 draws a fifth, by five standard deviations.
        labels = [0] * 10 + [1] * 20
        chosen = np.zeros(30)
        for seed in range(1000):
            chosen[draw(labels, seed, test=6)[0]["test"]] += 1
        self.assertLess(np.abs(chosen - 200).max(), 5 * np.sqrt(1000 * 0.2 * 0.8))

    def test_the_known_rows_of_a_seed(self):
        numbers, _ = draw([0] * 6 + [1] * 4, 0, test=3, validation=2)
        self.assertEqual(
            {name: rows.tolist() for name, rows in numbers.items()},
            {"test": [0, 3, 8], "validation": [2, 6], "train": [1, 4, 5, 7, 9]},
        )

    @parameterized.parameters(
        # Of the rare class validation and test together get what is nearest to their shares: 0.4, 0.8, 1.3; in training
        # one stays at least.
        ([40, 1], {"test": [8, 0], "validation": [8, 0], "train": [24, 1]}),
        ([40, 2], {"test": [8, 0], "validation": [7, 1], "train": [25, 1]}),
        ([40, 3], {"test": [8, 1], "validation": [9, 0], "train": [23, 2]}),
        ([1] * 8 + [12], {"test": [0] * 8 + [4], "validation": [0] * 8 + [4], "train": [1] * 8 + [4]}),
        ([1] * 6 + [12, 2], {"test": [0] * 6 + [3, 1], "validation": [0] * 6 + [4, 0], "train": [1] * 6 + [5, 1]}),
    )
    def test_rare_classes(self, of_class, expected):
        labels = np.repeat(np.arange(len(of_class)), of_class)
        fifth = round(len(labels) / 5)
        _, counts = draw(labels, test=fifth, validation=fifth)
        self.assertEqual({name: count.tolist() for name, count in counts.items()}, expected)

    def test_what_rare_classes_cannot_give_the_others_give_by_their_shares(self):
        labels = np.repeat(np.arange(102), [1] * 100 + [100, 300])
        _, counts = draw(labels, test=100, validation=50)
        self.assertEqual(counts["test"].tolist(), [0] * 100 + [25, 75])
        self.assertEqual(np.abs(counts["validation"][100:] - [12.5, 37.5]).tolist(), [0.5, 0.5])

    def test_fewer_places_than_classes_in_training(self):
        numbers, counts = draw(np.repeat(np.arange(50), 2), test=30, validation=30)
        self.assertEqual([np.count_nonzero(counts[name]) for name in numbers], [30, 30, 40])


class ClassesTest(absltest.TestCase):
    def warnings(self, labels, **options):
        source = Source(Examples(np.arange(len(labels))[:, None], np.asarray(labels), "these"), None, None, 1.0)
        with self.assertLogs("absl", "WARNING") as logged:
            log.warning("the first")
            divide(source, DataConfig(**options))
        return [record.getMessage() for record in logged.records[1:]]

    def test_a_gap_in_the_numbers_is_kept_and_reported(self):
        examples = Examples(np.zeros((4, 1)), np.array([0, 3, 0, 3]), "these")
        with self.assertLogs("absl", "INFO") as logged:
            splits = divide(Source(examples, examples, examples, 1.0), DataConfig())
        self.assertEqual(splits.class_names, ("0", "1", "2", "3"))
        self.assertIn("these: no example of the classes 1, 2; they are kept", logged.output[0])

    def test_a_class_that_no_training_example_is_left_of_is_reported(self):
        (line,) = self.warnings([0, 1, 0, 1, 2, 2], validation_split=1, test_split=1, split_order="end")
        self.assertEqual(
            line,
            "these: every example of the classes 2 went to validation and test; none is left for training; "
            "split_order=stratified gives each split its share of every class",
        )
        (line,) = self.warnings([0, 1, 0, 1, 2, 2], validation_split=2, test_split=0, split_order="end")
        self.assertIn("of the classes 2 went to validation; none is left for training", line)
        self.assertEqual(self.warnings([0, 1, 0, 1, 2, 2], validation_split=1, test_split=1), [])
        (line,) = self.warnings([0, 1, 2, 3], validation_split=1, test_split=1)
        self.assertRegex(
            line, r"^these: every example of the classes ., . went to validation and test; none .* training$"
        )

    def test_a_class_of_which_no_training_example_counts_is_reported(self):
        images, labels = np.arange(27.0).reshape(3, 9, 1), np.repeat([0, 1, 2], 3)
        train = Examples(images[0], labels, "these", weights=[1, 0, 0, 0, 0, 0, 0, 2, 0])
        validation, test = (Examples(of_split, labels) for of_split in images[1:])
        with self.assertLogs("absl", "WARNING") as logged:
            divide(Source(train, validation, test, 1.0), DataConfig())
        (line,) = [record.getMessage() for record in logged.records]
        self.assertEqual(line, "these: every training example of the classes 1 has weight 0")

    def test_data_that_is_sorted_by_class(self):
        for labels in ([0] * 10 + [1] * 10, [1] * 10 + [0] * 10):
            (line,) = self.warnings(labels, split_order="end")
            self.assertEqual(
                line,
                "these: is sorted by class, so what is taken from its end holds other classes than the training "
                "examples; split_order=stratified gives each split its share of every class",
            )
            self.assertEqual(self.warnings(labels), [])
        self.assertEqual(self.warnings([0, 1] * 10, split_order="end"), [])
        images = np.arange(60.0).reshape(3, 20, 1)
        source = Source(*(Examples(of_split, np.repeat([0, 1], 10)) for of_split in images), 1.0)
        with self.assertNoLogs("absl", "WARNING"):  # Nothing is taken from it.
            divide(source, DataConfig(split_order="end"))


class OneClassTest(absltest.TestCase):
    def test_it_is_called_by_its_name(self):
        train = Examples(np.arange(9.0)[:, np.newaxis], np.zeros(9, int), "these")
        with self.assertRaisesRegex(DataError, "^these: every label is 7; expected at least two classes$"):
            divide(Source(train, None, None, 1.0, ("7",)), DataConfig())

    def test_it_will_do_to_measure_a_model(self):
        train = Examples(np.repeat([[0.0], [1.0]], 5, axis=0), np.zeros(10, int), "these")
        with self.assertRaisesRegex(DataError, "^these: every label is 0; expected at least two classes$"):
            divide(Source(train, None, None, 1.0), DataConfig())
        with self.assertNoLogs("absl", "INFO"):
            splits = divide(Source(train, None, None, 1.0), DataConfig(), of_model=("1", "0", "2"))
        self.assertEqual(splits.class_names, ("0", "1", "2"))
        self.assertEqual(sum(map(len, (splits.train, splits.validation, splits.test))), 10)


class MostClassesTest(absltest.TestCase):
    def test_a_label_that_would_take_all_memory(self):
        examples = Examples(np.zeros((3, 2)), np.array([0, 1, 2 * 10**8]), "these")
        with self.assertRaisesRegex(DataError, "^these: label 200000000 is out of range; expected at most 65535$"):
            divide(Source(examples, None, None, 1.0), DataConfig())


if __name__ == "__main__":
    absltest.main()

import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe import Examples
from tfpipe.config import DataConfig
from tfpipe.data.readers.source import Source
from tfpipe.data.splitting import divide, from_the_end
from tfpipe.exceptions import ConfigError, DataError


def numbered(n):
    """Examples whose images hold their own number."""
    return Examples(np.arange(n, dtype=np.float32)[:, np.newaxis], np.arange(n) % 2)


class DivideTest(parameterized.TestCase):
    def numbers(self, source, **options):
        splits = divide(source, DataConfig(**options))
        return [part.images.ravel().tolist() for part in (splits.train, splits.validation, splits.test)]

    def test_the_ends_of_the_training_examples_the_test_split_last(self):
        source = Source(numbered(10), None, None, 1.0)
        parts = self.numbers(source, validation_split=2, test_split=0.3)
        self.assertEqual(parts, [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])

    def test_a_split_that_the_data_brings_is_used(self):
        parts = self.numbers(Source(numbered(10), None, numbered(4), 1.0), validation_split=3)
        self.assertEqual(parts, [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9], [0, 1, 2, 3]])
        parts = self.numbers(Source(numbered(3), numbered(2), numbered(4), 1.0), validation_split=3)
        self.assertEqual(parts, [[0, 1, 2], [0, 1], [0, 1, 2, 3]])

    def test_the_splits_are_rows_of_one_array(self):
        train = numbered(10)
        splits = divide(Source(train, None, None, 1.0), DataConfig(validation_split=2, test_split=3))
        for part, rows in ((splits.train, range(5)), (splits.validation, range(5, 7)), (splits.test, range(7, 10))):
            self.assertIs(part.stored, train.stored)
            self.assertEqual(part.rows.tolist(), list(rows))
            np.testing.assert_array_equal(part.labels, train.labels[part.rows])

    def test_the_split_that_is_named_first_comes_last(self):
        numbers = from_the_end(9, {"test": 2, "validation": 3})
        self.assertEqual(
            {name: of_split.tolist() for name, of_split in numbers.items()},
            {"test": [7, 8], "validation": [4, 5, 6], "train": [0, 1, 2, 3]},
        )

    @settings(deadline=None)
    @given(data=st.data())
    def test_every_example_is_in_one_split(self, data):
        total = data.draw(st.integers(3, 60))
        share = st.integers(1, 30) | st.floats(0.01, 0.99)
        options = {"validation_split": data.draw(share), "test_split": data.draw(share)}
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


class ClassesTest(absltest.TestCase):
    def test_a_gap_in_the_numbers_is_kept_and_reported(self):
        examples = Examples(np.zeros((4, 1)), np.array([0, 3, 0, 3]), "these")
        with self.assertLogs("absl", "INFO") as log:
            splits = divide(Source(examples, examples, examples, 1.0), DataConfig())
        self.assertEqual(splits.class_names, ("0", "1", "2", "3"))
        self.assertIn("these: no example of the classes 1, 2; they are kept", log.output[0])

    def test_a_class_that_no_training_example_is_left_of_is_reported(self):
        examples = Examples(np.zeros((6, 1)), np.array([0, 1, 0, 1, 2, 2]), "these")
        with self.assertLogs("absl", "WARNING") as log:
            divide(Source(examples, None, None, 1.0), DataConfig(validation_split=1, test_split=1))
        self.assertIn("every example of the classes 2 went to validation and test", log.output[0])


class MostClassesTest(absltest.TestCase):
    def test_a_label_that_would_take_all_memory(self):
        examples = Examples(np.zeros((3, 2)), np.array([0, 1, 2 * 10**8]), "these")
        with self.assertRaisesRegex(DataError, "^these: label 200000000 is out of range; expected at most 65535$"):
            divide(Source(examples, None, None, 1.0), DataConfig())


if __name__ == "__main__":
    absltest.main()

import pathlib
import pickle

import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import made
from tfpipe import Examples, Splits, load
from tfpipe.config import DataConfig
from tfpipe.data.loading import divide
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import ConfigError, DataError


def numbered(n):
    """Examples whose images hold their own number."""
    return Examples(np.arange(n, dtype=np.float32)[:, np.newaxis], np.arange(n) % 2)


class DigitsTest(absltest.TestCase):
    def test_the_digits_of_scikit_learn(self):
        from sklearn.datasets import load_digits

        splits = load("digits")
        images = np.concatenate([splits.train.images, splits.validation.images, splits.test.images])
        np.testing.assert_array_equal(images, load_digits().images)
        self.assertEqual((len(splits.train), len(splits.validation), len(splits.test)), (1079, 359, 359))
        self.assertEqual((images.dtype, images.max(), splits.pixel_max, splits.n_out), (np.uint8, 16, 16.0, 10))


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


class LoadTest(absltest.TestCase):
    def test_what_is_neither_a_name_nor_a_path(self):
        with self.assertRaisesRegex(DataError, "^/no/such: no such data; expected 'digits', a folder"):
            load("/no/such")
        with self.assertRaisesRegex(DataError, "^a{3000}: cannot be found: File name too long$"):
            load("a" * 3000)

    def test_a_file_of_an_unknown_format(self):
        path = self.create_tempfile("data.xyz").full_path
        with self.assertRaisesRegex(DataError, "data.xyz: not a known format"):
            load(path)

    def test_images_that_are_scaled_already_are_not_scaled_again(self):
        images = np.linspace(0, 0.996, 12, dtype=np.float32).reshape(6, 2)
        path = pathlib.Path(self.create_tempdir().full_path) / "mnist.pkl"
        path.write_bytes(pickle.dumps(((images, np.arange(6) % 2),) * 3))
        with self.assertLogs("absl", "WARNING") as log:
            self.assertEqual(load(path, pixel_max=256).pixel_max, 1.0)
        self.assertRegex(
            log.output[0], r"mnist.pkl \(train\): the largest value is 0.996, .*pixel_max=256 is not applied"
        )
        self.assertEqual(load(path, pixel_max=0.5).pixel_max, 0.5)
        self.assertEqual(load(path).pixel_max, 1.0)

    def test_pixel_max_replaces_what_the_data_is(self):
        folder = made.write_idx_folder(pathlib.Path(self.create_tempdir().full_path))
        self.assertEqual(load(str(folder), pixel_max=100).pixel_max, 100)
        self.assertEqual(load(str(folder), pixel_max=100).config, DataConfig(str(folder), pixel_max=100))


class ExamplesTest(parameterized.TestCase):
    @parameterized.parameters(
        (np.zeros((2, 3)), np.zeros(3, int), "2 images but 3 labels"),
        (np.zeros(3), np.zeros(3, int), r"images of shape \(3,\)"),
        (np.zeros((0, 3)), np.zeros(0, int), r"images of shape \(0, 3\)"),
        (np.zeros((2, 3), int), np.zeros(2, int), "images of type int64"),
        (np.zeros((2, 3)), np.zeros((2, 1), int), r"labels of shape \(2, 1\)"),
        (np.zeros((2, 3)), np.zeros(2), "type float64"),
        (np.zeros((2, 3)), np.array([0, -7]), "label -7 of example 1"),
        (np.zeros((2, 3)), np.array([0, 2**31]), "label 2147483648 of example 1"),
        (np.array([[1.0], [np.nan]]), np.zeros(2, int), "image 1 holds a value that is not finite"),
        (np.array([[1.0], [1e300]]), np.zeros(2, int), "image 1 holds a value that is not finite"),
    )
    def test_what_does_not_fit_is_refused(self, images, labels, message):
        with self.assertRaisesRegex(DataError, f"^these: .*{message}"):
            Examples(images, labels, "these")

    def test_a_nan_far_down_is_found(self):
        images = np.zeros((10_000, 2), np.float32)
        images[9_999, 1] = np.inf
        with self.assertRaisesRegex(DataError, "image 9999 "):
            Examples(images, np.zeros(10_000, int))

    def test_types_of_images_and_labels(self):
        for dtype, kept in ((np.float16, np.float16), (np.float32, np.float32), (np.float64, np.float32)):
            examples = Examples(np.full((2, 3), 0.5, dtype), np.array([0, 1], np.uint8))
            self.assertEqual((examples.images.dtype, examples.labels.dtype), (kept, np.int32))
        self.assertEqual(Examples(np.zeros((1, 1), np.uint8), [0]).images.dtype, np.uint8)


class SplitsTest(parameterized.TestCase):
    def test_splits_that_do_not_fit_together(self):
        def examples(shape=(2, 2), dtype=np.uint8, label=1, name="it"):
            return Examples(np.zeros((3, *shape), dtype), np.array([0, 1, label]), name)

        with self.assertRaisesRegex(DataError, r"^it: images of shape \(4,\), but train has shape \(2, 2\)"):
            Splits(examples(name="train"), examples((4,)), examples(), ("a", "b"))
        with self.assertRaisesRegex(DataError, "^it: images of type float32, but train has type uint8"):
            Splits(examples(name="train"), examples(), examples(dtype=np.float32), ("a", "b"))
        with self.assertRaisesRegex(
            DataError, "^it: label 2 of example 2 is out of range; the training labels are 0 to 1"
        ):
            Splits(examples(name="train"), examples(label=2), examples(), ("a", "b"))
        with self.assertRaisesRegex(DataError, "1 class; expected at least two"):
            Splits(*[Examples(np.zeros((1, 1)), [0])] * 3, ("a",))
        with self.assertRaisesRegex(DataError, "pixel_max is 0"):
            Splits(*[examples()] * 3, ("a", "b"), pixel_max=0)


if __name__ == "__main__":
    absltest.main()

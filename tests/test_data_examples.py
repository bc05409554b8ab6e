import dataclasses
import pathlib
import tempfile

import numpy as np
from absl import logging
from absl.testing import absltest, parameterized

from tests import made
from tfpipe import Examples, Splits
from tfpipe.data.checked import Share
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import DataError
from tfpipe.model import artifact


class ExamplesTest(parameterized.TestCase):
    @parameterized.parameters(
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        ([2, 0, np.int16(1)], [2, 0, 1], None),
        ([[2], [0], [1]], [2, 0, 1], None),
        ([-1, 1, -1], [0, 1, 0], ("-1", "1")),
    )
    def test_labels_in_arrays_of_objects(self, labels, numbers, class_names):
        examples = Examples(np.zeros((3, 2)), np.array(labels, object))
        self.assertEqual((examples.labels.tolist(), examples.class_names), (numbers, class_names))

    @parameterized.parameters(
        (["a", "b", None], "label None of example 2; expected text in all of them, or integers in all"),
        (["a", "b", 3], "label 3 of example 2; expected text"),
        ([1, 0, "a"], "label 'a' of example 2; expected text"),
        ([[1], [0], [None]], "label None of example 2; expected text"),
        ([np.nan, "a", "b"], "label nan of example 0; exp"),
        ([0.5, 0, 1], "label 0.5 of example 0; expected text"),
    )
    def test_other_objects_as_labels_are_refused(self, labels, message):
        with self.assertRaisesRegex(DataError, f"^examples: labels in objects, and {message}"):
            Examples(np.zeros((3, 2)), np.array(labels, object))

    def test_where_people_list_them(self):
        listed = np.array([4, 0, 2, 5])
        examples = Examples(np.zeros((4, 2)), [0, 1, 0, 1], listed=listed)
        self.assertEqual(examples.take(np.array([1, 3])).listed.tolist(), [0, 5])
        parts = examples.take(np.array([0, 2])).joined(examples.take(np.array([1])))
        self.assertEqual((parts.rows.tolist(), parts.listed.tolist()), ([0, 1, 2], [4, 0, 2]))
        self.assertIsNone(made.splits().train.listed)

    @parameterized.parameters(
        (np.zeros((2, 3)), np.zeros(3, int), "2 rows but 3 labels"),
        (np.zeros((2, 3, 3)), np.zeros(3, int), "2 images but 3 labels"),
        (np.zeros(3), np.zeros(3, int), r"images of shape \(3,\)"),
        (np.zeros((0, 3)), np.zeros(0, int), r"images of shape \(0, 3\)"),
        (np.array([["a"], ["b"]]), [0, 1], "rows of type <U1; expected numbers"),
        (np.zeros((2, 3), complex), [0, 1], "images of type complex128, of which a part would be lost"),
        (np.zeros((2, 3)), np.zeros(2, complex), "labels of type complex128, of which a part would be lost"),
        (
            np.ma.masked_equal([[1.0], [2.0]], 2),
            [0, 1],
            r"images in a masked array, .*; expected an array, such as its f",
        ),
        (np.zeros((2, 3)), np.ma.masked_equal([0, 1], 1), "labels in a masked array, whose mask would be lost"),
        ([[1, 2], [3]], [0, 1], "images that make no array: .*; expected lists of one length"),
        (np.zeros((2, 3)), [0.5, 1], "label 0.5 of example 0; expected whole numbers, or text"),
        (np.zeros((2, 3)), np.zeros((2, 2), int), r"labels of shape \(2, 2\) that are not one-hot"),
        (np.zeros((2, 3)), np.array([0, 2**31]), "label 2147483648 of example 1"),
        (np.array([[1, 2.0], [3, np.nan]]), np.zeros(2, int), "row 1, column 1 is NaN; expected finite numbers"),
        (np.array([[1.0], [-np.inf]]), np.zeros(2, int), "row 1, column 0 is -inf"),
        (
            np.array([[1.0], [1e300]]),
            np.zeros(2, int),
            "row 1, column 0 is 1e\\+300; expected .* that float32 can hold",
        ),
        (np.full((2, 2, 3), [1, np.nan, 1]), np.zeros(2, int), "image 0, at 0, 1, is NaN; expected finite"),
    )
    def test_what_does_not_fit_is_refused(self, images, labels, message):
        with self.assertRaisesRegex(DataError, f"^these: .*{message}"):
            Examples(images, labels, "these")

    @parameterized.parameters((1.7e9, 8.0), (1e6, 0.02))
    def test_a_column_that_float32_would_lose_is_refused(self, mean, deviation):
        rows = np.random.default_rng(0).normal(size=(100, 3))
        rows[:, 1] = mean + deviation * rows[:, 1]
        with self.assertRaisesRegex(DataError, f"these: column 1 lies at {mean / 100:.0f}.* cannot tell apart; take"):
            Examples(rows / [1, 100, 1], np.zeros(100, int), "these")
        rows[:, 1] -= mean
        Examples(rows, np.zeros(100, int))

    def test_columns_of_which_float32_holds_enough(self):
        rows = np.random.default_rng(0).normal(size=(100, 3)) * [1e7, 1e-14, 1e-3] + [1.7e9, 0.1, 1.0]
        kept = Examples(rows, np.zeros(100, int)).images
        self.assertEqual(kept.dtype, np.float32)
        self.assertEqual(np.unique(kept[:, 1]).tolist(), [np.float32(0.1)])  # A constant that float64 had rounded.

    def test_a_nan_far_down_is_found(self):
        images = np.zeros((10_000, 2), np.float32)
        images[9_999, 1] = np.inf
        with self.assertRaisesRegex(DataError, "row 9999, column 1 is inf"):
            Examples(images, np.zeros(10_000, int))

    def mapped(self, values):
        path = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory())) / "values"
        found = np.memmap(path, values.dtype, "w+", shape=values.shape)
        found[...] = values
        return found

    @parameterized.product(shape=((6,), (2, 3)), size=(2, 3, 5))
    def test_each_process_looks_at_its_share_of_a_mapped_file(self, shape, size):
        images, labels = self.mapped(np.zeros((17, *shape), np.float32)), np.arange(17) % 2
        found = []
        for row in range(17):
            images[...] = 0
            images[row].flat[4] = np.nan
            for rank in range(size):
                try:
                    Examples(images, labels, share=Share(rank, size))
                except DataError as error:
                    self.assertRegex(str(error), f"(row|image) {row},")  # Of the file.
                    found.append((row, rank))
        self.assertEqual(found, [(row, min(rank for rank in range(size) if row < (rank + 1) * 17 // size))
                                 for row in range(17)])  # fmt: skip
        with self.assertRaisesRegex(DataError, "16, .* is NaN"):  # What is in memory each looks at.
            Examples(np.array(images), labels, share=Share(0, size))

    def test_the_first_process_looks_at_whole_columns_that_float32_may_lose(self):
        rows, labels = self.mapped(np.zeros((100, 2))), np.arange(100) % 2
        rows[:, 1] = 1.7e9 + 50 * np.arange(100)
        with self.assertRaisesRegex(DataError, "column 1 lies at .* cannot tell apart"):
            Examples(rows[50:], labels[50:])
        for rank in range(2):  # All of it vary enough.
            Examples(rows, labels, share=Share(rank, 2))
        rows[99, 1] = np.inf
        Examples(rows, labels, share=Share(1, 2))
        with self.assertRaisesRegex(DataError, "row 99, column 1 is inf"):
            Examples(rows, labels, share=Share(0, 2))

    def test_types_of_images_and_labels(self):
        for dtype, kept in ((np.float16, np.float16), (np.float32, np.float32), (np.float64, np.float32)):
            examples = Examples(np.full((2, 3), 0.5, dtype), np.array([0, 1], np.uint8))
            self.assertEqual((examples.images.dtype, examples.labels.dtype), (kept, np.int32))
        self.assertEqual(Examples(np.zeros((1, 1), np.uint8), [0]).images.dtype, np.uint8)
        for images in ([[0, 1], [2, 300]], np.array([[0, 1], [2, 300]], ">i2"), [[0.0, 1.0], [2.0, 300.0]]):
            examples = Examples(images, [0, 1])
            self.assertEqual((examples.images.dtype, examples.images.tolist()), (np.float32, [[0, 1], [2, 300]]))
        self.assertEqual(Examples([[True], [False]], [0, 1]).images.tolist(), [[1.0], [0.0]])

    @parameterized.parameters(
        ([0, 2, 1], [0, 2, 1], None),
        ([[0], [2], [1]], [0, 2, 1], None),
        ([0.0, 2.0, 1.0], [0, 2, 1], None),
        ([False, True, True], [0, 1, 1], None),
        ([[0, 1, 0], [0, 0, 1], [0, 1, 0]], [1, 2, 1], None),
        ([1, 2, 2], [1, 2, 2], None),
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
        ([b"dog", b"cat", b"dog"], [1, 0, 1], ("cat", "dog")),
        ([-1, 1, -1], [0, 1, 0], ("-1", "1")),
    )
    def test_forms_of_labels(self, given, numbers, class_names):
        examples = Examples(np.zeros((3, 2)), given)
        self.assertEqual((examples.labels.tolist(), examples.class_names), (numbers, class_names))
        self.assertEqual(examples.labels.dtype, np.int32)
        self.assertEqual(examples.take([0, 2]).class_names, class_names)

    @parameterized.parameters(
        ({"weights": [1.0, 2.0]}, r"weights of shape \(2,\) and type float64 for 3 examples; expected \[3\] numbers"),
        ({"weights": [[1.0], [2.0], [3.0]]}, r"weights of shape \(3, 1\)"),
        ({"weights": ["1", "2", "3"]}, "weights of shape .* and type <U1"),
        ({"weights": [1, 2j, 3]}, "weights of type complex128"),
        ({"groups": np.ma.masked_equal([1, 2, 3], 2)}, "groups in a masked array"),
        ({"weights": [1, -0.5, -2]}, "weight -0.5 of example 1; expected a finite number of at least 0 for each"),
        ({"weights": [1, 2, np.nan]}, "weight nan of example 2; expected a finite number"),
        ({"weights": [np.inf, 2, 3]}, "weight inf of example 0; expected a finite number"),
        ({"weights": [0, 0, 0]}, "the weight of every example is 0; expected .* and one above 0"),
        ({"groups": [1, 2]}, r"groups of shape \(2,\) and type int64 for 3 examples; expected \[3\] integers"),
        ({"groups": [1.0, 2.0, 3.0]}, "groups of shape .* and type float64"),
        ({"groups": ["a", "b", "c"]}, "groups of shape .* and type <U1"),
    )
    def test_weights_and_groups_that_cannot_be_used(self, options, message):
        with self.assertRaisesRegex(DataError, f"^these: {message}[^\n]*$"):
            Examples(np.zeros((3, 2)), np.zeros(3, int), "these", **options)

    def test_types_of_weights_and_groups(self):
        large = np.array([2**64 - 1, 2**64 - 2, 2**64 - 1], np.uint64)
        for weights, groups in (([0, 1, 3], large), (np.array([False, True, True]), np.array([5, 2, 5], np.uint8))):
            examples = Examples(np.zeros((3, 2)), np.zeros(3, int), weights=weights, groups=groups)
            self.assertEqual((examples.weights.dtype, examples.groups.dtype), (np.float64, np.int64))
            self.assertEqual(examples.weights.tolist(), [float(weight) for weight in weights])
            self.assertEqual((examples.groups == examples.groups[0]).tolist(), [True, False, True])
        without = Examples(np.zeros((3, 2)), np.zeros(3, int))
        self.assertEqual((without.weights, without.groups), (None, None))


class TakeTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = made.images(20)
        self.whole = Examples(self.images, self.labels, "these")

    def test_rows_by_number(self):
        for numbers in ([0, 3, 4, 19], np.array([7], np.uint8), np.arange(5, 9), np.arange(20)):
            part = self.whole.take(numbers)
            self.assertIs(part.stored, self.whole.stored)
            self.assertEqual((part.rows.dtype, part.rows.tolist()), (np.int64, list(numbers)))
            np.testing.assert_array_equal(part.images, self.images[numbers])
            np.testing.assert_array_equal(part.labels, self.labels[numbers])
            self.assertEqual((part.labels.dtype, len(part), part.name), (np.int32, len(numbers), "these"))

    def test_of_a_part_the_places_in_it(self):
        part = self.whole.take([2, 5, 6, 7, 11]).take([0, 2, 4])
        self.assertEqual(part.rows.tolist(), [2, 6, 11])
        np.testing.assert_array_equal(part.images, self.images[[2, 6, 11]])

    def test_weights_and_groups_go_along(self):
        random = np.random.default_rng(0)
        weights, groups = random.uniform(0, 2, 20), random.integers(0, 5, 20)
        whole = Examples(self.images, self.labels, weights=weights, groups=groups)
        part = whole.take([2, 5, 6, 7, 11]).take([0, 2, 4])
        np.testing.assert_array_equal(part.weights, weights[[2, 6, 11]])
        np.testing.assert_array_equal(part.groups, groups[[2, 6, 11]])
        # A part may be of examples that do not count.
        weights[:3] = 0
        self.assertEqual(Examples(self.images, self.labels, weights=weights).take([0, 1]).weights.tolist(), [0, 0])

    def test_consecutive_rows_are_a_view(self):
        self.assertTrue(np.shares_memory(self.whole.images, self.images))
        self.assertTrue(np.shares_memory(self.whole.take([4, 5, 6]).images, self.images))
        self.assertFalse(np.shares_memory(self.whole.take([4, 6]).images, self.images))

    @parameterized.parameters(
        (5, r"int64 \(\) as numbers of examples"),
        ([[1, 2]], r"int64 \(1, 2\) as numbers of examples"),
        ([1.0, 2.0], r"float64 \(2,\) as numbers of examples"),
        ([True] * 20, r"bool \(20,\) as numbers of examples"),
        ([3, 2], "2 after 3 as number of an example"),
        ([0, 1, 1], "1 after 1 as number of an example"),
        ([-1, 2], "-1 as number of an example"),
        ([5, 20], "20 after 5 as number of an example"),
        (np.array([2, 1], np.uint64), "1 after 2 as number of an example"),
    )
    def test_other_numbers_are_refused(self, numbers, message):
        with self.assertRaisesRegex(DataError, f"^these: {message}; expected integers from 0 to 19, ascending, none"):
            self.whole.take(numbers)

    def test_no_examples(self):
        for numbers in ([], np.arange(0)):
            none = self.whole.take(numbers)
            self.assertEqual((len(none), none.images.shape, none.labels.shape), (0, (0, *self.images.shape[1:]), (0,)))
            self.assertEqual(list(none.blocks()), [])

    def test_the_walk_in_blocks(self):
        numbers = [1, 2, 3, 8, 10, 11]
        for examples, images in ((self.whole, self.images), (self.whole.take(numbers), self.images[numbers])):
            for most_bytes, itemsize, rows in ((1, None, 1), (48, None, 2), (48 * 8, 8, 2), (1 << 20, None, 20)):
                blocks = list(examples.blocks(most_bytes, itemsize))
                self.assertEqual([len(block) for block in blocks[:-1]], [rows] * (len(blocks) - 1))
                self.assertLessEqual(len(blocks[-1]), rows)
                np.testing.assert_array_equal(np.concatenate(blocks), images)
            self.assertEqual(examples.value_range(), (images.min(), images.max()))


class SplitsTest(parameterized.TestCase):
    @parameterized.parameters(
        ((4, 5), np.float32, 255, "255"), ((4, 5, 3), np.int64, 999, "999"), ((4, 5), np.float64, 1.5, "1.5"),
        ((4, 5), np.uint8, 255, None), ((4, 5), np.float32, 1, None), ((20,), np.float32, 255, None),
        ((4, 5, 6), np.float32, 255, None),
    )  # fmt: skip
    def test_pictures_of_another_white_are_told(self, shape, dtype, largest, told):
        images = np.zeros((4, *shape), dtype)
        images[1] = largest
        parts = [Examples(images, [0, 1, 0, 1], "it")] * 3
        with self.assertLogs("absl", "INFO") as logged:
            logging.get_absl_logger().info("begin")
            splits = Splits(*parts, ("a", "b"))
        line = f"WARNING:absl:it: pictures of values up to {told}; give --pixel_max the value of white"
        self.assertEqual(logged.output[1:], [line] if told else [])
        with self.assertNoLogs("absl", "INFO"):
            Splits(*parts, ("a", "b"), pixel_max=float(largest))
            dataclasses.replace(splits, class_names=("c", "d"))
            centred = images.astype(np.float32) - largest / 2
            Splits(*[Examples(centred, [0, 1, 0, 1])] * 3, ("a", "b"))

    def test_names_in_another_spelling_are_the_same_class(self):
        train, other = (Examples(np.zeros((2, 3)), ["a", name]) for name in ("caf\u00e9", "cafe\u0301"))
        splits = Splits(train, other, other, ("a", "caf\u00e9"))
        self.assertEqual(splits.test.labels.tolist(), [0, 1])

    def test_splits_that_do_not_fit_together(self):
        def examples(shape=(2, 2), dtype=np.uint8, label=1, name="it"):
            return Examples(np.zeros((3, *shape), dtype), np.array([0, 1, label]), name)

        with self.assertRaisesRegex(DataError, r"^it: rows of shape \(4,\), but train has shape \(2, 2\)"):
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

    def test_names_of_classes_become_the_numbers_of_the_data_set(self):
        def examples(labels):
            return Examples(np.zeros((len(labels), 2)), labels, "these")

        splits = Splits(examples(["dog", "cat"]), examples(["eel", "dog"]), examples([1]), ("eel", "dog", "cat"))
        self.assertEqual(
            [s.labels.tolist() for s in (splits.train, splits.validation, splits.test)], [[1, 2], [0, 1], [1]]
        )
        self.assertEqual(splits.train.joined(splits.validation).labels.tolist(), [1, 2, 0, 1])
        self.assertEqual(dataclasses.replace(splits, pixel_max=2.0).train.labels.tolist(), [1, 2])
        of_signs = Splits(examples([1, -1]), examples([-1, -1]), examples([-1]), ("-1", "1"))
        self.assertEqual((of_signs.train.labels.tolist(), of_signs.validation.labels.tolist()), ([1, 0], [0, 0]))
        with self.assertRaisesRegex(DataError, "^these: label 'eel' of example 1; the classes are dog, cat$"):
            Splits(examples(["dog", "cat"]), examples(["dog", "eel"]), examples([0]), ("dog", "cat"))
        with self.assertRaisesRegex(DataError, "^these: other class names than these; join them before"):
            examples(["dog", "cat"]).joined(examples(["dog", "eel"]))

    def test_the_scale_of_bytes_and_of_others(self):
        for dtype, options, pixel_max, white in (
            (np.uint8, {}, 255.0, 255.0),
            (np.uint8, {"pixel_max": 256.0}, 256.0, 255.0),
            (np.uint8, {"pixel_max": 16.0, "white": 16.0}, 16.0, 16.0),
            (np.float32, {}, 1.0, 1.0),
            (np.float32, {"pixel_max": 9.0}, 9.0, 9.0),
        ):
            examples = Examples(np.zeros((3, 2, 2), dtype), [0, 1, 1])
            splits = Splits(examples, examples, examples, ("a", "b"), **options)
            self.assertEqual((splits.pixel_max, splits.white_pixel), (pixel_max, white))
            self.assertEqual(splits.scaling.factor, 1 / pixel_max)

    def test_a_training_example_counts(self):
        whole = Examples(*made.images(20), "these", weights=[0] * 12 + [1] * 8)
        train, others = whole.take(np.arange(12)), whole.take(np.arange(12, 20))
        with self.assertRaisesRegex(DataError, "^these: the weight of every training example is 0; expected one above"):
            Splits(train, others, others, ("a", "b", "c"))
        Splits(others, train, train, ("a", "b", "c"))

    def test_the_test_split_alone_may_be_empty(self):
        whole = Examples(*made.images(20), "these", weights=np.ones(20), groups=np.arange(20))
        train, validation, none = whole.take(np.arange(12)), whole.take(np.arange(12, 20)), whole.take([])
        splits = Splits(train, validation, none, ("a", "b", "c"))
        self.assertEqual((len(splits.test), splits.taken), (0, ("validation",)))
        others = dataclasses.replace(splits, validation=validation.take(np.arange(7)), test=validation.take([7]))
        self.assertNotEqual(splits.fingerprint, others.fingerprint)
        for parts, what in (((none, validation, none), "training"), ((train, none, validation), "validation")):
            with self.assertRaisesRegex(DataError, f"^these: no {what} examples; expected at least one"):
                Splits(*parts, ("a", "b", "c"))

    def test_a_group_is_in_one_split(self):
        train = Examples(*made.images(3), "train.npz", groups=[4, 1, 4])
        without, apart = Examples(*made.images(2)), Examples(*made.images(2), groups=[0, 2])
        divided = Examples(*made.images(4), "test.npz", groups=[3, 5, 3, 1])
        Splits(train, without, apart, ("a", "b", "c"))
        with self.assertRaisesRegex(
            DataError,
            "^test.npz: example 3 of the test split is of one group with example 1 of the train split; expected each "
            "group in one split$",
        ):
            Splits(train, without, divided, ("a", "b", "c"))
        with self.assertRaisesRegex(DataError, "example 0 of the test split .* example 1 of the validation split"):
            Splits(without, apart, Examples(*made.images(1), groups=[2]), ("a", "b", "c"))

    @parameterized.parameters(
        ({"class_names": "cde"}, "class_names is 'cde'; expected a name for each class, in a tuple"),
        ({"class_names": ("cat", "dog", "cat")}, "class name 'cat' is there twice; expected a name of its own"),
        (
            {"class_names": ("cat", "dog\0", "eel")},
            r"class name 'dog\\x00' ends in NUL, which NumPy's text arrays drop",
        ),
        ({"class_names": ("cat", "\ud800", "eel")}, r"class name '\\ud800' is no text; expected Unicode characters"),
        ({"class_names": ("cat", 1, "eel")}, "a class name of type int; expected text"),
        ({"class_names": (b"cat", "dog", "eel")}, "a class name of type bytes; expected text"),
        ({"pixel_max": np.inf}, "pixel_max is inf; expected a number above 0 that float32 can hold"),
        ({"pixel_max": np.nan}, "pixel_max is nan; expected a number above 0"),
        ({"pixel_max": -1.0}, "pixel_max is -1.0; expected a number above 0"),
        ({"pixel_max": 1e-60}, "pixel_max is 1e-60; expected a number above 0 that float32 can hold"),
        ({"pixel_max": 10**400}, "pixel_max is 10+; expected a number above 0 that float32 can hold"),
        ({"pixel_max": "255"}, "pixel_max is 255; expected a number"),
        ({"white": 0.0}, "white is 0.0; expected a number above 0"),
        ({"white": np.inf}, "white is inf; expected a number above 0"),
        ({"white": -255.0}, "white is -255.0; expected a number above 0"),
        (
            {"standardization": Scaling(np.zeros(23), np.ones(24))},
            r"shift of the standardization; expected \[24\] finite",
        ),
        ({"standardization": Scaling(None, np.ones(5))}, r"factor of the standardization; expected \[24\] finite"),
        ({"standardization": Scaling(np.full(24, np.nan), np.ones(24))}, "shift of the standardization"),
        ({"standardization": Scaling(np.zeros(24), np.full(24, 1e300))}, "factor of the standardization"),
    )
    def test_what_a_model_file_could_not_hold(self, options, message):
        with self.assertRaisesRegex(DataError, f"^examples: {message}[^\n]*$"):
            dataclasses.replace(made.splits(), **options)

    def test_class_names_become_a_tuple_of_plain_text(self):
        splits = dataclasses.replace(made.splits(), class_names=np.array(["", "d\0g", "ä\n"]))
        self.assertEqual((splits.class_names, type(splits.class_names[0])), (("", "d\0g", "ä\n"), str))
        # And a model file holds them.
        W, b = np.zeros((splits.n_in, 3), np.float32), np.zeros(3, np.float32)
        model = artifact.TrainedModel(W, b, splits.class_names, splits.image_shape, splits.white_pixel, {})
        path = pathlib.Path(self.create_tempdir().full_path) / "model.npz"
        artifact.save(path, model)
        read = artifact.load(path)
        self.assertEqual((read.class_names, read.image_shape, read.white), (splits.class_names, (4, 6), 255.0))


if __name__ == "__main__":
    absltest.main()

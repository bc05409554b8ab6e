import numpy as np
from absl.testing import absltest, parameterized

from tfpipe.data import labels
from tfpipe.exceptions import DataError


def encode(*splits):
    return labels.encode([(np.asarray(split), f"split {n}") for n, split in enumerate(splits)])


class LabelsTest(parameterized.TestCase):
    @parameterized.parameters("u1", "i1", "u2", ">i2", "i4", "i8", "u8", "?")
    def test_integers_of_any_width(self, dtype):
        numbers, names = encode(np.array([0, 1, 1], dtype), np.array([[1], [0]], dtype))
        self.assertEqual([n.tolist() for n in numbers], [[0, 1, 1], [1, 0]])
        self.assertIsNone(names)

    def test_strings_are_numbered_in_sorted_order(self):
        for dtype in ("U", "S"):
            numbers, names = encode(np.array(["dog", "cat", "eel"], dtype), np.array([["eel"], ["cat"]], dtype))
            self.assertEqual([n.tolist() for n in numbers], [[1, 0, 2], [2, 0]])
            self.assertEqual(names, ("cat", "dog", "eel"))

    def test_spellings_that_unicode_holds_equal_are_one_class(self):
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        for first, second in ((composed, decomposed), (decomposed, composed)):
            with self.assertLogs("absl", "INFO") as logged:
                numbers, names = encode(["tea", first, second, "bar"], [second, "tea", first])
            self.assertEqual([n.tolist() for n in numbers], [[2, 1, 1, 0], [1, 2, 1]])
            self.assertEqual(names, ("bar", first, "tea"))
            (line,) = logged.output
            self.assertEqual(
                line,
                f"INFO:absl:split 0: the class {composed} is spelled in two ways, which Unicode holds equal: it is one",
            )

    def test_names_that_may_be_mistakes_are_told(self):
        with self.assertLogs("absl", "INFO") as logged:
            _, names = encode(["Cat", "cat", "dog ", "eel"])
        self.assertEqual(names, ("Cat", "cat", "dog ", "eel"))
        (line,) = logged.output
        self.assertRegex(line, "^WARNING:.*: names of classes differ in .*, or end in space: 'Cat' and 'cat', 'dog '$")
        with self.assertNoLogs("absl", "INFO"):
            encode(["cat", "dog"], ["dog"])

    def test_one_hot_rows(self):
        for dtype in (np.uint8, np.float32, bool):
            numbers, _ = encode(np.eye(3)[[2, 0, 1]].astype(dtype))
            self.assertEqual(numbers[0].tolist(), [2, 0, 1])

    @parameterized.parameters(
        ([-1, 1, 1], [[1], [-1]], [[0, 1, 1], [1, 0]], ("-1", "1")),
        ([-1.0, 1.0, 1.0], [1, -1], [[0, 1, 1], [1, 0]], ("-1", "1")),
        ([3, 1, 2], [2, 2], [[2, 0, 1], [1, 1]], ("1", "2", "3")),
        ([20, 1000000], [20], [[0, 1], [0]], ("20", "1000000")),
        ([10, 9, 2], [9], [[2, 1, 0], [1]], ("2", "9", "10")),
        # The least of all splits counts, and a number between that has no example stays one.
        ([1, 3], [0, 1], [[1, 3], [0, 1]], None),
        ([2.0, 0.0], [0], [[2, 0], [0]], None),
        # The columns of one-hot rows are numbers.
        ([[0, 1, 0], [0, 0, 1]], [1, 2], [[1, 2], [1, 2]], None),
    )
    def test_integers_that_are_numbers_and_integers_that_are_names(self, first, second, expected, expected_names):
        numbers, names = encode(first, second)
        self.assertEqual([n.tolist() for n in numbers], expected)
        self.assertEqual(names, expected_names)

    def test_integers_as_numbers_wherever_they_begin(self):
        for first, names in (([1, 3], None), ([-1, 1], ("-1", "1"))):
            self.assertEqual(labels.encode([(np.array(first), "it")], numbered=True)[1], names)

    def test_names_of_numbers(self):
        for given, expected in (([0, 2], [0, 2]), ([1, 3, 2], [0, 2, 1])):
            numbers, names = labels.encode([(np.array(given, "u1"), "it")], names=("a", "b", "c"))
            self.assertEqual((numbers[0].tolist(), names), (expected, ("a", "b", "c")))
        for given, found in (([1, 2], "1 to 2"), ([2, 1, 1], "1 to 2"), ([1], "1 to 1")):
            with self.assertRaisesRegex(
                DataError, f"^it: labels from {found} and 3 class names, of which .* expected a label 0 or 3; numbered"
            ):
                labels.encode([(np.array(given), "it")], names=("a", "b", "c"))
        # What has names already takes no others.
        for given, expected in ((["x", "y"], ("x", "y")), ([-1, 1], ("-1", "1"))):
            self.assertEqual(labels.encode([(np.array(given), "it")], names=("a", "b"))[1], expected)
        with self.assertRaisesRegex(
            DataError, "^it: label 4, and 3 class names; expected one for each class from 0 on$"
        ):
            labels.encode([(np.array([0, 4]), "it")], names=("a", "b", "c"))

    def test_a_masked_array(self):
        with self.assertRaisesRegex(
            DataError, "^split 0: labels in a masked array, whose mask would be lost; leave out"
        ):
            labels.encode([(np.ma.masked_equal([0, 1, 2], 2), "split 0")])

    def test_bytes_that_are_no_text(self):
        with self.assertRaisesRegex(DataError, "split 0: a label is no text"):
            encode(np.array([b"caf\xe9", b"x"]))

    @parameterized.parameters(
        ([["a"], ["b"]], [["a"], ["x"]], "split 1: label 'x' of example 1: no training example has it"),
        ([0, 1], ["a", "b"], "split 0: labels of type int64; expected integers, or strings in every split"),
        ([0.0, 1.5], [0, 1], "split 0: label 1.5 of example 1; expected whole numbers, or text"),
        ([0, 1], [np.nan, 1], "split 1: label nan of example 0; expected whole numbers"),
        ([0, 1], [0, 2.0**60], "split 1: label 1.15292e\\+18 of example 1; expected whole numbers"),
        ([-1, 1], [-1, 0, 1], "split 1: label 0 of example 1: no training example has it; those have -1, 1"),
        ([1j, 0], [0, 1], "split 0: labels of type complex128"),
        ([[0, 1], [1, 1]], [0, 1], r"split 0: labels of shape \(2, 2\) that are not one-hot"),
        ([[0, 2], [1, 0]], [0, 1], r"split 0: labels of shape \(2, 2\) that are not one-hot"),
        ([[0, 0], [1, 0]], [0, 1], r"split 0: labels of shape \(2, 2\) that are not one-hot"),
        ([0, 1], [[[0]]], r"split 1: labels of shape \(1, 1, 1\)"),
    )
    def test_other_forms_are_refused(self, first, second, message):
        with self.assertRaisesRegex(DataError, message):
            encode(first, second)


if __name__ == "__main__":
    absltest.main()

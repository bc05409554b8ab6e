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

    def test_one_hot_rows(self):
        for dtype in (np.uint8, np.float32, bool):
            numbers, _ = encode(np.eye(3)[[2, 0, 1]].astype(dtype))
            self.assertEqual(numbers[0].tolist(), [2, 0, 1])

    def test_bytes_that_are_no_text(self):
        with self.assertRaisesRegex(DataError, "split 0: a label is no text"):
            encode(np.array([b"caf\xe9", b"x"]))

    @parameterized.parameters(
        ([["a"], ["b"]], [["a"], ["x"]], "split 1: label 'x' of example 1: no training example has it"),
        ([0, 1], ["a", "b"], "split 0: labels of type int64; expected integers, or strings in every split"),
        ([0.0, 1.0], [0, 1], "split 0: labels of type float64"),
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

"""Costs and their gradients, errors and predictions, against NumPy in float64."""

import collections
import re

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import minibatches, oracle
from tests.minibatches import BY_255, objective, span
from tfpipe.compute import int8
from tfpipe.compute.programs import Program
from tfpipe.data.scaling import Scaling
from tfpipe.solvers.objective import Objective, arithmetic, parameter_type

FOREVER = 10**9


@Program
def gradients(on, data, i, W, b, column):
    """The costs of a minibatch, `[H]`, and their gradients."""
    with tf.GradientTape() as tape:
        tape.watch((W, b))
        cost = on.cost(data, i, W, b, column)
    return cost, *tape.gradient(cost, (W, b))


sums_of = Program(Objective.sums)
predictions_of = Program(Objective.predictions)


def parameters(n_heads, n_out=3, n_in=24, dtype=np.float32):
    random = np.random.default_rng(0)
    return tuple(tf.constant(random.normal(size=shape), dtype) for shape in ((n_heads, n_out, n_in), (n_heads, n_out)))


def numbered(*columns):
    return tf.constant(columns, tf.int32)


def by_numpy(W, b, x, y, weight, mean):
    """The cost of a minibatch, `[B, D]`, for one head, and its gradients `[K, D]` and `[K]`."""
    log_p = oracle.log_probabilities(W.T, b, x)
    share = weight / (len(y) * mean)
    dz = share[:, np.newaxis] * (np.exp(log_p) - np.eye(len(b))[y])
    return -(share * log_p[np.arange(len(y)), y]).sum(), dz.T @ x, dz.sum(axis=0)


class CostTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.x, self.y = minibatches.examples()
        self.span = span(self.x, counts=[10, 10, 7, 1])

    @parameterized.parameters(("float64", 1e-14), ("float32", 1e-5), ("int8", 1e-5))
    def test_columns_of_weights_against_numpy(self, arithmetic, error):
        # W is of about 1, and a logit a sum of 24 products that is below 10: in float32 it is off by 24 2^-24 10 =
        # 1.4e-5 at worst, and by sqrt(24) 2^-24 10 = 3e-6 if roundings go either way, as is then the logarithm of the
        # softmax; with bytes by 2^-23 times the largest W, 3, and the sum of the inputs, 12: 4e-6.
        weights = np.random.default_rng(1).uniform(0, 3, (3, 40)).astype(np.float32)
        weights[0, ::3] = 0
        weights[2] = 1
        on, column = objective(self.y, arithmetic=arithmetic, weights=weights), (1, 0, 1, 2)
        W, b = parameters(4, dtype=parameter_type(arithmetic).as_numpy_dtype)
        for i, count in enumerate([10, 10, 7, 1]):
            found = gradients(on, self.span, tf.constant(i), W, b, numbered(*column))
            for head, number in enumerate(column):
                expected = by_numpy(
                    *(part[head].numpy().astype(np.float64) for part in (W, b)),
                    self.x[i, :count] / 255.0,
                    self.y[i, :count],
                    weights[number].reshape(4, 10)[i, :count].astype(np.float64),
                    weights[number].mean(dtype=np.float64),
                )
                for ours, theirs in zip(found, expected, strict=True):
                    self.assertEqual(ours.dtype, parameter_type(arithmetic))
                    self.assertAllClose(ours[head], theirs, rtol=error, atol=error)

    def test_examples_of_weight_0_do_not_count(self):
        weights = np.ones((3, 40))
        weights[:, [3, 14, 39]] = 0
        others = self.y.copy()
        others.ravel()[[3, 14, 39]] = (others.ravel()[[3, 14, 39]] + 1) % 3
        W, b = parameters(4)
        for i in range(4):
            found, beside = (
                gradients(objective(labels, weights=weights), span(self.x), tf.constant(i), W, b, numbered(0, 1, 2, 0))
                for labels in (self.y, others)
            )
            for ours, theirs in zip(found, beside, strict=True):
                self.assertAllEqual(ours, theirs)

    def test_the_mean_of_an_epoch_is_the_cost_on_the_split(self):
        weights = np.random.default_rng(1).uniform(0, 3, (3, 40)).astype(np.float32)
        on, data, column = objective(self.y, arithmetic="float64", weights=weights), span(self.x), (0, 1, 2, 0)
        W, b = parameters(4, dtype=np.float64)
        costs = [gradients(on, data, tf.constant(i), W, b, numbered(*column))[0] for i in range(4)]
        sums = sums_of(on, data, W, b, numbered(*column))
        self.assertAllClose(np.mean(costs, axis=0), sums[1] / on.total.numpy()[list(column)], rtol=1e-13)

    def test_all_examples_make_the_mean_weight_and_those_that_are_measured_the_sum(self):
        labels, weights = np.zeros(5, np.int32), np.array([[1, 2, 3, 100, 100], [0, 0, 1, 1, 1]], np.float32)
        on = Objective.of(BY_255, labels, weights, 3, "float32")
        self.assertAllEqual(on.total, [6.0, 1.0])
        self.assertAllClose(on.mean, [206 / 5, 3 / 5])

    def test_a_label_that_is_none_is_seen(self):
        y = self.y.copy()
        y[1, 2] = 3
        W, b = parameters(4)
        on, column = objective(y, weights=np.ones((3, 40))), numbered(0, 1, 2, 0)
        costs = [gradients(on, span(self.x), tf.constant(i), W, b, column)[0] for i in range(3)]
        self.assertAllEqual(np.isfinite(costs), [[True] * 4, [False] * 4, [True] * 4])


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.x, self.y = minibatches.examples(3, 4)
        self.span = span(self.x, counts=[4, 4, 2])
        self.W, self.b = parameters(3)

    def by_numpy(self, head, rows):
        W, b = self.W[head].numpy().T, self.b[head].numpy()
        return oracle.measure(W, b, self.x.reshape(12, -1)[rows] / 255.0, self.y.ravel()[rows])

    @parameterized.parameters("float32", "int8")
    def test_sums_with_masks_as_columns_against_numpy(self, arithmetic):
        masks = np.array([[1] * 12, [0, 1, 1] * 4])
        on, column = objective(self.y, arithmetic=arithmetic, weights=masks), (0, 1, 0)
        sums = sums_of(on, self.span, self.W, self.b, numbered(*column)).numpy()
        self.assertEqual(sums.dtype, np.float64)
        for head, number in enumerate(column):
            rows = np.flatnonzero(masks[number, :10])
            wrong, cost = self.by_numpy(head, rows)
            self.assertEqual(sums[0, head], wrong)
            self.assertAllClose(sums[1, head], cost * len(rows), rtol=1e-5)  # As above.
        self.assertBetween(sums[0].sum(), 1, 25)

    def test_weights_of_wrong_predictions_add_up(self):
        weights = 2.0 ** np.tile(np.arange(12), (2, 1))
        sums = sums_of(objective(self.y, weights=weights), self.span, self.W, self.b, numbered(0, 0, 0))
        for head in range(3):
            expected = sum(2.0**row for row in range(10) if self.by_numpy(head, [row])[0])
            self.assertEqual(sums[0, head], expected)  # Which tells which ones are wrong.

    def test_sums_of_part_of_a_span(self):
        on, column = objective(self.y, weights=np.ones((2, 12))), numbered(0, 1, 0)
        parts = [
            sums_of(on, self.span.part(begin, end), self.W, self.b, column) for begin, end in ((0, 0), (0, 2), (2, 3))
        ]
        self.assertAllEqual(parts[0], np.zeros((2, 3)))
        self.assertAllClose(parts[1] + parts[2], sums_of(on, self.span, self.W, self.b, column), rtol=1e-15)

    @parameterized.parameters("float32", "int8")
    def test_predictions(self, arithmetic):
        on = objective(self.y, arithmetic=arithmetic)
        classes, confidences = predictions_of(on, self.span, self.W, self.b)
        self.assertEqual((classes.dtype, classes.shape, confidences.shape), (tf.int32, (3, 3, 4), (3, 3, 4)))
        for head in range(3):
            W, b = self.W[head].numpy().T, self.b[head].numpy()
            expected = oracle.log_probabilities(W, b, self.x.reshape(12, -1) / 255.0)
            self.assertAllEqual(classes[:, head].numpy().ravel(), expected.argmax(axis=1))
            self.assertAllClose(confidences[:, head].numpy().ravel(), np.exp(expected.max(axis=1)), rtol=1e-5)

    def test_float64_against_numpy(self):
        scaling = Scaling(np.linspace(0, 90, 24), np.linspace(0.001, 0.009, 24))
        W, b = parameters(2, dtype=np.float64)
        sums = sums_of(objective(self.y, scaling, "float64"), self.span, W, b, numbered(0, 0))
        x = (self.x.reshape(12, -1)[:10] - scaling.shift) * scaling.factor
        for head in range(2):
            wrong, cost = oracle.measure(W[head].numpy().T, b[head].numpy(), x, self.y.ravel()[:10])
            self.assertEqual(sums[0, head], wrong)
            self.assertAllClose(sums[1, head], 10 * cost, rtol=1e-14)


class ArithmeticTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # precision, shift, dtype, batch size, inputs, has_int8
        ("float32", None, np.uint8, 600, 784, True, "int8"),
        ("float32", None, np.uint8, 600, 784, False, "float32"),
        ("float32", None, np.float32, 600, 784, True, "float32"),
        ("float32", np.zeros(784), np.uint8, 600, 784, True, "float32"),
        ("float64", None, np.uint8, 600, 784, True, "float64"),
        ("bfloat16", None, np.uint8, 600, 784, True, "bfloat16"),
        # Of few examples or few inputs the digits of W cost more than they save.
        ("float32", None, np.uint8, 100, 784, True, "float32"),
        ("float32", None, np.uint8, 10_000, 64, True, "float32"),
        # What does not fit into int32.
        ("float32", None, np.uint8, int8.MOST_TERMS, 784, True, "int8"),
        ("float32", None, np.uint8, int8.MOST_TERMS + 1, 784, True, "float32"),
        ("float32", None, np.uint8, 600, int8.MOST_TERMS + 1, True, "float32"),
    )
    def test_decisions(self, precision, shift, dtype, batch_size, n_in, has_int8, expected):
        scaling = Scaling(shift, np.array(1 / 255))
        found = arithmetic(precision, scaling, np.dtype(dtype), batch_size, n_in, has_int8=has_int8)
        self.assertEqual(found, expected)
        self.assertEqual(parameter_type(found), tf.float64 if precision == "float64" else tf.float32)

    def products(self, batch_size, shape, n_heads, dtype, arithmetic):
        """How many matrix products a gradient has, by the type of what is multiplied."""
        x, y = minibatches.examples(1, batch_size, shape)
        W, b = parameters(n_heads, n_in=x.shape[2], dtype=parameter_type(arithmetic).as_numpy_dtype)
        on = objective(y, arithmetic=arithmetic)
        column = numbered(*[0] * n_heads)
        return collections.Counter(self.dots(gradients, on, span(x.astype(dtype)), tf.constant(0), W, b, column))

    def dots(self, program, *arguments):
        return re.findall(r"= (\w+)\[\S* dot\(", program.instructions(*arguments))

    @parameterized.parameters(
        (np.uint8, "int8", {"s32": 4}),
        (np.uint8, "float32", {"f32": 2}),
        (np.float32, "float32", {"f32": 2}),
        (np.uint8, "float64", {"f64": 2}),
    )
    def test_what_is_multiplied(self, dtype, arithmetic, expected):
        self.assertEqual(self.products(10, (4, 6), 1, dtype, arithmetic), expected)

    @parameterized.parameters(
        # Beyond 1 MiB in float32, and with at most 40 rows of W, in three parts: 228 times 1,152.
        (227, 13, "float32", {"f32": 2}),
        (228, 13, "float32", {"f32": 6}),
        (228, 14, "float32", {"f32": 2}),
        (228, 13, "int8", {"s32": 4}),
    )
    def test_large_minibatches_in_parts(self, batch_size, n_heads, arithmetic, expected):
        self.assertEqual(self.products(batch_size, (48, 24), n_heads, np.uint8, arithmetic), expected)

    def test_what_is_measured_is_multiplied_alike(self):
        x, y = minibatches.examples(3, 4)
        W, b = parameters(2)
        for kind, expected in (("int8", ["s32"] * 2), ("float32", ["f32"])):
            on = objective(y, arithmetic=kind)
            self.assertEqual(self.dots(sums_of, on, span(x), W, b, numbered(0, 0)), expected)
            self.assertEqual(self.dots(predictions_of, on, span(x), W, b), expected)


class BytesTest(tf.test.TestCase):
    @pytest.mark.exhaustive
    def test_as_close_to_float64_as_float32_after_many_steps(self):
        x, y = minibatches.examples(20, 20, (28, 28), n_classes=10)
        x.reshape(20, 20, 28, 28)[..., 20:] = 0  # As in MNIST: pixels that no example uses.
        settings, found = [(0.03, 0.0), (0.01, 0.001)], {}
        for kind in ("float32", "int8"):
            heads, last = minibatches.group(settings, 784, 10), tf.constant([FOREVER] * 2, tf.int64)
            for _ in range(20):
                minibatches.sgd().advance(span(x), objective(y, arithmetic=kind), heads, last, 1)
            found[kind] = heads.W.numpy()
        exact = []
        for setting in settings:
            W, b = np.zeros((784, 10)), np.zeros(10)
            for i in range(400):
                _, W, b = oracle.step(W, b, x[i % 20] / 255.0, y[i % 20], *setting)
            exact.append(W.T)
        floats, integers = (found[kind] - exact for kind in ("float32", "int8"))
        self.assertLess(np.linalg.norm(integers), 1.1 * np.linalg.norm(floats))
        # Most of it is from W itself, which is rounded 400 times, by at most 2^-25 of it: by about sqrt(400) 2^-25 =
        # 6e-7 of it in the end.
        self.assertLess(np.abs(integers).max(), 3e-6 * np.abs(exact).max())
        self.assertAllEqual(found["int8"].reshape(2, 10, 28, 28)[..., 20:], np.zeros((2, 10, 28, 8)))


if __name__ == "__main__":
    tf.test.main()

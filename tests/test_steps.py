import collections
import re
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import made, oracle
from tfpipe.compute import int8
from tfpipe.config import Head
from tfpipe.data.scaling import Scaling, by_pixel_max
from tfpipe.pipeline.inputs import Chunk
from tfpipe.solvers import steps
from tfpipe.solvers.steps import Evaluator, Inputs, Trainer

FOREVER = 10**9


def chunk(images, labels, weight=None, first=0, steps=None):
    weight = np.ones(np.shape(labels)) if weight is None else weight
    n_in = np.shape(images)[-1]
    # The examples lie in reverse order, with one in front that is none of them.
    images = np.concatenate([np.full((1, n_in), 99, images.dtype), images.reshape(-1, n_in)[::-1]])
    return Chunk(
        tf.constant(images),
        tf.constant(np.arange(np.size(labels), 0, -1).reshape(np.shape(labels))),
        tf.constant(labels, tf.int32),
        tf.constant(weight, tf.float32),
        tf.constant(first, tf.int64),
        tf.constant(len(labels) if steps is None else steps),
    )


def last(*iterations):
    return tf.constant(iterations, tf.int64)


class Heads:
    """Heads at zero, and the program that trains them."""

    def __init__(self, grid, n_in, n_out, scaling, precision="float32", *, multiplies_int8=False):
        self.program = Trainer(Inputs(scaling, precision, multiplies_int8=multiplies_int8))
        self._heads = self.program.at_zero(grid, n_in, n_out)
        self.W, self.b = self._heads.W, self._heads.b

    def train_chunk(self, chunk, last_iteration):
        return self.program.train_chunk(chunk, self._heads, last_iteration)

    def products(self, *arguments):
        """How many matrix products the program has, by the type of what is multiplied."""
        data, last_iteration = arguments
        ir = self.program.train_chunk.function.experimental_get_compiler_ir(data, self._heads, last_iteration)("hlo")
        return collections.Counter(re.findall(r"= (\w+)\[\S* dot\(", ir))


class TrainChunkTest(tf.test.TestCase, parameterized.TestCase):
    def test_one_step_by_hand(self):
        # One example x = (1, 2) of class 0: P = (1/2, 1/2), dz = (-1/2, 1/2), dW = dz x, db = dz.
        heads = Heads([Head(0.5, 0.0)], 2, 2, by_pixel_max(1.0))
        costs = heads.train_chunk(chunk(np.array([[[1.0, 2.0]]], np.float32), [[0]]), last(FOREVER))
        self.assertAllClose(costs, [[np.log(2)]])
        self.assertAllClose(heads.W, [[[0.25, 0.5], [-0.25, -0.5]]], rtol=0, atol=0)
        self.assertAllClose(heads.b, [[0.25, -0.25]], rtol=0, atol=0)

    def test_weight_decay_by_hand(self):
        # W - 0.5 * (g_W + 3 W) with x = 0, so g_W = 0: W becomes -W/2. b has no decay, only its gradient.
        heads = Heads([Head(0.5, 3.0)], 2, 2, by_pixel_max(1.0))
        heads.W.assign([[[1.0, 2.0], [3.0, 4.0]]])
        heads.train_chunk(chunk(np.zeros((1, 1, 2), np.float32), [[0]]), last(FOREVER))
        self.assertAllClose(heads.W, [[[-0.5, -1.0], [-1.5, -2.0]]], rtol=0, atol=0)
        self.assertAllClose(heads.b, [[0.25, -0.25]], rtol=0, atol=0)

    @parameterized.product(
        dtype=[np.uint8, np.float32], largest_whole=[1 << 20, 1], batch_size=[20, 19], multiplies_int8=[False, True]
    )
    def test_the_first_three_steps_on_24_x_48_images_against_numpy(
        self, dtype, largest_whole, batch_size, multiplies_int8
    ):
        self.enter_context(mock.patch.object(steps, "_LARGEST_WHOLE", largest_whole))
        self.enter_context(mock.patch.object(int8, "_LEAST_SIZE", 0))
        pixels, labels = made.images(3 * batch_size, (48, 24), n_classes=10)
        x = pixels.reshape(3, batch_size, 24 * 48)
        self.assertTrue((x > 0).any(axis=(0, 1)).all())  # Every pixel is in use.
        y = labels.reshape(3, batch_size)
        scaling = by_pixel_max(255.0)
        heads = Heads([Head(0.013, 0.01)], 24 * 48, 10, scaling, multiplies_int8=multiplies_int8)
        costs = heads.train_chunk(chunk(x.astype(dtype), y), last(FOREVER)).numpy()
        W, b = np.zeros((24 * 48, 10)), np.zeros(10)
        for i in range(3):
            cost, W, b = oracle.step(W, b, x[i] / 255.0, y[i], 0.013, 0.01)
            self.assertAllClose(costs[i, 0], cost, rtol=0, atol=1e-6)
        self.assertAllClose(heads.W.numpy()[0].T, W, rtol=0, atol=1e-6)
        self.assertAllClose(heads.b.numpy()[0], b, rtol=0, atol=1e-6)

    def test_rows_of_weight_0_do_not_count(self):
        pixels, labels = made.images(5)
        x, y = pixels.reshape(1, 5, -1), labels[np.newaxis]
        whole, padded = (Heads([Head(0.13, 0.0)], 24, 3, by_pixel_max(255.0)) for _ in range(2))
        cost = whole.train_chunk(chunk(x[:, :3], y[:, :3]), last(FOREVER))
        padded_cost = padded.train_chunk(chunk(x, y, [[1, 1, 1, 0, 0]]), last(FOREVER))
        self.assertAllClose(padded_cost, cost, rtol=1e-6)
        self.assertAllClose(padded.W, whole.W, rtol=0, atol=1e-8)
        self.assertAllClose(padded.b, whole.b, rtol=0, atol=1e-8)

    def test_parts_of_a_minibatch_change_nothing(self):
        pixels, labels = made.images(24)
        data = chunk(pixels.reshape(3, 8, -1), labels.reshape(3, 8), [[1] * 8, [1] * 7 + [0], [1] + [0] * 7])
        whole, in_parts = (Heads([Head(0.13, 0.01)] * 2, 24, 3, by_pixel_max(255.0)) for _ in range(2))
        costs = whole.train_chunk(data, last(FOREVER, FOREVER))
        with mock.patch.object(steps, "_LARGEST_WHOLE", 1):
            self.assertAllClose(in_parts.train_chunk(data, last(FOREVER, FOREVER)), costs, rtol=1e-6)
        self.assertAllClose(in_parts.W, whole.W, rtol=0, atol=1e-7)
        self.assertAllClose(in_parts.b, whole.b, rtol=0, atol=1e-7)
        numbers = [heads.products(data, last(FOREVER, FOREVER)) for heads in (whole, in_parts)]
        self.assertEqual(numbers, [{"f32": 2}, {"f32": 6}])

    def test_heads_side_by_side_train_as_each_would_alone(self):
        pixels, labels = made.images(40)
        data = chunk(pixels.reshape(4, 10, -1), labels.reshape(4, 10))
        grid = [Head(0.1, 0.0), Head(0.5, 0.0), Head(0.1, 0.1)]
        together = Heads(grid, 24, 3, by_pixel_max(255.0))
        costs = together.train_chunk(data, last(*[FOREVER] * 3)).numpy()
        for number, head in enumerate(grid):
            alone = Heads([head], 24, 3, by_pixel_max(255.0))
            self.assertAllClose(alone.train_chunk(data, last(FOREVER))[:, 0], costs[:, number], rtol=1e-6)
            self.assertAllClose(alone.W[0], together.W[number], rtol=0, atol=1e-7)
            self.assertAllClose(alone.b[0], together.b[number], rtol=0, atol=1e-7)

    def test_a_head_stands_still_after_its_last_iteration(self):
        pixels, labels = made.images(40)
        x, y = pixels.reshape(4, 10, -1), labels.reshape(4, 10)
        heads = Heads([Head(0.1, 0.1), Head(0.1, 0.1)], 24, 3, by_pixel_max(255.0))
        heads.train_chunk(chunk(x, y, first=100), last(101, FOREVER))
        stopped = Heads([Head(0.1, 0.1)], 24, 3, by_pixel_max(255.0))
        stopped.train_chunk(chunk(x[:2], y[:2]), last(FOREVER))
        self.assertAllClose(heads.W[0], stopped.W[0], rtol=0, atol=1e-8)
        frozen = heads.W.numpy()[0]
        self.assertNotAllClose(heads.W[1], frozen)
        heads.train_chunk(chunk(x, y, first=104), last(101, FOREVER))
        self.assertAllEqual(heads.W[0], frozen)  # To the bit.

    def test_a_head_that_overflows_leaves_the_others_alone(self):
        pixels, labels = made.images(40)
        data = chunk(pixels.reshape(4, 10, -1), labels.reshape(4, 10))
        heads = Heads([Head(1e38, 1.0), Head(0.1, 0.0)], 24, 3, by_pixel_max(255.0))
        costs = heads.train_chunk(data, last(FOREVER, FOREVER)).numpy()
        self.assertFalse(np.isfinite(costs[:, 0]).all())
        alone = Heads([Head(0.1, 0.0)], 24, 3, by_pixel_max(255.0))
        self.assertAllClose(alone.train_chunk(data, last(FOREVER))[:, 0], costs[:, 1], rtol=1e-6)
        self.assertAllClose(alone.W[0], heads.W[1], rtol=0, atol=1e-7)

    def test_only_the_first_steps_count_and_the_program_is_traced_once(self):
        pixels, labels = made.images(40)
        x, y = pixels.reshape(4, 10, -1), labels.reshape(4, 10)
        heads = Heads([Head(0.1, 0.0)], 24, 3, by_pixel_max(255.0))
        costs = [heads.train_chunk(chunk(x, y, first=9, steps=n), last(FOREVER)).numpy() for n in (0, 3, 1)]
        self.assertAllEqual(costs[0], np.zeros((4, 1)))
        self.assertAllEqual(costs[1][3:], [[0.0]])
        self.assertEqual(heads.program.train_chunk.function.experimental_get_tracing_count(), 1)
        W, b = np.zeros((24, 3)), np.zeros(3)
        for i in (0, 1, 2, 0):
            _, W, b = oracle.step(W, b, x[i] / 255.0, y[i], 0.1)
        self.assertAllClose(heads.W.numpy()[0].T, W, rtol=0, atol=1e-6)

    def test_parameters_that_were_read_stay_as_they_were(self):
        pixels, labels = made.images(40)
        heads = Heads([Head(0.1, 0.0)], 24, 3, by_pixel_max(255.0))
        data = chunk(pixels.reshape(4, 10, -1), labels.reshape(4, 10))
        read = [tf.convert_to_tensor(heads.W)]
        for _ in range(3):
            heads.train_chunk(data, last(FOREVER))
            read.append(tf.convert_to_tensor(heads.W))
        copies = [W.numpy().copy() for W in read]
        heads.train_chunk(data, last(FOREVER))
        self.assertAllEqual(read[0], np.zeros((1, 3, 24)))
        for W, copy, following in zip(read, copies, [*copies[1:], heads.W.numpy()], strict=True):
            self.assertAllEqual(W, copy)
            self.assertNotAllClose(copy, following)

    def test_groups_of_one_size_share_a_program(self):
        pixels, labels = made.images(40)
        data = chunk(pixels.reshape(4, 10, -1), labels.reshape(4, 10))
        program = Trainer(Inputs(by_pixel_max(255.0)))
        groups = [program.at_zero([Head(rate, 0.0)], 24, 3) for rate in (0.1, 0.5)]
        for group, rate in zip(groups, (0.1, 0.5), strict=True):
            program.train_chunk(data, group, last(FOREVER))
            alone = Heads([Head(rate, 0.0)], 24, 3, by_pixel_max(255.0))
            alone.train_chunk(data, last(FOREVER))
            self.assertAllEqual(group.W, alone.W)
        self.assertEqual(program.train_chunk.function.experimental_get_tracing_count(), 1)


class BytesTest(tf.test.TestCase, parameterized.TestCase):
    """Images that stay bytes, where the processor multiplies them fast."""

    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.object(int8, "_LEAST_SIZE", 0))

    @parameterized.parameters(
        (np.uint8, "float32", None, {"s32": 4}),
        (np.float32, "float32", None, {"f32": 2}),
        (np.uint8, "float64", None, {"f64": 2}),
        (np.uint8, "float32", 3.0, {"f32": 2}),  # A shift.
    )
    def test_when_they_do(self, dtype, precision, shift, expected):
        pixels, labels = made.images(40)
        data = chunk(pixels.reshape(4, 10, -1).astype(dtype), labels.reshape(4, 10))
        scaling = Scaling(None if shift is None else np.full(24, shift), np.array(1 / 255))
        numbers = Heads([Head(0.1, 0.0)], 24, 3, scaling, precision, multiplies_int8=True).products(data, last(FOREVER))
        self.assertEqual(numbers, expected)

    def test_as_close_to_float64_as_float32_after_many_steps(self):
        pixels, labels = made.images(400, (28, 28), n_classes=10)
        pixels[:, :, 20:] = 0  # As in MNIST: pixels that no example uses.
        data = chunk(pixels.reshape(20, 20, -1), labels.reshape(20, 20))
        exact, floats, integers = (
            Heads([Head(0.03, 0.0), Head(0.01, 0.001)], 784, 10, by_pixel_max(255.0), precision, multiplies_int8=int8)
            for precision, int8 in (("float64", False), ("float32", False), ("float32", True))
        )
        for heads in (exact, floats, integers):
            for _ in range(20):
                heads.train_chunk(data, last(FOREVER, FOREVER))
        apart = [np.abs(heads.W.numpy() - exact.W.numpy()).max() for heads in (floats, integers)]
        self.assertLess(apart[1], 1.5 * apart[0])
        self.assertLess(apart[1], 3e-6 * np.abs(exact.W.numpy()).max())
        self.assertAllEqual(integers.W.numpy().reshape(2, 10, 28, 28)[..., 20:], np.zeros((2, 10, 28, 8)))

    @parameterized.parameters((4, 6), (2, 3))  # D = 24 is more, or the 10 of a minibatch.
    def test_what_does_not_fit_into_int32_is_multiplied_in_float32(self, height, width):
        most = 23 if height == 4 else 9
        self.enter_context(mock.patch.object(int8, "MOST_TERMS", most))
        pixels, labels = made.images(40, (height, width))
        data = chunk(pixels.reshape(4, 10, -1), labels.reshape(4, 10))
        heads = Heads([Head(0.1, 0.0)], height * width, 3, by_pixel_max(255.0), multiplies_int8=True)
        self.assertEqual(heads.products(data, last(FOREVER)), {"f32": 2})

    def test_a_head_that_overflows_leaves_the_others_alone(self):
        pixels, labels = made.images(40)
        data = chunk(pixels.reshape(4, 10, -1), labels.reshape(4, 10))
        heads = Heads([Head(1e38, 1.0), Head(0.1, 0.0)], 24, 3, by_pixel_max(255.0), multiplies_int8=True)
        costs = heads.train_chunk(data, last(FOREVER, FOREVER)).numpy()
        self.assertFalse(np.isfinite(costs[:, 0]).all())
        alone = Heads([Head(0.1, 0.0)], 24, 3, by_pixel_max(255.0), multiplies_int8=True)
        self.assertAllEqual(alone.train_chunk(data, last(FOREVER))[:, 0], costs[:, 1])

    def test_evaluation(self):
        pixels, labels = made.images(12)
        data = chunk(pixels.reshape(3, 4, -1), labels.reshape(3, 4))
        random = np.random.default_rng(0)
        W, b = (tf.constant(random.normal(size=shape), tf.float32) for shape in ((2, 3, 24), (2, 3)))
        floats, integers = (Evaluator(Inputs(by_pixel_max(255.0), multiplies_int8=int8)) for int8 in (False, True))
        ir = integers.evaluate_chunk.function.experimental_get_compiler_ir(data, W, b)("hlo")
        self.assertLen(re.findall(r"= s32\[\S* dot\(", ir), 2)
        for expected, predicted in zip(
            floats.predict_chunk(data, W, b), integers.predict_chunk(data, W, b), strict=True
        ):
            self.assertAllClose(predicted, expected, rtol=1e-6)
        for expected, measured in zip(
            floats.evaluate_chunk(data, W, b), integers.evaluate_chunk(data, W, b), strict=True
        ):
            self.assertAllClose(measured, expected, rtol=1e-6)


class PrecisionTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        pixels, self.y = made.images(60, (9, 5), n_classes=10)
        self.pixels = pixels.reshape(3, 20, -1)
        self.data = chunk(self.pixels, self.y.reshape(3, 20))

    def test_float64_against_numpy(self):
        scaling = Scaling(np.linspace(0, 90, 45), np.linspace(0.001, 0.009, 45))
        heads = Heads([Head(0.13, 0.0), Head(0.7, 0.01)], 45, 10, scaling, "float64")
        costs = heads.train_chunk(self.data, last(FOREVER, FOREVER)).numpy()
        self.assertEqual(costs.dtype, np.float64)
        x = (self.pixels - scaling.shift) * scaling.factor
        for number, head in enumerate([Head(0.13, 0.0), Head(0.7, 0.01)]):
            W, b = np.zeros((45, 10)), np.zeros(10)
            for i in range(3):
                cost, W, b = oracle.step(W, b, x[i], self.y[20 * i : 20 * i + 20], *head)
                self.assertAllClose(costs[i, number], cost, rtol=1e-14)
            self.assertAllClose(heads.W[number], W.T, rtol=0, atol=1e-15)
            self.assertAllClose(heads.b[number], b, rtol=0, atol=1e-15)
        wrong, losses = Evaluator(Inputs(scaling, "float64")).evaluate_chunk(self.data, heads.W, heads.b)
        expected_wrong, cost = oracle.measure(W, b, x[2], self.y[40:])
        self.assertEqual(wrong[2, 1], expected_wrong)
        self.assertAllClose(losses[2, 1], 20 * cost, rtol=1e-14)

    def test_bfloat16_rounds_what_is_multiplied_and_sums_in_float32(self):
        def rounded(values):
            return tf.cast(tf.cast(values, tf.bfloat16), tf.float64).numpy()

        random = np.random.default_rng(0)
        start = random.normal(size=(10, 45)).astype(np.float32)
        heads = Heads([Head(0.13, 0.01)], 45, 10, by_pixel_max(255.0), "bfloat16")
        heads.W.assign(start[np.newaxis])
        cost = heads.train_chunk(self.data.limited(1), last(FOREVER)).numpy()[0, 0]
        x, y = rounded(self.pixels[0] / 255.0), self.y[:20]
        log_p = oracle.log_probabilities(rounded(start).T, np.zeros(10), x)
        self.assertAllClose(cost, -log_p[np.arange(20), y].mean(), rtol=1e-6)
        dz = (np.exp(log_p) - np.eye(10)[y]) / 20
        W = start - 0.13 * (rounded(dz).T @ x + 0.01 * start)
        # That they differ by no more shows what was rounded: products in float32 are 1e-4 away.
        self.assertAllClose(heads.W[0], W, rtol=0, atol=2e-5)
        self.assertNotAllClose(heads.W[0], start - 0.13 * (dz.T @ (self.pixels[0] / 255.0) + 0.01 * start), atol=1e-4)


class EvaluateChunkTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        pixels, labels = made.images(12)
        self.x, self.y = pixels.reshape(3, 4, -1), labels.reshape(3, 4)
        self.evaluator = Evaluator(Inputs(by_pixel_max(255.0)))
        random = np.random.default_rng(0)
        self.W = tf.constant(random.normal(size=(2, 3, 24)), tf.float32)
        self.b = tf.constant(random.normal(size=(2, 3)), tf.float32)

    def test_errors_and_costs_of_each_minibatch_and_head_against_numpy(self):
        weight = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
        wrong, losses = self.evaluator.evaluate_chunk(chunk(self.x, self.y, weight), self.W, self.b)
        for i in range(3):
            n = weight[i].sum()
            for head in range(2):
                W, b = self.W.numpy()[head].T, self.b.numpy()[head]
                expected_wrong, cost = oracle.measure(W, b, self.x[i, :n] / 255.0, self.y[i, :n])
                self.assertEqual(wrong[i, head].numpy(), expected_wrong)
                self.assertAllClose(losses[i, head], cost * n, rtol=1e-5)
        self.assertBetween(int(tf.reduce_sum(wrong)), 1, 19)

    def test_predictions(self):
        classes, confidences = self.evaluator.predict_chunk(chunk(self.x, self.y), self.W, self.b)
        self.assertEqual(classes.shape, (3, 2, 4))
        for head in range(2):
            W, b = self.W.numpy()[head].T, self.b.numpy()[head]
            expected = oracle.log_probabilities(W, b, self.x.reshape(12, -1) / 255.0)
            self.assertAllEqual(classes.numpy()[:, head].ravel(), expected.argmax(axis=1))
            self.assertAllClose(confidences.numpy()[:, head].ravel(), np.exp(expected.max(axis=1)), rtol=1e-5)


if __name__ == "__main__":
    tf.test.main()

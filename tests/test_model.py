import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import made, oracle
from tfpipe import SoftmaxRegression
from tfpipe.model import softmax


class FormulaTest(tf.test.TestCase, parameterized.TestCase):
    def test_logits_and_losses_by_hand(self):
        x = tf.constant([[1.0, 2.0]])
        W = tf.constant([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])  # Two heads, two classes, two inputs.
        b = tf.constant([[0.0, 1.0], [0.0, 0.0]])
        z = softmax.logits(x, W, b)
        self.assertAllClose(z, [[[1.0], [3.0]], [[3.0], [0.0]]], rtol=0, atol=0)
        losses = softmax.log_losses(z, tf.constant([0]))
        self.assertAllClose(losses, [[np.log(1 + np.e**2)], [np.log(1 + np.e**-3)]], rtol=1e-6)
        self.assertAllEqual(softmax.predictions(z), [[1], [0]])

    def test_of_equal_logits_the_first_class_is_predicted(self):
        self.assertAllEqual(softmax.predictions(tf.constant([[[1.0, 0.0], [2.0, 0.0], [2.0, 0.0]]])), [[1, 0]])

    def test_large_logits_stay_finite(self):
        losses = softmax.log_losses(tf.constant([[[1e4], [-1e4]]]), tf.constant([1]))
        self.assertAllClose(losses, [[2e4]])

    def test_a_label_out_of_range_does_not_pass_for_a_number(self):
        for label in (-1, 2):
            losses = softmax.log_losses(tf.zeros([1, 2, 2]), tf.constant([label, 1]))
            self.assertAllClose(losses, [[np.nan, np.log(2)]])

    def test_gradients_against_finite_differences_in_float64(self):
        random = np.random.default_rng(0)
        x = tf.constant(random.normal(size=(7, 5)))
        y = tf.constant(random.integers(0, 3, 7), tf.int32)
        W, b = random.normal(size=(2, 3, 5)), random.normal(size=(2, 3))

        def cost(W, b):
            return tf.reduce_sum(tf.reduce_mean(softmax.log_losses(softmax.logits(x, W, b), y), axis=1))

        with tf.GradientTape() as tape:
            parameters = tf.constant(W), tf.constant(b)
            tape.watch(parameters)
            gradients = tape.gradient(cost(*parameters), parameters)
        for which, gradient in enumerate(gradients):
            for place in np.ndindex(*gradient.shape):
                moved = []
                for step in (1e-5, -1e-5):
                    shifted = [W.copy(), b.copy()]
                    shifted[which][place] += step
                    moved.append(cost(*map(tf.constant, shifted)).numpy())
                self.assertAlmostEqual(gradient.numpy()[place], (moved[0] - moved[1]) / 2e-5, delta=1e-9)


class SoftmaxRegressionTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = made.images(20, (4, 6), 3)
        self.model = SoftmaxRegression(24, 3)

    def test_starts_from_zeros_where_all_classes_are_equally_probable(self):
        self.assertAllEqual(self.model.W, np.zeros((24, 3)))
        self.assertAllEqual(self.model.b, np.zeros(3))
        self.assertAllClose(self.model.predict_proba(self.images), np.full((20, 3), 1 / 3))
        self.assertAllClose(self.model.negative_log_likelihood(self.images, self.labels), np.log(3))

    def test_all_methods_against_numpy(self):
        random = np.random.default_rng(1)
        W, b = random.normal(size=(24, 3)) / 500, random.normal(size=3)
        self.model.W.assign(W.astype(np.float32))
        self.model.b.assign(b.astype(np.float32))
        x = self.images.reshape(20, -1).astype(np.float64)
        log_p = oracle.log_probabilities(W, b, x)
        wrong, cost = oracle.measure(W, b, x, self.labels)
        self.assertAllClose(self.model.predict_proba(self.images), np.exp(log_p), rtol=1e-5)
        self.assertAllEqual(self.model.predict(self.images), log_p.argmax(axis=1))
        self.assertAllClose(self.model.negative_log_likelihood(self.images, self.labels), cost, rtol=1e-5)
        self.assertAllClose(self.model.errors(self.images, self.labels), wrong / 20)
        self.assertBetween(wrong, 1, 19)

    def test_labels_of_any_integer_type_and_images_as_rows(self):
        for dtype in (np.uint8, np.int64):
            self.assertAllClose(
                self.model.errors(self.images.reshape(20, -1).astype(np.float64), self.labels.astype(dtype)),
                np.mean(self.labels != 0),
            )

    def test_a_label_that_32_bits_cannot_hold_is_no_class(self):
        for label, dtype in ((2**32, np.int64), (2**32 + 1, np.uint64), (-(2**32), np.int64), (2**64 - 1, np.uint64)):
            labels = np.full(20, label, dtype)
            self.assertEqual(self.model.errors(self.images, labels), 1.0)
            self.assertTrue(np.isnan(self.model.negative_log_likelihood(self.images, labels)))

    def test_shapes_and_types_that_do_not_fit_are_refused(self):
        for images in (np.zeros((4, 5)), np.zeros((2, 12)), np.zeros(24), np.zeros((4, 4, 6, 2))):
            with self.assertRaisesRegex(ValueError, r"images of shape .*: expected \[N, ...\] with 24 values"):
                self.model.predict(images)
        for labels in (3, [3], self.labels[:, np.newaxis], self.labels[:-1], self.labels.astype(float)):
            for method in (self.model.errors, self.model.negative_log_likelihood):
                with self.assertRaisesRegex(ValueError, "labels of shape .*: expected 20 integers"):
                    method(self.images, labels)

    def test_the_tutorials_step_written_with_it(self):
        x, y = self.images / np.float32(255), self.labels
        with tf.GradientTape() as tape:
            cost = self.model.negative_log_likelihood(x, y)
        g_W, g_b = tape.gradient(cost, (self.model.W, self.model.b))
        self.model.W.assign(self.model.W - 0.13 * g_W)
        self.model.b.assign(self.model.b - 0.13 * g_b)
        _, W, b = oracle.step(np.zeros((24, 3)), np.zeros(3), x.reshape(20, -1).astype(np.float64), y, 0.13)
        self.assertAllClose(self.model.W, W, rtol=0, atol=1e-7)
        self.assertAllClose(self.model.b, b, rtol=0, atol=1e-7)


if __name__ == "__main__":
    tf.test.main()

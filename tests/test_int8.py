import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tfpipe.compute import int8


@tf.function(jit_compile=True)
def product_and_gradient(W, images, dz):
    x = int8.centered(images)
    with tf.GradientTape() as tape:
        tape.watch(W)
        z = int8.of_bytes(W, x)
    return z, tape.gradient(z, W, dz)


class Int8Test(tf.test.TestCase, parameterized.TestCase):
    def test_by_hand(self):
        # The top of a row has all places, so a row of one value is exact; 0.5 of it as well.
        z, g = product_and_gradient(
            tf.constant([[1.0, 0.5, -1.0], [0.0, 0.0, 0.0]]),
            tf.constant([[255, 2, 0], [1, 0, 128]], tf.uint8),
            tf.constant([[1.0, -1.0], [0.0, 2.0]]),
        )
        self.assertAllClose(z, [[256.0, -127.0], [0.0, 0.0]], rtol=1e-7, atol=0)
        self.assertAllClose(g, [[254.0, 2.0, -128.0], [2.0, 0.0, 256.0]], rtol=1e-7, atol=0)
        self.assertAllEqual(z[1], [0.0, 0.0])
        self.assertEqual(g[1, 1], 0.0)

    @parameterized.product(
        shape=[(1, 1, 1), (10, 600, 784), (30, 601, 785), (640, 7, 33), (2, 1, 5000)], scale=[1e-30, 1.0, 1e30]
    )
    def test_against_float64(self, shape, scale):
        rows, batch_size, n_in = shape
        random = np.random.default_rng(0)
        W = (scale * random.normal(size=(rows, n_in)) * random.lognormal(sigma=2, size=(rows, n_in))).astype(np.float32)
        dz = (scale * random.normal(size=(rows, batch_size))).astype(np.float32)
        images = random.integers(0, 256, (batch_size, n_in)).astype(np.uint8)
        z, g = product_and_gradient(tf.constant(W), tf.constant(images), tf.constant(dz))
        for measured, a, b in ((z, W, images.T), (g, dz, images)):
            exact = a.astype(np.float64) @ b
            # Every value of a row is rounded by 2^-24 of its top, and the three sums are put together in float32.
            bound = 2.0**-23 * (np.abs(a).max(axis=1, keepdims=True) * b.astype(np.float64).sum(axis=0) + np.abs(exact))
            self.assertTrue((np.abs(measured - exact) <= bound).all())

    def test_the_largest_sums_fit(self):
        n = int8.MOST_TERMS
        W = np.stack([np.ones(n), -np.ones(n)]).astype(np.float32)
        images = np.full((1, n), 255, np.uint8)
        z, g = product_and_gradient(tf.constant(W), tf.constant(images), tf.constant([[1.0], [-1.0]]))
        self.assertAllClose(z, [[255.0 * n], [-255.0 * n]], rtol=1e-6)
        self.assertAllClose(g, 255.0 * W, rtol=1e-6)

    @parameterized.parameters((1e-33, 2e-38), (1e-37, 2e-38), (1e-42, 2e-38))
    def test_what_is_hardly_anything_loses_places_and_no_more(self, scale, most):
        random = np.random.default_rng(0)
        W = (scale * random.uniform(-1, 1, size=(3, 50))).astype(np.float32)
        images = random.integers(0, 256, (4, 50)).astype(np.uint8)
        z, _ = product_and_gradient(tf.constant(W), tf.constant(images), tf.zeros([3, 4]))
        self.assertAllLessEqual(np.abs(z - W.astype(np.float64) @ images.T), most * 50 * 255)

    def test_when_they_pay(self):
        self.assertTrue(int8.pay(600, 784))
        self.assertFalse(int8.pay(100, 784))  # Large enough, but for the digits of W.
        self.assertTrue(int8.pay(200, 200))
        self.assertFalse(int8.pay(10_000, 64))
        self.assertTrue(int8.pay(600, int8.MOST_TERMS))
        self.assertFalse(int8.pay(600, int8.MOST_TERMS + 1))

    def test_more_terms_than_int32_can_hold_are_an_error(self):
        most = int8.MOST_TERMS
        with self.assertRaisesRegex(ValueError, r"int32 holds the sums of 65793 terms"):
            int8.of_bytes(tf.zeros([1, most + 1]), tf.zeros([1, most + 1], tf.int8))
        # A product sums over the inputs, its gradient over the examples.
        images = np.zeros((most + 1, 1), np.uint8)
        images[-1] = 3
        W, x = tf.constant([[2.0]]), int8.centered(tf.constant(images))
        with tf.GradientTape() as tape:
            tape.watch(W)
            z = int8.of_bytes(W, x)
        self.assertAllClose(z[0, -2:], [0.0, 6.0])
        with self.assertRaisesRegex(ValueError, r"int32 holds the sums of 65793 terms"):
            tape.gradient(z, W)

    @parameterized.parameters(np.inf, -np.inf, np.nan)
    def test_what_is_not_finite_stays_so_in_its_row(self, value):
        W = tf.constant([[1.0, value], [1.0, 2.0]])
        z, _ = product_and_gradient(W, tf.constant([[3, 4]], tf.uint8), tf.ones([2, 1]))
        self.assertFalse(np.isfinite(z[0, 0]))
        self.assertAllClose(z[1], [11.0], rtol=1e-6)


if __name__ == "__main__":
    tf.test.main()

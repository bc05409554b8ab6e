import itertools

import numpy as np
from absl.testing import absltest, parameterized
from sklearn.preprocessing import StandardScaler

from tfpipe.data import scaling
from tfpipe.data.scaling import Spread


class StandardizationTest(parameterized.TestCase):
    @parameterized.parameters(np.uint8, np.float16, np.float32, np.float64)
    def test_against_scikit_learn_in_blocks_of_any_size(self, dtype):
        images = (np.random.default_rng(0).normal(100, 30, (57, 2, 5))).astype(dtype)
        expected = StandardScaler().fit(images.reshape(57, -1).astype(np.float64))
        for rows in (1, 8, 57):
            shift, factor = scaling.standardization(images[start : start + rows] for start in range(0, 57, rows))
            np.testing.assert_allclose(shift, expected.mean_, rtol=1e-12)
            np.testing.assert_allclose(factor, 1 / expected.scale_, rtol=1e-12)

    def test_the_images_stay_as_they_are(self):
        images = np.random.default_rng(0).normal(size=(10, 3))
        before = images.copy()
        scaling.standardization([images[:4], images[4:]])
        np.testing.assert_array_equal(images, before)

    def test_a_small_deviation_far_from_0_is_not_lost(self):
        images = 1e8 + np.random.default_rng(0).choice([-1.0, 1.0], (1000, 1))
        shift, factor = scaling.standardization([images])
        x = (images - shift) * factor
        np.testing.assert_allclose([x.mean(), x.var()], [0, 1], atol=1e-7)

    def test_a_constant_column_becomes_0(self):
        images = np.tile([[0.1, 0.0, 255.0]], (1001, 1))
        shift, factor = scaling.standardization([images])
        np.testing.assert_allclose(shift, images[0], rtol=1e-12)
        np.testing.assert_array_equal(factor, [1, 1, 1])

    def test_a_column_that_hardly_varies_is_constant_in_float32(self):
        images = np.array([[0, 1.0], [1e-40, 2.0]])
        _shift, factor = scaling.standardization([images])
        self.assertTrue(np.isfinite(np.float32(factor)).all())
        self.assertEqual(factor[0], 1)

    def test_columns_far_from_0_are_warned_of(self):
        images = 1e6 + np.random.default_rng(0).normal(size=(100, 1))
        with self.assertLogs("absl", "WARNING") as log:
            scaling.standardization([images])
        self.assertIn("more than 10000 standard deviations away from 0", log.output[0])

    def test_folded_parameters_take_raw_images(self):
        random = np.random.default_rng(0)
        images, W, b = random.uniform(0, 255, (20, 6)), random.normal(size=(6, 3)), random.normal(size=3)
        for how, (dtype, atol) in itertools.product(
            (scaling.standardization([images]), scaling.by_pixel_max(255)), ((np.float32, 1e-4), (np.float64, 1e-13))
        ):
            x = (images - (0 if how.shift is None else how.shift)) * how.factor
            raw_W, raw_b = how.fold(W.astype(dtype), b.astype(dtype))
            np.testing.assert_allclose(images @ raw_W + raw_b, x @ W.astype(dtype) + b, rtol=0, atol=atol)
            self.assertEqual((raw_W.dtype, raw_b.dtype), (dtype, dtype))


class SpreadTest(parameterized.TestCase):
    @parameterized.parameters(1, 20, 55)
    def test_joined_is_that_of_all(self, first):
        images = np.random.default_rng(0).normal(1e3, [1, 10, 0, 5], (57, 4))
        images[:first, 3] = 7
        images[first:, 3] = 8  # Constant in both parts.
        parts = Spread.of([images[:first]]), Spread.of(np.split(images[first:], [1]))
        found = parts[0].joined(parts[1])
        self.assertEqual((found.n, found.is_constant.tolist()), (57, [False, False, True, False]))
        np.testing.assert_allclose(found.mean, images.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(found.deviation, images.std(axis=0), rtol=1e-12, atol=1e-12)
        self.assertEqual(found.deviation[2], 0)


if __name__ == "__main__":
    absltest.main()

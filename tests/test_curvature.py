"""The learning rate that the data gives: against NumPy's eigenvalues, and in runs."""

import dataclasses
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from experiments import measure_rates
from tests import made
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.data import scaling
from tfpipe.data.examples import BLOCK_BYTES
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import DataError, WorkdirError
from tfpipe.pipeline.sampler import Sampler
from tfpipe.solvers.curvature import curvature, of_minibatches
from tfpipe.solvers.sgd import Sgd
from tfpipe.training import loop

NOTHING = Scaling(None, np.array(1.0))


def inputs(images, of=NOTHING):
    """Scaled, with a 1 for b: `[n, D + 1]` float64."""
    x = images.reshape(len(images), -1).astype(np.float64)
    x = (x - (0 if of.shift is None else of.shift)) * of.factor
    return np.append(x, np.ones((len(x), 1)), axis=1)


def hessian(x, weights, l2, of_logits):
    """`[K (D + 1), K (D + 1)]` of the cost with its penalty, where that in the logits is `[n, K, K]`."""
    n, size = x.shape
    n_out = of_logits.shape[-1]
    of_cost = np.einsum("n,nkl,nd,ne->kdle", weights / n, of_logits, x, x).reshape(n_out * size, -1)
    return of_cost + np.diag(np.tile(np.append(np.full(size - 1, l2), 0.0), n_out))


def bound(images, weights, of=NOTHING, l2=0.0, n_out=3):
    """The largest eigenvalue, by LAPACK, of Böhning's bound for all classes."""
    at_most = np.broadcast_to((np.eye(n_out) - 1 / n_out) / 2, (len(images), n_out, n_out))
    return np.linalg.eigvalsh(hessian(inputs(images, of), weights, l2, at_most))[-1]


class CurvatureTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.random = np.random.default_rng(1)
        self.images = made.images(40)[0]
        self.weights = self.random.uniform(0.0, 2.0, 40)

    @parameterized.product(l2=(0.0, 0.3, 50.0), standardized=(False, True))
    def test_against_lapack(self, l2, standardized):
        of = scaling.standardization([self.images]) if standardized else scaling.by_pixel_max(255.0)
        expected = bound(self.images, self.weights, of, l2)
        self.assertAllClose(curvature(self.images, self.weights, of, l2), expected, rtol=1e-5)

    def test_no_hessian_is_larger(self):
        x, l2 = inputs(self.images, scaling.standardization([self.images])), 0.01
        most = curvature(self.images, self.weights, scaling.standardization([self.images]), l2)
        for size in (0.0, 0.1, 1.0, 10.0):
            z = size * x @ self.random.normal(size=(25, 3))
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            of_logits = np.einsum("nk,kl->nkl", p, np.eye(3)) - np.einsum("nk,nl->nkl", p, p)
            self.assertLessEqual(np.linalg.eigvalsh(hessian(x, self.weights, l2, of_logits))[-1], most)

    def test_noise_from_below(self):
        noise = self.random.normal(size=(300, 200))
        expected = np.linalg.eigvalsh(inputs(noise).T @ inputs(noise))[-1] / 600
        found = curvature(noise, np.ones(300), NOTHING, 0.0)
        self.assertBetween(found, 0.97 * expected, expected)

    def test_equal_eigenvalues(self):
        # Of x x' / 2, summed over rows e_i and a 1, and divided by 300: (9 + 300 +- sqrt(291^2 + 4 * 9 * 300)) / 1200.
        images = 3.0 * np.eye(300)
        expected = (309 + math.sqrt(291**2 + 4 * 9 * 300)) / 1200
        self.assertAllClose(curvature(images, np.ones(300), NOTHING, 0.0), expected, rtol=1e-9)

    def test_a_minibatch_in_pieces(self):
        rows, columns = self.random.normal(size=(1300, 2)), self.random.normal(size=(1000, 2))
        x, weights = rows @ columns.T, self.random.uniform(size=1300)
        self.assertGreater(x.nbytes, BLOCK_BYTES)
        # With a 1 for b it is of rank 3: x = A C', and C A'wA C' has the eigenvalues of A'wA C'C.
        rows = inputs(rows)
        squares = np.zeros((3, 3))
        squares[:2, :2], squares[2, 2] = columns.T @ columns, 1.0
        expected = np.linalg.eigvals((rows.T * weights) @ rows @ squares).real.max() / 2600
        self.assertAllClose(curvature(x, weights, NOTHING, 0.0), expected, rtol=1e-9)

    @parameterized.parameters(
        # shuffle, drop_remainder -> minibatches, examples of the last of an epoch
        (True, False, 32, 10), (True, True, 32, 30), (False, False, 4, 10), (False, True, 3, 30),
    )  # fmt: skip
    def test_of_minibatches_as_they_are_trained(self, shuffle, drop_remainder, n, of_last):
        train = made.splits().train
        sampler = Sampler(100, 30, drop_remainder=drop_remainder, shuffle=shuffle, seed=3)
        weights = self.random.uniform(0.5, 2.0, (2, 100)).astype(np.float32)
        found, counts = of_minibatches(train, sampler, weights, scaling.by_pixel_max(255.0), 0.1)
        by_mean = (weights / weights.mean(axis=1, keepdims=True)).max(axis=0)
        rows = [places[:count] for places, count in zip(*sampler.take(0, n), strict=True)]
        expected = [bound(train.images[r], by_mean[r], scaling.by_pixel_max(255.0), 0.1) for r in rows]
        self.assertAllClose(found, expected, rtol=1e-5)
        self.assertEqual(counts.tolist(), [len(r) for r in rows])
        self.assertEqual(counts[sampler.per_epoch - 1], of_last)

    def test_some_of_many(self):
        train = Examples(*made.images(1001))
        sampler = Sampler(1001, 10, drop_remainder=False)
        found, counts = of_minibatches(train, sampler, np.ones((1, 1001)), scaling.by_pixel_max(255.0), 0.0)
        self.assertEqual((len(found), counts[0], counts[-1]), (32, 10, 1))
        self.assertAllClose(found[-1], np.square(inputs(train.images[-1:] / 255.0)).sum() / 2, rtol=1e-9)


class SettledTest(tf.test.TestCase, parameterized.TestCase):
    """Of the digits' bytes, divided by 255, 100 examples: what the default is, and who says so."""

    def setUp(self):
        super().setUp()
        self.splits = made.splits()
        self.workdir = pathlib.Path(self.create_tempdir().full_path) / "run"

    def rate(self, weights=None, l2=0.0, splits=None):
        splits = splits or self.splits
        weights = np.ones(len(splits.train)) if weights is None else weights
        return float(f"{1 / bound(splits.train.images, weights, splits.scaling, l2):.2g}")

    def settled(self, **options):
        return Sgd(TrainConfig(**options), self.splits)

    def test_one_rate_for_all_heads(self):
        # Of one minibatch, for there are 100 examples. The largest L2 decides.
        rate = self.rate(l2=30.0)
        self.assertLess(rate, self.rate() / 5)
        solver = self.settled(l2=(0.0, 30.0, 0.1))
        self.assertEqual(solver.settings, [{"learning_rate": rate, "l2": l2} for l2 in (0.0, 30.0, 0.1)])
        self.assertEqual(solver.config, TrainConfig(learning_rate=rate, l2=(0.0, 30.0, 0.1)).settled())

    def test_by_weights(self):
        part = np.flatnonzero(np.arange(100) % 10 * (self.splits.train.labels > 0) == 0)
        self.splits = dataclasses.replace(self.splits, train=self.splits.train.take(part))
        counts = np.bincount(self.splits.train.labels)
        weights = (len(part) / (3 * counts))[self.splits.train.labels]
        rate = self.settled(class_weight="balanced").settings[0]["learning_rate"]
        self.assertEqual(rate, self.rate(weights))
        self.assertNotEqual(rate, self.rate())

    def test_by_the_largest_minibatch(self):
        solver = self.settled(batch_size=10, seed=5)
        numbers, _ = Sampler(100, 10, drop_remainder=False, shuffle=True, seed=5).take(0, 32)
        most = max(bound(self.splits.train.images[rows], np.ones(10), self.splits.scaling) for rows in numbers)
        self.assertEqual(solver.safe_rate, float(f"{1 / most:.2g}"))

    def test_a_rate_that_is_given_stays(self):
        solver = self.settled(learning_rate=(0.5, 0.25))
        self.assertEqual(solver.config.learning_rate, (0.5, 0.25))
        self.assertEqual(solver.safe_rate, self.rate())

    def test_images_that_say_nothing(self):
        nothing = Examples(np.zeros((9, 4), np.uint8), np.arange(9) % 3)
        # b alone has a curvature, of 1/2.
        self.assertEqual(Sgd(TrainConfig(), Splits(nothing, nothing, nothing, ("a", "b", "c"))).safe_rate, 2.0)

    def test_images_beyond_all_rates(self):
        huge = Examples(np.full((9, 4), 1e25, np.float32), np.arange(9) % 3, "huge.npy")
        with self.assertRaisesRegex(
            DataError, r"^huge.npy: float32 holds no learning rate .* pixel_max or standardize"
        ):
            Sgd(TrainConfig(), Splits(huge, huge, huge, ("a", "b", "c")))

    def test_it_says_why(self):
        most = bound(self.splits.train.images, np.ones(100), self.splits.scaling)
        words = f"the inverse of {most:.3g}, the largest curvature of 1 minibatch"
        self.assertEqual(self.settled().remarks, [f"learning rate {self.rate():g}, by the data: {words}"])
        self.assertEmpty(self.settled(learning_rate=0.1).remarks)

    def test_it_names_a_last_minibatch_that_is_too_small(self):
        images = np.zeros((21, 2), np.float32)
        images[-1] = 3.0, 4.0
        splits = Splits(*[Examples(images, np.arange(21) % 2)] * 3, ("a", "b"))
        (remark,) = Sgd(TrainConfig(batch_size=10, shuffle=False), splits).remarks
        # (3^2 + 4^2 + 1) / 2, and 1 / 2.
        words = (
            "0.077, by the data: the inverse of 13, the largest curvature of 3 minibatches, of one that has 1 example"
        )
        self.assertEqual(remark, f"learning rate {words}; full ones would allow 2")

    def test_a_run_by_default_is_the_one_with_that_rate(self):
        def train(workdir, **options):
            return loop.train(TrainConfig(epochs=9, shuffle=False, device="cpu", **options), self.splits, workdir)

        with self.assertLogs(level="INFO") as log:
            result, rate = train(self.workdir), self.rate()
        self.assertIn(f"learning rate {rate:g}, by the data: the inverse of", log.output[1])
        self.assertEqual(result.report["learning_rate"], rate)
        self.assertIn(f"--learning_rate={rate}", (self.workdir / "flags.txt").read_text().splitlines())
        self.assert_nothing_of_the_rate(result.report)
        given = train(self.workdir.with_name("given"), learning_rate=rate)
        self.assertEqual(given.report["grid"], result.report["grid"])
        self.assertEqual(*((self.workdir.with_name(name) / "model.npz").read_bytes() for name in ("run", "given")))
        # A workdir holds the run with that rate, whoever has named it; and no other.
        for options in ({}, {"learning_rate": rate}):
            self.assertEqual(train(self.workdir, **options).report["seconds"], result.report["seconds"])
        with self.assertRaisesRegex(WorkdirError, f"holds a run with learning_rate={rate}, not 0.5; give"):
            train(self.workdir, learning_rate=0.5)

    def test_a_rate_that_is_too_large_is_told(self):
        # Bytes that are not divided: x 255, so the bound is 1 / 255^2 of what it was.
        self.splits = dataclasses.replace(self.splits, pixel_max=1.0)
        options = {"epochs": 20, "shuffle": False, "device": "cpu"}
        with self.assertLogs(level="WARNING") as log:
            result = loop.train(TrainConfig(learning_rate=(0.13,), **options), self.splits, self.workdir)
        above = sum(event.reports["cost"][0] > math.log(3) for event in result.history)
        self.assertGreater(above, 10)
        warning = (
            f"learning rate 0.13 is too large for this data: at {above} of 20 validations the training cost was above "
            f"1.1, where it began; at most {self.rate():g} would be safe"
        )
        self.assertEqual(result.report["warnings"], [warning])
        self.assertIn(warning, log.output[-1])
        self.assertIn(f"<td>warning</td><td>{warning}</td>", (self.workdir / "report.html").read_text())
        self.assert_nothing_of_the_rate(loop.train(TrainConfig(**options), self.splits).report)

    def assert_nothing_of_the_rate(self, report):
        self.assertNotIn("too large", " ".join(report["warnings"]))

    @parameterized.parameters(
        # Times the rate that is safe; of eight validations those above the cost at the beginning -> told
        (2.5, 3, True), (2.5, 2, False), (1.5, 8, False),
    )  # fmt: skip
    def test_what_is_too_large(self, times, above, is_told):
        solver = self.settled(learning_rate=times * self.rate())
        # Another one follows after the head's end.
        costs = np.array([1.2] * above + [1.0] * (8 - above) + [np.nan])
        self.assertLen(solver.warnings({"cost": costs}, 0), is_told)


class FallTest(parameterized.TestCase):
    """With the settings by default the training cost falls, whatever the data."""

    def check(self, name, standardize, epochs=None):
        splits = measure_rates.splits(name, standardize=standardize)
        config = TrainConfig(epochs=epochs or measure_rates.epochs(name, len(splits.train)), device="cpu")
        costs = np.array([event.validation_cost[0] for event in loop.train(config, splits).history])
        found = measure_rates.fall(costs)
        self.assertLessEqual(found["rises"], 0.05)
        self.assertLess(found["above_lowest"], 0.01)
        self.assertLess(costs[-1], 1.001 * math.log(splits.n_out))

    @parameterized.parameters(("wine", False), ("breast cancer", True))
    def test_it_falls(self, name, standardize):
        self.check(name, standardize, epochs=200)

    @parameterized.product(name=list(measure_rates.DATA), standardize=(False, True))
    @pytest.mark.exhaustive
    def test_it_falls_on_every_set(self, name, standardize):
        self.check(name, standardize)


if __name__ == "__main__":
    tf.test.main()

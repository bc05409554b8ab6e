"""The optimum: passes over the rows, the certificate, the metric, L-BFGS, and all of it together."""

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from absl.testing import absltest, parameterized
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import problems
from tests.problems import Data
from tfpipe.compute import programs
from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline.residency import Resident
from tfpipe.solvers import metric
from tfpipe.solvers.lbfgs import Found, Lbfgs
from tfpipe.solvers.moments import Moments
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.passes import Cut, Passes

SETS = ("iris", "wine", "breast_cancer", "digits")


class PassesTest(tf.test.TestCase, parameterized.TestCase):
    def passes_over(
        self, images, labels, weights, scaling, programs, kind="float64", *, is_resident=True, n_columns=6, **options
    ):
        n = len(labels)
        split = Resident(tf.constant(images), np.arange(n), labels, is_resident=is_resident, mapped=None)
        objective = Objective.of(scaling, labels, weights, n, kind, "float64")
        with Workers(Device("/CPU:0", "cpu", programs=programs)) as workers:
            passes = Passes(split, workers, Cut.of(n, images.shape[1], n_columns), **options)
            sums = passes.sums(objective, self.W, self.b, np.array([0, 1], np.int32))
            self.losses = passes.losses(objective, self.W, self.b)
            return sums

    def setUp(self):
        super().setUp()
        random = np.random.default_rng(0)
        self.images = random.integers(0, 256, (1003, 30)).astype(np.uint8)
        self.labels = random.integers(0, 3, 1003).astype(np.int32)
        self.weights = np.stack([np.ones(1003), random.integers(0, 3, 1003)]).astype(np.float32)
        self.W, self.b = random.normal(size=(2, 3, 30)), random.normal(size=(2, 3))
        self.scaling = Scaling(np.full(30, 100.0), np.array(1 / 50))

    @parameterized.parameters(6, 1 << 17)  # Of so many the 63 rows of a block are two minibatches.
    def test_sums_against_numpy(self, n_columns):
        found = self.passes_over(self.images, self.labels, self.weights, self.scaling, programs=2, n_columns=n_columns)
        x = (self.images - 100.0) / 50
        for head in range(2):
            data = Data(x, self.labels, self.weights[head].astype(np.float64), 3)
            expected = problems.sums(data, self.W[head], self.b[head])
            for mine, other in zip(found, expected, strict=True):
                self.assertAllClose(mine[head], other[0], rtol=1e-12, atol=1e-10)

    def test_programs_that_are_compiled_ahead_are_those_of_the_calls(self):
        images, labels = tf.constant(self.images[:517]), self.labels[:517]
        split = Resident(images, np.arange(517), labels, is_resident=True, mapped=None)
        objective = Objective.of(self.scaling, labels, self.weights[:, :517], 517, "float64", "float64")
        column = np.array([0, 1], np.int32)
        with Workers(Device("/CPU:0", "cpu", programs=2)) as workers:
            passes, before = Passes(split, workers, Cut.of(517, 30, n_columns=6)), programs.count()
            passes.compile_sums(objective, self.W, self.b, column)
            passes.compile_losses(objective, self.W, self.b)
            self.assertEqual(programs.count(), before + 2)
            # Other heads than those that they were compiled with.
            sums = passes.sums(objective, self.W + 1, self.b, column)
            loss, wrong = passes.losses(objective, self.W + 1, self.b)
        self.assertEqual(programs.count(), before + 2)
        x = (self.images[:517] - 100.0) / 50
        for head in range(2):
            z = x @ (self.W[head] + 1).T + self.b[head]
            expected = np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)) + z.max(axis=1)
            expected -= z[np.arange(517), labels]
            self.assertAllClose(loss[head], expected, rtol=1e-5, atol=1e-6)
            self.assertAllEqual(wrong[head], z.argmax(axis=1) != labels)
            self.assertAllClose(sums.loss[head], self.weights[head, :517] @ expected, rtol=1e-12)

    def test_moments_against_numpy_however_the_rows_are_cut(self):
        x = (self.images - 100.0) / 50
        found = Moments.of([x[:1], x[1:1000], x[1000:]], self.labels, self.weights, 3)
        for head in range(2):
            data = Data(x, self.labels, self.weights[head].astype(np.float64), 3)
            for mine, other in zip(found, problems.moments(data), strict=True):
                self.assertAllClose(mine[head], other[0], rtol=1e-12, atol=1e-10)

    @parameterized.parameters(
        {"programs": 3},  # As many as a power of two has.
        {"programs": 2, "is_resident": False},
    )
    def test_the_same_bits_however_many_threads_and_wherever_the_images_are(self, **options):
        expected = self.passes_over(self.images, self.labels, self.weights, self.scaling, programs=2)
        found = self.passes_over(self.images, self.labels, self.weights, self.scaling, **options)
        for mine, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, other)

    @parameterized.parameters((1, 3, "float64"), (2, 7, "float32"), (3, 1, "float32"), (5, 3, "float32"))
    def test_the_same_bits_where_a_block_comes_in_pieces(self, programs, minibatches, kind):
        # Blocks of 128 rows, each of 8 minibatches; the last block has 107 rows.
        data, columns = (self.images, self.labels, self.weights, self.scaling), {"n_columns": 1 << 19}
        expected, losses = self.passes_over(*data, 2, kind, **columns), self.losses
        found = self.passes_over(*data, programs, kind, is_resident=False, span_bytes=minibatches * 16 * 30, **columns)
        for mine, other in zip((*found, *self.losses), (*expected, *losses), strict=True):
            np.testing.assert_array_equal(mine, other)

    def test_a_column_far_from_0_loses_nothing_in_float32(self):
        times = 1.7e9 + np.random.default_rng(1).normal(size=(1003, 30)) * 1000
        scaling = Scaling(times.mean(axis=0), 1 / times.std(axis=0))
        exact = self.passes_over(times, self.labels, self.weights, scaling, 2)
        rough = self.passes_over(times, self.labels, self.weights, scaling, 2, "float32")
        # 30 products in a logit, each off by 2^-24 of a few units; the sum of 1,003 losses likewise.
        self.assertAllClose(rough.loss, exact.loss, rtol=1e-5)

    @parameterized.parameters(1e7, 1e9)
    def test_deviations_without_a_row_that_lies_far_off(self, far):
        random = np.random.default_rng(2)
        images = np.stack([np.zeros(100), random.normal(size=100), np.full(100, 0.1)], axis=1)
        images[0] = far
        labels, weights = np.arange(100, dtype=np.int32) % 3, np.ones((3, 100))
        weights[1:, 0], weights[2, 1:] = 0, random.integers(0, 3, 99)
        scaling = Scaling(images.mean(axis=0), 1 / images.std(axis=0))
        blocks = np.split(scaling.apply(images), [1, 40])
        found = Moments.of(blocks, labels, weights, 3).deviations(blocks, weights)
        self.assertAllClose(found[0], np.ones(3), rtol=1e-12)
        for w, deviations in zip(weights[1:], found[1:], strict=True):
            varying = images[:, 1] * (w > 0)
            expected = np.sqrt(np.average((varying - np.average(varying, weights=w)) ** 2, weights=w))
            # What the shift, of far / 100, leaves of 1 in float64.
            self.assertAllClose(deviations, [1, expected * scaling.factor[1], 1], rtol=1e-8)

    def test_a_row_that_weighs_nothing_may_be_impossible(self):
        self.b[:, 2] = -1e30
        self.weights[:, self.labels == 2] = 0
        sums = self.passes_over(self.images, self.labels, self.weights, self.scaling, 2, "float32")
        self.assertTrue(all(np.isfinite(part).all() for part in sums))
        self.assertAllEqual(sums.G[:, 2], np.zeros((2, 30)))


class CertificateTest(absltest.TestCase):
    def assert_bounds(self, seed, l2, far):
        data = problems.drawn(seed)
        random = np.random.default_rng(seed)
        scale = 10.0 ** random.uniform(-1, 1, data.x.shape[1])
        found = problems.problem(data, l2, scale)
        v = found.centred(found.start() + random.normal(size=found.start().shape) * far)
        W, b = found.parameters(v)
        bound, of_V = found.certificate(v, problems.sums(data, W[0], b[0]), np.zeros(1))
        gap = problems.cost(data, l2, scale, W[0], b[0]) - problems.least(data, l2, scale)
        # What rounding leaves of a cost.
        self.assertGreaterEqual(bound[0] * (1 + 1e-9) + 1e-13, gap)
        self.assertTrue(np.isfinite(bound[0]))
        self.assertGreaterEqual(of_V[0], 0)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([1e-4, 1e-2, 1.0]), st.sampled_from([0.0, 1e-3, 1.0]))
    def test_it_bounds_the_distance_from_the_least_cost(self, seed, l2, far):
        self.assert_bounds(seed, l2, far)

    @pytest.mark.exhaustive
    @settings(max_examples=1000, deadline=None)
    @given(
        st.integers(0, 10**9), st.sampled_from([1e-6, 1e-4, 1e-2, 1.0, 100.0]), st.sampled_from([0.0, 1e-3, 0.1, 3.0])
    )
    def test_it_bounds_it_everywhere(self, seed, l2, far):
        self.assert_bounds(seed, l2, far)

    def test_with_intercepts_at_their_best_it_is_the_gradient(self):
        data = Data(np.array([[0.0], [1.0], [3.0]]), np.array([0, 1, 1], np.int32), np.ones(3), 2)
        found = problems.problem(data, 0.5)
        v = found.start()  # V = 0, and c best for it.
        W, b = found.parameters(v)
        sums = problems.sums(data, W[0], b[0])
        bound, of_V = found.certificate(v, sums, np.zeros(1))
        # p = (1/3, 2/3); mean x (p - y) of class 1 = ((0 + 1 + 3) 2/3 - 4) / 3 = -4/9; |G|^2 / (2 l2) = 2 (4/9)^2.
        self.assertAlmostEqual(bound[0], 2 * (4 / 9) ** 2, places=14)
        self.assertAlmostEqual(of_V[0], bound[0], places=14)
        wider, _ = found.certificate(v, sums, np.full(1, 0.1))
        self.assertAlmostEqual(wider[0], (np.sqrt(2) * 4 / 9 + 0.1) ** 2, places=14)

    def test_without_l2_there_is_none(self):
        found = problems.problem(problems.drawn(0), 0.0)
        W, b = found.parameters(found.start())
        self.assertEqual(
            found.certificate(found.start(), problems.sums(problems.drawn(0), W[0], b[0]), np.zeros(1))[0], np.inf
        )


def as_it_is(gradient, _, change=None):
    """The metric 1."""
    return gradient, np.zeros(0) if change is None else np.square(change).sum(axis=1)


class LbfgsTest(parameterized.TestCase):
    def descend(self, functions, x, rounds=200, pairs=10):
        heads = Lbfgs.at(x, pairs)
        numbers = np.arange(len(x))
        for _ in range(rounds):
            points = heads.points(numbers)
            found = [f(point) for f, point in zip(functions, points, strict=True)]
            costs, gradients = (np.array(part) for part in zip(*found, strict=True))
            heads.take(numbers, Found(points, costs, gradients, np.full(len(x), 1e-15)), as_it_is)
        return heads

    @staticmethod
    def rosenbrock(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, np.array(
            [-2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)]
        )

    @staticmethod
    def bowl(x):
        return 0.5 * (x[0] ** 2 + 1e6 * x[1] ** 2), np.array([x[0], 1e6 * x[1]])

    @parameterized.parameters(10, 3, 1)
    def test_hard_functions(self, pairs):
        heads = self.descend([self.rosenbrock, self.bowl], np.array([[-1.2, 1.0], [5.0, 3.0]]), pairs=pairs)
        np.testing.assert_allclose(heads.x, [[1, 1], [0, 0]], atol=1e-6)

    @parameterized.parameters(10, 3)
    def test_the_direction_is_that_of_the_two_loops(self, pairs):
        # Rosenbrock's function again, in ten numbers; the heads have pairs of other numbers.
        def chain(x):
            left, right = x[1:] - x[:-1] ** 2, 1 - x[:-1]
            gradient = np.zeros(10)
            gradient[1:] += 200 * left
            gradient[:-1] -= 400 * left * x[:-1] + 2 * right
            return (100 * left**2 + right**2).sum(), gradient

        starts, compared = np.random.default_rng(0).normal(size=(3, 10)), set()
        for rounds in (8, 12, 30):
            heads = self.descend([chain] * 3, starts, rounds, pairs)
            for head in np.flatnonzero(heads.pairs):
                # Algorithm 7.4 of Nocedal and Wright, from the last pair back and forth again.
                count = heads.pairs[head]
                there = [(count - back) % pairs for back in range(1, min(count, pairs) + 1)]
                q, alphas = heads.gradient[head].copy(), []
                for place in there:
                    s, y = heads.S[head, place], heads.Y[head, place]
                    alphas.append(s @ q / (s @ y))
                    q -= alphas[-1] * y
                s, y = heads.S[head, there[0]], heads.Y[head, there[0]]
                r = s @ y / (y @ y) * q
                for place, alpha in zip(reversed(there), reversed(alphas), strict=True):
                    s, y = heads.S[head, place], heads.Y[head, place]
                    r += (alpha - y @ r / (s @ y)) * s
                np.testing.assert_allclose(heads.direction[head], -r, rtol=1e-9, atol=1e-12 * np.abs(r).max())
                compared.add(len(there))
        self.assertIn(pairs, compared)
        self.assertGreater(len(compared), 1)

    def test_heads_have_nothing_to_do_with_each_other(self):
        starts = np.array([[-1.2, 1.0], [5.0, 3.0]])
        both = self.descend([self.rosenbrock, self.bowl], starts, rounds=25)
        for number, function in enumerate((self.rosenbrock, self.bowl)):
            alone = self.descend([function], starts[number : number + 1], rounds=25)
            np.testing.assert_array_equal(both.x[number], alone.x[0])

    def test_a_cost_that_is_not_finite_is_too_far(self):
        def wall(x):
            return (
                (x[0] ** 2 + np.exp(x[1]), np.array([2 * x[0], np.exp(x[1])])) if x[1] > -20 else (np.nan, x * np.nan)
            )

        heads = self.descend([wall], np.array([[1.0, 3.0]]), rounds=60)
        self.assertTrue(np.isfinite(heads.x).all())
        self.assertLess(heads.cost[0], 1e-4)

    def test_at_the_least_it_is_stalled(self):
        heads = self.descend([self.bowl], np.array([[0.0, 0.0]]), rounds=3)
        self.assertTrue(heads.stalled[0])


class MetricTest(parameterized.TestCase):
    @parameterized.parameters(3, 40)  # Columns, fewer or more than rows.
    def test_it_is_the_inverse_of_its_hessian(self, n_in):
        random = np.random.default_rng(0)
        x, z, w = random.normal(size=(20, n_in)) + 3, random.normal(size=(20, 3)), random.random(20)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        w /= w.sum()
        variance = (p * (1 - p)).mean(axis=1)
        m = (w * variance) @ x / (w @ variance)
        covariance = ((x - m) * (w * variance)[:, np.newaxis]).T @ (x - m)
        of_class = w @ (p * (1 - p))
        found = metric.spectrum(x, w, z)
        g = random.normal(size=(1, 3, n_in + 1))
        v = found.inverse_times(g, np.array([0.1]))[0][0]
        c = v[:, -1] + v[:, :-1] @ m  # Of columns less m.
        for k in range(3):
            hessian = covariance * of_class[k] / of_class.mean() + 0.1 * np.eye(n_in)
            np.testing.assert_allclose(hessian @ v[k, :-1], g[0, k, :-1] - g[0, k, -1] * m, rtol=1e-8, atol=1e-10)
        hessian = np.diag(w @ p) - (p * w[:, np.newaxis]).T @ p
        np.testing.assert_allclose(hessian @ c, g[0, :, -1] - g[0, :, -1].mean(), rtol=1e-8, atol=1e-10)

    @parameterized.parameters("spectrum", "blocks", "eigenbasis")
    def test_changes_by_themselves(self, kind):
        random = np.random.default_rng(0)
        x, z, w = random.normal(size=(20, 30)) + 3, random.normal(size=(20, 3)), random.random(20)
        l2s = np.array([0.1, 0.2])
        found = metric.of(x, w, z, l2s, saved=np.inf) if kind == "blocks" else metric.spectrum(x, w, z)
        if kind == "eigenbasis":
            found = found._replace(basis=None, mean=found.mean @ found.basis)
        n_in = len(found.values) if kind == "eigenbasis" else 30
        g, y = random.normal(size=(2, 2, 3, n_in + 1))
        times, squares = found.inverse_times(g, l2s, y)
        np.testing.assert_allclose(times, found.inverse_times(g, l2s)[0], rtol=1e-12)
        np.testing.assert_allclose(squares, (y * found.inverse_times(y, l2s)[0]).sum(axis=(1, 2)), rtol=1e-9)

    def test_of_many_classes_the_intercepts_have_a_diagonal(self):
        random = np.random.default_rng(0)
        x, z, w = random.normal(size=(6, 2)), np.tile(random.normal(size=1001), (6, 1)), np.ones(6)
        found = metric.spectrum(x.copy(), w, z)
        self.assertEqual(found.intercepts.shape, (1001,))
        g = random.normal(size=(1, 1001, 3))
        g[..., -1] -= g[..., -1].mean()
        v = found.inverse_times(g, np.array([0.1]))[0][0]
        c = v[:, -1] + v[:, :-1] @ x.mean(axis=0)
        p = np.exp(z[0]) / np.exp(z[0]).sum()
        np.testing.assert_allclose((np.diag(p) - np.outer(p, p)) @ c, g[0, :, -1], atol=1e-12)

    def test_blocks_are_the_inverses_of_theirs(self):
        random = np.random.default_rng(0)
        x, z, w = random.normal(size=(20, 3)) + 3, random.normal(size=(20, 3)), random.random(20)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        w /= w.sum()
        l2s = np.array([0.1, 0.2])
        g = random.normal(size=(2, 3, 4))
        v = metric.of(x, w, z, l2s, saved=np.inf).inverse_times(g, l2s)[0]
        for head in range(2):
            of_intercepts = np.zeros(3)
            for k in range(3):
                of_row = w * p[:, k] * (1 - p[:, k])
                m = of_row @ x / of_row.sum()
                # Four times the least l2; the mean over the classes has a share of 1e-6.
                hessian = (x - m).T @ ((x - m) * of_row[:, np.newaxis]) + 0.4 * np.eye(3)
                V = v[head, k, :-1]
                np.testing.assert_allclose(hessian @ V, g[head, k, :-1] - g[head, k, -1] * m, rtol=1e-4, atol=1e-4)
                of_intercepts[k] = v[head, k, -1] + V @ m
            hessian = np.diag(w @ p) - (p * w[:, np.newaxis]).T @ p
            r = g[head, :, -1]
            np.testing.assert_allclose(hessian @ of_intercepts, r - r.mean(), rtol=1e-8, atol=1e-10)

    def test_blocks_only_where_they_pay_and_serve_all_heads(self):
        random = np.random.default_rng(0)
        x, z, w = random.normal(size=(20, 3)), random.normal(size=(20, 3)), np.ones(20)

        def kind(z=z, l2s=(0.1, 0.001), saved=1e9):
            return type(metric.of(x.copy(), w, z, np.array(l2s), saved=saved))

        self.assertIs(kind(), metric.Blocks)
        self.assertIs(kind(saved=100), metric.Spectrum)
        self.assertIs(kind(z=np.ones((20, 3))), metric.Spectrum)  # At V = 0 the two are the same.
        self.assertIs(kind(l2s=(0.1, 1e-4)), metric.Spectrum)
        self.assertIs(kind(l2s=(0.1, 0.0)), metric.Spectrum)
        self.assertIs(kind(l2s=(0.0, 0.0)), metric.Blocks)

    def test_blocks_without_an_inverse_give_way(self):
        x, z = np.zeros((20, 3)), np.random.default_rng(0).normal(size=(20, 3))
        self.assertIsNone(metric.blocks(x, np.ones(20), z, 0.0))


def standardized(name):
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    deviation = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return Data(x, y.astype(np.int32), np.ones(len(y)), int(y.max()) + 1)


class OptimumTest(parameterized.TestCase):
    def assert_scikit_learns(self, data, l2s):
        of_all, found = problems.minimized(data, l2s, tolerance=1e-11)
        W, b = of_all.parameters(found.v)
        self.assertTrue(found.converged.all())
        for head, l2 in enumerate(l2s):
            theirs = problems.by_scikit_learn(data, l2)
            np.testing.assert_allclose(W[head], theirs[0], rtol=0, atol=1e-3 * np.abs(theirs[0]).max())
            expected, cost = (problems.cost(data, l2, None, *pair) for pair in (theirs, (W[head], b[head])))
            np.testing.assert_allclose(found.cost[head], cost, rtol=1e-12)
            np.testing.assert_allclose(cost, expected, rtol=1e-6)
            self.assertGreaterEqual(found.certificate[head] * (1 + 1e-9) + 1e-14, cost - expected)

    @parameterized.parameters("wine", "breast_cancer")
    def test_as_scikit_learn_in_float64(self, name):
        self.assert_scikit_learns(standardized(name), [1.0, 1e-2, 1e-4])

    @parameterized.parameters(*SETS, "badly_scaled")
    @pytest.mark.exhaustive
    def test_all_sets_as_scikit_learn_in_float64(self, name):
        if name == "badly_scaled":
            data = standardized("wine")
            data = data._replace(x=data.x * np.geomspace(1e-2, 1e2, 13))
        else:
            data = standardized(name)
        self.assert_scikit_learns(data, [1.0, 1e-2, 1e-3, 1e-5])

    def assert_arrives(self, seed, l2, tolerance=1e-4, *, rough=False):
        # Of few sizes, for which programs are there.
        data = problems.drawn(seed, n=40, n_in=5, n_out=4)
        of_all, found = problems.minimized(data, [l2], tolerance=tolerance, rough=rough)
        self.assertTrue(found.converged[0], (seed, found))
        W, b = of_all.parameters(found.v)
        cost = problems.cost(data, l2, None, W[0], b[0])
        gap = cost - problems.least(data, l2, None)
        self.assertGreaterEqual(found.certificate[0] * (1 + 1e-9) + 1e-12, gap)
        self.assertLessEqual(found.certificate[0], tolerance * max(cost, 1e-6 * of_all.at_zero[0]) * (1 + 1e-6))

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([1e-4, 1e-2, 1.0]))
    def test_each_reaches_its_tolerance(self, seed, l2):
        self.assert_arrives(seed, l2)

    @pytest.mark.exhaustive
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**9), st.sampled_from([1e-6, 1e-4, 1e-2, 1.0]), st.sampled_from([1e-4, 1e-8]))
    def test_all_reach_their_tolerances(self, seed, l2, tolerance):
        self.assert_arrives(seed, l2, tolerance)

    @settings(max_examples=10, deadline=None)
    @example(3275)  # In float32 its certificate comes out below 0.
    @given(st.integers(0, 10**6))
    @pytest.mark.exhaustive
    def test_by_float32_as_far_as_that_goes(self, seed):
        self.assert_arrives(seed, 1e-3, 1e-7, rough=True)

    def assert_arrives_apart(self, seed, l2, tolerance):
        random = np.random.default_rng(seed)
        data = problems.drawn(seed, n=int(random.integers(3, 25)), n_in=int(random.integers(1, 25)), n_out=4)
        counted = data.w > 0
        data = data._replace(x=data.x[counted], y=data.y[counted], w=data.w[counted])
        deviation = data.x.std(axis=0)
        varies = deviation > 1e-8 * np.abs(data.x.mean(axis=0))
        scale = np.where(varies, deviation, 1) if seed % 2 else None
        of_one, found = problems.minimized_apart(data, l2, scale, tolerance)
        self.assertTrue(found.converged[0], (seed, found))
        (W,), (b,) = of_one.parameters(found.v)
        cost = problems.cost(data, l2, scale, W, b)
        np.testing.assert_allclose(found.cost[0], cost, rtol=1e-9, atol=1e-12)
        self.assertGreaterEqual(found.certificate[0] * (1 + 1e-9) + 1e-11, cost - problems.least(data, l2, scale))
        self.assertLessEqual(found.certificate[0], tolerance * max(cost, 1e-6 * of_one.at_zero[0]) * (1 + 1e-6))

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([1e-4, 1e-2, 1.0]))
    def test_few_rows_reach_their_tolerance(self, seed, l2):
        self.assert_arrives_apart(seed, l2, 1e-4)

    @pytest.mark.exhaustive
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**9), st.sampled_from([1e-6, 1e-4, 1e-2, 1.0]), st.sampled_from([1e-4, 1e-8]))
    def test_all_few_rows_reach_their_tolerances(self, seed, l2, tolerance):
        self.assert_arrives_apart(seed, l2, tolerance)

    @parameterized.parameters((150, 4), (12, 40))
    def test_few_rows_have_the_optimum_of_the_rows_as_they_are(self, n, n_in):
        data = problems.drawn(11, n=n, n_in=n_in, n_out=3)
        data = data._replace(w=np.where(np.arange(n) % 3, 1.0, 2.5))
        of_one, apart = problems.minimized_apart(data, 1e-2, tolerance=1e-12)
        _, found = problems.minimized(data, [1e-2], tolerance=1e-12)
        np.testing.assert_allclose(apart.cost, found.cost, rtol=1e-11)
        for own, other in zip(of_one.parameters(apart.v), of_one.parameters(found.v), strict=True):
            np.testing.assert_allclose(own, other, rtol=0, atol=1e-5 * np.abs(other).max())

    def test_a_fold_is_the_run_on_its_rows_alone(self):
        data = standardized("iris")
        columns = np.ones((3, len(data.y)))
        for fold in range(3):
            columns[fold, fold::3] = 0
        _, together = problems.minimized(data, [1e-3] * 3, columns=columns, tolerance=1e-8)
        for fold in range(3):
            rows = columns[fold] > 0
            alone = Data(data.x[rows], data.y[rows], np.ones(rows.sum()), 3)
            _, found = problems.minimized(alone, [1e-3], tolerance=1e-8)
            np.testing.assert_allclose(together.cost[fold], found.cost[0], rtol=1e-6)

    def test_integer_weights_are_repeated_rows(self):
        data = problems.drawn(5, n=40, n_in=5, n_out=4)._replace(w=np.arange(40) % 4)
        repeated = Data(np.repeat(data.x, data.w, axis=0), np.repeat(data.y, data.w), np.ones(data.w.sum()), 4)
        _, weighted = problems.minimized(data._replace(w=data.w.astype(float)), [1e-2], tolerance=1e-10)
        _, found = problems.minimized(repeated, [1e-2], tolerance=1e-10)
        np.testing.assert_allclose(weighted.cost, found.cost, rtol=1e-9)
        np.testing.assert_allclose(weighted.v, found.v, rtol=0, atol=1e-4 * np.abs(found.v).max())

    def test_what_does_not_arrive_says_so(self):
        _, found = problems.minimized(standardized("wine"), [1e-4], most_iterations=3)
        self.assertFalse(found.converged[0])
        self.assertEqual(found.iterations[0], 3)
        self.assertGreater(found.certificate[0], 1e-4 * found.cost[0])

    def test_without_l2_the_gradient_decides(self):
        random = np.random.default_rng(0)
        data = Data(random.normal(size=(200, 3)), random.integers(0, 3, 200).astype(np.int32), np.ones(200), 3)
        _, found = problems.minimized(data, [0.0], tolerance=1e-9)
        self.assertTrue(found.converged[0])
        self.assertEqual(found.certificate[0], np.inf)
        self.assertLessEqual(found.gradient[0], 1e-9)
        np.testing.assert_allclose(found.cost[0], problems.least(data, 0.0, np.ones(3)), rtol=1e-10)


if __name__ == "__main__":
    absltest.main()

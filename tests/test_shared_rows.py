"""What processes find of their own rows before any pass, and that they read no others."""

import concurrent.futures.process

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import own_rows
from tests.command import in_a_process
from tfpipe.data import Examples
from tfpipe.data.scaling import Scaling
from tfpipe.solvers import shared_rows
from tfpipe.solvers.branches import added, own
from tfpipe.solvers.shared_rows import BlockedRows, SharedRows
from tfpipe.solvers.sharing import Shared

N, D, C, K = 1003, 30, 3, 4
# Blocks have 128 rows: of the first none has weight.
N_COLUMNS = C * K


def made():
    """Rows far from 0, with a constant column and one that varies between blocks alone; their weights."""
    random = np.random.default_rng(0)
    images = (1000 + random.normal(size=(N, D))).astype(np.float32)
    images[:, 0] = 0.1
    images[:, 1] = np.arange(N) // 512
    weights = random.integers(0, 3, (C, N)).astype(np.float64)
    weights[:, :128] = 0
    weights[0, 128:] = 1
    return Examples(images, np.arange(N) % K), weights


def found(size):
    """What several processes find together."""
    rows = BlockedRows.of(*made(), K, N_COLUMNS)
    others = [lambda said, rank=rank: shared_rows.answer(said, rows, rank, size) for rank in range(1, size)]
    cluster = own_rows.Together(others)
    return SharedRows(rows, N_COLUMNS, Shared(cluster, "search.0") if others else None)


class SharedRowsTest(parameterized.TestCase):
    scaling = Scaling(np.full(D, 1000.0), np.linspace(0.5, 2, D))

    def setUp(self):
        super().setUp()
        examples, self.weights = made()
        self.images, self.labels = examples.images, examples.labels
        self.x = (self.images.astype(np.float64) - self.scaling.shift) * self.scaling.factor

    def test_spread(self):
        spread = found(1).spread()
        counted = self.images[128:].astype(np.float64)
        self.assertEqual(spread.n, N - 128)
        np.testing.assert_allclose(spread.mean, counted.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(spread.deviation[1:], counted.std(axis=0)[1:], rtol=1e-10)
        self.assertEqual(spread.deviation[0], 0)
        self.assertEqual(spread.is_constant.tolist(), [True] + [False] * (D - 1))

    def test_moments(self):
        moments = found(1).moments(self.scaling)
        of_class = np.eye(K)[self.labels]
        np.testing.assert_allclose(moments.total, self.weights.sum(axis=1), rtol=1e-15)
        np.testing.assert_allclose(moments.of_class, self.weights @ of_class, rtol=1e-15)
        np.testing.assert_allclose(moments.x, self.weights @ self.x, rtol=1e-12, atol=1e-10)
        expected = np.einsum("cn,nk,nd->ckd", self.weights, of_class, self.x)
        np.testing.assert_allclose(moments.x_of_class, expected, rtol=1e-12, atol=1e-10)

    def test_deviations(self):
        rows = found(1)
        moments = rows.moments(self.scaling)
        deviations = moments.deviation(rows.about_mean(self.scaling, moments.mean))
        for w, of_column in zip(self.weights, deviations, strict=True):
            mean = np.average(self.x, axis=0, weights=w)
            expected = np.sqrt(np.average((self.x - mean) ** 2, axis=0, weights=w))
            np.testing.assert_allclose(of_column[1:], expected[1:], rtol=1e-12)
            self.assertEqual(of_column[0], 1)

    def test_rows_and_their_logits(self):
        random, numbers = np.random.default_rng(1), np.array([0, 127, 128, 500, 1002])
        np.testing.assert_array_equal(found(1).images(numbers), self.images[numbers])
        W, b, head = random.normal(size=(2, K, D)), random.normal(size=(2, K)), np.arange(N) % 2
        logits = found(1).logits(self.scaling, W, b, head)
        expected = np.einsum("nkd,nd->nk", W[head], self.x) + b[head]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-10)

    @parameterized.parameters(2, 3, 4, 9)  # There are eight blocks.
    def test_the_same_bits_by_any_number(self, size):
        random = np.random.default_rng(1)
        W, b, head = random.normal(size=(2, K, D)), random.normal(size=(2, K)), np.arange(N) % 2
        mean = random.normal(size=(C, D))
        of_both = []
        for rows in (found(size), found(1)):
            of_both.append([
                *rows.spread(), *rows.moments(self.scaling), *rows.about_mean(self.scaling, mean),
                rows.images(np.array([3, 700])), rows.images(np.arange(0)), rows.logits(self.scaling, W, b, head),
            ])  # fmt: skip
        for ours, theirs in zip(*of_both, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_halves_are_added_as_in_the_tree(self):
        # In float64 1e16 + 1 is 1e16: another order has another sum.
        values = [1e16, 1.0, 1.0, 1.0, -1e16, 1.0, None, None]
        known = {(number, number + 1): value for number, value in enumerate(values)}
        expected = ((1e16 + 1.0) + (1.0 + 1.0)) + (-1e16 + 1.0)
        whole = added(0, 8, lambda *bounds: known.get(bounds), float.__add__)
        of_two = {(0, 4): added(0, 4, lambda *bounds: known.get(bounds), float.__add__), (4, 6): -1e16 + 1.0}
        self.assertEqual([whole, added(0, 8, lambda *bounds: of_two.get(bounds), float.__add__)], [expected] * 2)
        self.assertIsNone(added(6, 8, lambda *bounds: known.get(bounds), float.__add__))
        self.assertEqual([own(4, rank, 6) for rank in range(6)], [(0, 1), (1, 2), (2, 3), (3, 4), (0, 0), (0, 0)])


class OwnRowsTest(parameterized.TestCase):
    """Whole searches in which the memory of others' rows is closed to each process."""

    def assert_own_rows_will_do(self, size, **options):
        (shared, alone), closed, asked = in_a_process(own_rows.searches, size, options)
        np.testing.assert_array_equal(shared[0], alone[0])
        self.assertEqual(shared[1], alone[1])
        self.assertGreater(4 * min(closed), own_rows.TRAIN + own_rows.VALIDATION)
        self.assertContainsSubset(["about_mean", "images", "losses", "moments", "place", "spread", "sums"], asked)
        self.assertEqual("logits" in asked, "calibrate" in options)

    def test_each_reads_its_own(self):
        self.assert_own_rows_will_do(2, folds=0, refit=False)

    @parameterized.parameters(
        (2, {"folds": 0}), (3, {"folds": 2, "calibrate": True}), (4, {"folds": 0, "calibrate": True})
    )
    @pytest.mark.exhaustive
    def test_any_number_reads_its_own(self, size, options):
        self.assert_own_rows_will_do(size, **options)

    def test_who_reads_others_is_ended(self):
        half = own_rows.TRAIN // 2 + 24  # Blocks have 128 rows.
        expected = float(own_rows.splits().train.images[half:].sum())
        self.assertEqual(in_a_process(own_rows.read, half), expected)
        with self.assertRaises(concurrent.futures.process.BrokenProcessPool):
            in_a_process(own_rows.read, half - 2)


if __name__ == "__main__":
    absltest.main()

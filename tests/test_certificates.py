"""What a search promises of the model that it keeps: the certificate, the optimum, and what weights and folds mean.

Against SciPy and scikit-learn, in float64.
"""

import os
import pathlib
import unittest

import numpy as np
import pytest
import scipy.special
import sklearn.datasets
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

import tfpipe
from tests import made, problems, test_readme
from tests.problems import Data
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.config import DataConfig
from tfpipe.data.folds import folds

MNIST = os.environ.get("TFPIPE_MNIST_DIR")

# Of few sizes, for which programs are there.
N, N_VALIDATION, N_IN = 64, 32, 6


def drawn(seed, n_out):
    """As problems.drawn has them, in float32; every third with a single example of the last class that has weight."""
    data = problems.drawn(seed, n=N, n_in=N_IN, n_out=n_out)
    y, w = data.y.copy(), np.where(data.w == 0.3, 0.25, data.w)
    if seed % 3 == 0 and n_out > 2:
        y[y == n_out - 1] = 0
        y[2], w[2] = n_out - 1, 1.0
    return Data(data.x.astype(np.float32).astype(np.float64), y, w, n_out)


def splits_of(data, scale="none", n_validation=N_VALIDATION):
    """Of rows and weights; validation and test are the first rows again, without weights."""

    def examples(n, weights):
        return Examples(data.x[:n].astype(np.float32), data.y[:n], weights=weights)

    names = tuple(map(str, range(data.n_out)))
    parts = examples(len(data.y), data.w), examples(n_validation, None), examples(8, None)
    return Splits(*parts, class_names=names, config=DataConfig(standardize=(scale,)))


def fitted(data, n_validation=N_VALIDATION):
    """The rows that a refit takes."""
    rows = np.append(np.arange(len(data.y)), np.arange(n_validation))
    w = np.append(data.w, np.ones(n_validation))
    return Data(data.x[rows], data.y[rows], w, data.n_out)


def deviation(data):
    """`[D]`: of each column under the weights; 1 of one that is constant there."""
    w = data.w / data.w.sum()
    found = np.sqrt(w @ np.square(data.x - w @ data.x))
    there = data.x[data.w > 0]
    return np.where((there == there[0]).all(axis=0), 1.0, found)


class CertificateTest(parameterized.TestCase):
    def assert_holds(self, seed, n_out, scale, l2, tolerance, *, refit, precision="float32"):
        data = drawn(seed, n_out)
        config = TrainConfig(
            solver="lbfgs", l2=l2, tolerance=tolerance, folds=0, refit=refit, precision=precision, device="cpu"
        )
        result = tfpipe.train(config, splits_of(data, scale))
        rows = fitted(data) if refit else data
        unit = deviation(rows) if scale == "columns" else np.ones(N_IN)
        W, b = (part.numpy().astype(np.float64) for part in (result.model.W, result.model.b))
        cost = problems.cost(rows, l2, unit, W.T, b)
        gap = cost - problems.least(rows, l2, unit)
        certificate = result.report["certificate"]
        of_class = np.bincount(rows.y, rows.w)
        shares = of_class[of_class > 0] / of_class.sum()
        at_zero = -(shares * np.log(shares)).sum()
        self.assertTrue(result.report["converged"], (seed, result.report["warnings"]))
        self.assertGreaterEqual(certificate * (1 + 1e-9) + 1e-13, gap)
        self.assertLessEqual(certificate, tolerance * max(cost, 1e-6 * at_zero) * (1 + 1e-6) + 1e-15)

    @settings(max_examples=20, deadline=None)
    @given(
        st.integers(0, 10**6), st.sampled_from([2, 3]), st.sampled_from(["none", "columns"]),
        st.sampled_from([1e-3, 1e-1]), st.booleans(),
    )  # fmt: skip
    def test_of_the_model_that_is_kept(self, seed, n_out, scale, l2, refit):
        self.assert_holds(seed, n_out, scale, l2, 1e-4, refit=refit)

    @pytest.mark.exhaustive
    @settings(max_examples=200, deadline=None)
    @given(
        st.integers(0, 10**9), st.sampled_from([2, 3, 4]), st.sampled_from(["none", "columns"]),
        st.sampled_from([1e-5, 1e-3, 1e-1, 10.0]), st.sampled_from([1e-2, 1e-4, 1e-8]), st.booleans(),
        st.sampled_from(["float32", "float64"]),
    )  # fmt: skip
    def test_everywhere(self, seed, n_out, scale, l2, tolerance, refit, precision):
        self.assert_holds(seed, n_out, scale, l2, tolerance, refit=refit, precision=precision)


def standardized(x):
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def of_set(name):
    """Rows as float32 has them. Those of badly_scaled are wine's in columns that differ by 1e4."""
    x, y = getattr(sklearn.datasets, f"load_{'wine' if name == 'badly_scaled' else name}")(return_X_y=True)
    if name == "badly_scaled":
        x = standardized(x) * np.geomspace(1e-2, 1e2, 13)
    x = x.astype(np.float32).astype(np.float64)
    return Data(x, y.astype(np.int32), np.ones(len(y)), int(y.max()) + 1)


class ExactnessTest(parameterized.TestCase):
    def assert_as_scikit_learn(self, data, scale, l2):
        config = TrainConfig(solver="lbfgs", l2=l2, tolerance=1e-11, folds=0, refit=False, device="cpu")
        result = tfpipe.train(config, splits_of(data, scale))
        unit = deviation(data) if scale == "columns" else np.ones(data.x.shape[1])
        W, b = (part.numpy().astype(np.float64) for part in (result.model.W, result.model.b))
        theirs = problems.by_scikit_learn(data, l2, unit)
        cost, expected = (problems.cost(data, l2, unit, *pair) for pair in ((W.T, b), theirs))
        np.testing.assert_allclose(cost, expected, rtol=1e-6)
        coefficients = theirs[0] * unit
        np.testing.assert_allclose(W.T * unit, coefficients, rtol=0, atol=1e-3 * np.abs(coefficients).max())
        self.assertGreaterEqual(result.report["certificate"] + 1e-14, cost - expected)
        self.assertTrue(result.report["converged"], result.report["warnings"])

    @parameterized.product(scale=("none", "columns"), l2=(1e-1, 1e-4))
    def test_two_classes(self, scale, l2):
        data = of_set("iris")
        rows = data.y > 0
        self.assert_as_scikit_learn(Data(data.x[rows], data.y[rows] - 1, np.ones(100), 2), scale, l2)

    @parameterized.product(
        name=("iris", "wine", "breast_cancer", "digits", "badly_scaled"), scale=("none", "columns"), l2=(1e-2, 1e-4)
    )
    @pytest.mark.exhaustive
    def test_all_sets(self, name, scale, l2):
        self.assert_as_scikit_learn(of_set(name), scale, l2)

    @parameterized.parameters(1e-2, 1e-3, 1e-4, 1e-5)
    @pytest.mark.exhaustive
    @unittest.skipUnless(MNIST, "TFPIPE_MNIST_DIR names no folder with MNIST's IDX files")
    def test_mnist(self, l2):
        splits = tfpipe.load(MNIST, validation_split=10000)
        config = TrainConfig(solver="lbfgs", l2=l2, tolerance=1e-7, refit=False, device="cpu")
        result = tfpipe.train(config, splits)
        x, y = made.as_float64(splits.train, 255.0)
        W, b = result.model.W.numpy().astype(np.float64) * 255.0, result.model.b.numpy().astype(np.float64)
        one_hot = np.eye(10)[y]
        scores = x @ W
        # With the intercepts at their best, F is at most |dF/dW|^2 / (2 l2) above the least, for it is l2-convex in W.
        for _ in range(5):
            p = scipy.special.softmax(scores + b, axis=1)
            r = (p - one_hot).mean(axis=0)
            b = b - np.linalg.lstsq(np.diag(p.mean(axis=0)) - p.T @ p / len(x), r, rcond=1e-12)[0]
        self.assertLess(np.abs(r).max(), 1e-14)
        z = scores + result.model.b.numpy()
        decay = l2 / 2 * np.square(W).sum()
        cost, best = (
            (scipy.special.logsumexp(z, axis=1) - (z * one_hot).sum(axis=1)).mean() + decay for z in (z, scores + b)
        )
        gap = cost - best + np.square(x.T @ (p - one_hot) / len(x) + l2 * W).sum() / (2 * l2)
        self.assertLess(gap, 1e-6 * cost)
        self.assertTrue(result.report["converged"])


class CheckTest(parameterized.TestCase):
    """What docs/search.md says about checking the certificate, from the files alone."""

    def assert_figures(self, rows, **options):
        folder = pathlib.Path(self.create_tempdir().full_path)
        np.savez(folder / "rows.npz", **rows)
        splits = tfpipe.load(folder / "rows.npz", standardize=(options.pop("standardize"),))
        config = TrainConfig(solver="lbfgs", folds=0, device="cpu", tensorboard=False, **options)
        tfpipe.train(config, splits, folder)
        before = pathlib.Path.cwd()
        os.chdir(folder)
        self.addCleanup(os.chdir, before)
        (program,) = test_readme.blocks("docs/search.md")
        self.assertNotIn("tfpipe", program)
        found = test_readme.run(program)
        summary = found["summary"]
        np.testing.assert_allclose(found["total_weight"], summary["total_weight"], rtol=1e-15)
        np.testing.assert_allclose(found["cost"], summary["cost"], rtol=1e-13)
        np.testing.assert_allclose(found["certificate"], summary["certificate"], rtol=1e-6, atol=1e-15)
        return found

    @pytest.mark.exhaustive
    def test_images(self):
        x, y = made.images(N, shape=(2, 3))
        rows = {"x_train": x, "y_train": y, "x_test": x[:8], "y_test": y[:8]}
        found = self.assert_figures(rows, standardize="none", l2=1e-3)
        self.assertEqual(found["model"]["scale"], 255.0)

    def test_features_under_weights(self):
        self.assert_of_features("columns", leaves_out=True)

    def test_a_calibrated_model(self):
        x, y = np.random.default_rng(0).normal(size=(N, N_IN)), np.array(["a", "b", "c"])[np.arange(N) % 3]
        rows = {"x_train": x, "y_train": y, "x_test": x[:8], "y_test": y[:8]}
        found = self.assert_figures(rows, standardize="columns", l2=1e-2, calibrate=True)
        self.assertGreater(found["T"], 1.1)

    @parameterized.parameters("none", "columns")
    @pytest.mark.exhaustive
    def test_features_of_all_classes(self, standardize):
        self.assert_of_features(standardize, leaves_out=False)

    def assert_of_features(self, standardize, *, leaves_out):
        data = problems.drawn(5, n=N, n_in=N_IN, n_out=3)
        w = np.where(data.y == 2, 0.0, np.arange(N) % 4) if leaves_out else np.arange(N) % 4 / 2
        rows = {"x_train": data.x, "y_train": np.array(["a", "b", "c"])[data.y], "sample_weight_train": w}
        rows |= {"x_test": data.x[:8], "y_test": rows["y_train"][:8]}
        found = self.assert_figures(rows, standardize=standardize, l2=1e-2)
        unit = deviation(Data(found["x"], data.y, w, 3)) if standardize == "columns" else 1.0
        np.testing.assert_allclose(found["model"]["scale"], unit, rtol=1e-9)


class RowsTest(parameterized.TestCase):
    """Weights are repetitions, and folds runs of their own."""

    def train(self, splits, **options):
        default = {"solver": "lbfgs", "l2": 1e-2, "tolerance": 1e-8, "folds": 0, "refit": False, "device": "cpu"}
        return tfpipe.train(TrainConfig(**default | options), splits)

    @parameterized.product(scale=("none", "columns"), class_weight=(None, "balanced"))
    def test_integer_weights_are_repeated_rows(self, scale, class_weight):
        data = problems.drawn(5, n=N, n_in=N_IN, n_out=3)
        data = data._replace(w=np.arange(N) % 4)
        repeated = Data(np.repeat(data.x, data.w, axis=0), np.repeat(data.y, data.w), None, 3)
        weighted, found = (self.train(splits_of(one, scale), class_weight=class_weight) for one in (data, repeated))
        counts = np.bincount(repeated.y)
        w = np.ones(len(repeated.y)) if class_weight is None else 1 / counts[repeated.y]
        of_rows = repeated._replace(x=repeated.x.astype(np.float32).astype(np.float64), w=w)
        unit = deviation(of_rows) if scale == "columns" else np.ones(N_IN)
        one, other = (
            problems.cost(of_rows, 1e-2, unit, r.model.W.numpy().T.astype(np.float64), r.model.b.numpy())
            for r in (weighted, found)
        )
        np.testing.assert_allclose(one, other, rtol=1e-6)

    @parameterized.product(scale=("none", "columns"), has_groups=(False, True))
    def test_folds_are_runs_on_their_rows_alone(self, scale, has_groups):
        random = np.random.default_rng(3)
        y = np.arange(N) % 3
        x = (random.normal(size=(N, N_IN)) + np.eye(3, N_IN)[y]) * np.geomspace(0.1, 10, N_IN)
        groups = np.sort(random.integers(0, 12, N)) if has_groups else None
        pool = Examples(x.astype(np.float32), y, weights=np.arange(N) % 5 + 0.5, groups=groups)
        begin = 48 if groups is None else int(np.searchsorted(groups, groups[48]))
        fold = folds(pool.labels, 3, 0, pool.groups)
        if groups is not None:
            self.assertEqual(sum(len(set(fold[groups == group])) for group in set(groups)), len(set(groups)))

        def cost(first, second, **options):
            parts = (pool.take(np.flatnonzero(rows)) for rows in (first, second))
            test = Examples(pool.images[:8], pool.labels[:8])
            data = Splits(*parts, test, class_names=("a", "b", "c"), config=DataConfig(standardize=(scale,)))
            return self.train(data, tolerance=1e-13, **options).report["grid"][0]["validation_cost"]

        of_folds = cost(np.arange(N) < begin, np.arange(N) >= begin, folds=3, refit=True)
        alone = [cost(fold != number, fold == number) for number in range(3)]
        self.assertAlmostEqual(of_folds, np.average(alone, weights=np.bincount(fold, pool.weights)), delta=1e-6)


if __name__ == "__main__":
    absltest.main()

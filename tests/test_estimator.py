"""The estimator, as scikit-learn's users take it."""

import pickle
import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
import sklearn.datasets
from absl.testing import absltest, parameterized
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import tfpipe
from tests import oracle, problems
from tfpipe import Examples, SoftmaxClassifier, SoftmaxClassifierCV, Splits, TrainConfig
from tfpipe.solvers.sgd import Sgd

# The names of scikit-learn's checks that are skipped, and why.
NOT_HERE = {
    "check_array_api_input": "it is for estimators that take arrays of other libraries",
}


def loaded(name):
    return getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)


def optimum(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, **options).fit(X, y)


def digits():
    X, y = loaded("digits")
    return X / 16, y


def epochs(X, y, *, l2, batch_size, learning_rate, seed=0, class_weight=None, n_epochs=1):
    """W `[D, K]` and b `[K]` after steps in NumPy, in the orders of these epochs."""
    W, b = np.zeros((X.shape[1], 10)), np.zeros(10)
    for epoch in range(n_epochs):
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(len(y))
        for begin in range(0, len(y), batch_size):
            rows = order[begin : begin + batch_size]
            _, W, b = oracle.step(W, b, X[rows], y[rows], learning_rate, l2, class_weight)
    return W, b


class EstimatorTest(parameterized.TestCase):
    def assert_same(self, model, other, atol=1e-6):
        np.testing.assert_allclose(model.coef_, other.coef_, rtol=0, atol=atol * np.abs(other.coef_).max())
        np.testing.assert_allclose(model.intercept_, other.intercept_, rtol=atol, atol=atol)

    def test_scikit_learns_checks(self):
        results = check_estimator(SoftmaxClassifier(), on_skip=None, on_fail="raise")
        self.assertGreater(len(results), 50)
        self.assertEqual({one["status"] for one in results}, {"passed", "skipped"})
        skipped = {one["check_name"] for one in results if one["status"] == "skipped"}
        self.assertLessEqual(skipped, NOT_HERE.keys())

    @parameterized.parameters(("wine", 1.0), ("breast_cancer", 0.1))
    def test_the_coefficients_are_logistic_regressions(self, name, C):
        X, y = loaded(name)
        model, other = SoftmaxClassifier(C=C).fit(X, y), optimum(X, y, C=C)
        self.assert_same(model, other)
        np.testing.assert_allclose(model.predict_proba(X), other.predict_proba(X), atol=1e-6)
        np.testing.assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(model.decision_function(X), other.decision_function(X), rtol=1e-5, atol=1e-5)
        self.assertEqual(model.score(X, y), other.score(X, y))
        self.assertLess(model.certificate_, 1e-12)

    def test_standardize_is_a_scaler_in_front(self):
        X, y = loaded("wine")
        model = SoftmaxClassifier(standardize=True).fit(X, y)
        other = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=500))
        np.testing.assert_allclose(model.predict_proba(X), other.fit(X, y).predict_proba(X), atol=1e-7)

    def test_a_column_of_times(self):
        X, y = loaded("iris")
        X = np.column_stack([X, 1.7e9 + 1e3 * X[:, 3]])
        model = SoftmaxClassifier(standardize=True).fit(X, y)
        centred = X - X.mean(axis=0)
        expected = SoftmaxClassifier(standardize=True).fit(centred, y)
        np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(centred), atol=1e-6)

    def test_bytes_and_sparse_rows_are_rows(self):
        X, y = loaded("digits")
        X, y = X[:300], y[:300]
        expected = SoftmaxClassifier(C=0.01).fit(X, y)
        self.assert_same(SoftmaxClassifier(C=0.01).fit(X.astype(np.uint8), y), expected)
        sparse = scipy.sparse.csr_matrix(X)
        model = SoftmaxClassifier(C=0.01).fit(sparse, y)
        np.testing.assert_array_equal(model.coef_, expected.coef_)
        np.testing.assert_allclose(model.predict_proba(sparse), expected.predict_proba(X), rtol=1e-12)

    def test_weights_and_classes_without_any(self):
        X, y = loaded("iris")
        weights = np.where(y == 1, 0.0, 1 + np.arange(150) % 2)
        model = SoftmaxClassifier(l2=1e-2).fit(X, y, weights)
        kept = weights > 0
        expected = SoftmaxClassifier(l2=1e-2).fit(X[kept], y[kept], weights[kept])
        np.testing.assert_allclose(model.predict_proba(X)[:, [0, 2]], expected.predict_proba(X), atol=1e-6)
        self.assertEqual(model.predict_proba(X)[:, 1].max(), 0)
        balanced = {0: 1.0, 1: 1.0, 2: 3.0}
        self.assert_same(
            SoftmaxClassifier(class_weight=balanced).fit(X, y), optimum(X, y, class_weight=balanced), atol=1e-5
        )

    def test_l2_takes_the_place_of_C(self):
        X, y = loaded("iris")
        self.assert_same(SoftmaxClassifier(l2=1 / 150).fit(X, y), SoftmaxClassifier(C=1.0).fit(X, y), atol=1e-9)

    def test_a_warm_start_goes_on(self):
        X, y = loaded("breast_cancer")
        model = SoftmaxClassifier(C=1.0, warm_start=True).fit(X, y)
        (cold,) = model.n_iter_
        before = model.coef_
        (warm,) = model.fit(X, y).n_iter_
        self.assertLess(warm, cold / 4)
        np.testing.assert_allclose(model.coef_, before, rtol=0, atol=1e-5 * np.abs(before).max())

    def test_what_has_not_converged_is_said(self):
        X, y = loaded("wine")
        with self.assertWarnsRegex(
            ConvergenceWarning, "not converged after 3 iterations: the cost, .* above the least"
        ):
            model = SoftmaxClassifier(max_iter=3).fit(X, y)
        self.assertEqual(model.n_iter_, [3])
        self.assertGreater(model.certificate_, 1e-3)

    def test_rows_without_weight_are_none(self):
        X, y = loaded("iris")
        X[0] = 1e9
        weights = np.ones(150)
        weights[0] = 0
        model = SoftmaxClassifier(standardize=True).fit(X, y, weights)
        expected = SoftmaxClassifier(standardize=True).fit(X[1:], y[1:])
        np.testing.assert_allclose(model.predict_proba(X[1:]), expected.predict_proba(X[1:]), rtol=1e-9)

    @parameterized.parameters({"C": 1e6}, {"l2": 0.0, "tol": 1e-9})
    def test_columns_as_they_are_with_little_regularization(self, **options):
        X, y = loaded("breast_cancer")
        model = SoftmaxClassifier(**options).fit(X, y)  # Warnings are errors here.
        self.assertLess(model.n_iter_[0], 200)
        if "C" in options:
            self.assert_same(model, optimum(X, y, **options), atol=1e-3)

    def test_a_class_that_had_no_row_comes_back(self):
        X, y = loaded("iris")
        model = SoftmaxClassifier(l2=1e-2, warm_start=True).fit(X, y, (y != 2).astype(float))
        self.assertLess(model.intercept_[2], -5000)
        np.testing.assert_allclose(model.fit(X, y).coef_, SoftmaxClassifier(l2=1e-2).fit(X, y).coef_, atol=1e-7)

    def test_balanced_classes_with_weights(self):
        X, y = loaded("iris")
        weights = 1 + np.arange(150) % 3
        model = SoftmaxClassifier(class_weight="balanced").fit(X[20:], y[20:], weights[20:])
        counts = np.bincount(y[20:], weights[20:])
        by_hand = weights[20:] * (counts.sum() / (3 * counts))[y[20:]]
        self.assert_same(model, SoftmaxClassifier().fit(X[20:], y[20:], by_hand), atol=1e-9)
        without = SoftmaxClassifier(class_weight="balanced").fit(X, y, (y != 1).astype(float))
        self.assertEqual(without.predict_proba(X)[:, 1].max(), 0)

    def test_a_fit_that_fails_leaves_the_one_before(self):
        X, y = loaded("iris")
        model = SoftmaxClassifier().fit(X, y)
        before = model.predict(X)
        with self.assertRaisesRegex(ValueError, "one class only"):
            model.fit(X, np.zeros(150))
        np.testing.assert_array_equal(model.predict(X), before)

    @parameterized.parameters(
        ({"C": 0.0}, "C=0.0; expected a number above 0"),
        ({"l2": -1.0}, "l2=-1.0; expected a number of at least 0, or None"),
        ({"tol": 0.0}, "tol=0.0; expected a number above 0, or None"),
        ({"max_iter": 0}, "max_iter=0; expected an integer of at least 1"),
        ({"max_iter": 2.5}, "max_iter=2.5; expected an integer of at least 1"),
        ({"C": "1"}, "C='1'; expected a number above 0"),
        ({"l2": np.inf}, "l2=inf; expected a number of at least 0, or None"),
    )
    def test_parameters_that_cannot_work(self, options, message):
        with self.assertRaisesRegex(ValueError, f"^{message}$"):
            SoftmaxClassifier(**options).fit(*loaded("iris"))

    def test_data_that_cannot_work(self):
        X, y = loaded("iris")
        with self.assertRaisesRegex(ValueError, "y has one class only, np.int64.0.; expected at least two classes"):
            SoftmaxClassifier().fit(X[:50], y[:50])
        with self.assertRaisesRegex(ValueError, "less than two classes have rows of a weight above 0"):
            SoftmaxClassifier().fit(X, y, (y == 1).astype(float))
        with self.assertRaisesRegex(ValueError, "^the weights of the rows are at least -1 and add up to 50; expected"):
            SoftmaxClassifier(class_weight={0: -1, 1: 1, 2: 1}).fit(X, y)
        with self.assertRaisesRegex(ValueError, "^the weights of the rows .* add up to inf; expected finite numbers"):
            SoftmaxClassifier().fit(X, y, np.full(150, 1e308))
        with self.assertRaisesRegex(ValueError, "^column 2 of X holds values whose squares float64 cannot hold"):
            SoftmaxClassifier().fit(X * np.array([1, 1, 1e200, 1]), y)

    def test_in_scikit_learns_hands(self):
        X, y = loaded("wine")
        names = np.array(["barolo", "grignolino", "barbera"])[y]
        search = GridSearchCV(
            make_pipeline(StandardScaler(), SoftmaxClassifier()), {"softmaxclassifier__C": [0.01, 1.0]}, cv=3
        )
        search.fit(X, names)
        self.assertGreater(search.best_score_, 0.95)
        self.assertGreater(cross_val_score(search.best_estimator_, X, names, cv=3).min(), 0.9)
        again = pickle.loads(pickle.dumps(search))
        np.testing.assert_array_equal(again.predict(X), search.predict(X))
        self.assertEqual(set(again.classes_), set(names))

    @pytest.mark.exhaustive
    def test_scikit_learns_checks_of_the_one_that_chooses(self):
        # With less regularization weights are repeated rows to fewer digits than the checks ask for.
        results = check_estimator(SoftmaxClassifierCV([0.01, 1.0], cv=3), on_skip=None, on_fail="raise")
        self.assertGreater(len(results), 50)
        skipped = {one["check_name"] for one in results if one["status"] != "passed"}
        self.assertLessEqual(skipped, NOT_HERE.keys())

    def test_data_frames(self):
        X, y = loaded("iris")
        frame, labels = (
            pandas.DataFrame(X, columns=["a", "b", "c", "d"]),
            pandas.Series(y).map(["x", "y", "z"].__getitem__),
        )
        model, expected = SoftmaxClassifier().fit(frame, labels), SoftmaxClassifier().fit(X, y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=0, atol=1e-12)
        self.assertEqual(model.feature_names_in_.tolist(), ["a", "b", "c", "d"])
        self.assertEqual(model.classes_.tolist(), ["x", "y", "z"])
        np.testing.assert_allclose(model.predict_proba(frame), expected.predict_proba(X), rtol=0, atol=1e-12)
        with self.assertRaisesRegex(ValueError, "feature names should match"):
            model.predict(frame[["b", "a", "c", "d"]])

    def test_weights_count_in_the_scores_too(self):
        X, y = loaded("iris")
        X = X + np.random.default_rng(7).normal(0, 1.5, X.shape)
        weights = np.random.default_rng(0).exponential(size=150) ** 2
        options = {"Cs": [1e-3, 1e-2, 0.1, 1.0], "cv": 3}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = LogisticRegressionCV(**options, tol=1e-8, max_iter=1000, scoring="neg_log_loss").fit(X, y, weights)
        model = SoftmaxClassifierCV(**options, scoring="neg_log_loss").fit(X, y, weights)
        theirs_scores = theirs.scores_ if isinstance(theirs.scores_, np.ndarray) else theirs.scores_[0]
        np.testing.assert_allclose(model.scores_, np.reshape(theirs_scores, model.scores_.shape), rtol=1e-5)
        unweighted = SoftmaxClassifierCV(**options, scoring="neg_log_loss").fit(X, y)
        self.assertGreater(np.abs(unweighted.scores_ - model.scores_).max(), 1e-3)

    def test_sparse_rows_that_memory_cannot_hold(self):
        X = scipy.sparse.csr_matrix((np.ones(2), ([0, 99_999], [0, 999_999])), shape=(100_000, 1_000_000))
        with self.assertRaisesRegex(ValueError, r"X is sparse, and a dense one of its shape .* takes 745.1 GiB; there"):
            SoftmaxClassifier().fit(X, np.arange(100_000) % 2)

    def test_a_fold_without_a_row_that_lies_far_off_is_the_fit_of_the_others(self):
        X, y = loaded("iris")
        far, others = X.copy(), np.arange(1, 150)
        far[0, 0] = 1e9  # Of the logits half the digits are left.
        options = {"cv": [(others, [0])], "scoring": "accuracy", "refit": False, "standardize": True, "tol": 1e-4}
        expected = SoftmaxClassifier(1.0, standardize=True).fit(X[1:], y[1:])
        model = SoftmaxClassifierCV([1.0], **options).fit(far, y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=0, atol=1e-2)

    def test_the_choice_is_logistic_regression_cvs(self):
        X, y = loaded("wine")
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        Cs = [0.001, 0.1, 10.0]
        model = SoftmaxClassifierCV(Cs, cv=4, scoring="neg_log_loss").fit(X, y)
        other = LogisticRegressionCV(
            Cs=Cs, cv=4, scoring="neg_log_loss", solver="newton-cholesky", tol=1e-12, max_iter=500, l1_ratios=(0,),
            use_legacy_attributes=False,
        ).fit(X, y)  # fmt: skip
        self.assertEqual(model.C_, other.C_)
        np.testing.assert_allclose(model.scores_, other.scores_.reshape(4, 3), rtol=1e-5)
        self.assert_same(model, other)
        self.assertEqual(model.n_iter_.shape, (4, 3))

    def test_a_partial_fit_is_an_epoch_of_steps(self):
        X, y = digits()
        examples = Examples(X, y)
        rate = Sgd(TrainConfig(l2=1e-3), Splits(examples, examples, examples, tuple("0123456789"))).safe_rate
        model = SoftmaxClassifier(l2=1e-3)
        for n_epochs in (1, 2, 3):
            model.partial_fit(X, y, classes=np.arange(10))
            W, b = epochs(X, y, l2=1e-3, batch_size=600, learning_rate=rate, n_epochs=n_epochs)
            np.testing.assert_allclose(model.coef_, W.T, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(model.intercept_, b, rtol=1e-9, atol=1e-12)
        self.assertEqual((model.epochs_, model.n_iter_.tolist(), model.certificate_), (3, [3], np.inf))

    def test_a_partial_fit_of_bytes_is_one_of_the_same_numbers(self):
        X, y = (np.random.default_rng(0).integers(0, high, size) for high, size in ((256, (60, 4)), (3, 60)))
        models = [SoftmaxClassifier().partial_fit(X.astype(kind), y, np.arange(3)) for kind in (np.uint8, np.float32)]
        np.testing.assert_allclose(models[0].coef_, models[1].coef_, rtol=1e-9)

    @pytest.mark.exhaustive
    def test_partial_fits_of_the_same_rows_are_a_run(self):
        X, y = digits()
        examples = Examples(X, y)
        splits = Splits(examples, examples, examples, tuple("0123456789"))
        config = TrainConfig(l2=1e-3, epochs=3, seed=5, precision="float64", device="cpu", improvement_threshold=1.0)
        run = tfpipe.train(config, splits, workdir=None)
        self.assertEqual(run.report["best_iteration"], 8)
        model = SoftmaxClassifier(l2=1e-3, random_state=5)
        for _ in range(3):
            model.partial_fit(X, y, np.arange(10))
        np.testing.assert_allclose(model.coef_, np.transpose(run.model.W), rtol=1e-9, atol=1e-12)

    def test_its_learning_rate_is_what_these_rows_allow(self):
        X, y = digits()
        X, y = X[:500], y[:500]
        with_1 = np.column_stack([X, np.ones(500)])
        of_class = np.linspace(0.5, 2, 10)
        of_class /= of_class[y].mean()
        l2 = 1 / (0.05 * of_class[y].sum())
        bound = (with_1.T * of_class[y]) @ with_1 / 1000 + np.diag([l2] * 64 + [0])
        rate = float(f"{1 / np.linalg.eigvalsh(bound).max():.2g}")
        W, b = epochs(X, y, l2=l2, batch_size=500, learning_rate=rate, class_weight=of_class)
        by_class = SoftmaxClassifier(C=0.05, class_weight=dict(enumerate(of_class)))
        by_row = SoftmaxClassifier(C=0.05)
        by_class.partial_fit(X, y, range(10))
        by_row.partial_fit(X, y, range(10), sample_weight=of_class[y])
        for model in (by_class, by_row):
            np.testing.assert_allclose(model.coef_, W.T, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(model.intercept_, b, rtol=1e-9, atol=1e-12)

    def test_partial_fits_come_near_the_optimum(self):
        X, y = digits()
        data = problems.Data(X, y, np.ones(len(y)), 10)
        optimum = SoftmaxClassifier(l2=0.5).fit(X, y)
        model, costs = SoftmaxClassifier(l2=0.5), []
        for _ in range(15):
            model.partial_fit(X, y, np.arange(10))
            costs.append(problems.cost(data, 0.5, None, model.coef_, model.intercept_))
        above = np.array(costs) - problems.cost(data, 0.5, None, optimum.coef_, optimum.intercept_)
        self.assertGreater(above[0], 0.05)
        np.testing.assert_array_less(above[1:8], above[:7])
        self.assertLess(above[-1], 1e-3)
        # A fit begins anew; the next call goes on from there.
        np.testing.assert_array_equal(model.fit(X, y).coef_, optimum.coef_)
        model.partial_fit(X, y)
        np.testing.assert_allclose(model.coef_, optimum.coef_, rtol=0, atol=0.1 * np.abs(optimum.coef_).max())
        self.assertEqual(model.epochs_, 1)

    def test_partial_fits_of_parts(self):
        X, y = loaded("iris")
        X, names = X - X.mean(axis=0), np.array(["setosa", "versicolor", "virginica"])[y]
        model = SoftmaxClassifier(l2=1e-3)
        for begin in (0, 50, 100) * 10:  # Of one class each.
            part = slice(begin, begin + 50)
            model.partial_fit(X[part], names[part], ["virginica", "setosa", "versicolor"])
        self.assertEqual(model.classes_.tolist(), ["setosa", "versicolor", "virginica"])
        self.assertGreater(model.score(X, names), 0.8)
        self.assertEqual((model.epochs_, model.n_iter_.tolist()), (30, [1]))

    def test_a_partial_fit_of_two_classes_and_rows_without_weight(self):
        X, y = loaded("breast_cancer")
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        weights = (np.arange(len(y)) % 3 > 0).astype(float)
        kept = weights > 0
        model = SoftmaxClassifier().partial_fit(X, y, [0, 1], weights)
        expected = SoftmaxClassifier().partial_fit(scipy.sparse.csr_matrix(X[kept]), y[kept], [0, 1])
        self.assertEqual(model.coef_.shape, (1, 30))
        np.testing.assert_array_equal(model.coef_, expected.coef_)
        self.assertGreater(model.score(X, y), 0.9)

    def test_the_order_of_a_partial_fit_is_by_random_state(self):
        X, y = digits()
        default, one, same = (
            SoftmaxClassifier(random_state=seed).partial_fit(X, y, range(10)).coef_ for seed in (None, 1, 1)
        )
        np.testing.assert_array_equal(one, same)
        self.assertGreater(np.abs(default - one).max(), 1e-6)

    def test_partial_fits_that_cannot_work(self):
        X, y = loaded("iris")
        new, model = SoftmaxClassifier(), SoftmaxClassifier().partial_fit(X, y, range(3))
        scaled = SoftmaxClassifier(standardize=True)
        balanced = SoftmaxClassifier(class_weight="balanced")
        for call, message in (
            (lambda: new.partial_fit(X, y), "^classes=None in the first call of partial_fit; expected all classes"),
            (lambda: new.partial_fit(X, y, [1]), r"^classes=\[1\]; expected at least two classes"),
            (lambda: new.partial_fit(X, y, [0, 1]), "^y contains previously unseen labels"),
            (lambda: new.partial_fit(X * 1e200, y, range(3)), "infinity or a value too large for dtype..float32"),
            (lambda: new.partial_fit(X * 1e30, y, range(3)), "^X: float32 holds no learning rate as small as these"),
            (lambda: new.partial_fit(X, y, range(3), np.zeros(150)), "^Sample weights must contain at least one"),
            (lambda: scaled.partial_fit(X, y, range(3)), "^standardize=True; expected False in partial_fit"),
            (lambda: balanced.partial_fit(X, y, range(3)), "^class_weight='balanced'; expected a mapping, or None"),
            (lambda: model.partial_fit(X, y, [0, 1, 3]), "^classes=.0 1 3.; expected those of the call before, .0 1 2"),
            (lambda: model.partial_fit(X, y + 1), "^y contains previously unseen labels"),
            (lambda: model.partial_fit(X[:, :3], y), "^X has 3 features, but SoftmaxClassifier is expecting 4"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                call()
        self.assertEqual(model.epochs_, 1)
        self.assertFalse(hasattr(new, "coef_"))

    @pytest.mark.exhaustive
    def test_large_data_in_float32_and_float64(self):
        splits = tfpipe.load("digits")
        X = np.kron(splits.train.images.reshape(-1, 64), np.ones((60, 1))) + np.random.default_rng(0).random(
            (64740, 64)
        )
        y = np.repeat(splits.train.labels, 60)
        model = SoftmaxClassifier(l2=1e-3, tol=1e-6).fit(X, y)
        other = optimum(X, y, C=1 / (1e-3 * len(y)))
        data = problems.Data(X, y.astype(np.int32), np.ones(len(y)), 10)
        least, cost = (problems.cost(data, 1e-3, None, one.coef_, one.intercept_) for one in (other, model))
        self.assertLessEqual(cost - least, model.certificate_)
        self.assertLessEqual(model.certificate_, 1e-6 * cost)


if __name__ == "__main__":
    absltest.main()

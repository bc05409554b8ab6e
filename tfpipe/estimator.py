"""Softmax regression as scikit-learn's estimators: fitted to the optimum, with a proof of how near that is."""

import math
import warnings
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse
import tensorflow as tf
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot, softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from tfpipe.compute import device as devices
from tfpipe.compute import processes
from tfpipe.compute.workers import Workers
from tfpipe.data import scaling
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline.residency import Resident
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.optimum import Optimum, Sample, minimize
from tfpipe.solvers.passes import Passes
from tfpipe.solvers.problem import Problems

# So many numbers, rows times columns times classes, are computed in float64 throughout, and to the last digits.
_SMALL = 50_000_000
_TIGHT, _LOOSE = 1e-13, 1e-4
_BLOCK_BYTES = 32 << 20
# As far as the logit of a class is below all others that has no row of a weight above 0.
_FAR_BELOW = 1e4
_SAMPLE_ROWS, _SAMPLE_BYTES = 5000, 256 << 20


class SoftmaxClassifier(ClassifierMixin, BaseEstimator):
    """Softmax regression (multinomial logistic regression) with L2 regularization, as a scikit-learn classifier.

    It minimizes what scikit-learn's LogisticRegression does, to the same coefficients, and stops on a bound of the
    distance from the optimum instead of on the gradient.

    Args:
      C: the inverse of the regularization, above 0: as in LogisticRegression, relative to the sum of the losses.
      l2: l2/2 times the squared norm of the coefficients is added to the mean loss; takes the place of C. For two
        classes the norm is that of one row of coefficients for each.
      class_weight: as in LogisticRegression: a mapping from class to weight, or `balanced`, or None.
      tol: the relative distance from the least cost at which to stop; where l2 is 0, the largest entry of the gradient.
        None: 1e-13 for small data, which is computed in float64, and 1e-4 for large.
      max_iter: steps at most.
      warm_start: whether a fit begins at the coefficients of the one before.
      standardize: whether the columns are penalized as if each had variance 1. The coefficients are those of the
        columns as they are.
      random_state: nothing is random; it is there for those who set it everywhere.

    Attributes:
      classes_: `[K]`, the classes.
      coef_: `[K, D]`, or `[1, D]` for two classes, float64.
      intercept_: `[K]`, or `[1]`, float64.
      n_iter_: `[1]`, steps that were made.
      certificate_: the cost is at most so much above the least that there is; infinity where l2 is 0.
      n_features_in_: D.
      feature_names_in_: `[D]`, names of the columns, where X had any.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        l2: float | None = None,
        class_weight: Any = None,
        tol: float | None = None,
        max_iter: int = 1000,
        warm_start: bool = False,
        standardize: bool = False,
        random_state: Any = None,
    ):
        self.C = C
        self.l2 = l2
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.standardize = standardize
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits the model.

        Args:
          X: `[N, D]` numbers, an array, a data frame or a sparse matrix, which takes the memory of a dense one.
          y: `[N]`, classes.
          sample_weight: `[N]` numbers of at least 0, what each row counts; None: 1.

        Returns:
          The estimator.

        Raises:
          ValueError: a parameter or the data cannot be used.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32, np.uint8])
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}; expected at least two classes")
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.class_weight is not None:
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y, sample_weight=weights)
            weights = weights * of_class[labels]
        if len(np.unique(labels[weights > 0])) < 2:
            raise ValueError("less than two classes have rows of a weight above 0; expected at least two classes")
        n_classes = len(self.classes_)
        l2 = self.l2
        if l2 is None:
            # The squared norm of the difference of two rows is twice the sum of theirs, centred.
            l2 = (2 if n_classes == 2 else 1) / (self.C * weights.sum())
        rows = _Rows.of(X, labels.astype(np.int32), weights, n_classes)
        W, b, optimum = _fitted(
            rows,
            l2,
            self._start() if self.warm_start and hasattr(self, "coef_") else None,
            standardize=self.standardize,
            tolerance=(_TIGHT if rows.is_small else _LOOSE) if self.tol is None else self.tol,
            most_iterations=self.max_iter,
        )
        if not optimum.converged[0]:
            warnings.warn(
                f"not converged after {optimum.iterations[0]} iterations: the cost, {optimum.cost[0]:.4g}, may be "
                f"{optimum.certificate[0]:.2g} above the least; give more max_iter, or a larger tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        if n_classes == 2:
            W, b = W[1:] - W[:1], b[1:] - b[:1]
        self.coef_, self.intercept_ = W, b
        self.n_iter_ = optimum.iterations.astype(np.int32)
        self.certificate_ = float(optimum.certificate[0])
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """`[N, K]` logits; for two classes `[N]`, the logit of the second one beside the first one's 0."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32, np.uint8], reset=False)
        z = safe_sparse_dot(X if X.dtype == np.float64 else X.astype(np.float64), self.coef_.T) + self.intercept_
        return z.ravel() if z.shape[1] == 1 else z

    def predict(self, X: Any) -> np.ndarray:
        """`[N]`, the most probable class of each row."""
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """`[N, K]` probabilities, in the order of `classes_`."""
        return softmax(self._logits(X), copy=False)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """`[N, K]`, their logarithms: exact also where a probability is too small for float64."""
        z = self._logits(X)
        z -= z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def _logits(self, X: Any) -> np.ndarray:
        z = self.decision_function(X)
        return np.stack([np.zeros_like(z), z], axis=1) if z.ndim == 1 else z

    def _check_parameters(self) -> None:
        for name, is_right, words in (
            ("C", self.C > 0, "a number above 0"),
            ("l2", self.l2 is None or self.l2 >= 0, "a number of at least 0, or None"),
            ("tol", self.tol is None or self.tol > 0, "a number above 0, or None"),
            ("max_iter", self.max_iter >= 1, "an integer of at least 1"),
        ):
            if not is_right:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected {words}")

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        """W and b of the fit before, `[K, D]` and `[K]`."""
        if len(self.coef_) > 1:
            return self.coef_, self.intercept_
        return np.concatenate([-self.coef_, self.coef_]) / 2, np.concatenate([-self.intercept_, self.intercept_]) / 2


class _Rows(NamedTuple):
    """The rows of a fit, scaled for the solver, and of one of few sizes where they are small.

    Rows and classes that fill up have no weight; columns that do, no spread. So programs are made for few sizes.

    Attributes:
      images: `[M, E]`, M >= N and E >= D.
      labels: `[M]` int32.
      weights: `[M]` float64.
      n_out: at least K.
      sizes: N, D and K.
      scaling: of the images.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    n_out: int
    sizes: tuple[int, int, int]
    scaling: Scaling

    @classmethod
    def of(cls, X: Any, labels: np.ndarray, weights: np.ndarray, n_classes: int) -> Self:
        """Of rows as `fit` has them."""
        X = X.toarray() if scipy.sparse.issparse(X) else X
        n_rows, n_in = X.shape
        height, width, n_out = n_rows, n_in, n_classes
        if n_rows * n_in * n_classes <= _SMALL:
            height, width, n_out = _size(n_rows, 128), _size(n_in, 16), _size(n_classes, 4)
        below, beside = (0, height - n_rows), (0, width - n_in)
        shift, factor = _scaling(X)
        shift = None if shift is None else np.pad(shift, beside)
        factor = np.pad(factor, beside, constant_values=1.0) if factor.ndim else factor
        images = np.pad(X, (below, beside)) if (height, width) != X.shape else X
        sizes = n_rows, n_in, n_classes
        return cls(images, np.pad(labels, below), np.pad(weights, below), n_out, sizes, Scaling(shift, factor))

    @property
    def is_small(self) -> bool:
        """Whether float64 is cheap enough throughout."""
        return math.prod(self.sizes) <= _SMALL

    def sample(self) -> Sample:
        """At most some thousands of the rows that have weight, evenly."""
        numbers = np.flatnonzero(self.weights)
        most = min(len(numbers), _SAMPLE_ROWS, max(1, _SAMPLE_BYTES // (8 * self.images.shape[1])))
        chosen = numbers[np.linspace(0, len(numbers) - 1, most).astype(int)]
        x = self.images[chosen].astype(np.float64)
        x = (x if self.scaling.shift is None else x - self.scaling.shift) * self.scaling.factor
        return Sample(x, self.weights[np.newaxis, chosen], is_all=most == len(numbers))

    def scaled(self, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters `[K, D]`, `[K]` for rows as they are -> `[1, n_out, E]`, `[1, n_out]` for scaled ones."""
        beyond = (0, self.n_out - self.sizes[2])
        W, b = np.pad(W, (beyond, (0, self.images.shape[1] - self.sizes[1]))), np.pad(b, beyond)
        b = b if self.scaling.shift is None else b + W @ self.scaling.shift
        return (W / self.scaling.factor)[np.newaxis], b[np.newaxis]

    def as_they_are(self, W: np.ndarray, b: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The way back, from `[n_out, E]` and `[n_out]`; `there`, `[n_out]` bool, tells the classes that have rows."""
        W, b = self.scaling.fold(W.T, b)
        _, n_in, n_classes = self.sizes
        b = np.where(there, b, b[there].min() - _FAR_BELOW)
        return np.ascontiguousarray(W[:n_in, :n_classes].T), b[:n_classes]


def _fitted(
    rows: _Rows,
    l2: float,
    start: tuple[np.ndarray, np.ndarray] | None,
    *,
    standardize: bool,
    tolerance: float,
    most_iterations: int,
) -> tuple[np.ndarray, np.ndarray, Optimum]:
    """W `[K, D]` and b `[K]` for rows as they are, and how they were found: from `start` on, if it has their sizes."""
    processes.check_not_forked()
    device = devices.select("auto")
    weights = rows.weights[np.newaxis]
    with device.scope(), Workers(device) as workers:
        images = tf.constant(rows.images)
        split = Resident(images, np.arange(len(rows.labels)), rows.labels, is_resident=True, mapped=None)
        exact, rough = (
            Objective.of(rows.scaling, rows.labels, weights, len(rows.labels), kind) for kind in ("float64", "float32")
        )
        passes = Passes(split, rows.n_out, workers)
        moments = passes.moments(exact)
        unscaled = np.broadcast_to(rows.scaling.factor, (1, rows.images.shape[1]))
        scale = moments.deviations() if standardize else unscaled
        problems = Problems.of(moments, np.array([l2]), np.array([0], np.int32), scale)
        v = problems.start()
        if start is not None and start[0].shape == (rows.sizes[2], rows.sizes[1]):
            v = problems.coordinates(*rows.scaled(*start))
        optimum = minimize(
            passes,
            exact,
            problems,
            v,
            rows.sample(),
            tolerance=tolerance,
            most_iterations=most_iterations,
            rough=None if rows.is_small else rough,
        )
    (W,), (b,) = problems.parameters(optimum.v)
    return *rows.as_they_are(W, b, problems.there[0]), optimum


def _size(count: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << (count - 1).bit_length())


def _scaling(X: np.ndarray) -> Scaling:
    """Columns of about mean 0 and variance 1, in which float32 loses little; bytes are as they are."""
    if X.dtype == np.uint8:
        return scaling.by_pixel_max(255.0)
    step = max(1, _BLOCK_BYTES // (8 * X.shape[1]))
    mean, deviation = scaling.moments(X[i : i + step] for i in range(0, len(X), step))
    return Scaling(mean, 1 / np.where(deviation == 0, 1.0, deviation))

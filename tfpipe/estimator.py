"""Softmax regression as scikit-learn's estimators: fitted to the optimum, with a proof of how near that is."""

import contextlib
import math
import numbers
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse
import tensorflow as tf
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot, softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from tfpipe.compute import device as devices
from tfpipe.compute import processes
from tfpipe.compute.workers import Workers
from tfpipe.config import TrainConfig
from tfpipe.data import Examples, Splits, scaling
from tfpipe.data.scaling import Scaling
from tfpipe.memory import available_memory
from tfpipe.pipeline import residency
from tfpipe.pipeline.residency import Resident
from tfpipe.pipeline.spans import SPAN_BYTES, SPAN_FLOPS, span_length
from tfpipe.solvers.base import Group
from tfpipe.solvers.measures import Measures, sizes
from tfpipe.solvers.moments import Moments
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.optimum import Optimum, Sample, minimize, sampled
from tfpipe.solvers.passes import SMALL, Cut, Passes
from tfpipe.solvers.problem import FAR_BELOW, Problems
from tfpipe.solvers.sgd import Sgd
from tfpipe.solvers.weights import balanced

# Up to so many they are brought to one of few sizes, for which programs are there.
_SMALLEST = 1_000_000
_TIGHT, _LOOSE = 1e-13, 1e-4
_TYPES = (np.float64, np.float32, np.uint8)
_BLOCK_BYTES = 32 << 20
# With the default tolerance it is said only if this is missed: less may be all that rounding allows.
_WORTH_A_WARNING = 1e-8
# Steps of SGD without a validation, which nobody looks at.
_NEVER = 2**31 - 1


class _Linear(ClassifierMixin, BaseEstimator):
    """What both estimators do with coefficients, and how they take rows and weights."""

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray
    class_weight: Any
    max_iter: int
    standardize: bool
    tol: float | None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def decision_function(self, X: Any) -> np.ndarray:
        """`[N, K]` logits; for two classes `[N]`, the logit of the second one beside the first one's 0."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=_TYPES, reset=False)
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

    def _rows(self, X: Any, y: Any, sample_weight: Any) -> "_Rows":
        """The rows of a fit. Raises ValueError if they cannot be used."""
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=_TYPES)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes[0]!r}; expected at least two classes")
        weights = self._weights(X, classes, labels, sample_weight)
        if len(np.unique(labels[weights > 0])) < 2:
            raise ValueError("less than two classes have rows of a weight above 0; expected at least two classes")
        return _Rows.of(X, labels.astype(np.int32), weights, classes)

    def _weights(self, X: Any, classes: np.ndarray, labels: np.ndarray, sample_weight: Any) -> np.ndarray:
        """What each of the rows of these classes counts, `[N]` float64. Raises ValueError if that is nothing."""
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            weights = weights * balanced(np.bincount(labels, weights))[labels]
        elif self.class_weight is not None:
            weights = weights * compute_class_weight(self.class_weight, classes=classes, y=classes[labels])[labels]
        with np.errstate(over="ignore"):
            total = weights.sum()
        if not (np.isfinite(total) and total > np.finfo(np.float64).tiny and weights.min() >= 0):
            raise ValueError(f"the weights of the rows are at least {weights.min():g} and add up to {total:g}; "
                             "expected finite numbers of at least 0, with a finite sum above 0")  # fmt: skip
        return weights

    def _l2(self, C: float, total: float, n_classes: int) -> float:
        """Of rows whose weights have this sum."""
        # The squared norm of the difference of two rows is twice the sum of theirs, centred.
        return (2 if n_classes == 2 else 1) / (C * total)

    def _search(self, rows: "_Rows") -> "_Search":
        tolerance = (_TIGHT if rows.is_small else _LOOSE) if self.tol is None else self.tol
        return _Search(rows, standardize=self.standardize, tolerance=tolerance, most_iterations=self.max_iter)

    def _take(self, W: np.ndarray, b: np.ndarray, classes: np.ndarray) -> None:
        """Takes `[K, D]` and `[K]` as its coefficients, of these classes."""
        self.classes_ = classes
        self.coef_, self.intercept_ = (W[1:] - W[:1], b[1:] - b[:1]) if len(b) == 2 else (W, b)

    def _check(self, *parameters: tuple[str, bool, str]) -> None:
        """Raises ValueError for the first of these, by name, that is not right; and tells in words what would be."""
        of_both = (
            ("tol", self.tol is None or _is_number(self.tol, above=0), "a number above 0, or None"),
            (
                "max_iter",
                isinstance(self.max_iter, numbers.Integral) and self.max_iter >= 1,
                "an integer of at least 1",
            ),
        )
        for name, is_right, words in (*parameters, *of_both):
            if not is_right:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected {words}")

    def _warn(self, optimum: Optimum) -> None:
        """Says if an optimum was not reached."""
        least = np.where(optimum.cost > 0, self.tol or _WORTH_A_WARNING, 0) * optimum.cost
        missed = ~optimum.converged & ~(optimum.certificate <= least)
        if not missed.any():
            return
        head = int(np.argmax(missed))
        stopped = optimum.iterations[head] < self.max_iter
        remedy = "rounding allows no more: scale the columns, or take more regularization" if stopped else (
            "give more max_iter, or a larger tol"
        )  # fmt: skip
        warnings.warn(
            f"not converged after {optimum.iterations[head]} iterations: the cost, {optimum.cost[head]:.4g}, may be "
            f"{optimum.certificate[head]:.2g} above the least; {remedy}",
            ConvergenceWarning,
            stacklevel=3,
        )


def _is_number(value: Any, *, above: float) -> bool:
    return isinstance(value, numbers.Real) and above < float(value) < math.inf


class SoftmaxClassifier(_Linear):
    """Softmax regression (multinomial logistic regression) with L2 regularization, as a scikit-learn classifier.

    It minimizes what scikit-learn's LogisticRegression does, to the same coefficients, and stops on a bound of the
    distance from the optimum instead of on the gradient.

    Args:
      C: the inverse of the regularization, above 0: as in LogisticRegression, relative to the sum of the losses.
      l2: l2/2 times the squared norm of the coefficients is added to the mean loss; takes the place of C. For two
        classes the norm is that of one row of coefficients for each.
      class_weight: as in LogisticRegression: a mapping from class to weight, or `balanced`, or None.
      tol: the distance from the least cost at which to stop, relative to the cost, or to 1e-6 of the cost of a model
        that knows the classes' shares alone, if that is more; where l2 is 0, the largest entry of the gradient. None:
        1e-13 for small data, as far as float64 tells, and 1e-4 for large.
      max_iter: steps at most.
      warm_start: whether a fit begins at the coefficients of the one before.
      standardize: whether the columns are penalized as if each had variance 1. The coefficients are those of the
        columns as they are.
      random_state: determines the orders of rows in partial_fit, with the number of the call; None: as 0. In fit
        nothing is random.

    Attributes:
      classes_: `[K]`, the classes.
      coef_: `[K, D]`, or `[1, D]` for two classes, float64.
      intercept_: `[K]`, or `[1]`, float64.
      n_iter_: `[1]`, steps that were made, by fit or by the last call of partial_fit.
      epochs_: calls of partial_fit since the last fit.
      certificate_: the cost is at most so much above the least that there is; infinity where l2 is 0, and after
        partial_fit, which proves nothing.
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
        self._check(*self._of_regularization())
        rows = self._rows(X, y, sample_weight).with_weight()
        start = self._start(rows) if self.warm_start else None
        with self._search(rows) as search:
            v = search.v_of(*start) if start else None
            (W,), (b,), optimum = search.minimize(np.array([self._l2_of(rows)]), np.array([0], np.int32), v)
        self._warn(optimum)
        self._take(W, b, rows.classes)
        self.n_iter_ = optimum.iterations.astype(np.int32)
        self.certificate_ = float(optimum.certificate[0])
        self.epochs_ = 0
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One epoch of minibatch gradient descent on these rows, for data that comes in parts.

        It begins where the last call, or the last fit, ended; else at zeros. Minibatches have 600 rows, or all if there
        are fewer. The learning rate is the one that these rows allow (docs/learning_rate.md), the same for all columns,
        which should be of about one size: it scales none. What is minimized is what fit would minimize on these rows
        alone: C is relative to them, and l2 is the same for parts of any size. Called n times with the same rows, it
        does what n epochs of `tfpipe train` do with them.

        Args:
          X: `[N, D]` numbers, as in fit; computed as float32.
          y: `[N]`, some of the classes.
          classes: all classes that y will ever hold, at least two; None: those of the call before.
          sample_weight: as in fit.

        Returns:
          The estimator.

        Raises:
          ValueError: a parameter or the data cannot be used: it is the first call and there are no classes, or they are
            others than before, or X has other columns.
        """
        self._check(
            *self._of_regularization(),
            ("standardize", not self.standardize, "False in partial_fit, which sees a part of the rows"),
            (
                "class_weight",
                not isinstance(self.class_weight, str),
                "a mapping, or None: partial_fit sees a part of y",
            ),
        )
        is_first = not hasattr(self, "coef_")
        known = self._known(classes)
        with np.errstate(over="ignore"):  # What does not fit float32 becomes infinite, which is an error.
            X, y = validate_data(self, X, y, accept_sparse="csr", dtype=(np.float32, np.uint8), reset=is_first)
        check_classification_targets(y)
        labels = LabelEncoder().fit(known).transform(y)
        weights = self._weights(X, known, labels, sample_weight)
        rows = _Rows.of(X, labels.astype(np.int32), weights, known).with_weight()
        is_drawn = not (self.random_state is None or isinstance(self.random_state, numbers.Integral))
        seed = check_random_state(self.random_state).randint(2**31) if is_drawn else int(self.random_state or 0)
        number = getattr(self, "epochs_", 0)
        W, b, steps = _epoch(rows, self._start(rows), self._l2_of(rows), seed, number)
        self._take(W, b, known)
        self.n_iter_ = np.array([steps], np.int32)
        self.certificate_ = math.inf
        self.epochs_ = number + 1
        return self

    def _of_regularization(self) -> tuple[tuple[str, bool, str], ...]:
        """For `_check`."""
        return (
            ("l2", self.l2 is None or self.l2 == 0 or _is_number(self.l2, above=0), "a number of at least 0, or None"),
            ("C", self.l2 is not None or _is_number(self.C, above=0), "a number above 0"),
        )

    def _known(self, classes: Any) -> np.ndarray:
        """All classes, as `partial_fit` is told of them. Raises ValueError if it is told nothing, or something else."""
        if classes is None and not hasattr(self, "coef_"):
            raise ValueError(
                "classes=None in the first call of partial_fit; expected all classes that y will ever hold"
            )
        known = self.classes_ if classes is None else np.unique(classes)
        if len(known) < 2:
            raise ValueError(f"classes={classes!r}; expected at least two classes")
        if hasattr(self, "coef_") and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes={known}; expected those of the call before, {self.classes_}")
        return known

    def _l2_of(self, rows: "_Rows") -> float:
        return self._l2(self.C, rows.weights.sum(), len(rows.classes)) if self.l2 is None else float(self.l2)

    def _start(self, rows: "_Rows") -> tuple[np.ndarray, np.ndarray] | None:
        """W and b of the fit before, `[K, D]` and `[K]`; None if there are none with which these rows can begin."""
        if not hasattr(self, "coef_"):
            return None
        start = self._parameters()
        return start if rows.can_start_at(*start) else None

    def _parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """`[K, D]` and `[K]`."""
        if len(self.coef_) > 1:
            return self.coef_, self.intercept_
        return np.concatenate([-self.coef_, self.coef_]) / 2, np.concatenate([-self.intercept_, self.intercept_]) / 2


class SoftmaxClassifierCV(_Linear):
    """Softmax regression whose C is chosen by cross-validation: all folds in one program.

    Each fold's model is fitted as SoftmaxClassifier would on its rows, from the largest regularization to the smallest,
    each from the one before.

    Args:
      Cs: the values of C to try; or how many, from 1e-4 to 1e4, each the same factor above the one before.
      cv: how rows are divided, as in scikit-learn: a number of stratified folds, a splitter, or pairs of indices; None:
        5 folds.
      scoring: what decides, as in scikit-learn: a name, or `scorer(estimator, X, y)`; None: accuracy. It is given the
        sample weights of a fold's rows, if there are any; class weights do not count in it.
      refit: whether the coefficients are those of all rows at the best C; if not, the means of its folds' coefficients.
      class_weight: see SoftmaxClassifier.
      tol: likewise.
      max_iter: likewise.
      standardize: likewise, under each fold's own rows.
      random_state: nothing is random; it is there for those who set it everywhere.

    Attributes:
      C_: the best value: with the largest mean score over the folds, of equals the smallest.
      Cs_: `[V]`, the values, ascending.
      scores_: `[F, V]`, of each fold and value.
      certificate_: see SoftmaxClassifier; with refit=False the largest of the folds' at C_.
      classes_, coef_, intercept_, n_iter_, n_features_in_, feature_names_in_: likewise; n_iter_ is `[F, V]`.
    """

    def __init__(
        self,
        Cs: Any = 10,
        *,
        cv: Any = None,
        scoring: Any = None,
        refit: bool = True,
        class_weight: Any = None,
        tol: float | None = None,
        max_iter: int = 1000,
        standardize: bool = False,
        random_state: Any = None,
    ):
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.standardize = standardize
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Chooses C, and fits the model; the arguments are as in `SoftmaxClassifier.fit`.

        Raises:
          ValueError: a parameter or the data cannot be used.
        """
        values = np.geomspace(1e-4, 1e4, self.Cs) if isinstance(self.Cs, numbers.Integral) else np.sort(self.Cs)
        self._check(("Cs", len(values) > 0 and bool(np.all(values > 0)), "numbers above 0, or how many"))
        rows = self._rows(X, y, sample_weight)
        X, y = rows.X, rows.classes[rows.labels]
        folds = list(check_cv(self.cv, y, classifier=True).split(X, y))
        columns = np.zeros((1 + len(folds), len(y)))
        columns[0] = rows.weights[0]
        for column, (train, _) in zip(columns[1:], folds, strict=True):
            column[train] = rows.weights[0, train]
        self.Cs_ = values
        with self._search(rows._replace(weights=columns)) as search:
            found = self._path(search, columns, values, len(rows.classes))
            self.scores_ = np.array([
                [self._score(W[fold], b[fold], rows, test, sample_weight) for W, b, _ in found]
                for fold, (_, test) in enumerate(folds)
            ])  # fmt: skip
            best = int(np.argmax(self.scores_.mean(axis=0)))
            self.C_ = float(values[best])
            W, b, optimum = found[best]
            self.n_iter_ = np.stack([one.iterations for *_, one in found], axis=1).astype(np.int32)
            if self.refit:
                l2 = self._l2(self.C_, columns[0].sum(), len(rows.classes))
                W, b, optimum = search.minimize(np.array([l2]), np.array([0], np.int32), None)
        self._take(np.mean(W, axis=0), np.mean(b, axis=0), rows.classes)
        self.certificate_ = float(optimum.certificate.max())
        self._warn(optimum)
        return self

    def _path(
        self, search: "_Search", columns: np.ndarray, values: np.ndarray, n_classes: int
    ) -> list[tuple[Any, Any, Optimum]]:
        """For each value the models of the folds, and how they were found."""
        totals, v = columns[1:].sum(axis=1), None
        column = np.arange(1, len(columns), dtype=np.int32)
        found = []
        for C in values:
            l2 = np.array([self._l2(C, total, n_classes) for total in totals])
            W, b, optimum = search.minimize(l2, column, v)
            v = optimum.v
            found.append((W, b, optimum))
        return found

    def _score(self, W: np.ndarray, b: np.ndarray, rows: "_Rows", test: np.ndarray, sample_weight: Any) -> float:
        """Of one fold's model, on the rows that it has not seen: with their weights, as in scikit-learn."""
        model = SoftmaxClassifier()
        model.n_features_in_ = rows.X.shape[1]
        model._take(W, b, rows.classes)
        weighted = {} if sample_weight is None else {"sample_weight": np.asarray(sample_weight)[test]}
        score = check_scoring(model, self.scoring)
        return float(score(model, rows.X[test], rows.classes[rows.labels[test]], **weighted))


class _Rows(NamedTuple):
    """The rows of a fit.

    Attributes:
      X: `[N, D]`, as they are.
      labels: `[N]` int32, the numbers of their classes.
      weights: `[C, N]` float64, in columns.
      classes: `[K]`.
    """

    X: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, X: Any, labels: np.ndarray, weights: np.ndarray, classes: np.ndarray) -> Self:
        """Of rows as `fit` has them, with weights `[N]`. Raises ValueError if memory cannot hold them."""
        if scipy.sparse.issparse(X):
            dense, there = math.prod(X.shape) * X.dtype.itemsize, available_memory()
            if dense > there:
                raise ValueError(
                    f"X is sparse, and a dense one of its shape {X.shape} takes {dense / 2**30:.1f} GiB; there are "
                    f"{there / 2**30:.1f}: give fewer rows, or fewer columns"
                )
            X = X.toarray()
        return cls(X, labels, weights[np.newaxis], classes)

    @property
    def size(self) -> int:
        """Numbers that an evaluation goes through."""
        return self.X.size * len(self.classes)

    @property
    def is_small(self) -> bool:
        """Whether float64 is cheap enough throughout."""
        return self.size <= SMALL

    def with_weight(self) -> Self:
        """Those that have any."""
        counted = self.weights.any(axis=0)
        if counted.all():
            return self
        return self._replace(X=self.X[counted], labels=self.labels[counted], weights=self.weights[:, counted])

    def can_start_at(self, W: np.ndarray, b: np.ndarray) -> bool:
        """Whether parameters are of such rows, and leave out no class that these have."""
        of_these = b[np.unique(self.labels)] if W.shape == (len(self.classes), self.X.shape[1]) else [0, np.inf]
        return bool(np.ptp(of_these) < FAR_BELOW / 2)


class _Scaled(NamedTuple):
    """Rows as the solver takes them: scaled, and of one of few sizes where they are few.

    Rows and classes that fill up have no weight; columns that do, no spread. So programs are made for few sizes.

    Attributes:
      images: `[M, E]`, M >= N and E >= D.
      labels: `[M]` int32.
      weights: `[C, M]` float64.
      n_out: at least K.
      n_in, n_classes: D and K.
      scaling: of the images.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    n_out: int
    n_in: int
    n_classes: int
    scaling: Scaling

    @classmethod
    def of(cls, rows: _Rows) -> Self:
        """These rows. Raises ValueError for a column that is too large to be scaled."""
        (height, width), n_classes = rows.X.shape, len(rows.classes)
        n_out = n_classes
        if rows.size <= _SMALLEST:
            height, width, n_out = _size(height, 128), _size(width, 16), _size(n_classes, 4)
        below, beside = ((0, size - old) for size, old in zip((height, width), rows.X.shape, strict=True))
        counted = rows.weights.any(axis=0)
        shift, factor = _scaling(rows.X if counted.all() else rows.X[counted])
        shift = None if shift is None else np.pad(shift, beside)
        factor = np.pad(factor, beside, constant_values=1.0) if factor.ndim else factor
        images = np.pad(rows.X, (below, beside)) if (height, width) != rows.X.shape else rows.X
        labels, weights = np.pad(rows.labels, below), np.pad(rows.weights, ((0, 0), below))
        # By the largest: the sum of all is not to overflow in float32.
        weights = weights / weights.max()
        return cls(images, labels, weights, n_out, rows.X.shape[1], n_classes, Scaling(shift, factor))

    def blocks(self) -> Iterator[np.ndarray]:
        """They in pieces `[n, E]` float64, in order, scaled."""
        step = max(1, _BLOCK_BYTES // (8 * self.images.shape[1]))
        for i in range(0, len(self.images), step):
            yield self.scaling.apply(self.images[i : i + step])

    def sample(self) -> Sample:
        """At most some thousands of the rows that have weight, evenly."""
        chosen, n_all = sampled(self.weights, self.n_in, self.n_out)
        return Sample(self.scaling.apply(self.images[chosen]), self.weights[:, chosen], n_all)

    def scaled(self, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters `[K, D]`, `[K]` for rows as they are -> `[1, n_out, E]`, `[1, n_out]` for scaled ones."""
        beyond = (0, self.n_out - self.n_classes)
        W, b = np.pad(W, (beyond, (0, self.images.shape[1] - self.n_in))), np.pad(b, beyond)
        b = b if self.scaling.shift is None else b + W @ self.scaling.shift
        return (W / self.scaling.factor)[np.newaxis], b[np.newaxis]

    def as_they_are(self, W: np.ndarray, b: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The way back, from `[n_out, E]` and `[n_out]`; `there`, `[n_out]` bool, tells the classes that have rows."""
        W, b = self.scaling.fold(W.T, b)
        b = np.where(there, b, b[there].min() - FAR_BELOW)
        return np.ascontiguousarray(W[: self.n_in, : self.n_classes].T), b[: self.n_classes]


class _Search:
    """A search for optima over the same rows, under each of their columns of weights. A context manager.

    Args:
      rows: those.
      standardize: see SoftmaxClassifier.
      tolerance: see `minimize`.
      most_iterations: likewise.
    """

    def __init__(self, rows: _Rows, *, standardize: bool, tolerance: float, most_iterations: int):
        processes.check_not_forked()
        self._size, self._is_small = rows.size, rows.is_small
        self._rows = _Scaled.of(rows)
        self._standardize = standardize
        self._tolerance, self._most_iterations = tolerance, most_iterations
        self._device = devices.select("auto")

    def __enter__(self) -> Self:
        rows = self._rows
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._device.scope())
            workers = stack.enter_context(Workers(self._device))
            images, every = tf.constant(rows.images), np.arange(len(rows.labels))
            split = Resident(images, every, rows.labels, is_resident=True, mapped=None)
            kinds = ("float64",) if self._is_small else ("float64", "float32")
            objectives = [
                Objective.of(rows.scaling, rows.labels, rows.weights, len(rows.labels), kind, widest="float64")
                for kind in kinds
            ]
            self._exact, self._rough = objectives[0], objectives[1] if len(kinds) > 1 else None
            cut = Cut.of(len(split.labels), split.images.shape[1], len(rows.weights) * rows.n_out)
            self._passes = Passes(split, workers, cut)
            self._moments = Moments.of(rows.blocks(), rows.labels, rows.weights, rows.n_out)
            unscaled = np.broadcast_to(rows.scaling.factor, (len(rows.weights), rows.images.shape[1]))
            self._scale = self._moments.deviations(rows.blocks(), rows.weights) if self._standardize else unscaled
            self._sample = rows.sample()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _problems(self, l2: np.ndarray, column: np.ndarray) -> Problems:
        return Problems.of(self._moments, l2, column, self._scale[column])

    def v_of(self, W: np.ndarray, b: np.ndarray) -> np.ndarray:
        """`[1, n_out, E + 1]`: where a head under the first column of weights has W and b, for rows as they are."""
        W, b = self._rows.scaled(W, b)
        return self._problems(np.zeros(1), np.array([0], np.int32)).coordinates(W, b)

    def minimize(
        self, l2: np.ndarray, column: np.ndarray, v: np.ndarray | None
    ) -> tuple[list[np.ndarray], list[np.ndarray], Optimum]:
        """The optima of heads with these l2 and columns of weights, `[H]`, from v on: W and b for rows as they are."""
        problems = self._problems(l2, column)
        optimum = minimize(
            Measures(self._passes, self._exact, self._rough, sizes(len(l2), self._size)),
            problems,
            problems.start() if v is None else v,
            self._sample,
            tolerance=self._tolerance,
            most_iterations=self._most_iterations,
        )
        W, b = problems.parameters(optimum.v)
        models = map(self._rows.as_they_are, W, b, problems.there)
        all_W, all_b = zip(*models, strict=True)
        return list(all_W), list(all_b), optimum


def _epoch(
    rows: _Rows, start: tuple[np.ndarray, np.ndarray] | None, l2: float, seed: int, number: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """W and b after epoch `number` of a run of SGD on these rows, from where the one before ended; and its steps."""
    processes.check_not_forked()
    n_out, n_in = len(rows.classes), rows.X.shape[1]
    kind = "float64" if rows.is_small else "float32"
    weights = rows.weights / rows.weights.max()  # The sum of all is not to overflow in float32.
    examples = Examples(rows.X, rows.labels, "X", weights=weights[0])
    splits = Splits(examples, examples, examples, tuple(map(str, range(n_out))), pixel_max=1.0)
    config = TrainConfig(l2=(l2,), epochs=number + 1, patience=_NEVER, seed=seed)
    solver = Sgd(config, splits)
    device = devices.select("auto")
    with device.scope():
        (split,) = residency.place([examples])
        objective = Objective.of(splits.scaling, split.labels, weights, solver.examples, kind)
        W, b = start or (np.zeros((n_out, n_in)), np.zeros(n_out))
        group = Group(
            tf.Variable(W[np.newaxis], dtype=kind),
            tf.Variable(b[np.newaxis], dtype=kind),
            {name: tf.constant([value], kind) for name, value in solver.settings[0].items()},
            tf.constant([0]),
            {name: tf.Variable(array) for name, array in solver.slots(1, n_out, n_in).items()},
        )
        period = solver.per_epoch
        length = span_length(period, solver.batch_size, split.bytes_per_image, W.size, SPAN_BYTES, SPAN_FLOPS)
        last = tf.constant([solver.steps], tf.int64)
        for span in solver.spans(split, first=number * period, period=period, length=length):
            solver.advance(span, objective, group, last, 1)
        return group.W[0].numpy().astype(np.float64), group.b[0].numpy().astype(np.float64), period


def _size(count: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << (count - 1).bit_length())


def _scaling(X: np.ndarray) -> Scaling:
    """Columns of about mean 0 and variance 1, in which float32 loses little; bytes are as they are."""
    if X.dtype == np.uint8:
        return scaling.by_pixel_max(255.0)
    step = max(1, _BLOCK_BYTES // (8 * X.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = scaling.moments(X[i : i + step] for i in range(0, len(X), step))
    if not np.isfinite(deviation).all():
        column = int(np.argmin(np.isfinite(deviation)))
        raise ValueError(f"column {column} of X holds values whose squares float64 cannot hold; scale it")
    return scaling.by_moments(mean, deviation)

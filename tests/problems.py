"""Softmax regression with L2 by NumPy, SciPy and scikit-learn, in float64: what the optimum is tested against."""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.optimize
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline.residency import Resident
from tfpipe.solvers.few_rows import FewRows
from tfpipe.solvers.measures import Measures
from tfpipe.solvers.moments import Moments
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.optimum import Exactness, Sample, minimize
from tfpipe.solvers.passes import Cut, Passes, Sums
from tfpipe.solvers.problem import Problems


class Data(NamedTuple):
    """Rows x `[N, D]` float64, classes y `[N]`, weights w `[N]`, and how many classes there may be."""

    x: np.ndarray
    y: np.ndarray
    w: np.ndarray
    n_out: int


def drawn(seed, *, n=None, n_in=None, n_out=None):
    """A problem at random: with columns that are constant, twice there, or badly scaled; with weights that are 0."""
    random = np.random.default_rng(seed)
    n = n or int(random.integers(3, 60))
    n_in = n_in or int(random.integers(1, 8))
    n_out = n_out or int(random.integers(2, 6))
    y = random.integers(0, n_out, n)
    y[:2] = [0, 1]
    x = random.normal(size=(n, n_in)) + random.choice([0, 3]) * random.normal(size=(n_out, n_in))[y]
    kind = random.integers(0, 4, n_in)
    x[:, kind == 1] = 7.0
    if n_in > 1 and kind[0] == 2:
        x[:, 1] = x[:, 0]
    if random.random() < 0.5:
        x *= 10.0 ** random.uniform(-2, 2, n_in)
    w = np.ones(n)
    if random.random() < 0.7:
        w = random.choice([0.0, 1.0, 2.0, 0.3], n)
        w[:2] = 1.0
    if random.random() < 0.3 and n_out > 2:
        w[y == n_out - 1] = 0.0
    return Data(x, y.astype(np.int32), w, n_out)


def sums(data, W, b):
    """By NumPy, for one head: `[K, D]` and `[K]`."""
    z = data.x @ W.T + b
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    error = np.exp(log_p)
    error[np.arange(len(data.y)), data.y] -= 1
    error *= data.w[:, np.newaxis]
    counts = data.w > 0  # The loss of a class without weight may be infinite.
    loss = -(data.w[counts] * log_p[counts, data.y[counts]]).sum()
    return Sums(np.array([loss]), (error.T @ data.x)[np.newaxis], error.sum(axis=0)[np.newaxis])


def moments(data):
    one_hot = np.eye(data.n_out)[data.y] * data.w[:, np.newaxis]
    parts = data.w.sum(), data.w @ data.x, one_hot.sum(axis=0), one_hot.T @ data.x
    return Moments(*(np.asarray(part)[np.newaxis] for part in parts))


def problem(data, l2, scale=None):
    """Of one head; `scale` `[D]`."""
    scale = np.ones(data.x.shape[1]) if scale is None else scale
    return Problems.of(moments(data), np.array([l2]), np.array([0], np.int32), scale[np.newaxis])


def cost(data, l2, scale, W, b):
    """F of `[K, D]` and `[K]`, from its definition."""
    loss = sums(data, W, b).loss[0] / data.w.sum()
    return float(loss + l2 / 2 * np.square(W * (1 if scale is None else scale)).sum())


def least(data, l2, scale):
    """The least F that SciPy's BFGS finds, of the classes that are there, in columns of about one size."""
    there = np.bincount(data.y, data.w, minlength=data.n_out) > 0
    scale = np.ones(data.x.shape[1]) if scale is None else scale
    shape, total = (int(there.sum()), data.x.shape[1] + 1), data.w.sum()
    mean = data.w @ data.x / total

    def parameters(flat):
        V = flat.reshape(shape)
        W, b = np.zeros((data.n_out, shape[1] - 1)), np.full(data.n_out, -1e30)
        W[there] = V[:, :-1] / scale
        b[there] = V[:, -1] - W[there] @ mean
        return W, b

    def f(flat):
        W, b = parameters(flat)
        _, (G,), (r,) = sums(data, W, b)
        by_W = (G / total + l2 * scale**2 * W)[there]
        by_b = r[there] / total
        gradient = np.column_stack([(by_W - np.outer(by_b, mean)) / scale, by_b])
        return cost(data, l2, scale, W, b), gradient.ravel()

    found = scipy.optimize.minimize(
        f, np.zeros(shape).ravel(), jac=True, method="BFGS", options={"maxiter": 3000, "gtol": 1e-12}
    )
    return float(found.fun)


def by_scikit_learn(data, l2, scale=None):
    """W `[K, D]` and b `[K]` of scikit-learn's optimum, with sums of 0 over the K classes, which must all be there."""
    scale = np.ones(data.x.shape[1]) if scale is None else scale
    mean = data.x.mean(axis=0)
    pair = 2 if data.n_out == 2 else 1  # Of two classes its model has one logit.
    model = LogisticRegression(C=pair / (l2 * data.w.sum()), tol=1e-12, solver="newton-cholesky", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It may find that rounding allows no more.
        model.fit((data.x - mean) / scale, data.y, data.w)
    W, b = model.coef_, model.intercept_
    if pair == 2:
        W, b = (np.concatenate([-part, part]) / 2 for part in (W, b))
    W = (W - W.mean(axis=0)) / scale
    b = b - W @ mean
    return W, b - b.mean()


def minimized_apart(data, l2, scale=None, tolerance=1e-4):
    """The optimum of a head on rows that all have weight, in the basis of their covariance; `scale` `[D]`."""
    of_one = problem(data, l2, scale)
    rows = FewRows.of(data.x, data.y, data.w, of_one)
    return of_one, rows.minimize(of_one, of_one.start(), Exactness(tolerance, 1000), pairs=10)


def minimized(data, l2s, *, columns=None, tolerance=1e-4, scale=None, rough=False, most_iterations=1000):
    """The optimum of a head for each l2, by the programs; `columns` `[C, N]` of weights, one for each head."""
    n, n_in = data.x.shape
    weights = data.w[np.newaxis] if columns is None else columns
    column = np.zeros(len(l2s), np.int32) if columns is None else np.arange(len(l2s), dtype=np.int32)
    split = Resident(tf.constant(data.x), np.arange(n), data.y, is_resident=True, mapped=None)
    as_it_is = Scaling(None, np.array(1.0))
    objective, in_float32 = (
        Objective.of(as_it_is, data.y, weights, n, kind, "float64") for kind in ("float64", "float32")
    )
    with Workers(Device("/CPU:0", "cpu", programs=2)) as workers:
        passes = Passes(split, workers, Cut.of(n, n_in, len(l2s) * data.n_out))
        scales = np.ones((len(l2s), n_in)) if scale is None else np.broadcast_to(scale, (len(l2s), n_in))
        problems = Problems.of(Moments.of([data.x], data.y, weights, data.n_out), np.array(l2s), column, scales)
        sample = Sample(data.x, weights, len(data.x))
        measures = Measures(passes, objective, in_float32 if rough else None)
        return problems, minimize(
            measures, problems, problems.start(), sample, tolerance=tolerance, most_iterations=most_iterations
        )

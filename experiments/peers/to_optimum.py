"""Softmax regression of MNIST with L2, to the optimum, by one library; see ../benchmark_optimum.py.

    python to_optimum.py LIBRARY TASK

TASK, a JSON object, has `rows`, how many; `l2`, the values, descending; and one of

    tolerances       of each value: the fits are timed.
    most, tolerance  what the objective of each value may be at most, and a tolerance at which to begin: the largest
                     that reaches it is searched for, in half decades, from ten times that of the value before on.
    folds            with `tolerance`: the library's own cross-validation over the values, timed.

NumPy and one library are all that is imported. All get the same rows, float32 in [0, 1]: in float64 each takes longer.
Each value begins where the one before ended. Objectives are computed here, in float64, when the clock has stopped.

With `search` in TASK, of tfpipe alone, the values are those of one `tfpipe.train`, which fits four at a time, chooses
among them by its folds, or else by the next 1,000 rows, and fits the one that it chose ten times as exactly. What it
says of the objectives is believed if it is right about the model that it gives.
"""

import copy
import importlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tutorial

MOST_ITERATIONS, LEAST_TOLERANCE = 10_000, 1e-8
VALIDATING = 1000
BLOCK = 5000


class Library(NamedTuple):
    """How a library is called.

    Attributes:
      model: `module:class`.
      options: its constructor's.
      of_value: from l2, the number of rows and the tolerance to the parameters of a fit.
      model_of_folds: `module:class` of what cross-validates; None: the library has none.
      goes_over_all_rows: whether each of its iterations is an evaluation of all rows, or more.
    """

    model: str
    options: dict[str, Any]
    of_value: Callable[[float, int, float], dict[str, Any]]
    model_of_folds: str | None = None
    goes_over_all_rows: bool = True


def by_C(l2: float, rows: int, tolerance: float) -> dict[str, Any]:
    return {"C": 1 / (l2 * rows), "tol": tolerance}


# Of cyanure's solvers for these rows, the one that it takes by itself was the fastest, or nearly.
LIBRARIES = {
    "tfpipe": Library(
        "tfpipe:SoftmaxClassifier",
        {"max_iter": MOST_ITERATIONS},
        lambda l2, rows, tolerance: {"l2": l2, "tol": tolerance},
    ),
    "scikit-learn": Library(
        "sklearn.linear_model:LogisticRegression",
        {"max_iter": MOST_ITERATIONS},
        by_C,
        "sklearn.linear_model:LogisticRegressionCV",
    ),
    "scikit-learn-intelex": Library(
        "sklearnex.linear_model:LogisticRegression",
        {"max_iter": MOST_ITERATIONS},
        by_C,
        "sklearnex.preview.linear_model:LogisticRegressionCV",
    ),
    "cyanure": Library(
        "cyanure.estimators:Classifier",
        {
            "loss": "multiclass-logistic",
            "multi_class": "multinomial",
            "penalty": "l2",
            "fit_intercept": True,
            "max_iter": MOST_ITERATIONS,
            "verbose": False,
        },
        lambda l2, rows, tolerance: {"lambda_1": l2, "tol": tolerance},
        goes_over_all_rows=False,
    ),
}


def load(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first rows for training: `[n, 784]` float32 in [0, 1], and `[n]` int64."""
    pixels, labels = tutorial.read("train-images-idx3-ubyte", 16), tutorial.read("train-labels-idx1-ubyte", 8)
    return pixels.reshape(len(labels), -1)[:rows] / np.float32(255), labels[:rows].astype(np.int64)


def objective(x: np.ndarray, y: np.ndarray, model: Any, l2: float) -> float:
    """The mean log loss and l2/2 times the squared norm of W, in float64."""
    W, b = np.asarray(model.coef_, np.float64), np.ravel(model.intercept_).astype(np.float64)
    W = W if len(W) == len(b) else W.T
    loss = 0.0
    for begin in range(0, len(y), BLOCK):
        part = slice(begin, begin + BLOCK)
        z = x[part].astype(np.float64) @ W.T + b
        z -= z.max(axis=1, keepdims=True)
        loss += float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y[part]]).sum())
    return loss / len(y) + l2 / 2 * float(np.square(W).sum())


def made(path: str, **options: Any) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)(**options)


def fit(library: Library, x: np.ndarray, y: np.ndarray, l2s: list[float], tolerances: list[float]) -> dict[str, Any]:
    model = made(library.model, warm_start=True, **library.options)
    models, seconds = [], []
    for l2, tolerance in zip(l2s, tolerances, strict=True):
        begin = time.perf_counter()
        model.set_params(**library.of_value(l2, len(y), tolerance)).fit(x, y)
        seconds.append(time.perf_counter() - begin)
        models.append(copy.deepcopy(model))
    iterations = sum(int(np.max(model.n_iter_)) for model in models) if library.goes_over_all_rows else None
    return {
        "seconds": sum(seconds),
        "seconds_of_values": seconds,
        "iterations": iterations,
        "objectives": [objective(x, y, model, l2) for model, l2 in zip(models, l2s, strict=True)],
        "certificates": [getattr(model, "certificate_", None) for model in models],
    }


def search(
    library: Library, x: np.ndarray, y: np.ndarray, l2s: list[float], most: list[float], first: float
) -> dict[str, Any]:
    model = made(library.model, warm_start=True, **library.options)
    tolerances: list[float] = []
    for l2, enough in zip(l2s, most, strict=True):
        tolerance = 10 * tolerances[-1] if tolerances else first
        while True:
            attempt = copy.deepcopy(model).set_params(**library.of_value(l2, len(y), tolerance)).fit(x, y)
            if objective(x, y, attempt, l2) <= enough:
                break
            tolerance /= 10**0.5
            if tolerance < LEAST_TOLERANCE:
                raise SystemExit(f"l2={l2:g}: not reached with any tolerance down to {LEAST_TOLERANCE:g}")
        model = attempt
        tolerances.append(tolerance)
    return {"tolerances": tolerances}


def cross_validate(
    library: Library, x: np.ndarray, y: np.ndarray, l2s: list[float], tolerance: float, folds: int
) -> dict[str, Any]:
    assert library.model_of_folds is not None
    Cs = [1 / (l2 * len(y)) for l2 in l2s]  # Ascending: each library begins with the most regularization.
    options: dict[str, Any] = {"Cs": Cs, "cv": folds, "scoring": "neg_log_loss", "tol": tolerance}
    options |= {"use_legacy_attributes": False, "l1_ratios": (0,)}
    model = made(library.model_of_folds, max_iter=MOST_ITERATIONS, **options)
    begin = time.perf_counter()
    model.fit(x, y)
    seconds = time.perf_counter() - begin
    l2 = 1 / (float(model.C_) * len(y))
    losses = -np.reshape(model.scores_, (folds, -1)).mean(axis=0)
    return {"seconds": seconds, "l2": l2, "objectives": [objective(x, y, model, l2)], "losses": losses.tolist()}


def train(
    x: np.ndarray, y: np.ndarray, l2s: list[float], tolerance: float, folds: int, others: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """By tfpipe.train; `others` are rows and labels that validate where there are no folds."""
    names = "Examples", "Splits", "TrainConfig", "train"  # Each is imported when it is first asked for.
    of_examples, of_splits, of_config, run = (getattr(importlib.import_module("tfpipe"), name) for name in names)
    together = np.concatenate([x, others[0]])[:, np.newaxis]  # As images, whose columns have one scale.
    labels = np.concatenate([y, others[1]]).astype(np.int32)
    begin = time.perf_counter()
    examples = of_examples(together, labels, "MNIST")
    n_fitted = len(y) - VALIDATING if folds else len(y)
    numbers = np.arange(len(y) if folds else len(labels))
    parts = numbers[:n_fitted], numbers[n_fitted:], numbers[:0]
    splits = of_splits(*map(examples.take, parts), tuple(map(str, range(labels.max() + 1))), pixel_max=1.0)
    # Those that are tried are fitted to ten times the tolerance.
    config = of_config(l2=l2s, folds=folds, refit=folds > 0, tolerance=tolerance / 10, max_iter=MOST_ITERATIONS)
    result = run(config, splits)
    seconds = time.perf_counter() - begin
    report = result.report
    found = objective(x, y, Linear(result.model.W.numpy().T, result.model.b.numpy()), report["l2"])
    if abs(found - report["train_cost"]) > 1e-7 * found:
        raise SystemExit(f"tfpipe says that its objective is {report['train_cost']:.10g}; it is {found:.10g}")
    grid = sorted(report["grid"], key=lambda setting: l2s.index(setting["l2"]))
    return {
        "seconds": seconds,
        # Of the last fit too.
        "iterations": None if folds else sum(setting["iterations"] for setting in grid) + report["iterations"],
        "objectives": [found] if folds else [setting["train_cost"] for setting in grid],
        "certificates": [report["certificate"]] if folds else [setting["certificate"] for setting in grid],
        "l2": report["l2"],
        "losses": [setting["validation_cost"] for setting in grid],
    }


class Linear(NamedTuple):
    """Coefficients, as scikit-learn calls them."""

    coef_: np.ndarray
    intercept_: np.ndarray


def main() -> None:
    library, task = LIBRARIES[sys.argv[1]], json.loads(sys.argv[2])
    warnings.filterwarnings("ignore", category=FutureWarning)
    x, y = load(task["rows"])
    importlib.import_module(library.model.split(":")[0])
    if "search" in task:
        more_x, more_y = load(task["rows"] + VALIDATING)
        others = more_x[task["rows"] :], more_y[task["rows"] :]
        tolerance = min(task["tolerances"]) if "tolerances" in task else task["tolerance"]
        result = train(x, y, task["l2"], tolerance, task.get("folds", 0), others)
    elif "folds" in task:
        result = cross_validate(library, x, y, task["l2"], task["tolerance"], task["folds"])
    elif "most" in task:
        result = search(library, x, y, task["l2"], task["most"], task["tolerance"])
    else:
        result = fit(library, x, y, task["l2"], task["tolerances"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()

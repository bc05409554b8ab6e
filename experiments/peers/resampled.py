"""Draws of training rows fitted by one library; see ../benchmark_resampling.py.

    python resampled.py LIBRARY TASK

TASK, a JSON object, has `data`, and for `features` how many `rows`, `columns` and `classes`; `l2`, the values,
descending; `tolerances`, of each; `shots` and `seeds`, or `bootstrap`; and

    search    the largest tolerance of each value is looked for, in half decades down to 1e-8, at which the first draw
              of each size is within 1e-4 of the least objective, relative to it: float32 may not get there.
    without   of tfpipe: the same run without draws, which is what they are compared with.

Each library fits each draw to its rows alone, in float32; of several values, each from where the one before ended. The
best by the log loss of the validation rows is measured on the test. Draws are those of `tfpipe.data.draws`.
"""

import json
import pathlib
import sys
import time
import warnings
from typing import Any

import numpy as np
import to_optimum
from to_optimum import LIBRARIES, Library, made, objective

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent))

from tfpipe.data import draws

ABOVE_LEAST = 1e-4
Rows = tuple[np.ndarray, np.ndarray]


def features(rows: int, columns: int, classes: int) -> list[Rows]:
    """Rows for training, validation and test, in columns that hang together; float32, and labels."""
    random = np.random.default_rng(0)
    means = random.normal(0, 0.12, (classes, columns))
    mix = random.normal(0, 1 / np.sqrt(columns), (columns, columns))
    parts = []
    for n in (rows, rows // 4, rows // 4):
        labels = random.permutation(np.arange(n) % classes)
        noise = random.normal(size=(n, columns)) * np.geomspace(1.5, 0.05, columns)
        parts.append((((means[labels] + noise) @ mix).astype(np.float32), labels))
    return parts


def mnist() -> list[Rows]:
    x, y = to_optimum.load(60_000)
    return [(x[:50_000], y[:50_000]), (x[50_000:51_000], y[50_000:51_000]), (x[51_000:], y[51_000:])]


def drawn(task: dict[str, Any], labels: np.ndarray) -> list[np.ndarray]:
    """How often each row counts in each draw."""
    if "bootstrap" in task:
        return [draws.bootstrap(len(labels), 0, number) for number in range(task["bootstrap"])]
    return [draws.shots(labels, n, 0, number) for n in task["shots"] for number in range(task["seeds"])]


def losses(model: Any, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The mean log loss, and the share of wrong predictions."""
    z = x @ np.asarray(model.coef_).T + np.ravel(model.intercept_)
    z -= z.max(axis=1, keepdims=True)
    return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y]).mean()), float(
        (z.argmax(axis=1) != y).mean()
    )


def loop(library: Library, parts: list[Rows], task: dict[str, Any]) -> dict[str, Any]:
    (x, y), validation, test = parts
    begin, errors = time.perf_counter(), []
    for counts in drawn(task, y):
        rows = np.flatnonzero(counts)
        weight = {} if counts.dtype == bool else {"sample_weight": counts[rows]}
        model = made(library.model, warm_start=True, **library.options)
        found = []
        for l2, tolerance in zip(task["l2"], task["tolerances"], strict=True):
            model.set_params(**library.of_value(l2, int(counts.sum()), tolerance)).fit(x[rows], y[rows], **weight)
            found.append((losses(model, *validation)[0], losses(model, *test)[1]))
        errors.append(min(found)[1])
    return {"seconds": time.perf_counter() - begin, "errors": errors}


def search(library: Library, parts: list[Rows], task: dict[str, Any]) -> dict[str, Any]:
    x, y = parts[0]
    tolerances: list[float] = []
    samples = [np.flatnonzero(counts) for counts in drawn(task | {"seeds": 1}, y)]
    for l2 in task["l2"]:
        tolerance = tolerances[-1] if tolerances else 1e-3
        for rows in samples:
            best = made("tfpipe:SoftmaxClassifier", l2=l2, tol=1e-6, max_iter=10_000).fit(x[rows], y[rows])
            least = objective(x[rows], y[rows], best, l2) - best.certificate_
            enough = least * (1 + ABOVE_LEAST)
            while tolerance > to_optimum.LEAST_TOLERANCE:
                options = library.options | library.of_value(l2, len(rows), tolerance)
                if objective(x[rows], y[rows], made(library.model, **options).fit(x[rows], y[rows]), l2) <= enough:
                    break
                tolerance /= 10**0.5
        tolerances.append(tolerance)
    return {"tolerances": tolerances}


def by_tfpipe(parts: list[Rows], task: dict[str, Any]) -> dict[str, Any]:
    import tfpipe

    # As images, whose columns have one scale.
    train, validation, test = (tfpipe.Examples(x[:, np.newaxis], y.astype(np.int32)) for x, y in parts)
    names = tuple(map(str, range(int(parts[0][1].max()) + 1)))
    splits = tfpipe.Splits(train, validation, test, names, pixel_max=1.0)
    which = {name: task[name] for name in ("shots", "seeds", "bootstrap") if name in task}
    options = {} if task["without"] else which | ({"reselect": True} if len(task["l2"]) > 1 else {})
    begin = time.perf_counter()
    config = tfpipe.TrainConfig(l2=task["l2"], folds=0, refit=False, max_iter=10_000, **options)
    report = tfpipe.train(config, splits).report
    return {"seconds": time.perf_counter() - begin, "errors": [one["error"] for one in report["draws"]]}


def main(name: str, task: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    parts = features(task["rows"], task["columns"], task["classes"]) if task["data"] == "features" else mnist()
    if task.get("search"):
        found = search(LIBRARIES[name], parts, task)
    else:
        found = by_tfpipe(parts, task) if name == "tfpipe" else loop(LIBRARIES[name], parts, task)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

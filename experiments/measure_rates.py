"""How the training cost falls at fractions of the learning rate beyond which a minibatch may diverge.

    python experiments/measure_rates.py [NAME ...]

Trains on ten data sets (default: all), as they are and standardized, with the settings that `tfpipe train` has by
default, at several fractions of 2 / curvature (see `tfpipe/solvers/curvature.py`), side by side. The cost on all
training examples is measured after each epoch. Once SGD is where it cannot get lower, that cost goes up and down by a
little: an epoch counts as one in which it rose if it rose by more than 0.1 %.

Prints one JSON object a data set: for each fraction the share of epochs in which the cost rose, by more than 0.1 % and
at all, how far it was above the lowest before at most, and where it ended.
"""

import json
import sys
from collections.abc import Callable

import numpy as np

import tfpipe
from tfpipe.data import scaling
from tfpipe.solvers.sgd import Sgd

FRACTIONS = (0.25, 0.5, 0.75, 1.0, 1.5)
RISE = 1e-3
Rows = tuple[np.ndarray, np.ndarray]


def _of_scikit_learn(name: str) -> Rows:
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    return data.data / (16 if name == "digits" else 1), data.target


def _made(n: int, columns: int, useful: int, classes: int) -> Rows:
    from sklearn import datasets

    return datasets.make_classification(
        n, columns, n_informative=useful, n_redundant=0, n_classes=classes, random_state=0
    )


def _badly_scaled() -> Rows:
    x, y = _made(6000, 54, 30, 7)
    return x * np.random.default_rng(1).permutation(np.geomspace(1e-3, 1e4, 54)), y


def _features(n: int, columns: int, classes: int, signal: float) -> Rows:
    """Of unit norm, as embeddings are."""
    random = np.random.default_rng(2)
    means, y = random.normal(size=(classes, columns)), random.integers(0, classes, n)
    x = signal * means[y] + random.normal(size=(n, columns))
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def _words() -> Rows:
    random = np.random.default_rng(3)
    x = (random.random((5000, 400)) < random.uniform(0.002, 0.03, 400)).astype(np.float32)
    logits = x @ random.normal(scale=2.0, size=(400, 5))
    return x, (logits + random.gumbel(size=logits.shape)).argmax(axis=1)


def _tiny_noise() -> Rows:
    x, y = _made(3000, 24, 24, 4)
    return np.hstack([x, np.random.default_rng(4).normal(scale=1e-3, size=(3000, 200))]), y


def _huge_column() -> Rows:
    x, y = _made(3000, 20, 12, 4)
    return np.hstack([x, np.random.default_rng(5).normal(scale=1e4, size=(3000, 1))]), y


DATA: dict[str, Callable[[], Rows]] = {
    "iris": lambda: _of_scikit_learn("iris"),
    "wine": lambda: _of_scikit_learn("wine"),
    "breast cancer": lambda: _of_scikit_learn("breast_cancer"),
    "digits": lambda: _of_scikit_learn("digits"),
    "54 columns of scales 1e-3 to 1e4": _badly_scaled,
    "features, 512 columns, 100 classes": lambda: _features(5000, 512, 100, 0.35),
    "features, 768 columns, 1,000 classes": lambda: _features(20_000, 768, 1000, 0.35),
    "rare 0/1 columns": _words,
    "24 useful columns, 200 of tiny noise": _tiny_noise,
    "a huge column that says nothing": _huge_column,
}
# Where 5,000 steps would take half an hour.
EPOCHS = {"features, 768 columns, 1,000 classes": 40}


def splits(name: str, *, standardize: bool) -> tfpipe.Splits:
    """Four fifths of the rows for training and, so that the cost on them is measured, for validation."""
    x, y = DATA[name]()
    order = np.random.default_rng(0).permutation(len(y))
    train, test = (
        tfpipe.Examples(np.ascontiguousarray(x[rows], np.float32), y[rows], name)
        for rows in np.split(order, [4 * len(y) // 5])
    )
    scaled = scaling.standardization(train.blocks()) if standardize else None
    return tfpipe.Splits(train, train, test, tuple(map(str, range(y.max() + 1))), standardization=scaled)


def epochs(name: str, n_examples: int, batch_size: int = 600) -> int:
    """As many as the default patience makes at least, of the 1,000 that are allowed at most."""
    return EPOCHS.get(name, min(1000, -(-5000 * batch_size // n_examples)))


def fall(costs: np.ndarray) -> dict[str, float]:
    """What is said of the costs after each epoch, `[E]`."""
    rises = costs[1:] / costs[:-1] - 1
    return {
        "rises": float((rises > RISE).mean()),
        "rises_at_all": float((rises > 0).mean()),
        "above_lowest": float((costs / np.minimum.accumulate(costs)).max() - 1),
        "end": float(costs[-1]),
    }


def measure(name: str, *, standardize: bool) -> dict[str, object]:
    data = splits(name, standardize=standardize)
    safe = Sgd(tfpipe.TrainConfig(), data).safe_rate
    config = tfpipe.TrainConfig(
        learning_rate=tuple(2 * safe * fraction for fraction in FRACTIONS),
        epochs=epochs(name, len(data.train)),
        patience=2**31 - 1,
        device="cpu",
    )
    history = tfpipe.train(config, data).history
    costs = np.array([event.validation_cost for event in history]).T
    found = {str(fraction): fall(of_head) for fraction, of_head in zip(FRACTIONS, costs, strict=True)}
    return {"data": name, "standardized": standardize, "safe_rate": safe, "epochs": len(history), "fractions": found}


def main() -> None:
    for name in sys.argv[1:] or DATA:
        for standardize in (False, True):
            print(json.dumps(measure(name, standardize=standardize)), flush=True)


if __name__ == "__main__":
    main()

"""The tutorial's run in scikit-learn.

    python with_scikit_learn.py mlp|sgd

`mlp` is MLPClassifier without a hidden layer: a softmax regression, trained by the same steps. `sgd` is SGDClassifier,
which is made for linear models but for another computation: a two-class regression for each digit, and a step for each
example. Its figures are of 5 epochs without early stopping, and its seconds 74/5 of theirs.
"""

import sys
import time
from typing import Any

import numpy as np
import sklearn
import tutorial
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

CLASSES = np.arange(10)
EPOCHS, EPOCHS_MEASURED = 74, 5


def rows(split: tutorial.Split) -> tuple[np.ndarray, np.ndarray]:
    return split.x.reshape(split.y.size, -1), split.y.ravel()


def wrong(model: MLPClassifier | SGDClassifier, x: np.ndarray, y: np.ndarray) -> int:
    return int(np.count_nonzero(model.predict(x) != y))


def mlp(train_split: tutorial.Split, validation: tutorial.Split, test: tutorial.Split) -> dict[str, Any]:
    x, y = rows(train_split)
    model = MLPClassifier(
        hidden_layer_sizes=(),
        solver="sgd",
        alpha=0,
        batch_size=tutorial.BATCH_SIZE,
        learning_rate_init=tutorial.LEARNING_RATE,
        momentum=0,
        nesterovs_momentum=False,
        shuffle=False,
    )

    def train(steps: int) -> float:
        n = steps * tutorial.BATCH_SIZE
        model.partial_fit(x[:n], y[:n])  # One epoch of what it gets.
        return float(model.loss_curve_[-1])

    # The first call draws weights; from zeros then, as in the tutorial.
    model.partial_fit(x[: tutorial.BATCH_SIZE], y[: tutorial.BATCH_SIZE], classes=CLASSES)
    for parameter in (*model.coefs_, *model.intercepts_):
        parameter[:] = 0
    return tutorial.run(
        train,
        lambda: wrong(model, *rows(validation)),
        lambda: wrong(model, *rows(test)),
        lambda: [parameter.copy() for parameter in (*model.coefs_, *model.intercepts_)],
    )


def sgd(train_split: tutorial.Split, validation: tutorial.Split, test: tutorial.Split) -> dict[str, Any]:
    # Two classes at a time on two cores: 0.55 of the time. Steps of 600 examples go as far as one of the tutorial's.
    model = SGDClassifier(
        loss="log_loss",
        penalty=None,
        learning_rate="constant",
        eta0=tutorial.LEARNING_RATE / tutorial.BATCH_SIZE,
        shuffle=False,
        n_jobs=-1,
    )
    begin = time.perf_counter()
    for _ in range(EPOCHS_MEASURED):
        model.partial_fit(*rows(train_split), classes=CLASSES)
        validation_error = wrong(model, *rows(validation)) / tutorial.N_EVALUATED
        test_error = wrong(model, *rows(test)) / tutorial.N_EVALUATED
    seconds = time.perf_counter() - begin
    extrapolated = seconds * (EPOCHS - EPOCHS_MEASURED) / EPOCHS_MEASURED
    return {
        "validation_error": validation_error,
        "test_error": test_error,
        "seconds": seconds + extrapolated,
        "seconds_extrapolated": extrapolated,
    }


if __name__ == "__main__":
    tutorial.report({"mlp": mlp, "sgd": sgd}[sys.argv[1]](*tutorial.load()), **{"scikit-learn": sklearn.__version__})

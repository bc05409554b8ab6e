"""The Theano tutorial's program in plain NumPy float64: what figures are compared with. Shares no code with tfpipe."""

import dataclasses

import numpy as np


def log_probabilities(W, b, x):
    z = x @ W + b
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def step(W, b, x, y, learning_rate, l2=0.0, class_weight=None):
    """One step of gradient descent: the cost before it, and the new W [D, K] and b [K]."""
    n = len(y)
    weight = np.ones(n) if class_weight is None else class_weight[y]
    log_p = log_probabilities(W, b, x)
    cost = -(weight * log_p[np.arange(n), y]).mean()
    delta = np.exp(log_p)
    delta[np.arange(n), y] -= 1
    delta *= weight[:, np.newaxis] / n
    return cost, W - learning_rate * (x.T @ delta + l2 * W), b - learning_rate * delta.sum(axis=0)


def path(x, y, learning_rate, l2=0.0):
    """Costs before each step on x `[T, B, D]`, the norms of the gradients in W, and the parameters after each."""
    W, b = np.zeros((x.shape[2], y.max() + 1)), np.zeros(y.max() + 1)
    costs, norms, after = [], [], []
    for minibatch, labels in zip(x, y, strict=True):
        cost, new_W, b = step(W, b, minibatch, labels, learning_rate, l2)
        costs.append(cost)
        norms.append(np.linalg.norm((W - new_W) / learning_rate))
        W = new_W
        after.append((W, b))
    return np.array(costs), np.array(norms), after


def measure(W, b, x, y):
    """The number of wrong predictions and the mean cost."""
    log_p = log_probabilities(W, b, x)
    return int((log_p.argmax(axis=1) != y).sum()), float(-log_p[np.arange(len(y)), y].mean())


def balanced_error(predicted, y):
    """The mean over the classes that occur of the share of wrong predictions."""
    return float(np.mean([(predicted[y == k] != k).mean() for k in np.unique(y)]))


@dataclasses.dataclass
class Run:
    W: np.ndarray
    b: np.ndarray
    iterations: int
    best_iteration: int
    best_wrong: int
    best_cost: float
    test_wrong: int
    path: list  # (iteration, wrong, cost) of each validation
    costs: list  # of each minibatch


def train(
    train,
    validation,
    test,
    n_out,
    *,
    batch_size,
    learning_rate,
    l2=0.0,
    epochs=1000,
    patience=5000,
    patience_increase=2,
    improvement_threshold=0.995,
    validation_frequency=None,
    drop_remainder=False,
    class_weight=None,
    select="error",
):
    """Each split is a pair of x [N, D] float64 and y [N]; examples in their order."""
    if drop_remainder:
        train, validation, test = (
            (x[: len(x) // batch_size * batch_size], y[: len(y) // batch_size * batch_size])
            for x, y in (train, validation, test)
        )
    x, y = train
    n_batches = -(-len(x) // batch_size)
    validation_frequency = validation_frequency or min(n_batches, patience // 2)
    W, b = np.zeros((x.shape[1], n_out)), np.zeros(n_out)
    best = Run(W, b, 0, -1, -1, np.inf, -1, [], [])
    best_figure = np.inf
    done = False
    epoch = 0
    while epoch < epochs and not done:
        epoch += 1
        for index in range(n_batches):
            rows = slice(index * batch_size, (index + 1) * batch_size)
            cost, W, b = step(W, b, x[rows], y[rows], learning_rate, l2, class_weight)
            best.costs.append(cost)
            iteration = (epoch - 1) * n_batches + index
            best.iterations = iteration + 1
            if (iteration + 1) % validation_frequency == 0:
                wrong, cost = measure(W, b, *validation)
                best.path.append((iteration, wrong, cost))
                predicted = (validation[0] @ W + b).argmax(axis=1)
                figure = {
                    "error": wrong / len(validation[1]), "cost": cost,
                    "balanced_error": balanced_error(predicted, validation[1]),
                }[select]  # fmt: skip
                if figure < best_figure:
                    if figure < best_figure * improvement_threshold:
                        patience = max(patience, iteration * patience_increase)
                    best_figure = figure
                    best.W, best.b, best.best_iteration = W, b, iteration
                    best.best_wrong, best.best_cost = wrong, cost
                    best.test_wrong = measure(W, b, *test)[0]
            if patience <= iteration:
                done = True
                break
    return best

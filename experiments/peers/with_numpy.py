"""The tutorial's run in NumPy."""

import numpy as np
import tutorial


def main() -> None:
    (train_x, train_y), validation, test = tutorial.load()
    learning_rate = np.float32(tutorial.LEARNING_RATE)
    W, b = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)
    rows = np.arange(tutorial.BATCH_SIZE)

    def train(steps: int) -> float:
        costs = np.empty(steps)
        for i in range(steps):
            x, y = train_x[i], train_y[i]
            p = x @ W
            p += b
            p -= p.max(axis=1, keepdims=True)
            np.exp(p, out=p)
            p /= p.sum(axis=1, keepdims=True)
            costs[i] = -np.log(p[rows, y]).mean()
            # The gradient with respect to the logits.
            p[rows, y] -= 1
            p *= learning_rate / len(x)
            np.subtract(W, x.T @ p, out=W)
            np.subtract(b, p.sum(axis=0), out=b)
        return float(costs.mean())

    def errors(split: tutorial.Split) -> int:
        return sum(np.count_nonzero((x @ W + b).argmax(axis=1) != y) for x, y in zip(*split, strict=True))

    result = tutorial.run(train, lambda: errors(validation), lambda: errors(test), lambda: (W.copy(), b.copy()))
    tutorial.report(result, numpy=np.__version__)


if __name__ == "__main__":
    main()

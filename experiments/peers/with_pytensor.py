"""The tutorial's run in PyTensor, the descendant of Theano: the tutorial's program, nearly as it stands there.

In the default mode, which compiles with Numba: what `pip install pytensor` brings has no BLAS for C programs.

What was tried, training alone, as seconds against those of this form: W as [784, 10] 1.15; classes first 1.9; labels as
indices 1.05; without trust_input 1.05; the gradient written out 0.97. Compiled as C with Debian's OpenBLAS 0.9, through
PyTorch 2.3, through JAX 70, since that copies all images at each call.
"""

import numpy as np
import pytensor
import pytensor.tensor as pt
import tutorial


def main() -> None:
    pytensor.config.floatX = "float32"
    W = pytensor.shared(np.zeros((10, 784), np.float32), "W")
    b = pytensor.shared(np.zeros(10, np.float32), "b")
    # Labels are one-hot rows: to sum over those costs less than to index, above all in the gradient.
    index, x, y = pt.lscalar("index"), pt.matrix("x"), pt.matrix("y")
    logits = x @ W.T + b
    cost = pt.mean(pt.logsumexp(logits, axis=1) - pt.sum(logits * y, axis=1))
    wrong = pt.sum(pt.neq(pt.argmax(logits, axis=1), pt.argmax(y, axis=1)))
    g_W, g_b = pt.grad(cost, [W, b])
    rate = np.float32(tutorial.LEARNING_RATE)

    def compiled(output: pt.TensorVariable, split: tutorial.Split, **options: list) -> pytensor.compile.Function:
        images = pytensor.shared(split.x, borrow=True, shape=split.x.shape)
        labels = pytensor.shared(np.eye(10, dtype=np.float32)[split.y], borrow=True)
        function = pytensor.function([index], output, givens={x: images[index], y: labels[index]}, **options)
        function.trust_input = True  # It gets `numbers`, which are what it would make of an int.
        return function

    train_split, validation, test = tutorial.load()
    train_model = compiled(cost, train_split, updates=[(W, W - rate * g_W), (b, b - rate * g_b)])
    validate_model, test_model = compiled(wrong, validation), compiled(wrong, test)
    numbers = [np.asarray(i) for i in range(len(train_split.y))]
    n_evaluated = len(validation.y)

    def train(steps: int) -> float:
        return float(np.mean([train_model(i) for i in numbers[:steps]]))

    def errors(model: pytensor.compile.Function) -> int:
        return int(sum(model(i) for i in numbers[:n_evaluated]))

    def parameters() -> list[np.ndarray]:
        return [W.get_value(), b.get_value()]

    # Numba compiles at the first call; then from the start.
    start = parameters()
    train(1)
    errors(validate_model), errors(test_model)
    W.set_value(start[0])
    b.set_value(start[1])
    result = tutorial.run(train, lambda: errors(validate_model), lambda: errors(test_model), parameters)
    tutorial.report(result, pytensor=pytensor.__version__)


if __name__ == "__main__":
    main()

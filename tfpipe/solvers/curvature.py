"""How sharply costs of minibatches bend where they bend most: up to which learning rate gradient descent is safe.

By Böhning (1992), "Multinomial logistic regression algorithm", the Hessian of a log loss in W and b is at most
(I - 11'/K) / 2 ⊗ x x' everywhere, with x the inputs of the example and a 1 for b. W and b begin at 0, and no step
changes their sums over the classes; where these are 0, the cost of n examples, with its penalty, bends by no more than
the largest eigenvalue of

    sum_i w[i] x[i] x[i]' / (2 n) + diag(l2, ..., l2, 0),

w being weights by their mean. A step with a learning rate above 2 / curvature may raise that cost. NumPy only.
"""

from collections.abc import Callable, Iterator

import numpy as np

from tfpipe.data.examples import Examples
from tfpipe.data.rows import BLOCK_BYTES
from tfpipe.data.scaling import Scaling
from tfpipe.pipeline.sampler import Sampler

# Lanczos comes near the largest eigenvalue from below. After so many steps at most 3 % were missing, mostly nothing: on
# minibatches of 12 sets, standardized or not, and of noise. Power iteration took up to 100 steps, and seemed to stand
# still 25 % below on one-hot rows.
_STEPS = 10
# Minibatches are taken until they have so many values: 8 of MNIST, in 30 ms. But so many at least, and at most.
_VALUES = 1 << 22
_LEAST, _MOST = 4, 32


def curvature(images: np.ndarray, weights: np.ndarray, scaling: Scaling, l2: float) -> float:
    """The largest eigenvalue of the bound, from below.

    The products are NumPy's own, in float64: by BLAS their bits would depend on the number of threads.

    Args:
      images: `[n, ...]`, as stored.
      weights: `[n]`, at least 0: what the examples count, by the mean of all for training.
      scaling: from images as stored to inputs.
      l2: of the penalty.
    """
    n_in = images[0].size
    step = max(1, BLOCK_BYTES // (8 * n_in))

    def scaled() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for begin in range(0, len(images), step):
            piece = slice(begin, begin + step)
            yield scaling.apply(images[piece]), weights[piece] / (2 * len(images))

    # A large minibatch is never held as float64.
    held = list(scaled()) if len(images) <= step else None

    def product(v: np.ndarray) -> np.ndarray:
        of_W, of_b = l2 * v[:-1], 0.0
        for x, weight in held or scaled():
            z = weight * (np.einsum("nd,d->n", x, v[:-1]) + v[-1])
            of_W += np.einsum("nd,n->d", x, z)
            of_b += z.sum()
        return np.append(of_W, of_b)

    return _largest_eigenvalue(product, n_in + 1)


def of_minibatches(
    examples: Examples, sampler: Sampler, weights: np.ndarray, scaling: Scaling, l2: float
) -> tuple[np.ndarray, np.ndarray]:
    """The curvatures of some of the minibatches that are trained first, `[m]`, and how many examples each has, `[m]`.

    Of an epoch that has many, its first, its last, which may have few examples, and others as far from each other.

    Args:
      examples: those for training.
      sampler: gives their minibatches.
      weights: `[C, N]`, columns of weights; the curvature is at least that of each head, whatever column it has.
      scaling: from images as stored to inputs.
      l2: of the penalty.
    """
    by_mean = (weights / weights.mean(axis=1, keepdims=True, dtype=np.float64)).max(axis=0)
    wanted = int(np.clip(_VALUES // (sampler.batch_size * examples.stored[0].size), _LEAST, _MOST))
    # In another order the same examples make other minibatches, if there are several.
    there = max(sampler.per_epoch, wanted) if sampler.shuffle and sampler.per_epoch > 1 else sampler.per_epoch
    found, counts = [], []
    for number in np.unique(np.linspace(0, there - 1, wanted).astype(int)).tolist():
        (places,), (count,) = sampler.take(number, 1)
        numbers = np.sort(places[:count])
        found.append(curvature(examples.take(numbers).images, by_mean[numbers], scaling, l2))
        counts.append(int(count))
    return np.array(found), np.array(counts)


def _largest_eigenvalue(product: Callable[[np.ndarray], np.ndarray], size: int) -> float:
    """Of a symmetric matrix without negative eigenvalues, by its products with vectors: Lanczos."""
    v, before, residual = np.random.default_rng(0).normal(size=size), np.zeros(size), 0.0
    v /= np.linalg.norm(v)
    diagonal, beside = [], []
    for _ in range(min(_STEPS, size)):
        w = product(v) - residual * before
        diagonal.append(v @ w)
        w -= diagonal[-1] * v
        residual = float(np.linalg.norm(w))
        beside.append(residual)
        if residual <= 1e-12 * max(diagonal):  # Nothing but rounding is left.
            break
        before, v = v, w / residual
    return float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside[:-1], -1))[-1])

"""What solvers take, made for tests: minibatches, what is minimized on them, and heads."""

import numpy as np
import tensorflow as tf

from tests import made
from tfpipe import TrainConfig
from tfpipe.data.scaling import by_pixel_max
from tfpipe.pipeline.spans import Span
from tfpipe.solvers.base import Group
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.sgd import Sgd

BY_255 = by_pixel_max(255.0)


def examples(minibatches=4, batch_size=10, shape=(4, 6), n_classes=3, seed=0):
    """Bytes `[T, B, D]` and labels `[T, B]`."""
    pixels, labels = made.images(minibatches * batch_size, shape, n_classes, seed)
    return pixels.reshape(minibatches, batch_size, -1), labels.reshape(minibatches, batch_size)


def span(images, counts=None, first=0):
    """A span of the minibatches `[T, B, D]`, all of which count."""
    n_minibatches, batch_size, n_in = images.shape
    numbers = np.arange(n_minibatches * batch_size).reshape(n_minibatches, batch_size)
    # The examples lie in reverse order, with one in front that is none of them.
    stored = np.concatenate([np.full((1, n_in), 99, images.dtype), images.reshape(-1, n_in)[::-1]])
    return Span(
        tf.constant(stored),
        tf.constant(numbers.size - numbers),
        tf.constant(numbers),
        tf.constant([batch_size] * n_minibatches if counts is None else counts, tf.int32),
        tf.constant(first, tf.int64),
        tf.constant(0),
        tf.constant(n_minibatches),
    )


def objective(labels, scaling=BY_255, arithmetic="float32", weights=None):
    """On the examples of such minibatches, with labels `[T, B]` and columns of weights `[C, T B]`."""
    labels = np.ravel(labels).astype(np.int32)
    weights = np.ones((1, labels.size)) if weights is None else weights
    return Objective.of(scaling, labels, np.asarray(weights, np.float32), labels.size, arithmetic)


def sgd(frequency=1):
    """That validates every `frequency` steps."""
    config = TrainConfig(learning_rate=0.13, epochs=frequency, batch_size=1, validation_frequency=frequency)
    return Sgd(config, made.splits(n_train=1))


def group(settings, n_in=24, n_out=3, dtype=np.float32, column=None):
    """Heads at zero, one for each pair of a learning rate and an L2."""
    n_heads = len(settings)
    rates, l2 = np.transpose(settings)
    return Group(
        tf.Variable(np.zeros((n_heads, n_out, n_in), dtype)),
        tf.Variable(np.zeros((n_heads, n_out), dtype)),
        {"learning_rate": tf.constant(rates, dtype), "l2": tf.constant(l2, dtype)},
        tf.constant([0] * n_heads if column is None else column, tf.int32),
        {name: tf.Variable(array) for name, array in sgd().slots(n_heads, n_out, n_in).items()},
    )

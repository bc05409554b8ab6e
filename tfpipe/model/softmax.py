"""Softmax regression: the formulas.

Conventions. N examples or B of a minibatch, D inputs, K classes, H heads (models that are computed side by side).

    logits    z[h, k, n] = sum_d W[h, k, d] x[n, d] + b[h, k]
    P(y = k | x)         = softmax_k(z) = exp(z[k]) / sum_j exp(z[j])
    negative log-likelihood of an example = -log P(y | x) = log sum_j exp(z[j]) - z[y]
    the cost is its mean over the minibatch
    its gradient         : dz = (softmax(z) - onehot(y)) / B,  dW[h, k, d] = sum_n dz[h, k, n] x[n, d],  db = sum_n dz

W is held class by class, `[H, K, D]`: its gradient is then the product `dz x`, 130 microseconds for a minibatch of
600 MNIST images on one CPU core; as `x^T dz`, for `[D, K]`, it is 326. Examples come last in z: what is done to each
class is then done to many examples at once: 10.4 ms an epoch of MNIST, in blocks of 150, where classes last took 12.4.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfpipe.compute import int8


def logits(x: tf.Tensor, W: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`[B, D]` inputs, `[H, K, D]` and `[H, K]` parameters -> `[H, K, B]`, by one matrix product for all heads.

    Inputs of bfloat16 are multiplied with W rounded to bfloat16, and summed in float32. Inputs of int8 stand for bytes:
    see `compute.int8`.
    """
    heads, n_out, n_in = W.shape
    rows = tf.reshape(W, [heads * n_out, n_in])
    if x.dtype == tf.int8:
        z = int8.of_bytes(rows, x)
    elif x.dtype == tf.bfloat16:
        z = _rounded_product(rows, x)
    else:
        z = tf.matmul(rows, x, transpose_b=True)
    return tf.reshape(z, [heads, n_out, -1]) + b[..., tf.newaxis]


@tf.custom_gradient
def _rounded_product(W: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None]]]:
    """W x^T for `[R, D]` float32 and `[B, D]` bfloat16. TensorFlow's own gradient would be a product in float32."""

    def gradient(dz: tf.Tensor) -> tuple[tf.Tensor, None]:
        return tf.matmul(tf.cast(dz, tf.bfloat16), x, output_type=tf.float32), None

    return tf.matmul(tf.cast(W, tf.bfloat16), x, transpose_b=True, output_type=tf.float32), gradient


def log_losses(z: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """-log P(y | x) of each head and example: `[H, K, B]` logits, `[B]` labels in [0, K) (others: NaN) -> `[H, B]`."""
    is_label = tf.range(z.shape[1], dtype=y.dtype)[:, tf.newaxis] == y
    of_label = tf.reduce_sum(tf.where(is_label, z, tf.zeros([], z.dtype)), axis=1)
    is_class = tf.reduce_any(is_label, axis=0)
    largest = tf.stop_gradient(tf.reduce_max(z, axis=1))
    largest = tf.where(tf.math.is_finite(largest), largest, tf.zeros([], z.dtype))
    # Not reduce_logsumexp(z) less the label's: that loses what a small loss is beside large logits.
    above = tf.math.log(tf.reduce_sum(tf.exp(z - largest[:, tf.newaxis]), axis=1))
    return tf.where(is_class, above + (largest - of_label), tf.constant(np.nan, z.dtype))


def predictions(z: tf.Tensor) -> tf.Tensor:
    """The most probable class, of equals the first: `[H, K, B]` logits -> `[H, B]` int32."""
    return tf.argmax(z, axis=1, output_type=tf.int32)


def confidences(z: tf.Tensor) -> tf.Tensor:
    """The probability of the most probable class: `[H, K, B]` logits -> `[H, B]`, in (0, 1]."""
    return tf.exp(tf.reduce_max(z, axis=1) - tf.reduce_logsumexp(z, axis=1))

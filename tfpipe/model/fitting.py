"""Pictures to a size within a TensorFlow graph, to the bit as `data.sizes` brings them there with Pillow."""

from typing import NamedTuple

import tensorflow as tf

# Pillow resizes by whole multiples of 2^-22.
_UNIT = 1 << 22


def inscribed(outer: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """As `data.sizes.inscribed`; sizes are `[2]` int64."""
    across, along = shape[::-1], outer[::-1]
    return tf.minimum(outer, tf.maximum((2 * along * shape + across) // (2 * across), 1))


class Reduced(NamedTuple):
    """As `data.sizes.Reduced`: `size` `[2]` int64, `scale` `[]` int64, `begin` `[2]` float64."""

    size: tf.Tensor
    scale: tf.Tensor
    begin: tf.Tensor


def fitted(picture: tf.Tensor, size: tuple[int, int], fit: str, around: int, reduced: Reduced) -> tf.Tensor:
    """As `data.sizes.fitted`.

    Args:
      picture: `[h, w, C]` float64, whole numbers from 0 to 255.
      size: H and W.
      fit: `stretch`, `crop` or `pad`.
      around: the value of the ground of `pad`.
      reduced: says how it was decoded, also where `scale` is 1.

    Returns:
      `[H, W, C]` float64, whole numbers from 0 to 255.
    """
    wanted, scale = tf.constant(size, tf.int64), tf.cast(reduced.scale, tf.float64)
    part = inscribed(reduced.size, wanted) if fit == "crop" else reduced.size
    begin = reduced.begin + tf.cast((reduced.size - part) // 2, tf.float64) / scale
    resized = inscribed(wanted, reduced.size) if fit == "pad" else wanted
    for side, product in ((1, "Xx,yxc->yXc"), (0, "Yy,yxc->Yxc")):
        pixels_of_each = tf.cast(part[side], tf.float64) / scale / tf.cast(resized[side], tf.float64)
        weights = _weights(tf.shape(picture, tf.int64)[side], resized[side], begin[side], pixels_of_each)
        # Sums below 2^31 and a half: exact in float64.
        picture = tf.floor((tf.einsum(product, weights, picture) + _UNIT // 2) / _UNIT)
    if fit == "pad":
        before = (wanted - resized) // 2
        margins = tf.pad(tf.stack([before, wanted - resized - before], axis=1), [[0, 1], [0, 0]])
        picture = tf.pad(picture, margins, constant_values=around)
    return tf.ensure_shape(picture, [*size, picture.shape[2]])


def _weights(n_in: tf.Tensor, n_out: tf.Tensor, begin: tf.Tensor, pixels_of_each: tf.Tensor) -> tf.Tensor:
    """`[n_out, n_in]` float64, whole numbers: what each pixel counts in each of the resized, in units of 2^-22.

    A triangle around its centre, of a half-width of one pixel of the coarser of the two.
    """
    centres = begin + (tf.cast(tf.range(n_out), tf.float64) + 0.5) * pixels_of_each
    distances = tf.abs(tf.cast(tf.range(n_in), tf.float64) + 0.5 - centres[:, tf.newaxis])
    triangles = tf.maximum(1 - distances / tf.maximum(pixels_of_each, 1), 0)
    return tf.floor(triangles / tf.reduce_sum(triangles, axis=1, keepdims=True) * _UNIT + 0.5)

"""The model as a reader of the Theano tutorial knows it."""

from typing import TYPE_CHECKING, Self

import numpy as np
import tensorflow as tf

from tfpipe.model import softmax

if TYPE_CHECKING:
    import keras  # A second, and who trains needs none of it.


class SoftmaxRegression(tf.Module):
    """The tutorial's LogisticRegression: `n_in` inputs, `n_out` classes, all parameters zero at the start.

    Every method takes images `[N, ...]` of any shape with `n_in` values each and of any numeric type, and labels `[N]`,
    integers in `[0, n_out)`. Raises ValueError for other shapes and types. A label out of range gives NaN.

    Attributes:
      W: variable `[n_in, n_out]` of `dtype`: float32 or float64. Column k is the template of class k.
      b: variable `[n_out]` of `dtype`.
    """

    def __init__(self, n_in: int, n_out: int, dtype: tf.DType = tf.float32):
        super().__init__()
        self.W = tf.Variable(tf.zeros([n_in, n_out], dtype), name="W")
        self.b = tf.Variable(tf.zeros([n_out], dtype), name="b")

    @classmethod
    def from_arrays(cls, W: np.ndarray, b: np.ndarray) -> Self:
        """The model with these parameters, `[n_in, n_out]` and `[n_out]`."""
        n_in, n_out = W.shape
        model = cls(n_in, n_out, tf.as_dtype(W.dtype))
        model.W.assign(W)
        model.b.assign(b)
        return model

    def to_keras(self) -> "keras.Sequential":
        """The same model in Keras' own layers, compiled for labels as numbers: rows `[N, n_in]` -> `predict_proba`.

        To train it further: `model.to_keras().fit(x, y)`.
        """
        import keras

        layers = keras.layers
        dense = layers.Dense(self.W.shape[1], "softmax", dtype=self.W.dtype.name, name="softmax_regression")
        model = keras.Sequential([keras.Input(self.W.shape[:1], dtype=self.W.dtype.name), dense])
        dense.set_weights([self.W.numpy(), self.b.numpy()])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    @classmethod
    def from_keras(cls, model: "keras.Model") -> Self:
        """The way back: of a sequence of Flatten and Dropout layers, if any, and a Dense one with a bias and softmax.

        Raises:
          ValueError: it has other layers, or in another order.
        """
        import keras

        layers = keras.layers
        *before, last = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
        is_dense = isinstance(last, layers.Dense) and last.use_bias
        activation = keras.activations.serialize(last.activation) if is_dense else None
        if activation != "softmax" or not all(isinstance(layer, (layers.Flatten, layers.Dropout)) for layer in before):
            names = ", ".join(type(layer).__name__ for layer in (*before, last))
            raise ValueError(f"layers {names}; expected Flatten or Dropout, if any, and Dense with a bias and softmax")
        return cls.from_arrays(*last.get_weights())

    def predict_proba(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """P(y = k | x): `[N, n_out]`, in [0, 1], rows sum to 1."""
        return tf.nn.softmax(tf.transpose(self._logits(images)[0]))

    def predict(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The most probable class of each image: `[N]`, int32."""
        return softmax.predictions(self._logits(images))[0]

    def negative_log_likelihood(self, images: np.ndarray | tf.Tensor, labels: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The cost: the mean of -log P(y | x) over the images. A scalar, at least 0; differentiable in W and b."""
        z = self._logits(images)
        return tf.reduce_mean(softmax.log_losses(z, _checked_labels(labels, z)))

    def errors(self, images: np.ndarray | tf.Tensor, labels: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The share of wrong predictions: a scalar in [0, 1]."""
        z = self._logits(images)
        predicted = tf.cast(softmax.predictions(z)[0], tf.int64)
        return tf.reduce_mean(tf.cast(predicted != _checked_labels(labels, z), tf.float32))

    def _logits(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        images = tf.convert_to_tensor(images)
        if images.shape.rank is None or images.shape.rank < 2 or images.shape[1:].num_elements() != self.W.shape[0]:
            raise ValueError(f"images of shape {images.shape}: expected [N, ...] with {self.W.shape[0]} values each")
        x = tf.reshape(tf.cast(images, self.W.dtype), [-1, self.W.shape[0]])
        return softmax.logits(x, tf.transpose(self.W)[tf.newaxis], self.b[tf.newaxis])


def _checked_labels(labels: np.ndarray | tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """`[N]` int64. Raises ValueError unless the labels are integers, one for each row of the logits `z`."""
    labels = tf.convert_to_tensor(labels)
    if not labels.dtype.is_integer or not labels.shape.is_compatible_with(z.shape[2:]):
        raise ValueError(f"labels of shape {labels.shape}, type {labels.dtype.name}: expected {z.shape[2]} integers")
    return tf.cast(labels, tf.int64)  # In 32 bits 2**32 would be 0.

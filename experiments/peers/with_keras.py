"""The tutorial's run in Keras, on TensorFlow: `fit` with each epoch as one execution, and a callback that ends it.

`fit` ends after an epoch, not inside it: epoch 74 has 83 steps here, where the tutorial's has 82. As there, no
validation comes after it.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # On JAX it took 0.93 of the time.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
import tutorial


class EarlyStopping(keras.callbacks.Callback):
    """The tutorial's. Keras's own counts epochs, and its patience does not grow."""

    def __init__(self, validation: tutorial.Split, test: tutorial.Split):
        super().__init__()
        self._validation, self._test = (
            (tf.constant(split.x.reshape(tutorial.N_EVALUATED, -1)), split.y.ravel()) for split in (validation, test)
        )

    def errors(self, x: tf.Tensor, y: np.ndarray) -> int:
        # In one go: 2 ms. `evaluate` takes 8 for a Dataset, and 55 for an array.
        return int(np.count_nonzero(self.model.predict_on_batch(x).argmax(axis=1) != y))

    def compile(self) -> None:
        self.errors(*self._validation)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._stopping = tutorial.EarlyStopping(
            lambda: self.errors(*self._validation), lambda: self.errors(*self._test), self.model.get_weights
        )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        iterations = (epoch + 1) * tutorial.BATCHES
        if self._stopping.left(iterations - tutorial.BATCHES) >= tutorial.BATCHES:
            self._stopping.validate(iterations)
        if not self._stopping.left(iterations):
            self.model.stop_training = True
            self.result = self._stopping.result(iterations, logs["loss"] if logs else np.nan)


def main() -> None:
    train_split, validation, test = tutorial.load()
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, kernel_initializer="zeros")])
    model.compile(
        optimizer=keras.optimizers.SGD(tutorial.LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
        steps_per_execution=tutorial.BATCHES,
    )
    # Minibatches as they are: arrays with batch_size=600, whose rows `fit` gathers one by one, took 1.5 times as long,
    # and with the autotuner every third epoch took twice as long. Bytes and a Rescaling layer: the same time.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    minibatches = tf.data.Dataset.from_tensor_slices(tuple(train_split)).with_options(options)
    stopping = EarlyStopping(validation, test)

    # Compiled here; then from the start.
    start = model.get_weights()
    model.fit(minibatches, shuffle=False, verbose=0)
    stopping.set_model(model)
    stopping.compile()
    model.set_weights(start)
    model.fit(minibatches, epochs=tutorial.MOST_EPOCHS, shuffle=False, callbacks=[stopping], verbose=0)
    tutorial.report(stopping.result, keras=keras.__version__, tensorflow=tf.__version__)


if __name__ == "__main__":
    main()

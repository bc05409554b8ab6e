"""What XLA takes for the two matrix products of each step of the tutorial's run, and nothing else.

    python floor.py float32|bytes|whole|integers

That is, for logits `z = W x^T` and gradient `z x`, 6,141 times, with the images in memory as float32; as bytes that are
cast on their way, in three parts by all threads or `whole` by one; or as bytes that are multiplied with the digits of W
and z, by one thread, which is faster there.
Without softmax, cost, validation or test. The floor is no law: it is what TensorFlow's XLA makes of these products, and
a program that shares the work out better can come below it.
"""

import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tutorial

from tfpipe.compute import cpu, int8

STEPS = 6141


def by_floats(W: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    # The fastest: float32 in 2 to 4 parts took 1.04 to 1.15 of the time, bytes in one by all threads 1.05.
    parts = tf.split(x, 3 if x.dtype == tf.uint8 and cpu.threads() > 1 else 1)
    if x.dtype == tf.uint8:
        parts = [tf.cast(part, tf.float32) / 256 for part in parts]
    # W as [784, 10] took 1.7 of the time.
    return tf.add_n([tf.matmul(tf.matmul(W, part, transpose_b=True), part) for part in parts])


def by_integers(W: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    x = int8.centered(x)
    with tf.GradientTape() as tape:
        tape.watch(W)
        z = int8.of_bytes(W, x)
    return tape.gradient(z, W, z) / 65536


def main(dtype: str) -> None:
    if dtype in ("whole", "integers"):
        tf.config.threading.set_intra_op_parallelism_threads(1)
    multiply = by_integers if dtype == "integers" else by_floats
    x = tutorial.load()[0].x
    images = tf.constant(x if dtype == "float32" else (x * 256).astype(np.uint8))

    @tf.function(jit_compile=True)
    def loop(W: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        i = tf.constant(0)
        while i < steps:
            gradient = multiply(W, tf.gather(images, i % tutorial.BATCHES))
            # Each step needs the one before, so that none can be left out or moved out of the loop.
            W -= 1e-6 * gradient
            i += 1
        return W

    W = tf.fill([10, x.shape[2]], 1e-3)
    loop(W, tf.constant(0))  # Compiled here.
    begin = time.perf_counter()
    W = loop(W, tf.constant(STEPS)).numpy()
    seconds = time.perf_counter() - begin
    if not np.isfinite(W).all() or np.ptp(W) == 0:
        raise SystemExit("the products were not computed, or overflowed")
    tutorial.report({"seconds": seconds, "iterations": STEPS}, tensorflow=tf.__version__)


if __name__ == "__main__":
    main(sys.argv[1])

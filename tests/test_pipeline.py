import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import made
from tfpipe import Examples
from tfpipe.pipeline import inputs, residency
from tfpipe.pipeline.inputs import MinibatchRows


class MinibatchRowsTest(parameterized.TestCase, tf.test.TestCase):
    def test_in_order_with_a_last_minibatch_that_is_not_full(self):
        rows = MinibatchRows(8, 3, drop_remainder=False)
        self.assertEqual((rows.per_epoch, rows.examples), (3, 8))
        taken, weight = rows.take(1, 3)
        self.assertAllEqual(taken, [[3, 4, 5], [6, 7, 7], [0, 1, 2]])
        self.assertAllEqual(weight, [[1, 1, 1], [1, 1, 0], [1, 1, 1]])

    def test_the_remainder_is_dropped_on_demand(self):
        rows = MinibatchRows(8, 3, drop_remainder=True)
        self.assertEqual((rows.per_epoch, rows.examples), (2, 6))
        taken, weight = rows.take(1, 2)
        self.assertAllEqual(taken, [[3, 4, 5], [0, 1, 2]])
        self.assertAllEqual(weight, np.ones((2, 3)))

    def test_fewer_examples_than_a_minibatch(self):
        self.assertEqual(MinibatchRows(2, 3, drop_remainder=True).per_epoch, 0)
        taken, weight = MinibatchRows(2, 3, drop_remainder=False).take(0, 1)
        self.assertAllEqual(taken, [[0, 1, 1]])
        self.assertAllEqual(weight, [[1, 1, 0]])

    @parameterized.product(n=[1, 7, 12, 100], batch_size=[1, 5, 12], seed=[0, 2**63 - 1])
    def test_a_shuffled_epoch_holds_every_example_once_in_an_order_of_its_own(self, n, batch_size, seed):
        rows = MinibatchRows(n, batch_size, drop_remainder=False, shuffle=True, seed=seed)
        epochs = []
        for epoch in range(3):
            taken, weight = rows.take(epoch * rows.per_epoch, rows.per_epoch)
            epochs.append(taken[weight == 1])
            self.assertAllEqual(np.sort(epochs[-1]), np.arange(n))
        if n == 100:
            self.assertNotAllEqual(epochs[0], epochs[1])
            self.assertNotAllEqual(epochs[1], epochs[2])

    def test_any_iteration_can_be_computed_from_its_number_alone(self):
        def make(seed):
            return MinibatchRows(50, 7, drop_remainder=False, shuffle=True, seed=seed)

        whole, _ = make(5).take(0, 40)
        for index in (39, 0, 23, 8, 7):
            self.assertAllEqual(make(5).take(index, 1)[0][0], whole[index])
        self.assertNotAllEqual(make(6).take(0, 1)[0], whole[:1])


class ChunkTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        pixels, labels = made.images(11, (2, 3))
        self.examples = Examples(pixels, labels)
        (self.stored,) = residency.store([self.examples])

    @parameterized.product(chunk=[1, 2, 3, 7], validation_frequency=[1, 3, 4, 5], at_hand=[True, False])
    def test_training_chunks_are_the_iterations_in_order_and_end_at_validations(
        self, chunk, validation_frequency, at_hand
    ):
        rows = MinibatchRows(11, 4, drop_remainder=False, shuffle=True, seed=3)
        expected, expected_weight = rows.take(0, 10)
        chunks = inputs.training_chunks(
            self.stored._replace(at_hand=at_hand),
            rows,
            iterations=10,
            validation_frequency=validation_frequency,
            chunk=chunk,
        )
        ends, images, labels, weight = [], [], [], []
        for item in chunks:
            steps = int(item.steps)
            self.assertEqual(item.images.shape, (11 if at_hand else chunk * 4, 6))
            self.assertEqual(int(item.first), sum(map(len, images)))
            images.append(tf.gather(item.images, item.rows).numpy()[:steps])
            labels.append(item.labels.numpy()[:steps])
            weight.append(item.weight.numpy()[:steps])
            ends.append(int(item.first) + steps)
        self.assertAllEqual(np.concatenate(images), self.examples.images.reshape(11, 6)[expected])
        self.assertAllEqual(np.concatenate(labels), self.examples.labels[expected])
        self.assertAllEqual(np.concatenate(weight), expected_weight)
        self.assertContainsSubset([*range(validation_frequency, 11, validation_frequency), 10], ends)

    def test_evaluation_chunks_start_over(self):
        rows = MinibatchRows(11, 4, drop_remainder=False)
        chunks = inputs.evaluation_chunks(self.stored, rows, chunk=2)
        firsts, steps = zip(*((int(c.first), int(c.steps)) for c in itertools.islice(chunks, 6)), strict=True)
        self.assertEqual(firsts, (0, 2, 0, 2, 0, 2))
        self.assertEqual(steps, (2, 1, 2, 1, 2, 1))

    @parameterized.parameters(
        # iterations, batch size, bytes of an image, parameters -> chunk
        (83, 600, 784, 7840, 42),  # 69 fit into 32 MiB; two chunks of 42 are 84.
        (83, 600, 0, 7840, 83),  # Only their numbers travel.
        (10, 600, 64, 640, 10),
        (10, 600, 1 << 20, 10, 1),  # One minibatch is larger than the bound.
        (100, 600, 64, 100 * 7840, 50),  # 53 take the time that a chunk may take.
    )
    def test_chunk_sizes_divide_the_iterations_with_little_waste(self, iterations, batch, image, parameters, expected):
        self.assertEqual(inputs.chunk_size(iterations, batch, image, parameters), expected)


if __name__ == "__main__":
    tf.test.main()

import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import made
from tests.test_steps import FOREVER, chunk
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.compute import int8
from tfpipe.compute.device import Device, Workers
from tfpipe.config import Head
from tfpipe.data.scaling import by_pixel_max
from tfpipe.pipeline import residency
from tfpipe.solvers.steps import Inputs, Trainer
from tfpipe.training import grid
from tfpipe.training.grid import Grid

HEADS = [Head(0.1, 0.0), Head(0.5, 0.0), Head(0.1, 0.1), Head(0.3, 0.0), Head(0.2, 0.2)]


class GridTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        pixels, labels = made.images(40)
        self.data = chunk(pixels.reshape(4, 10, -1), labels.reshape(4, 10))

    def grid(self, programs, heads=HEADS):
        workers = self.enter_context(Workers(Device("/CPU:0", "cpu", programs=programs)))
        return Grid(heads, 24, 3, Trainer(Inputs(by_pixel_max(255.0))), workers)

    @parameterized.parameters((1, [5]), (2, [3, 2]), (4, [2, 1, 1, 1]), (16, [1] * 5))
    def test_heads_train_in_groups_as_each_would_alone(self, programs, sizes):
        together = self.grid(programs)
        # The third stops after the first iteration.
        costs = together.train_chunk(self.data, np.array([FOREVER, FOREVER, 0, FOREVER, FOREVER]))
        self.assertEqual([len(group.b) for group in together.parameters()], sizes)
        W, b = grid.joined(together.parameters())
        self.assertEqual(costs.shape, (4, 5))
        for number, head in enumerate(HEADS):
            alone = self.grid(1, [head])
            last = np.array([0 if number == 2 else FOREVER])
            self.assertAllClose(alone.train_chunk(self.data, last)[:, 0], costs[:, number], rtol=1e-6)
            (parameters,) = alone.parameters()
            self.assertAllClose(parameters.W[0], W[number], rtol=0, atol=1e-7)
            self.assertAllClose(parameters.b[0], b[number], rtol=0, atol=1e-7)

    @parameterized.parameters(1, 2, 3)
    def test_some_heads_go_on_without_the_others(self, programs):
        heads, last = self.grid(programs), np.full(5, FOREVER)
        heads.train_chunk(self.data, last)
        numbers = np.array([0, 2, 4])
        some = heads.only(numbers)
        before, after = (grid.joined(part.parameters()) for part in (heads, some))
        self.assertAllEqual(after[0], before[0][numbers])
        self.assertAllEqual(after[1], before[1][numbers])
        some_costs = some.train_chunk(self.data, last[numbers])
        self.assertAllClose(some_costs, heads.train_chunk(self.data, last)[:, numbers], rtol=1e-6)
        for part, whole in zip(grid.joined(some.parameters()), grid.joined(heads.parameters()), strict=True):
            self.assertAllClose(part, whole[numbers], rtol=0, atol=1e-7)

    def test_parameters_that_were_read_stay_as_they_were(self):
        heads = self.grid(2)
        read = heads.parameters()
        heads.train_chunk(self.data, np.full(5, FOREVER))
        self.assertAllEqual(grid.joined(read)[0], np.zeros((5, 3, 24)))

    def test_many_groups_raise_no_alarm(self):
        with self.assertNoLogs("tensorflow", "WARNING"):
            self.grid(8, HEADS + HEADS).train_chunk(self.data, np.full(10, FOREVER))

    def test_bytes_in_groups(self):
        self.enter_context(mock.patch.object(int8, "_LEAST_SIZE", 0))
        scaling = by_pixel_max(255.0)
        parts = []
        for programs in (1, 3):
            workers = self.enter_context(Workers(Device("/CPU:0", "cpu", programs=programs)))
            program = Trainer(Inputs(scaling, multiplies_int8=True))
            heads = Grid(HEADS, 24, 3, program, workers)
            heads.train_chunk(self.data, np.full(5, FOREVER))
            parts.append(grid.joined(heads.parameters()))
        self.assertAllClose(parts[0], parts[1], rtol=0, atol=1e-8)


class ThreadsTest(parameterized.TestCase):
    def splits(self, shape, dtype):
        examples = Examples(np.zeros((600, *shape), dtype), np.arange(600) % 10)
        return Splits(examples, examples, examples, tuple("abcdefghij"))

    @parameterized.parameters(
        # Of the operations of a product, in millions: 1.6, 9.4 and 80.
        (1, (28, 28), 100, np.uint8, True, True),
        (1, (28, 28), 600, np.uint8, True, True),
        (1, (200, 200), 10, np.uint8, True, False),  # 8 million, but of floats: the minibatch is too small.
        (1, (28, 28), 600, np.uint8, False, False),  # Bytes that are multiplied as floats.
        (1, (28, 28), 600, np.float32, True, False),
        (1, (28, 28), 100, np.float32, True, True),
        (1, (200, 200), 100, np.uint8, True, False),
        # Of each of four programs: 1.6, 2 x 9.4, 4 x 9.4.
        (4, (28, 28), 100, np.uint8, True, True),
        (8, (28, 28), 600, np.uint8, True, True),
        (16, (28, 28), 600, np.uint8, True, False),
    )
    def test_small_programs_have_one_each(self, heads, shape, batch_size, dtype, multiplies_int8, expected):
        rates = tuple(np.linspace(0.1, 0.2, heads))
        config = TrainConfig(learning_rate=rates, batch_size=batch_size)
        place = Device("/CPU:0", "cpu", programs=4, multiplies_int8=multiplies_int8)
        self.assertEqual(grid.wants_one_thread(config, self.splits(shape, dtype), place), expected)

    def test_not_beside_a_gpu(self):
        splits = self.splits((8, 8), np.uint8)
        self.assertTrue(grid.wants_one_thread(TrainConfig(), splits, Device("/CPU:0", "cpu")))
        self.assertFalse(grid.wants_one_thread(TrainConfig(), splits, Device("/GPU:0", "gpu")))

    def test_a_file_that_memory_cannot_hold_is_read_by_all_threads(self):
        with tempfile.NamedTemporaryFile() as file:
            images = np.memmap(file, np.uint8, "w+", shape=(600, 8, 8))
            train = Examples(images, np.arange(600) % 10)
            splits = Splits(train, train, train, tuple("abcdefghij"))
            self.assertTrue(grid.wants_one_thread(TrainConfig(), splits, Device("/CPU:0", "cpu")))
            with mock.patch.object(residency, "available_memory", return_value=1000):
                self.assertFalse(grid.wants_one_thread(TrainConfig(), splits, Device("/CPU:0", "cpu")))


if __name__ == "__main__":
    tf.test.main()

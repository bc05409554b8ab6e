import os
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from tfpipe import Examples, Splits, TrainConfig
from tfpipe.compute.device import Device
from tfpipe.solvers.sgd import Sgd
from tfpipe.training.plan import wants_one_thread


def splits(shape, dtype):
    examples = Examples(np.zeros((600, *shape), dtype), np.arange(600) % 10)
    return Splits(examples, examples, examples, tuple("abcdefghij"))


class ThreadsTest(parameterized.TestCase):
    @parameterized.parameters(
        # Of the operations of a product, in millions: 1.6, 9.4 and 80.
        (1, (28, 28), 100, np.uint8, True, True),
        (1, (28, 28), 600, np.uint8, True, True),
        (1, (200, 200), 10, np.uint8, True, False),  # 8 million, but of floats: the minibatch is too small.
        (1, (28, 28), 600, np.uint8, False, False),  # Bytes that are multiplied as floats.
        (1, (28, 28), 600, np.uint8, False, True, False),  # In order.
        (1, (28, 28), 1000, np.uint8, False, False, False),
        (1, (28, 28), 600, np.float32, True, False),
        (1, (28, 28), 100, np.float32, True, True),
        (1, (200, 200), 100, np.uint8, True, False),
        # Several programs would take turns.
        (2, (28, 28), 100, np.uint8, True, False),
        (4, (28, 28), 100, np.float32, True, False),
    )
    def test_a_small_program_has_one(self, heads, shape, batch_size, dtype, multiplies_int8, expected, shuffle=True):
        rates = tuple(np.linspace(0.1, 0.2, heads))
        config = TrainConfig(learning_rate=rates, batch_size=batch_size, shuffle=shuffle)
        device = Device("/CPU:0", "cpu", programs=4, multiplies_int8=multiplies_int8)
        data = splits(shape, dtype)
        self.assertEqual(wants_one_thread(data, Sgd(config, data), device), expected)

    def test_not_beside_a_gpu(self):
        data = splits((8, 8), np.uint8)
        solver = Sgd(TrainConfig(), data)
        self.assertTrue(wants_one_thread(data, solver, Device("/CPU:0", "cpu")))
        self.assertFalse(wants_one_thread(data, solver, Device("/GPU:0", "gpu")))

    def test_a_file_that_memory_cannot_hold_is_read_by_all_threads(self):
        with tempfile.NamedTemporaryFile() as file:
            images = np.memmap(file, np.uint8, "w+", shape=(600, 8, 8))
            train = Examples(images, np.arange(600) % 10)
            data = Splits(train, train, train, tuple("abcdefghij"))
            solver = Sgd(TrainConfig(), data)
            self.assertTrue(wants_one_thread(data, solver, Device("/CPU:0", "cpu")))
            with mock.patch.object(os, "sysconf", return_value=100):  # A machine of 10,000 bytes.
                self.assertFalse(wants_one_thread(data, solver, Device("/CPU:0", "cpu")))


if __name__ == "__main__":
    absltest.main()

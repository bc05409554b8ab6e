import tensorflow as tf

from tests import made
from tfpipe import TrainConfig, device, training
from tfpipe.exceptions import DeviceError


class DeviceTest(tf.test.TestCase):
    def test_the_cpu_is_always_there(self):
        place = device.select("cpu")
        self.assertEqual((place.place, place.label), ("/CPU:0", "cpu"))
        with place.scope():
            self.assertIn("CPU:0", tf.Variable(0.0).device)

    def test_auto_takes_the_gpu_if_there_is_one(self):
        gpus = tf.config.list_physical_devices("GPU")
        self.assertEqual(device.select("auto").place, "/GPU:0" if gpus else "/CPU:0")

    def test_a_gpu_that_is_not_there_is_an_error_with_tensorflows_reason(self):
        if tf.config.list_physical_devices("GPU"):
            self.skipTest("this machine has a GPU")
        with self.assertRaisesRegex(DeviceError, r"--device=gpu: TensorFlow 2\..* finds no usable GPU: .{10}"):
            training.train(TrainConfig(device="gpu"), made.splits())

    def test_tf32_is_off_unless_asked_for_and_restored(self):
        enabled = tf.config.experimental.tensor_float_32_execution_enabled
        before = enabled()
        for tf32 in (False, True):
            with device.select("cpu", tf32=tf32).scope():
                self.assertEqual(enabled(), tf32)
            self.assertEqual(enabled(), before)


if __name__ == "__main__":
    tf.test.main()

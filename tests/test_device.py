from unittest import mock

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

    def test_auto_takes_the_cpu_where_there_is_no_gpu(self):
        self.assertEqual(device.select("auto").place, "/CPU:0")

    def test_a_gpu_that_is_not_there_is_an_error_with_tensorflows_reason(self):
        with self.assertRaisesRegex(DeviceError, r"device=gpu: TensorFlow 2\..* finds no usable GPU: .*cuInit"):
            training.train(TrainConfig(device="gpu"), made.splits())

    def test_the_memory_of_all_gpus_grows_and_one_that_does_not_work_is_an_error(self):
        gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in range(2)]
        with (
            mock.patch.object(tf.config, "list_physical_devices", return_value=gpus),
            mock.patch.object(tf.config.experimental, "set_memory_growth") as set_memory_growth,
            self.assertRaisesRegex(DeviceError, "device=gpu: the GPU does not work: .*CPU:0; device=cpu"),
        ):
            device.select("auto")
        self.assertEqual(set_memory_growth.call_args_list, [mock.call(gpu, True) for gpu in gpus])

    def test_tf32_is_off_unless_asked_for_and_restored(self):
        enabled = tf.config.experimental.tensor_float_32_execution_enabled
        before = enabled()
        for tf32 in (False, True):
            with device.select("cpu", tf32=tf32).scope():
                self.assertEqual(enabled(), tf32)
            self.assertEqual(enabled(), before)


if __name__ == "__main__":
    tf.test.main()

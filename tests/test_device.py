import os
import pathlib
import subprocess
import sys
import threading
from unittest import mock

import tensorflow as tf

from tests import made
from tfpipe import TrainConfig
from tfpipe.compute import device
from tfpipe.exceptions import DeviceError
from tfpipe.training import loop


class DeviceTest(tf.test.TestCase):
    def test_the_cpu_is_always_there(self):
        place = device.select("cpu")
        self.assertEqual((place.place, place.label, place.programs), ("/CPU:0", "cpu", device.cores()))
        with place.scope():
            self.assertIn("CPU:0", tf.Variable(0.0).device)

    def test_auto_takes_the_cpu_where_there_is_no_gpu(self):
        self.assertEqual(device.select("auto").place, "/CPU:0")

    def test_a_gpu_that_is_not_there_is_an_error_with_tensorflows_reason(self):
        with self.assertRaisesRegex(DeviceError, r"device=gpu: TensorFlow 2\..* finds no usable GPU: .*cuInit"):
            loop.train(TrainConfig(device="gpu"), made.splits())

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

    def test_a_processor_with_amx_is_known(self):
        for flags, expected in (("fpu avx512_vnni amx_int8 amx_tile", True), ("fpu avx512_vnni avx_vnni", False)):
            file = self.create_tempfile(content=f"processor\t: 0\nflags\t\t: {flags}\n")
            with mock.patch.object(device, "_CPU_INFO", pathlib.Path(file.full_path)):
                self.assertEqual(device.select("cpu").multiplies_int8, expected)
        with mock.patch.object(device, "_CPU_INFO", pathlib.Path("/nowhere")):
            self.assertFalse(device.select("cpu").multiplies_int8)

    def test_one_thread_unless_it_is_too_late(self):
        program = "from tfpipe.compute import device; import tensorflow as tf; {}; print(device.use_one_thread()); {}"
        asked = "print(tf.config.threading.get_intra_op_parallelism_threads())"
        for first, expected in (("0", "True\n1"), ("tf.add(1, 1)", "False\n0")):
            process = subprocess.run(
                [sys.executable, "-c", program.format(first, asked)], capture_output=True, text=True, check=True
            )
            self.assertEqual(process.stdout.strip(), expected)


class WorkersTest(tf.test.TestCase):
    def test_they_compute_on_the_device(self):
        program = (
            "import tensorflow as tf; from tfpipe.compute.device import Device, Workers\n"
            "cpu, = tf.config.list_physical_devices('CPU')\n"
            "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)\n"
            "with Workers(Device('/CPU:1', 'cpu')) as workers: print(workers.map(lambda a: tf.add(a, 1).device, [1]))"
        )
        process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertIn("CPU:1", process.stdout)

    def test_they_compute_side_by_side_and_answer_in_order(self):
        # A run trains three programs, and measures two splits with three programs each: none may wait for a thread.
        together = threading.Barrier(9, timeout=10)

        def compute(number):
            together.wait()
            return number

        with device.Workers(device.Device("/CPU:0", "cpu", programs=3)) as workers:
            measured = [workers.start(workers.map, compute, [number, 1, 2]) for number in (10, 20)]
            self.assertEqual(workers.map(compute, [5, 4, 3]), [5, 4, 3])
            self.assertEqual([future.result() for future in measured], [[10, 1, 2], [20, 1, 2]])
            with self.assertRaises(ZeroDivisionError):
                workers.map(lambda a: 1 // a, [1, 0])

    def test_the_cores_of_a_container(self):
        for content, expected in (
            ("max 100000", 64),
            ("200000 100000", 2),
            ("50000 100000", 1),
            ("9900000 100000", 64),
        ):
            file = self.create_tempfile(content=f"{content}\n")
            with (
                mock.patch.object(device, "_CPU_QUOTA", pathlib.Path(file.full_path)),
                mock.patch.object(os, "sched_getaffinity", return_value=set(range(64))),
            ):
                self.assertEqual(device.cores(), expected)


if __name__ == "__main__":
    tf.test.main()

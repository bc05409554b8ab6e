import contextlib
import multiprocessing
import os
import pathlib
import threading
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from tests.command import in_a_process
from tfpipe.compute import cpu, device
from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.exceptions import DeviceError

GPUS = [tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(2)]


class DeviceTest(tf.test.TestCase):
    def test_the_cpu_is_always_there(self):
        found = device.select("cpu")
        self.assertEqual((found.name, found.label, found.programs), ("/CPU:0", "cpu", cpu.cores()))
        self.assertFalse(found.is_gpu)
        self.assertEqual(found.multiplies_int8, cpu.has_amx())
        self.assertEqual(found.multiplies_bfloat16, cpu.has_bfloat16())
        with found.scope():
            self.assertIn("CPU:0", tf.Variable(0.0).device)

    def test_auto_takes_the_cpu_where_there_is_no_gpu(self):
        self.assertEqual(device.select("auto").name, "/CPU:0")

    def test_a_gpu_that_does_not_work_is_an_error_and_its_settings_are_left_alone(self):
        with (
            mock.patch.object(tf.config, "list_physical_devices", return_value=GPUS),
            mock.patch.object(tf.config.experimental, "set_memory_growth") as set_memory_growth,
            self.assertRaisesRegex(DeviceError, "device=gpu: the GPU does not work: .*CPU:0; device=cpu"),
        ):
            device.select("auto")
        set_memory_growth.assert_not_called()

    def test_the_memory_of_all_gpus_grows_where_it_is_asked_for(self):
        for error, expected in ((None, True), (RuntimeError("cannot be modified"), False)):
            with (
                mock.patch.object(tf.config, "list_physical_devices", return_value=GPUS),
                mock.patch.object(tf.config.experimental, "set_memory_growth", side_effect=error) as set_memory_growth,
            ):
                self.assertEqual(device.grow_gpu_memory(), expected)
            calls = [mock.call(gpu, True) for gpu in GPUS]
            self.assertEqual(set_memory_growth.call_args_list, calls if expected else calls[:1])

    def test_tf32_is_off_unless_asked_for_and_restored(self):
        enabled = tf.config.experimental.tensor_float_32_execution_enabled
        before = enabled()
        for tf32 in (False, True):
            with device.select("cpu", tf32=tf32).scope():
                self.assertEqual(enabled(), tf32)
            self.assertEqual(enabled(), before)


class CpuTest(tf.test.TestCase, parameterized.TestCase):
    def test_a_processor_with_amx_is_known(self):
        for flags, expected in (("fpu avx512_vnni amx_int8 amx_tile", True), ("fpu avx512_vnni avx_vnni", False)):
            core = f"processor\t: 0\nmodel name\t: Some CPU @ 2.1 GHz\nflags\t\t: {flags}\n\n"
            path = pathlib.Path(self.create_tempfile(content=core * 2).full_path)
            self.assertEqual((cpu.has_amx(path), cpu.processor(path)), (expected, "Some CPU @ 2.1 GHz"))
        self.assertFalse(cpu.has_amx(pathlib.Path("/nowhere")))
        self.assertIsInstance(cpu.processor(pathlib.Path("/nowhere")), str)

    def test_the_instructions_of_an_arm_processor_are_known(self):
        core = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd i8mm bf16\n\n"
        path = pathlib.Path(self.create_tempfile(content=core * 2).full_path)
        self.assertEqual(cpu.features(path), {"fp", "asimd", "i8mm", "bf16"})
        self.assertEqual((cpu.has_amx(path), cpu.has_bfloat16(path)), (False, False))

    @parameterized.parameters(
        ("fpu avx512f avx512_bf16 avx512_vnni", True),
        ("fpu avx512f avx512_bf16 amx_bf16 amx_int8", False),
        ("fpu avx512f avx512_vnni amx_int8", False),
        ("fpu avx2", False),
    )
    def test_a_processor_that_multiplies_bfloat16_is_known(self, flags, expected):
        content = f"processor\t: 0\nmodel name\t: Some CPU @ 2.1 GHz\nflags\t\t: {flags}\n\n" * 2
        path = pathlib.Path(self.create_tempfile(content=content).full_path)
        self.assertEqual(cpu.has_bfloat16(path), expected)
        found = Device("/CPU:0", "cpu", multiplies_bfloat16=cpu.has_bfloat16(path))
        for precision in ("float32", "float64"):
            found.check_precision(precision)
        with (
            contextlib.nullcontext()
            if expected
            else self.assertRaisesRegex(
                DeviceError,
                "^precision=bfloat16: is for GPUs and processors with AVX512_BF16: .*; take float32$",
            )
        ):
            found.check_precision("bfloat16")

    def test_the_cores_that_this_process_may_use(self):
        self.assertEqual(in_a_process(cores_of_one), 1)

    def test_one_thread_unless_it_is_too_late(self):
        self.assertEqual(in_a_process(use_one_thread), (True, 1, 1))
        self.assertEqual(in_a_process(compute_and_use_one_thread), (False, 0, cpu.cores()))

    def test_the_threads_of_calls_are_the_same(self):
        with cpu.a_thread_a_core() as first, cpu.a_thread_a_core() as second:
            self.assertIs(first, second)
        # Also where the same calls all want them, as many as there are, and none may wait for itself.
        self.assertEqual(sums_of_sums(), [0, 10, 20, 30] * cpu.cores())
        # The threads of a parent are none of its child's.
        self.assertEqual(in_a_process(sums_in_a_child), [[0, 10, 20, 30] * cpu.cores()] * 2)


def sums_of_sums():
    """The sums of products that threads have threads find."""

    def found(number):
        with cpu.a_thread_a_core() as threads:
            return sum(threads.map(lambda other: number * other, range(5)))

    with cpu.a_thread_a_core() as threads:
        return list(threads.map(found, [0, 1, 2, 3] * cpu.cores()))


def sums_in_a_child():
    of_parent = sums_of_sums()
    with multiprocessing.get_context("fork").Pool(1) as child:
        return [of_parent, child.apply_async(sums_of_sums).get(timeout=60)]


def cores_of_one():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return cpu.cores()


def use_one_thread():
    return cpu.use_one_thread(), tf.config.threading.get_intra_op_parallelism_threads(), cpu.threads()


def compute_and_use_one_thread():
    tf.add(1, 1)
    return use_one_thread()


class WorkersTest(tf.test.TestCase):
    def test_they_compute_on_the_device(self):
        (where,) = in_a_process(compute_on_a_second_device)
        self.assertIn("CPU:1", where)

    def test_they_compute_side_by_side_and_answer_in_order(self):
        # A run trains three programs, and measures two splits with three programs each: none may wait for a thread.
        together = threading.Barrier(9, timeout=600)

        def compute(number):
            together.wait()
            return number

        with Workers(Device("/CPU:0", "cpu", programs=3)) as workers:
            measured = [workers.start(workers.map, compute, [number, 1, 2]) for number in (10, 20)]
            self.assertEqual(workers.map(compute, [5, 4, 3]), [5, 4, 3])
            self.assertEqual([future.result() for future in measured], [[10, 1, 2], [20, 1, 2]])
            with self.assertRaises(ZeroDivisionError):
                workers.map(lambda a: 1 // a, [1, 0])


def compute_on_a_second_device():
    (only,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(only, [tf.config.LogicalDeviceConfiguration()] * 2)
    with Workers(Device("/CPU:1", "cpu")) as workers:
        return workers.map(lambda number: tf.add(number, 1).device, [1])


if __name__ == "__main__":
    tf.test.main()

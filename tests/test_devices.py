"""Several devices of one process: those into which TensorFlow divides a CPU."""

import os
import pathlib
import tempfile
import unittest
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import tfpipe
from tests import made
from tests.command import in_a_process, result
from tests.command import tfpipe as command
from tfpipe import TrainConfig
from tfpipe.compute import cpu, device
from tfpipe.compute.device import Device
from tfpipe.compute.programs import Program
from tfpipe.compute.workers import Workers
from tfpipe.data import Examples
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import DeviceError
from tfpipe.solvers import sharing
from tfpipe.training import loop
from tfpipe.training.search_plan import SearchPlan

MNIST = os.environ.get("TFPIPE_MNIST_DIR")
# Rows, devices and programs. They are 1, 2, 8 and 16 blocks; of the last, 11 blocks have rows.
PASSES = ((1040, 3, 3),)
MANY_PASSES = tuple(
    (rows, count, count * of_each) for rows in (100, 150, 1003, 1040) for count in (2, 3, 4) for of_each in (1, 3)
)
# Heads, devices and programs.
GRIDS = ((3, 4, 4), (5, 2, 4), (5, 2, 8), (5, 3, 3), (16, 4, 4))


def divide(count):
    """Makes so many devices of the CPU. TensorFlow must not have begun to compute."""
    (only,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(only, [tf.config.LogicalDeviceConfiguration()] * count)


def divide_in_two():
    divide(2)


def several(count, programs=None):
    """So many devices, each with one program."""
    names = [f"/CPU:{number}" for number in range(count)]
    return Device(names[0], "cpu", programs=programs or count, others=tuple(names[1:]))


def selected():
    divide(3)
    found = [device.select("auto", strategy=strategy) for strategy in ("devices", "auto", "none")]
    return found, cpu.use_one_thread()  # Not any more, if TensorFlow had begun.


class SelectTest(tf.test.TestCase):
    def test_the_devices_of_a_cpu(self):
        (all_, auto, none), has_not_begun = in_a_process(selected)
        self.assertEqual((all_.name, all_.others, all_.words), ("/CPU:0", ("/CPU:1", "/CPU:2"), "3 x cpu"))
        self.assertEqual(all_.programs, 3 * max(1, cpu.cores() // 3))
        for one in (auto, none):
            self.assertEqual((one.name, one.others, one.words, one.programs), ("/CPU:0", (), "cpu", cpu.cores()))
        self.assertTrue(has_not_begun)

    def test_each_and_some_of_them(self):
        four = several(4, programs=8)
        self.assertEqual([(own.name, own.programs, own.others) for own in four.each][2:], [
            ("/CPU:2", 2, ()), ("/CPU:3", 2, ()),
        ])  # fmt: skip
        self.assertEqual(four.at_most(3), several(3, programs=6))
        self.assertEqual(four.at_most(9), four)
        self.assertEqual(Device("/CPU:0", "cpu", programs=5).at_most(1).programs, 5)

    def test_a_single_one_is_said(self):
        with self.assertRaisesRegex(
            DeviceError, "^strategy=devices: is for several devices, and this process has one CPU; leave it out, or "
        ):
            device.select("cpu", strategy="devices")

    def test_all_gpus_by_default(self):
        gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(3)]
        with (
            mock.patch.object(tf.config, "list_physical_devices", return_value=gpus),
            mock.patch.object(tf.config, "get_logical_device_configuration", return_value=None),
            mock.patch.object(tf.config.experimental, "get_device_details", return_value={"device_name": "A1"}),
            mock.patch.object(tf, "device") as scope,
            mock.patch.object(tf, "add", return_value=mock.Mock(device="/GPU:0")),
        ):
            found = device.select("auto", strategy="auto")
            self.assertEqual([call.args[0] for call in scope.call_args_list], ["/GPU:0", "/GPU:1", "/GPU:2"])
            self.assertEqual(device.select("auto", strategy="none").others, ())
        self.assertEqual((found.words, found.programs), ("3 x gpu (A1)", 3))
        self.assertEqual((found.name, *found.others), ("/GPU:0", "/GPU:1", "/GPU:2"))


class WorkersTest(tf.test.TestCase):
    def test_calls_are_dealt_and_find_what_was_copied(self):
        where, values, own, computed = in_a_process(dealt)
        self.assertEqual(where, [["CPU:0"] * 2, ["CPU:1"] * 2, ["CPU:2"] * 2, ["CPU:0"] * 2])
        self.assertEqual(values, [5, 6, 7, 8])
        self.assertEqual(own, ["CPU:0", "CPU:1", "CPU:2"])
        self.assertEqual(computed, [["CPU:0", 0], ["CPU:1", 2], ["CPU:2", 4], ["CPU:0", 6]])  # By one program.


def dealt():
    divide(3)
    with Workers(several(3)) as workers:
        shared = tf.constant(5)
        workers.copies.make({"a": [shared, None, "text"]})

        def add(nested, number):
            found = nested["a"][0] + number
            return [nested["a"][0].device[-5:], found.device[-5:]], int(found)

        calls = workers.map(add, [{"a": (shared, "text")}] * 4, range(4))
        own = [each.start(lambda: tf.constant(1).device[-5:]).result() for each in workers.each]
        double = Program(lambda x: 2 * x)
        products = workers.map(lambda number: double(tf.constant(number)), range(4))
    where, values = map(list, zip(*calls, strict=True))
    assert double.made == 1
    return where, values, own, [[product.device[-5:], int(product)] for product in products]


class PassesTest(parameterized.TestCase, tf.test.TestCase):
    def assert_the_same_bits(self, of_devices):
        for words, found, expected in in_a_process(passes_of_devices, of_devices):
            with self.subTest(words):
                for mine, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(mine, other)

    def test_the_same_bits_as_by_one_device(self):
        self.assert_the_same_bits(PASSES)

    @pytest.mark.exhaustive
    def test_the_same_bits_by_any(self):
        self.assert_the_same_bits(MANY_PASSES)


def passes_of_devices(of_devices):
    """Sums and losses, by several devices and by one, of rows between others."""
    divide(4)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2200, 30)).astype(np.uint8)
    W, b, column = random.normal(size=(2, 3, 30)), random.normal(size=(2, 3)), np.array([0, 1], np.int32)
    found = []

    every, scaling = Examples(images, random.integers(0, 3, len(images))), Scaling(np.full(30, 100.0), np.array(1 / 50))

    def measured(examples, weights, kind, devices):
        with Workers(devices) as workers:
            wanted = [sharing.Wanted(examples, weights, (kind,))]
            ((passes, objectives),) = sharing.placed(wanted, scaling, 6, workers, None)
            return [*passes.sums(objectives[kind], W, b, column), *passes.losses(objectives[kind], W, b)]

    for n, count, programs in of_devices:
        weights = np.stack([np.ones(n), random.integers(0, 3, n)]).astype(np.float32)
        examples = every.take(np.sort(random.choice(len(images), n, replace=False)))
        of = examples, weights, "float32" if count < 4 else "float64"
        expected = measured(*of, Device("/CPU:0", "cpu", programs=2))
        found.append((f"{n} rows, {count} devices", measured(*of, several(count, programs)), expected))
    return found


class FootprintTest(tf.test.TestCase):
    def test_devices_of_a_cpu_have_copies_of_their_rows(self):
        config, splits = TrainConfig(folds=0), made.splits(100, 40)
        one, two = (
            SearchPlan.of(config, splits, devices, loop.Pace()).bytes_in(0)
            for devices in (Device("/CPU:0", "cpu", programs=2), several(2))
        )
        # Of those that settings are tried on, and of those of the last fit.
        self.assertEqual(two - one, 2 * 140 * 24)

    def test_processes_have_a_part_of_the_rows_each(self):
        config, splits, device = TrainConfig(folds=0), made.splits(100, 40, 30), Device("/CPU:0", "cpu", programs=2)
        alone, of_five = (
            SearchPlan.of(config, splits, device, loop.Pace(), processes).bytes_in(0) for processes in (1, 5)
        )
        # Of the rows that are fitted, and of those of the last fit, a process has four of sixteen blocks at most.
        self.assertEqual(alone - of_five, (140 + 140) * 24 * 12 // 16)


class RunsTest(parameterized.TestCase, tf.test.TestCase):
    def assert_the_same_search(self, n_train, *counts):
        one, *others = in_a_process(searches, n_train, *counts)
        for other in others:
            self.assertEqual(other[1:], one[1:])
            np.testing.assert_array_equal(other[0], one[0])

    def test_a_search_ends_with_the_same_bits(self):
        self.assert_the_same_search(150, 4)  # In folds of 190 rows, two blocks.

    @pytest.mark.exhaustive
    def test_searches_end_with_the_same_bits(self):
        self.assert_the_same_search(600, 2, 3, 4)

    def assert_same_figures(self, found, expected, rtol):
        for mine, other in zip(found, expected, strict=True):
            self.assertEqual(mine.keys(), other.keys())
            for name, value in mine.items():
                if isinstance(value, float):
                    self.assertAllClose(value, other[name], rtol=rtol, atol=0, msg=name)
                else:
                    self.assertEqual(value, other[name], name)

    def test_a_grid_is_to_the_bit_that_of_one_device(self):
        in_part, *of_two, expected = in_a_process(shared_out)
        self.assertTrue(in_part["interrupted"])
        for found in of_two:
            self.assertEqual(found["selected"], expected["selected"])
            self.assert_same_figures(found["grid"], expected["grid"], rtol=0)
            self.assertAllEqual(found["W"], expected["W"])

    @pytest.mark.exhaustive
    def test_grids_are_those_of_one_device(self):
        for words, found, expected, is_exact in in_a_process(grids):
            with self.subTest(words):
                self.assertEqual(found["selected"], expected["selected"])
                self.assert_same_figures(found["grid"], expected["grid"], rtol=0 if is_exact else 1e-6)
                self.assertAllClose(found["W"], expected["W"], rtol=0, atol=0 if is_exact else 1e-6)

    @pytest.mark.exhaustive
    def test_heads_that_stop_leave_evenly(self):
        times, found, expected = in_a_process(left)
        self.assertEqual((times, found["programs"]), (1, 3))  # Four are left, on all devices.
        self.assert_same_figures(found["grid"], expected["grid"], rtol=1e-6)

    @pytest.mark.exhaustive
    def test_a_run_goes_on_with_other_devices_and_groups(self):
        interrupted, found, expected = in_a_process(gone_on)
        self.assertEqual(interrupted, [True, True, False])
        self.assert_same_figures(found, expected, rtol=1e-6)

    @pytest.mark.exhaustive
    def test_a_command(self):
        with tempfile.TemporaryDirectory() as folder:
            workdir = pathlib.Path(folder) / "run"
            flags = ("--strategy=devices", "--learning_rate=0.1,0.2", "--epochs=2", f"--workdir={workdir}")
            process = command("train", *flags, prepare=divide_in_two)
            self.assertEqual((result(process)["device"], result(process)["heads"]), ("2 x cpu", 2))
            self.assertIn("--strategy=devices\n", (workdir / "flags.txt").read_text())

    @parameterized.parameters((2, (0.13,)), (2, (0.01, 0.13, 0.05)), (4, (0.01, 0.5, 0.13, 0.05, 0.1, 0.2)))
    @pytest.mark.exhaustive
    @unittest.skipUnless(MNIST, "TFPIPE_MNIST_DIR names no folder with MNIST's IDX files")
    def test_the_tutorial(self, count, rates):
        head = in_a_process(tutorial, count, rates)[rates.index(0.13)]
        self.assertEqual((head["validation_error"], head["test_error"]), (720 / 9600, 719 / 9600))
        self.assertEqual((head["epochs"], head["iterations"], head["best_iteration"]), (74, 6141, 73 * 83 - 1))


def searches(n_train, *counts):
    divide(4)
    found = []
    for devices in (Device("/CPU:0", "cpu", programs=2), *map(several, counts)):
        run = loop.train(TrainConfig(), made.splits(n_train), device=devices)
        figures = [run.report[name] for name in ("certificate", "evaluations", "l2", "validation_cost")]
        found.append((run.model.W.numpy(), *figures))
    return found


def config(rates):
    return TrainConfig(learning_rate=rates, l2=(0.01,), batch_size=10, epochs=6, tensorboard=False)


def trained(devices, rates, workdir=None, **options):
    found = loop.train(config(rates), made.splits(), workdir, device=devices, **options)
    figures = {name: found.report[name] for name in ("selected", "grid", "interrupted")}
    return {"W": found.model.W.numpy(), **figures}


def shared_out():
    """Five heads in two groups: on two devices, not to the end; from there on on one; all on two; all on one."""
    divide(2)
    rates, short = (0.1, 0.5, 0.3, 0.05, 0.2), loop.Pace(span_validations=1)
    looks = iter([False, False, True])
    one, two = Device("/CPU:0", "cpu", programs=2), several(2)
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            trained(devices, rates, f"{folder}/run", should_stop=lambda: next(looks, False), pace=short)
            for devices in (two, one)
        ]
    return [*runs, *(trained(devices, rates, pace=short) for devices in (two, one))]


def grids():
    divide(4)
    found = []
    for heads, count, programs in GRIDS:
        rates = tuple(np.geomspace(0.01, 1.6, heads).tolist())
        words, mine = f"{heads} heads, {count} devices, {programs} programs", trained(several(count, programs), rates)
        as_many = Device("/CPU:0", "cpu", programs=min(programs, heads))
        found.append((words, mine, trained(as_many, rates), True))
        if heads == 16:
            found.append((f"{words}, and one", mine, trained(Device("/CPU:0", "cpu"), rates), False))
        if programs == 8:
            short = loop.Pace(span_bytes=4000)  # Neither split is measured in one span.
            found.append((f"{words}, by spans", trained(several(count, programs), rates, pace=short), mine, False))
    return found


def left():
    divide(3)
    rates = (1e38, 1e-4, 0.13, 0.02, 0.3)
    grid = TrainConfig(learning_rate=rates, l2=(0.0, 0.01), batch_size=10, patience=17, epochs=40, select="error")
    leaving = loop.Pace(flops_worth_leaving=1.0, span_validations=1)
    with unittest.TestCase().assertLogs("absl", "INFO") as log:
        found = loop.train(grid, made.splits(), device=several(3), pace=leaving).report
    times = sum("heads have stopped: the others go on" in line for line in log.output)
    return times, found, loop.train(grid, made.splits(), device=Device("/CPU:0", "cpu")).report


def gone_on():
    """Two heads that go on with one device in the place of four, and with four again; and without an end."""
    divide(4)
    rates, short = (0.1, 0.3), loop.Pace(span_validations=1)
    looks = iter([False, False, True, False, False, True])
    four, one = several(4), Device("/CPU:0", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            trained(devices, rates, f"{folder}/run", should_stop=lambda: next(looks, False), pace=short)
            for devices in (four, one, four)
        ]
    return [run["interrupted"] for run in runs], runs[-1]["grid"], trained(four, rates, pace=short)["grid"]


def tutorial(count, rates):
    divide(count)
    splits = tfpipe.load(MNIST, validation_split=10000, split_order="end", pixel_max=256.0)
    config = TrainConfig(learning_rate=rates, shuffle=False, drop_remainder=True, select="error", strategy="devices")
    return tfpipe.train(config, splits).report["grid"]


if __name__ == "__main__":
    tf.test.main()

"""Processes that share a run: how they find each other, what they say, what each sums; and whole runs of several."""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import cluster, made
from tests.command import result, tfpipe
from tests.own_rows import Together
from tfpipe import TrainConfig, load
from tfpipe import train as tfpipe_train
from tfpipe.compute import tf_config
from tfpipe.compute.device import Device
from tfpipe.compute.messages import Message
from tfpipe.compute.workers import Workers
from tfpipe.data import Examples
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import ClusterError
from tfpipe.pipeline import residency
from tfpipe.solvers import sharing
from tfpipe.solvers.objective import FIGURES
from tfpipe.solvers.sgd import Sgd
from tfpipe.training.assembly import Placed
from tfpipe.training.heads import Heads
from tfpipe.training.heads_follower import HeadsFollower
from tfpipe.training.measurement import Measurement
from tfpipe.training.plan import Pace, Plan
from tfpipe.training.shared_heads import SharedHeads, share
from tfpipe.training.snapshot import Snapshot

MNIST = os.environ.get("TFPIPE_MNIST_DIR")
FLAGFILE = pathlib.Path(__file__).parent.parent / "experiments" / "theano_tutorial.flags"
INTERRUPTED, FAILED = 143, 1
# Of exchanges, in bytes: as long as two before, shorter, longer; below and beyond what is expected, and what one holds.
LENGTHS = [0, 10, 9000, 10, 9000, 9001, 7, 4_000_000, 7, 4_000_001, 9000, 5_000_000, 0, 5_000_000, 4080, 4088, 4089]
GONE = "is gone, or does not answer; start all workers again: the same command goes on from the last state"


class TfConfigTest(parameterized.TestCase):
    def task(self, content):
        return tf_config.task({"TF_CONFIG": content if isinstance(content, str) else json.dumps(content)})

    def test_nobody_else_is_named(self):
        for environ in ({}, {"TF_CONFIG": " "}, {"TF_CONFIG": "{}"}):
            self.assertIsNone(tf_config.task(environ))
        alone = {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
        self.assertIsNone(self.task(alone))

    def test_ranks(self):
        cluster_of = {"worker": ["b:2", "[::1]:3"], "chief": ["a:1"]}
        found = [
            self.task({"cluster": cluster_of, "task": {"type": kind, "index": index}})
            for kind, index in (("chief", 0), ("worker", 0), ("worker", "1"))
        ]
        self.assertEqual([task.rank for task in found], [0, 1, 2])
        for task in found:
            self.assertEqual(task.addresses, ("a:1", "b:2", "[::1]:3"))
            ranks = [task.rank_of(*of) for of in (("chief", 0), ("worker", 0), ("worker", 1))]
            self.assertEqual(ranks, [0, 1, 2])
        self.assertEqual(found[0].port(2), ("::1", 3))
        self.assertEqual(found[0].name(1), "worker 1 (b:2)")

    @parameterized.parameters(
        ("{", "is no JSON"),
        ("[]", "names no cluster"),
        ({"cluster": {"ps": ["a:1"]}}, "the job ps"),
        ({"cluster": {"worker": "a:1"}}, "no list of addresses for worker"),
        ({"cluster": {"worker": ["a"]}}, "'a' for worker, which is no host:port"),
        ({"cluster": {"worker": ["a:0", "b:1"]}}, "'a:0'"),
        ({"cluster": {"worker": ["a:70000", "b:1"]}}, "'a:70000'"),
        ({"cluster": {"worker": ["a:1", "a:1"]}}, "names an address twice"),
        ({"cluster": {"worker": ["a:1", "b:1"]}}, "no task whose type"),
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}, "no task whose type"),
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}, "not one of the 2 of worker"),
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": True}}, "not one of the 2"),
        ({"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}, "more than one chief"),
    )
    def test_damaged(self, content, problem):
        with self.assertRaises(ClusterError) as caught:
            self.task(content)
        self.assertStartsWith(str(caught.exception), "TF_CONFIG ")
        self.assertIn(problem, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


class MessagesTest(parameterized.TestCase):
    def test_there_and_back(self):
        arrays = {
            "W": np.arange(6, dtype=np.float32).reshape(2, 3).T, "none": np.zeros((0, 3)), "wrong": np.array([True]),
            "number": np.array(7),
        }  # fmt: skip
        said = Message("sums", {"rows": "search.0", "nan": None}, arrays)
        heard = Message.unpacked(said.packed())
        self.assertEqual((heard.name, heard.facts), (said.name, said.facts))
        self.assertEqual([*heard.arrays], [*arrays])
        for name, array in arrays.items():
            self.assertEqual((heard.arrays[name].dtype, heard.arrays[name].shape), (array.dtype, array.shape))
            np.testing.assert_array_equal(heard.arrays[name], array)

    def test_nothing_but_numbers_is_read(self):
        packed = Message("sums", arrays={"W": np.zeros(2)}).packed().replace(b'"<f8"', b'"|O8"')
        with self.assertRaisesRegex(ValueError, "W holds no numbers"):
            Message.unpacked(packed)


class SharedPassesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((1003, 2), (1040, 7), (70, 2), (150, 4))
    def test_the_sums_of_one_process_to_the_bit(self, n, size):
        self.assert_the_sums_of_one_process(n, size)

    @parameterized.parameters((1003, 3), (1003, 4), (1040, 4), (1040, 16), (1040, 20))
    @pytest.mark.exhaustive
    def test_the_sums_of_one_process_by_any_number(self, n, size):
        self.assert_the_sums_of_one_process(n, size)

    def test_a_gpu_takes_its_own_rows(self):
        with (
            mock.patch.object(Device, "is_gpu", True),
            mock.patch.object(residency, "part", wraps=residency.part) as own,
        ):
            self.assert_the_sums_of_one_process(150, 2)
        self.assertEqual([call.args[1] for call in own.call_args_list], [slice(0, 96), slice(96, 150)])

    def assert_the_sums_of_one_process(self, n, size):
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (n, 30)).astype(np.uint8), random.integers(0, 3, n)
        weights = np.stack([np.ones(n), random.integers(0, 3, n)]).astype(np.float32)
        wanted = [sharing.Wanted(Examples(images, labels), weights, ("float64", "float32"))]
        scaling = Scaling(np.full(30, 100.0), np.array(1 / 50))
        W, b, column = random.normal(size=(2, 3, 30)), random.normal(size=(2, 3)), np.array([0, 1], np.int32)
        with Workers(Device("/CPU:0", "cpu", programs=2)) as workers:
            ((alone, objectives),) = sharing.placed(wanted, scaling, 6, workers, None)
            branches = [sharing.own_rows(wanted, scaling, 6, workers, rank, size)[0] for rank in range(size)]
            others = [lambda said, own=own: sharing.answer(said, {"rows": own}) for own in branches[1:]]
            shared = sharing.SharedPasses(branches[0], workers, sharing.Shared(Together(others), "rows"))
            for objective in objectives.values():
                for ours, theirs in zip(
                    shared.sums(objective, W, b, column), alone.sums(objective, W, b, column), strict=True
                ):
                    np.testing.assert_array_equal(ours, theirs)
                for ours, theirs in zip(shared.losses(objective, W, b), alone.losses(objective, W, b), strict=True):
                    np.testing.assert_array_equal(ours, theirs)
        # Each has rows of its own, and together they have all.
        own = [sum(branch.passes.n for branch in of) for of in branches]
        self.assertEqual(sum(own), n)
        self.assertGreater(own[0], 0)
        if n == 1003 and size == 2:
            self.assertEqual(own, [512, 491])


class SharedHeadsTest(tf.test.TestCase, parameterized.TestCase):
    """Heads of three processes, each of which is asked in turn, beside the same of one."""

    @parameterized.parameters((5, 3), (2, 3))
    def test_heads_are_shared_evenly_and_again_when_some_leave(self, n_heads, size):
        splits, device = made.splits(), Device("/CPU:0", "cpu", programs=1)
        config = TrainConfig(
            learning_rate=tuple(np.linspace(0.05, 0.3, n_heads).tolist()), l2=(0.1,), batch_size=10, epochs=10,
            validation_frequency=10, patience=1000, solver="sgd",
        )  # fmt: skip
        plan = Plan.of(splits, Sgd(config, splits), device, Pace(span_validations=1))
        sizes = n_heads, splits.n_out, splits.n_in
        at = Snapshot.at_first(plan.solver, sizes, plan.left_out, plan.begins, np.float32)
        with Workers(device) as workers:
            followers = [HeadsFollower(plan, workers, mock.Mock(rank=rank, size=size)) for rank in range(1, size)]
            shared = SharedHeads(
                plan.solver, plan.column, at, workers, Together([follower.answer for follower in followers])
            )
            alone = Heads(plan.solver, plan.column, at, workers)
            placed = Placed.of(plan, workers)
            spans = placed.spans(plan, placed.room(plan, fill_cores=True), 0)
            shared.compile(spans.nothing, placed.objective, 1)
            own = placed.validation.whole, placed.validation.objective, placed.test.whole, placed.test.objective
            for steps in (0, 10):
                span = spans.take(steps, steps + 10)
                last = np.full(len(alone), 1000)
                by = Measurement(*own, tf.constant(FIGURES.index("cost")), np.full(len(alone), 1.0))
                ours, theirs = (
                    heads.advance(span, placed.objective, last, 1, lambda by=by: by)() for heads in (shared, alone)
                )
                self.assertAllEqual(ours.numbers, theirs.numbers)
                self.assertAllClose(ours.costs, theirs.costs, rtol=1e-6)
                self.assertAllClose(ours.reports["cost"], theirs.reports["cost"], rtol=1e-6)
                for name in ("sums", "best_W", "best_b"):
                    self.assertAllClose(
                        getattr(ours.findings, name), getattr(theirs.findings, name), rtol=1e-5, atol=1e-7
                    )
                remain = np.arange(len(alone))[1:]
                for heads in (shared, alone):
                    heads.leave_only(remain)
                self.assertAllEqual(shared.numbers, np.arange(n_heads)[1 + steps // 10 :])
                ours, theirs = shared.snapshot(), alone.snapshot()
                self.assertAllEqual(ours.numbers, theirs.numbers)
                self.assertAllClose(ours.arrays["W"], theirs.arrays["W"], rtol=0, atol=1e-7)
                if len(alone) == 1:
                    break

    def test_shares(self):
        for n_heads, size, expected in ((5, 3, [2, 2, 1]), (2, 3, [1, 1, 0]), (16, 4, [4] * 4)):
            shares = [share(n_heads, rank, size) for rank in range(size)]
            self.assertEqual([len(own) for own in shares], expected)
            self.assertAllEqual(np.concatenate(shares), np.arange(n_heads))


class RunTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def run_of(self, count, name, *arguments, **options):
        """What processes came to that all end well."""
        workdir = self.folder / name
        commands = cluster.begun(count, "train", *arguments, f"--workdir={workdir}", "--notensorboard", **options)
        found = cluster.finished(commands)
        for process in found:
            self.assertEqual(process.returncode, 0, process.stderr)
        for process in found[1:]:
            self.assertEqual(process.stdout, "")
        return result(found[0]), workdir

    def assert_same_model(self, ours, theirs):
        with np.load(ours / "model.npz") as our, np.load(theirs / "model.npz") as their:
            for name in ("W", "b"):
                np.testing.assert_array_equal(our[name], their[name])

    def alone(self, name, *arguments):
        workdir = self.folder / name
        process = tfpipe("train", *arguments, f"--workdir={workdir}", "--notensorboard")
        self.assertEqual(process.returncode, 0, process.stderr)
        return result(process), workdir

    GRID = ("--dataset=digits", "--learning_rate=0.05,0.1,0.2", "--batch_size=50", "--distribute=heads")
    LONG = ("--epochs=6000", "--patience=1000000", "--checkpoint_every=0.5")
    PATH = ("--dataset=digits", "--distribute=rows")

    def begun(self, name, *arguments, count=2, **options):
        arguments = ("train", *arguments, f"--workdir={self.folder / name}", "--notensorboard")
        return cluster.begun(count, *arguments, **options)

    def wait_for(self, path):
        until = time.monotonic() + 120
        while not (path.exists() and path.stat().st_size):
            self.assertLess(time.monotonic(), until, f"{path} does not come")
            time.sleep(0.05)

    def assert_ended(self, commands, statuses, *lines, within=60):
        """All end in time with these statuses, and one line each where others are gone."""
        since = time.monotonic()
        found = cluster.finished(commands, timeout=within)
        self.assertLess(time.monotonic() - since, within)
        self.assertEqual([process.returncode for process in found], statuses)
        said = [process.stderr.splitlines()[-1] for process, status in zip(found, statuses, strict=True) if status > 0]
        for of_process, line in zip(said, lines, strict=True):
            self.assertStartsWith(of_process, "tfpipe train: ")
            self.assertIn(line, of_process)
        return found

    def assert_same_figures(self, ours, theirs):
        ours, theirs = (json.loads((path / "report.json").read_text()) for path in (ours, theirs))
        for name in ("selected", "iterations", "validation_error", "test_error", "confusion_matrix"):
            self.assertEqual(ours[name], theirs[name])
        for row, expected in zip(ours["grid"], theirs["grid"], strict=True):
            self.assertEqual(row.keys(), expected.keys())
            for name, value in row.items():
                if isinstance(value, float):
                    np.testing.assert_allclose(value, expected[name], rtol=1e-6)
                else:
                    self.assertEqual(value, expected[name])

    def test_one_is_stopped_and_the_run_goes_on_alone(self):
        arguments = (*self.GRID, "--epochs=2000", "--patience=1000000")
        commands = self.begun("run", *arguments)
        self.wait_for(self.folder / "run" / "metrics.jsonl")
        commands[1].send_signal(signal.SIGTERM)
        self.assertEqual([process.returncode for process in cluster.finished(commands)], [INTERRUPTED] * 2)
        done = json.loads((self.folder / "run" / "report.json").read_text())
        self.assertBetween(done["iterations"], 1, 2000 * 22 - 1)
        self.alone("run", *arguments)
        config = TrainConfig(
            learning_rate=(0.05, 0.1, 0.2), batch_size=50, epochs=2000, patience=1_000_000, tensorboard=False
        )
        tfpipe_train(config, load("digits"), self.folder / "whole")  # Here, for a start takes four seconds.
        self.assert_same_figures(self.folder / "run", self.folder / "whole")

    @pytest.mark.exhaustive
    def test_what_is_said_is_heard_however_long(self):
        of_all = cluster.addresses(3)
        script = [sys.executable, "-c", f"from tests import cluster; cluster.exchange({LENGTHS})"]
        processes = [
            subprocess.Popen(
                script, stdout=subprocess.PIPE, text=True, env=os.environ | cluster.tf_config(of_all, rank)
            )
            for rank in range(3)
        ]
        try:
            heard = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
        finally:
            for process in processes:
                process.kill()
        self.assertEqual(heard, [[cluster.said_by_all(number, length, 3) for number, length in enumerate(LENGTHS)]] * 3)

    @parameterized.parameters((2, 3), (4, 3), (4, 16), (3, 16))
    @pytest.mark.exhaustive
    def test_heads_are_what_they_are_alone(self, count, heads):
        arguments = ("--dataset=digits", f"--learning_rate=log:0.01:0.5:{heads}", "--batch_size=50", "--epochs=60")
        found, workdir = self.run_of(count, "shared", *arguments, "--distribute=heads")
        expected, of_one = self.alone("alone", *arguments)
        self.assert_same_figures(workdir, of_one)
        self.assertEqual(found["learning_rate"], expected["learning_rate"])

    @parameterized.parameters((cluster.failing_in_the_second_span, 1, 0), (cluster.failing_in_the_chief, 0, 1))
    @pytest.mark.exhaustive
    def test_what_goes_wrong_in_one_is_said_by_all(self, prepare, failing, other):
        commands = self.begun("run", *self.GRID, *self.LONG, count=3, prepare=prepare)
        found = cluster.finished(commands, timeout=60)
        self.assertEqual([process.returncode for process in found], [FAILED] * 3)
        own, told = (found[rank].stderr.splitlines()[-1] for rank in (failing, other))
        self.assertEqual(own, "tfpipe train: MemoryError: no memory left (--verbosity=1 shows where)")
        self.assertRegex(told, rf"^tfpipe train: worker {failing} \(.*\): MemoryError: no memory left$")

    @parameterized.parameters(("sgd", GRID), ("draws", (*PATH, "--bootstrap=10000")))
    @pytest.mark.exhaustive
    def test_one_is_stopped_again_and_again(self, name, arguments):
        more = self.LONG if name == "sgd" else ()
        count = 0
        for number in range(10):
            commands = self.begun("run", *arguments, *more)
            self.wait_for(self.folder / "run" / "checkpoints" / "lock")
            time.sleep(1 + 0.2 * number)
            commands[number % 2].send_signal(signal.SIGTERM)
            statuses = [process.returncode for process in cluster.finished(commands, timeout=60)]
            if statuses == [0, 0]:  # It was done already.
                break
            self.assertEqual(statuses, [INTERRUPTED] * 2)
            count += 1
        self.assertGreater(count, 2)
        _, workdir = self.alone("run", *arguments, *more)
        _, whole = self.alone("whole", *arguments, *more)
        if name == "sgd":
            self.assert_same_figures(workdir, whole)
        else:
            self.assert_same_model(workdir, whole)

    @parameterized.parameters(2, 3, 4)
    @pytest.mark.exhaustive
    def test_rows_give_the_same_bits(self, count):
        found, workdir = self.run_of(count, "shared", *self.PATH)
        expected, of_one = self.alone("alone", *self.PATH)
        self.assert_same_model(workdir, of_one)
        for name in ("l2", "certificate", "evaluations", "validation_error", "test_error"):
            self.assertEqual(found[name], expected[name])

    @pytest.mark.exhaustive
    def test_each_looks_at_the_values_of_its_rows(self):
        images = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
        images[210, 3] = np.nan
        np.save(self.folder / "images.npy", images)
        np.save(self.folder / "labels.npy", np.arange(400) % 3)
        arguments = (f"--dataset={self.folder / 'images.npy'}", f"--labels={self.folder / 'labels.npy'}")
        found = cluster.finished(self.begun("run", *arguments, "--distribute=rows"))
        self.assertEqual([process.returncode for process in found], [FAILED] * 2)
        problem = f"{self.folder / 'images.npy'}: row 210, column 3 is NaN; expected finite numbers"
        chief, other = (process.stderr.splitlines()[-1] for process in found)
        self.assertStartsWith(other, f"tfpipe train: {problem}")
        self.assertRegex(chief, r"^tfpipe train: worker 1 \(.*\): " + re.escape(problem))

    @pytest.mark.exhaustive
    def test_fewer_rows_than_processes(self):
        random = np.random.default_rng(0)
        images, labels = random.random((12, 5, 5), np.float32), np.arange(12) % 3
        np.savez(self.folder / "few.npz", images=images, labels=labels)
        arguments = (f"--dataset={self.folder / 'few.npz'}", "--l2=0.1,0.01", "--folds=2", "--distribute=rows")
        _, workdir = self.run_of(4, "shared", *arguments)
        _, of_one = self.alone("alone", *arguments)
        self.assert_same_model(workdir, of_one)

    @parameterized.parameters(2, 4)
    @unittest.skipUnless(MNIST, "TFPIPE_MNIST_DIR names no folder with MNIST's IDX files")
    @pytest.mark.exhaustive
    def test_the_tutorial(self, count):
        arguments = (f"--dataset={MNIST}", f"--flagfile={FLAGFILE}", "--learning_rate=0.13,0.001,0.01", "--epochs=80")
        _, workdir = self.run_of(count, "shared", *arguments, "--distribute=heads")
        row = json.loads((workdir / "report.json").read_text())["grid"][0]
        self.assertEqual(row["iterations"], 6141)
        self.assertEqual([round(9600 * row[name], 6) for name in ("validation_error", "test_error")], [720, 719])

    @parameterized.product(rank=(0, 1), solver=("sgd", "lbfgs"))
    @pytest.mark.exhaustive
    def test_one_is_killed_again_and_again(self, rank, solver):
        arguments = (*self.GRID, *self.LONG) if solver == "sgd" else (*self.PATH, "--tolerance=1e-9", "--bootstrap=200")
        lock, holder, killed = self.folder / "run" / "checkpoints" / "lock", "", 0
        for number in range(10):
            commands = self.begun("run", *arguments, "--checkpoint_every=0.1")
            self.wait_for(lock)
            while (now := lock.read_text()) in ("", holder):
                time.sleep(0.05)
            holder = now
            time.sleep(0.3 * number)
            commands[rank].send_signal(signal.SIGKILL)
            statuses = [FAILED, -signal.SIGKILL] if rank else [-signal.SIGKILL, FAILED]
            found = cluster.finished(commands, timeout=60)
            if [process.returncode for process in found] == [0, 0]:  # It was done already.
                break
            self.assertEqual([process.returncode for process in found], statuses)
            self.assertIn(f"worker {rank} (", found[1 - rank].stderr.splitlines()[-1])
            self.assertIn(GONE, found[1 - rank].stderr.splitlines()[-1])
            killed += 1
        self.assertGreater(killed, 2)
        _, workdir = self.alone("run", *arguments)
        _, whole = self.alone("whole", *arguments)
        if solver == "sgd":
            self.assert_same_figures(workdir, whole)
        else:
            self.assert_same_model(workdir, whole)

    def last_line_without(self, rank, number, commands):
        """What the other one of two says last, which fails when this one gets the signal."""
        commands[rank].send_signal(number)
        try:
            other = commands[1 - rank].finished(timeout=60)
        finally:
            commands[rank].kill()
            commands[rank].finished()
        self.assertEqual(other.returncode, FAILED)
        return other.stderr.splitlines()[-1]

    @parameterized.parameters(0, 1)
    @pytest.mark.exhaustive
    def test_one_stops_answering(self, rank):
        commands = self.begun("run", *self.GRID, "--epochs=1000000", "--patience=100000000")
        self.wait_for(self.folder / "run" / "metrics.jsonl")
        self.assertIn(GONE, self.last_line_without(rank, signal.SIGSTOP, commands))

    @parameterized.product(rank=(0, 1), number=(signal.SIGSTOP, signal.SIGKILL))
    @pytest.mark.exhaustive
    def test_one_is_gone_while_all_load(self, rank, number):
        of_all = cluster.addresses(2)
        loading = functools.partial(cluster.slow_to_load, self.folder)
        commands = self.begun("run", *self.GRID, of_all=of_all, prepare=loading)
        while len([*self.folder.glob("loads-*")]) < 2:
            time.sleep(0.02)
        gone = f"tfpipe train: worker {rank} ({of_all[rank]}) is gone, or does not answer; start all workers again"
        self.assertEqual(self.last_line_without(rank, number, commands), gone)

    @parameterized.parameters(0, 1)
    @pytest.mark.exhaustive
    def test_one_never_comes(self, rank):
        of_all = cluster.addresses(2)
        process = tfpipe("train", "--dataset=digits", f"--workdir={self.folder / 'run'}", timeout=60,
                         env=cluster.tf_config(of_all, rank))  # fmt: skip
        self.assertEqual(process.returncode, FAILED)
        missing = f"worker {1 - rank} ({of_all[1 - rank]}) did not come within 40 seconds; start all workers again"
        self.assertEqual(process.stderr, f"tfpipe train: {missing}\n")
        self.assertFalse((self.folder / "run").exists())

    @pytest.mark.exhaustive
    def test_a_port_that_is_in_use(self):
        with socket.socket() as port:
            port.bind(("", 0))
            port.listen()
            of_all = [f"127.0.0.1:{port.getsockname()[1]}", "127.0.0.1:1"]
            process = tfpipe("train", "--dataset=digits", env=cluster.tf_config(of_all, 0), cwd=self.folder)
        self.assertEqual(process.returncode, FAILED)
        self.assertIn(f"worker 0 ({of_all[0]}) cannot listen: Address already in use", process.stderr)

    @pytest.mark.exhaustive
    def test_processes_that_are_not_alike(self):
        splits = ("--split_seed=1", "--l2=0.1")
        for number, other in enumerate(splits):
            commands = self.begun(f"run{number}", *self.PATH, of_rank=lambda rank, other=other: (other,) * rank)
            for process in cluster.finished(commands):
                self.assertEqual(process.returncode, FAILED)
                self.assertRegex(
                    process.stderr, r"^tfpipe train: worker 1 \(.*\) has .*, as worker 0 \(.*\) has; start all"
                )
            self.assertFalse((self.folder / f"run{number}").exists())

    @pytest.mark.exhaustive
    def test_processes_of_other_versions(self):
        version = tfpipe("--version").stdout.strip()
        for process in cluster.finished(self.begun("run", *self.PATH, prepare=cluster.of_another_version)):
            self.assertEqual(process.returncode, FAILED)
            self.assertRegex(
                process.stderr,
                rf"^tfpipe train: worker 1 \(.*\) has tfpipe=0.0.1, not {version}, as worker 0 \(.*\) has; start all "
                "workers with the same flags, data and versions\n$",
            )
        self.assertFalse((self.folder / "run").exists())

    @parameterized.product(victim=(0, 1, 3), prepare=(cluster.killed_before_it_joins, cluster.killed_while_it_joins))
    @pytest.mark.exhaustive
    def test_one_is_killed_as_tensorflow_joins_them(self, victim, prepare):
        of_all = cluster.addresses(4)
        commands = self.begun(
            "run", *self.PATH, count=4, of_all=of_all, prepare=functools.partial(prepare, victim, self.folder)
        )
        found = cluster.finished(commands, timeout=60)
        for rank, process in enumerate(found):
            self.assertEqual(process.returncode, -signal.SIGKILL if rank == victim else FAILED)
            gone = f"tfpipe train: worker {victim} ({of_all[victim]}) {GONE} that was saved\n"
            self.assertEqual(process.stderr, "" if rank == victim else gone)
        self.assertEqual((cluster.left_behind(of_all[0]), cluster.listening(of_all)), ([], []))
        self.assertFalse((self.folder / "run").exists())

    @parameterized.parameters((None, 0), (signal.SIGTERM, INTERRUPTED), (signal.SIGKILL, 128 + signal.SIGKILL))
    @pytest.mark.exhaustive
    def test_nothing_is_left_behind(self, number, status):
        word, workdir = f"TFPIPE_TEST={self.folder}", self.folder / "run"
        length = self.LONG if number else ("--epochs=300", "--patience=1000000")
        command = ["launch", "--workers=2", "--", "train", *self.GRID, *length, f"--workdir={workdir}"]
        launch = subprocess.Popen(
            [sys.executable, "-m", "tfpipe", *command], env=os.environ | {"TFPIPE_TEST": str(self.folder)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.addCleanup(launch.wait)
        self.addCleanup(launch.kill)
        self.wait_for(workdir / "metrics.jsonl")
        workers = {}
        for pid in set(cluster.left_behind(word)) - {launch.pid}:
            environment = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0")
            config = json.loads(next(entry for entry in environment if entry.startswith("TF_CONFIG="))[10:])
            workers[config["task"]["index"]] = pid
            of_all = config["cluster"]["worker"]
        self.assertEqual(sorted(workers), [0, 1])
        self.assertEqual(cluster.listening(of_all), of_all)
        if number:
            os.kill(workers[1], number)
        self.assertEqual(launch.wait(timeout=60), status)
        self.assertEqual((cluster.left_behind(word), cluster.listening(of_all)), ([], []))

    @parameterized.parameters("heads", "rows")
    @pytest.mark.exhaustive
    def test_a_finished_run_is_asked_again_and_begun_anew(self, form):
        arguments = (*self.GRID, "--epochs=60") if form == "heads" else self.PATH
        found, workdir = self.run_of(2, "run", *arguments)
        first = self.folder / "first"
        shutil.copytree(workdir, first)
        kept = [workdir / name for name in ("model.npz", "metrics.jsonl")]
        before = [path.read_bytes() for path in kept], [path.stat().st_mtime_ns for path in kept]
        again, _ = self.run_of(2, "run", *arguments)
        self.assertEqual(again, found)
        self.assertEqual(([path.read_bytes() for path in kept], [path.stat().st_mtime_ns for path in kept]), before)
        anew, _ = self.run_of(2, "run", *arguments, "--noresume", "--overwrite")
        self.assertEqual(anew.keys(), found.keys())
        self.assertNotEqual([path.stat().st_mtime_ns for path in kept], before[1])
        self.assert_same_model(workdir, first)
        if form == "heads":
            self.assert_same_figures(workdir, first)

    @parameterized.parameters("heads", "rows")
    @pytest.mark.exhaustive
    def test_a_run_that_was_stopped_goes_on_with_another_number(self, form):
        arguments = (
            (*self.GRID, "--epochs=1500", "--patience=1000000")
            if form == "heads"
            else (*self.PATH, "--tolerance=1e-9", "--checkpoint_every=0.1")
        )
        _, whole = self.alone("whole", *arguments)
        commands = self.begun("run", *arguments)
        self.wait_for(self.folder / "run" / ("metrics.jsonl" if form == "heads" else "checkpoints/lock"))
        commands[1].send_signal(signal.SIGTERM)
        self.assertEqual([process.returncode for process in cluster.finished(commands)], [INTERRUPTED] * 2)
        self.assertNotEmpty(list((self.folder / "run" / "checkpoints").glob("*.npz")))
        for count in (1, 3, 4):
            name = f"by {count}"
            shutil.copytree(self.folder / "run", self.folder / name)
            if count == 1:
                _, workdir = self.alone(name, *arguments)
            else:
                _, workdir = self.run_of(count, name, *arguments)
            if form == "heads":
                self.assert_same_figures(workdir, whole)
            else:
                self.assert_same_model(workdir, whole)

    @pytest.mark.exhaustive
    def test_what_people_watch_is_the_chiefs(self):
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        arguments = ("train", *self.GRID, "--epochs=600", "--patience=1000000", "--profile")
        shared, alone = self.folder / "shared", self.folder / "alone"
        for process in cluster.finished(cluster.begun(2, *arguments, f"--workdir={shared}", cwd=elsewhere)):
            self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(tfpipe(*arguments, f"--workdir={alone}", cwd=elsewhere).returncode, 0)
        self.assertEqual(list(elsewhere.iterdir()), [])
        # One for each part of a run that TensorBoard shows, and the same other files.
        events = [sorted(str(path.parent.relative_to(run)) for path in run.rglob("events*")) for run in (shared, alone)]
        self.assertEqual(*events)
        self.assertLen(events[0], len(set(events[0])))
        self.assertEqual(*({path.name for path in run.iterdir()} for run in (shared, alone)))
        self.assertLen(list(shared.glob("tensorboard/plugins/profile/*/*.xplane.pb")), 1)
        last = []
        for run in (shared, alone):
            events = EventAccumulator(str(run / "tensorboard" / "validation"), {"tensors": 0}).Reload()
            last.append({tag: tf.make_ndarray(events.Tensors(tag)[-1].tensor_proto) for tag in ("cost", "error")})
        self.assertEqual(last[0]["error"], last[1]["error"])
        np.testing.assert_allclose(last[0]["cost"], last[1]["cost"], rtol=1e-6)


if __name__ == "__main__":
    absltest.main()

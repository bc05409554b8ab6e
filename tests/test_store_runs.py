"""Runs whose workdir lies on an object store: they go on anywhere, and lose nothing when the store fails."""

import dataclasses
import itertools
import json
import os
import pathlib
import random
import signal
import threading
from unittest import mock

import pytest
import tensorflow as tf
from absl.testing import parameterized
from fsspec.implementations.memory import MemoryFileSystem

from experiments.torture import differences
from tests import cluster, local_run, made
from tests.command import Command, in_a_process, result, tfpipe, tfpipe_afresh
from tests.object_store import KEY, SECRET, Died, ObjectStore, dying, half, stalled, unavailable
from tfpipe import TrainConfig
from tfpipe.compute.device import Device
from tfpipe.disk import mirror
from tfpipe.disk.mirror import Mirror
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import AbsentError, StoreError, WorkdirError
from tfpipe.stores.access import Limits, Store
from tfpipe.training import loop

CONFIG = TrainConfig(
    solver="sgd", batch_size=10, learning_rate=(0.3, 1e38, 0.01), epochs=4, validation_frequency=7, patience=25,
    device="cpu", checkpoint_every=0.0, select="error",
)  # fmt: skip
PACE = loop.Pace(span_bytes=3 * 10 * 16, span_validations=1)


def after(spans, do=lambda: True):
    """For `should_stop`: what `do` says when so many spans are trained."""
    calls = iter(range(10**6))
    return lambda: next(calls) == spans and do()


class StoreRunTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.address = f"memory://{type(self).__name__}.{self._testMethodName}"
        self.splits = made.splits()
        self.machines = itertools.count()
        self.enterContext(mock.patch.dict(os.environ))
        self.store = Store(self.address)

    def on_a_new_machine(self):
        """What follows finds nothing of the run but what the store has."""
        os.environ["TFPIPE_CACHE_DIR"] = str(self.folder / f"machine{next(self.machines)}")

    def train(self, should_stop=lambda: False, workdir=None, config=CONFIG, **options):
        return loop.train(
            config, self.splits, workdir or self.address, should_stop=should_stop, pace=PACE, **options
        )  # fmt: skip

    def on_the_store(self):
        """The run that the store has, fetched."""
        folder = self.folder / f"fetched{next(self.machines)}"
        Mirror(self.store, folder).fetch()
        return Workdir(folder)

    def clear(self):
        for name in self.store.list():
            self.store.remove(name)

    def assert_same(self, expected):
        self.assertEqual(differences(expected, self.on_the_store()), [])

    def whole(self, **options):
        self.train(workdir=self.folder / "whole", **options)
        return Workdir(self.folder / "whole")

    def test_a_run_goes_on_on_other_machines_as_if_nothing_had_happened(self):
        whole, parts = self.whole(), 0
        while True:
            self.on_a_new_machine()
            outcome = self.train(after(5))
            self.assertEqual(list(pathlib.Path(os.environ["TFPIPE_CACHE_DIR"], "runs").iterdir())[1:], [])
            if not outcome.report["interrupted"]:
                break
            parts += 1
        self.assertGreater(parts, 1)
        self.assert_same(whole)
        self.assertEqual(outcome.report["workdir"], self.address)
        self.assertEqual(json.loads(self.store.read("report.json")), json.loads(json.dumps(outcome.report)))
        self.assertIn(f"--workdir={self.address}", self.store.read("flags.txt").decode().splitlines())
        # What is finished is not trained again.
        self.on_a_new_machine()
        versions = self.store.list("versions")
        self.assertEqual(self.train(after(0, do=self.fail)).report, outcome.report)
        self.assertEqual(self.store.list("versions"), versions)

    def test_a_run_that_dies_at_some_operations_on_the_store(self):
        self.assert_goes_on_after_death(range(3, 1000, 41))

    @pytest.mark.exhaustive
    def test_a_run_that_dies_at_every_operation_on_the_store(self):
        self.assert_goes_on_after_death(range(1000))

    def assert_goes_on_after_death(self, places):
        whole, deaths = self.whole(), 0
        for place in places:
            self.clear()
            self.on_a_new_machine()
            try:
                with dying(place, is_done=place % 2 == 1):
                    self.train()
            except Died:
                deaths += 1
            else:
                break
            if place % 3:
                self.on_a_new_machine()
            self.train()
            self.assert_same(whole)
        self.assertGreater(deaths, 1)

    def test_a_store_that_fails_while_a_run_goes_on(self):
        whole = self.whole()
        self.on_a_new_machine()
        os.environ["TFPIPE_STORE_SECONDS"] = "0.24"  # Less than the shortest wait: nothing is tried twice.
        failing = mock.patch.object(MemoryFileSystem, "pipe_file", side_effect=ConnectionError(SECRET))
        with self.assertLogs("absl", "WARNING") as log, self.assertRaises(StoreError) as caught:
            try:
                self.train(after(3, do=lambda: not failing.start()))
            finally:
                failing.stop()
        said = "\n".join([*log.output, str(caught.exception)])
        self.assertRegex(
            said, "cannot be written: the connection failed .* the run goes on, and tries again after its next"
        )
        (folder,) = (path for path in pathlib.Path(os.environ["TFPIPE_CACHE_DIR"], "runs").iterdir() if path.is_dir())
        self.assertIn(f"all of the run is kept in {folder}, from where the same command goes on", str(caught.exception))
        self.assertNotIn(SECRET, said)
        # It was trained to its end, and kept.
        self.assertEqual(differences(whole, Workdir(folder)), [])
        self.assertNotIn("report.json", self.store.list())
        del os.environ["TFPIPE_STORE_SECONDS"]
        self.train(after(0, do=self.fail))
        self.assert_same(whole)
        self.assertFalse(folder.exists())

    def test_a_run_that_is_told_to_stop_waits_for_no_store(self):
        whole, released, looks = self.whole(), threading.Event(), itertools.count()
        self.on_a_new_machine()

        def stall(*_):
            released.wait(30)

        stalling = mock.patch.object(MemoryFileSystem, "pipe_file", stall)

        def should_stop():
            look = next(looks)
            if look == 3:
                stalling.start()
            return look >= 6

        self.addCleanup(released.set)
        with (
            mock.patch.multiple(mirror, _SECONDS_BETWEEN_LOOKS=0.5, _SECONDS_TO_STOP=0.01, _SECONDS_TO_END=0.01),
            self.assertRaisesRegex(StoreError, "after the run was told to stop; all of the run is kept in .*, from"),
        ):
            try:
                self.train(should_stop)
            finally:
                stalling.stop()
        self.assertFalse(released.is_set())
        (folder,) = (path for path in pathlib.Path(os.environ["TFPIPE_CACHE_DIR"], "runs").iterdir() if path.is_dir())
        self.assertEqual(json.loads((folder / "report.json").read_text())["interrupted"], True)
        self.train()
        self.assert_same(whole)

    def test_a_store_that_cannot_be_written_is_refused_at_once(self):
        self.on_a_new_machine()
        with (
            mock.patch.object(MemoryFileSystem, "pipe_file", side_effect=PermissionError),
            self.assertRaisesRegex(StoreError, "cannot be written: access is denied; give credentials"),
        ):
            self.train(after(0, do=self.fail))

    def test_two_runs_at_once_are_noticed(self):
        self.on_a_new_machine()

        def write():
            """As another process does that knows of all versions so far."""
            other = Mirror(Store(self.address), self.folder / "other")
            other.fetch()
            (self.folder / "other" / "metrics.jsonl").write_text("other\n")
            other.publish()
            return False

        with self.assertRaisesRegex(WorkdirError, f"workdir={self.address}: another process writes there"):
            self.train(after(3, do=write), config=dataclasses.replace(CONFIG, checkpoint_every=1e9))
        self.assertEqual((self.on_the_store().path / "metrics.jsonl").read_text(), "other\n")

    def test_another_run_is_refused_and_can_be_begun_anew(self):
        self.on_a_new_machine()
        self.train(after(3))
        other = dataclasses.replace(CONFIG, l2=0.1)
        self.on_a_new_machine()
        before = self.store.list()
        with self.assertRaisesRegex(WorkdirError, f"workdir={self.address}: holds a run with l2=0.0, not 0.1; give"):
            self.train(config=other)
        with self.assertRaisesRegex(WorkdirError, "holds a run .*--noresume would begin anew"):
            self.train(config=other, resume=False)
        self.assertEqual(self.store.list(), before)
        self.train(config=other, resume=False, overwrite=True)
        self.assert_same(self.whole(config=other))

    @pytest.mark.exhaustive
    def test_a_screened_grid(self):
        config = dataclasses.replace(
            CONFIG, precision="screen", learning_rate=(0.01, 1.0, 3.0), select="cost"
        )  # fmt: skip
        device = Device("/CPU:0", "cpu", programs=2, multiplies_bfloat16=True)
        self.splits = made.splits(n_validation=60)
        whole, parts = self.whole(config=config, device=device), 0
        while True:
            self.on_a_new_machine()
            if not self.train(after(5), config=config, device=device).report["interrupted"]:
                break
            parts += 1
        self.assertGreater(parts, 3)
        there = self.on_the_store()
        self.assertEqual(there.model.read_bytes(), whole.model.read_bytes())
        self.assertEqual(differences(Workdir(whole.screen), Workdir(there.screen)), [])


class CommandTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("file:///runs/1", "workdir=file:///runs/1: give the path as it is: /runs/1"),
        ("s3://key:secret@bucket/run", "workdir=s3://bucket/run: holds a user or a password; give them by AWS_"),
        ("https://host/run?signature=secret", "workdir=https://host/run: can be read, and not written; give"),
        ("memory://run", "workdir=memory://run: is gone when the command ends; give a folder, or an address of"),
        ("s3:/key:secret@bucket/run", "workdir=s3:/bucket/run: has one slash where an address has two; give s3://bucket"),
    )  # fmt: skip
    def test_where_no_run_can_be(self, address, problem):
        refused = tfpipe_afresh("train", "--dataset=digits", f"--workdir={address}")
        self.assertEqual(refused.returncode, 2)
        self.assertStartsWith(refused.stderr.strip(), f"tfpipe train: --{problem}")
        self.assertNotIn("secret", refused.stderr)
        self.assertEqual(refused.stderr.count("\n"), 1)


class LocalRunTest(tf.test.TestCase):
    def test_no_package_of_stores_is_imported(self):
        folder = self.create_tempdir().full_path
        self.assertEqual(in_a_process(local_run.packages, folder), [])
        self.assertTrue(pathlib.Path(folder, "report.json").exists())


class ServerTest(tf.test.TestCase, parameterized.TestCase):
    """With a server of S3 on loopback."""

    TRAIN = ("train", "--dataset=digits", "--device=cpu", "--workdir=s3://bucket/run")

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.server = self.enterContext(ObjectStore())
        self.enterContext(mock.patch.dict(os.environ, self.server.env))
        self.store = Store("s3://bucket/run", limits=Limits(call=0.75, whole=60.0, first_wait=0.01))
        self.env = self.server.env | {"TFPIPE_CACHE_DIR": str(self.folder / "cache")}

    def test_objects(self):
        self.store.write("a/b c.npz", b"0123456789")
        self.store.write("a/empty", b"")
        self.store.write("a/large", bytes(6 << 20))
        self.assertEqual(self.store.read("a/b c.npz", 3, 7), b"3456")
        self.assertEqual(self.store.read("a/empty"), b"")
        self.assertEqual(self.store.read("a/large"), bytes(6 << 20))
        self.assertEqual([*self.store.list("a")], ["b c.npz", "empty", "large"])
        self.assertEqual(self.store.list("a")["b c.npz"], self.store.info("a/b c.npz"))
        version = self.store.info("a/b c.npz").version
        self.store.write("a/b c.npz", b"9876543210")
        self.assertNotEqual(self.store.info("a/b c.npz").version, version)
        self.store.remove("a/empty")
        with self.assertRaisesRegex(AbsentError, "^s3://bucket/run/a/empty: cannot be read: there is no such object"):
            self.store.read("a/empty")
        with self.assertRaisesRegex(StoreError, "^s3://none/run/a: cannot be written: there is no such bucket; check"):
            Store("s3://none/run").write("a", b"")

    @parameterized.parameters(
        (unavailable, r"503 \(SlowDown\)"), (half, "5 bytes came|another checksum"), (stalled, "no answer within")
    )
    def test_faults(self, fault, problem):
        self.store.write("object", b"0123456789")
        numbers = itertools.count()
        self.server.fault = lambda handler: next(numbers) < 2 and fault(handler)
        with self.assertLogs("absl", "INFO") as log:
            self.assertEqual(self.store.read("object", 0, 10), b"0123456789")
        impatient = Store("s3://bucket/run", limits=self.store.limits._replace(whole=0.0))
        self.assertEqual(impatient.read("object", 0, 10), b"0123456789")
        self.server.fault = fault
        with self.assertRaisesRegex(StoreError, problem) as caught:
            impatient.read("object", 0, 10)
        self.assertLen(log.output, 1)
        self.assertRegex(log.output[0], f"s3://bucket/run/object: .*({problem}).*; tried again")
        for secret in (SECRET, KEY):
            self.assertNotIn(secret, f"{log.output[0]} {caught.exception}")

    def test_a_command_whose_store_fails_goes_on_later_and_tells_no_secret(self):
        numbers = itertools.count()
        self.server.fault = lambda handler: next(numbers) > 40 and unavailable(handler)
        arguments = (*self.TRAIN, "--l2=0.01", "--checkpoint_every=0")
        failed = tfpipe(*arguments, env=self.env | {"TFPIPE_STORE_SECONDS": "2"})
        self.assertEqual((failed.returncode, failed.stdout), (1, ""))
        (line,) = (line for line in failed.stderr.splitlines() if line.startswith("tfpipe train: "))
        self.assertRegex(
            line, r"s3://bucket/run/\S+: cannot be \w+: the store answers 503 \(.*all of the run is kept in /"
        )
        self.server.fault = lambda handler: False
        finished = tfpipe(*arguments, env=self.env)
        self.assertEqual(result(finished)["workdir"], "s3://bucket/run")
        self.assertIn("everything is in s3://bucket/run\n", finished.stderr)
        evaluated = tfpipe("evaluate", "--workdir=s3://bucket/run/", env=self.env)
        self.assertEqual(result(evaluated)["model"], "s3://bucket/run/model.npz")
        self.assertEqual(result(evaluated)["error"], result(finished)["test_error"])
        texts = [text for process in (failed, finished, evaluated) for text in (process.stdout, process.stderr)]
        contents = [self.store.read(name) for name in self.store.list()]
        contents += [path.read_bytes() for path in (self.folder / "cache").rglob("*") if path.is_file()]
        self.assertGreater(len(contents), 10)
        for content in [*(text.encode() for text in texts), *contents]:
            for secret in (SECRET, KEY):
                self.assertNotIn(secret.encode(), content)

    @pytest.mark.exhaustive
    def test_other_commands_take_runs_and_models_from_there(self):
        for l2 in (0.001, 1):
            result(tfpipe(*self.TRAIN[:3], f"--l2={l2}", f"--workdir=s3://bucket/run{l2}", env=self.env))
        compared = result(tfpipe("compare", "s3://bucket/run0.001", "s3://bucket/run1/", env=self.env))
        self.assertEqual([run["run"] for run in compared["runs"]], ["s3://bucket/run0.001", "s3://bucket/run1"])
        exported = {}
        for flag in ("--workdir=s3://bucket/run1", "--model=s3://bucket/run1/model.npz"):
            path = self.folder / f"{len(exported)}.npz"
            said = result(tfpipe("export", flag, "--format=npz", f"--output={path}", env=self.env))
            self.assertEqual(said["model"], "s3://bucket/run1/model.npz")
            exported[flag] = path.read_bytes()
        self.assertEqual(*exported.values())
        beside = tfpipe("export", "--workdir=s3://bucket/run1", "--format=npz", env=self.env)
        self.assertEqual(beside.returncode, 2)
        self.assertIn("--output=: give a path on this machine: beside s3://bucket/run1/model.npz", beside.stderr)

    @pytest.mark.exhaustive
    def test_a_run_that_is_killed_at_any_request_ends_the_same(self):
        self.assert_killed(20, "--solver=sgd", "--learning_rate=0.02,0.5", "--epochs=300", "--select=error")

    @pytest.mark.exhaustive
    def test_a_search_that_is_killed_at_any_request_ends_the_same(self):
        self.assert_killed(10)

    def assert_killed(self, kills, *options):
        arguments = (*self.TRAIN[:3], *options, "--checkpoint_every=0")
        address = f"s3://bucket/{self._testMethodName}"  # The servers of one process have the same objects.
        result(tfpipe(*arguments, f"--workdir={self.folder}/whole"))
        dice, killed, runs, machine = random.Random(7), 0, 0, 0
        while killed < kills:
            runs += 1
            arguments_here = (*arguments, f"--workdir={address}{runs}")
            while True:
                place, is_done, numbers = dice.randrange(160), dice.random() < 0.5, itertools.count()
                machine += dice.random() < 0.8  # Else the same machine goes on.
                process = []

                def kill(handler, place=place, is_done=is_done, numbers=numbers, process=process):
                    number = next(numbers)
                    if number < place:
                        return False
                    if number == place:
                        if is_done:
                            handler.passed_on()
                        process[0].send_signal(signal.SIGKILL)
                    return True

                self.server.fault = kill if killed < kills else lambda handler: False
                env = self.env | {"TFPIPE_CACHE_DIR": f"{self.folder}/machine{machine}"}
                process.append(Command(*arguments_here, env=env))
                finished = process[0].finished()
                status = finished.returncode
                self.server.fault = lambda handler: False
                killed += status == -signal.SIGKILL
                if status != -signal.SIGKILL:
                    self.assertEqual(status, 0, finished.stderr)
                    break
            folder = self.folder / f"fetched{runs}"
            Mirror(Store(f"{address}{runs}"), folder).fetch()
            self.assertEqual(differences(Workdir(self.folder / "whole"), Workdir(folder)), [])

    @pytest.mark.exhaustive
    def test_of_several_processes_the_chief_writes(self):
        arguments = ("--dataset=digits", "--device=cpu", "--l2=0.01,0.1", "--checkpoint_every=0")
        folders = [f"{self.folder}/whole", "s3://bucket/run"]
        for workdir in folders:
            commands = cluster.begun(2, "train", *arguments, f"--workdir={workdir}", env=self.env)
            chief, worker = cluster.finished(commands)
            self.assertEqual(result(chief)["workdir"], workdir)
            self.assertEqual((worker.returncode, worker.stdout), (0, ""))
        Mirror(self.store, self.folder / "fetched").fetch()
        self.assertEqual(differences(Workdir(folders[0]), Workdir(self.folder / "fetched")), [])


if __name__ == "__main__":
    tf.test.main()

"""Versions of a run on an object store: the newest valid one wins, whenever a process dies and whatever is damaged."""

import hashlib
import json
import os
import pathlib
import shutil
import threading
from unittest import mock

import pytest
from absl.testing import absltest, parameterized
from fsspec.implementations.memory import MemoryFileSystem

from tests.object_store import Died, dying
from tfpipe.disk import mirror as mirroring
from tfpipe.disk import staging
from tfpipe.disk.mirror import Mirror, discard, fetch
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, StoreError, WorkdirError
from tfpipe.stores import access
from tfpipe.stores.access import Limits, Store

FIRST = {"checkpoints/000000000000.npz": b"zero", "flags.txt": b"--seed=0\n"}
SECOND = {
    "checkpoints/000000000007.npz": b"seven", "flags.txt": b"--seed=0\n", "metrics.jsonl": b"{}\n",
    "screen/checkpoints/000000000003.npz": b"three", "tensorboard/train/events.out.tfevents.1": b"curve",
}  # fmt: skip
THIRD = {
    "checkpoints/000000000009.npz": b"nine", "flags.txt": b"--seed=0\n", "metrics.jsonl": b"{}\n{}\n",
    "report.json": b"{}",
}  # fmt: skip


class MirrorTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.tmp = pathlib.Path(self.create_tempdir().full_path)
        self.store = Store(f"memory://{type(self).__name__}.{self._testMethodName}", limits=Limits(whole=0))
        self.addCleanup(self.clear)

    def clear(self):
        for name in self.store.list():
            self.store.remove(name)

    def mirror(self, name="here", store=None):
        """As a process begins on a machine with that folder."""
        mirror = Mirror(store or self.store, self.tmp / name)
        mirror.fetch()
        return mirror

    def publish(self, mirror, contents, name="here", **options):
        """Publishes a folder that holds `contents`, and no other file that belongs to a run."""
        for path in self.files(name):
            (self.tmp / name / path).unlink()
        self.write(contents, name)
        mirror.publish(**options)

    def write(self, contents, name="here"):
        for path, content in contents.items():
            (self.tmp / name / path).parent.mkdir(parents=True, exist_ok=True)
            (self.tmp / name / path).write_bytes(content)

    def files(self, name="here"):
        """Of a folder, by their paths, but for what belongs to no run."""
        folder = self.tmp / name
        paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".version", "lock")]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def fetched(self, name):
        """What a machine finds that knows nothing of the run."""
        self.mirror(name)
        return self.files(name)

    def versions(self):
        return sorted(self.store.list("versions"))

    def held(self):
        """What each version on the store is made of."""
        for version in self.versions():
            made_of = json.loads(self.store.read(f"versions/{version}"))["files"]
            yield {path: self.store.read(f"files/{path}.{kept['sha256']}") for path, kept in made_of.items()}

    def damage(self, name):
        """Leaves half of an object."""
        content = self.store.read(name)
        self.store.write(name, content[: len(content) // 2])

    def test_another_machine_finds_what_was_published(self):
        mirror = self.mirror()
        self.write({"checkpoints/lock": b"", ".metrics.jsonl.7.new": b"half", "checkpoints/1.npz.damaged": b""})
        for contents in (FIRST, SECOND):
            self.write(contents)
            mirror.publish()
        self.assertEqual(self.fetched("there"), SECOND)
        self.assertEqual([name[:12] for name in self.versions()], ["000000000001", "000000000002"])
        self.assertNotIn("flags.txt", self.store.list())
        folder = self.tmp / "reader"
        fetch(self.store, folder, ("flags.txt", "model.npz"))
        self.assertEqual(self.files("reader"), {"flags.txt": b"--seed=0\n"})

    def test_what_does_not_change_is_not_written_again(self):
        mirror = self.mirror()
        self.publish(mirror, SECOND)
        before = self.versions()
        mirror.publish()
        self.assertEqual(self.versions(), before)
        with mock.patch.object(
            MemoryFileSystem, "pipe_file", autospec=True, side_effect=MemoryFileSystem.pipe_file
        ) as put:
            self.publish(mirror, SECOND | {"metrics.jsonl": b"more"})
        written = [call.args[1].split("/", 2)[2].split(".")[0] for call in put.call_args_list]
        self.assertEqual(written, ["files/metrics", "versions/000000000002"])

    def test_a_state_that_newer_ones_replace_meanwhile(self):
        mirror, read = self.mirror(), pathlib.Path.read_bytes
        self.write(SECOND)

        def read_bytes(path):
            if path.name == "000000000007.npz":
                path.rename(path.with_name("000000000009.npz"))
            return read(path)

        with mock.patch.object(pathlib.Path, "read_bytes", read_bytes):
            mirror.publish()
        states = [path for path in self.fetched("there") if path.startswith("checkpoints")]
        self.assertEqual(states, ["checkpoints/000000000009.npz"])

    def test_two_versions_stay_with_what_they_need(self):
        mirror = self.mirror()
        for number in range(5):
            self.publish(mirror, FIRST | {"metrics.jsonl": bytes(number)})
        self.assertEqual([int(name[:12]) for name in self.versions()], [4, 5])
        kept = [f"metrics.jsonl.{hashlib.sha256(bytes(number)).hexdigest()}" for number in (3, 4)]
        self.assertEqual([name for name in self.store.list("files") if "metrics" in name], sorted(kept))

    def test_files_lie_under_their_own_names_when_a_run_ends(self):
        mirror = self.mirror()
        self.publish(mirror, THIRD, ends=True)
        plain = {name for name in self.store.list() if not name.startswith(("files/", "versions/"))}
        self.assertEqual(plain, {path for path in THIRD if "checkpoints" not in path})
        self.assertEqual(self.store.read("metrics.jsonl"), THIRD["metrics.jsonl"])
        # The result of before is not that of a run that goes on.
        self.publish(mirror, SECOND)
        self.assertNotIn("report.json", self.store.list())
        self.assertIn("flags.txt", self.store.list())

    @parameterized.parameters("versions/", "files/checkpoints/", "files/metrics.jsonl")
    def test_the_newest_valid_version_wins(self, what):
        mirror = self.mirror()
        self.publish(mirror, FIRST)
        before = {*self.store.list()}
        self.publish(mirror, SECOND)
        self.damage(max(name for name in {*self.store.list()} - before if name.startswith(what)))
        with self.assertLogs("absl", "WARNING") as log:
            there = self.mirror("there")
        self.assertEqual(self.files("there"), FIRST)
        self.assertRegex(log.output[0], "is damaged; an older version is looked for")
        self.publish(there, FIRST | {"metrics.jsonl": b"other"}, "there")
        self.assertEqual(self.fetched("elsewhere"), FIRST | {"metrics.jsonl": b"other"})

    def test_who_wrote_a_version_that_was_damaged_goes_on_from_it(self):
        self.publish(self.mirror(), SECOND)
        self.damage(f"versions/{self.versions()[0]}")
        mirror = self.mirror()
        self.assertEqual(self.files(), SECOND)
        mirror.publish()
        self.assertEqual(self.fetched("there"), SECOND)

    def test_objects_that_are_gone_make_no_version(self):
        mirror = self.mirror()
        self.publish(mirror, FIRST)
        self.publish(mirror, SECOND)
        self.store.remove(next(f"files/{name}" for name in self.store.list("files") if "tensorboard" in name))
        with self.assertLogs("absl", "WARNING"):
            self.assertEqual(self.fetched("there"), FIRST)
        for name in self.store.list("files"):
            self.store.remove(f"files/{name}")
        with (
            self.assertLogs("absl", "WARNING"),
            self.assertRaisesRegex(WorkdirError, "no version of the run there is whole"),
        ):
            self.mirror("elsewhere")

    def test_what_the_folder_has_and_the_store_has_not_is_not_lost(self):
        self.publish(self.mirror(), FIRST)
        self.write(SECOND)
        self.assertFalse(Mirror(self.store, self.tmp / "here").holds_all())
        mirror = self.mirror()  # The process died before it could publish.
        self.assertEqual(self.files(), FIRST | SECOND)
        mirror.publish()
        self.assertEqual(self.fetched("there"), SECOND)
        self.assertTrue(mirror.holds_all())

    def test_a_folder_that_lags_behind_is_brought_up(self):
        self.publish(self.mirror(), FIRST)
        self.publish(self.mirror("there"), SECOND, "there")
        self.assertEqual(self.fetched("here"), SECOND)

    def test_of_two_that_both_went_on_neither_is_lost(self):
        self.publish(self.mirror(), FIRST)
        there = self.mirror("there")
        self.write(THIRD)
        self.publish(there, SECOND, "there")
        with self.assertRaisesRegex(
            WorkdirError, f"was gone on with from elsewhere, and {self.tmp}/here holds a state that is not there"
        ):
            self.mirror()
        self.assertEqual(self.files(), FIRST | THIRD)  # Nothing of it was touched.
        self.assertEqual(self.fetched("elsewhere"), SECOND)

    def test_two_at_once_are_noticed(self):
        here, there = self.mirror(), self.mirror("there")
        self.publish(here, FIRST)
        self.write(SECOND, "there")
        with self.assertRaisesRegex(WorkdirError, r"another process writes there \(version 1\); end one of both"):
            there.publish()
        self.assertEqual(self.fetched("elsewhere"), FIRST)
        self.publish(here, THIRD)
        self.assertEqual(self.fetched("nowhere"), THIRD)

    @parameterized.parameters("files/", "versions/")
    def test_of_two_at_once_neither_erases_the_other(self, begin):
        here, write, told = self.mirror(), Store.write, r"another process writes there \(version 2\); end one of both"
        self.publish(here, FIRST)
        there, alone = self.mirror("there"), threading.Lock()

        def write_later(store, path, content):
            """The other one ends just before."""
            with alone:  # Several files are written at once.
                if path.startswith(begin) and len(self.versions()) == 1:
                    with mock.patch.object(Store, "write", write):
                        self.publish(here, THIRD, ends=True)
            write(store, path, content)

        with mock.patch.object(Store, "write", write_later), self.assertRaisesRegex(WorkdirError, told):
            self.publish(there, SECOND, "there", ends=True)
        self.assertEqual((here.holds_all(), there.holds_all()), (True, False))
        self.assertCountEqual(self.held(), [FIRST, SECOND, THIRD])
        self.assertEqual(self.store.read("report.json"), THIRD["report.json"])
        with self.assertRaisesRegex(WorkdirError, told):
            self.publish(here, FIRST)
        # Whoever goes on, what the other one has stays.
        newest = self.fetched("elsewhere")
        self.assertIn(newest, (SECOND, THIRD))
        loser = "there" if newest == THIRD else "here"
        with self.assertRaisesRegex(WorkdirError, f"{loser} holds a state that is not there"):
            self.mirror(loser)
        elsewhere = self.mirror("elsewhere")
        for number in range(3):
            self.publish(elsewhere, newest | {"metrics.jsonl": bytes(number)}, "elsewhere")
        self.assertLen(self.versions(), 3)
        self.assertIn(SECOND if newest == THIRD else THIRD, [*self.held()])

    def test_what_is_of_no_run_stays(self):
        mirror = self.mirror()
        self.publish(mirror, FIRST)
        others = {"files/precious.bin", f"files/mine.{'0' * 64}", "versions/notes.txt", "own/data.npz"}
        for name in others:
            self.store.write(name, b"precious")
        for number in range(4):
            self.publish(mirror, FIRST | {"metrics.jsonl": bytes(number)}, ends=True)
        self.assertContainsSubset(others, self.store.list())

    @parameterized.parameters("files/precious.bin", "versions/1.json", "tensorboard/curve", "checkpoints/7.npz")
    def test_a_run_begins_only_where_nothing_is_in_its_way(self, name):
        self.store.write(name, b"precious")
        with self.assertRaisesRegex(WorkdirError, f"holds .*{name}.*; give another workdir"):
            self.mirror()
        self.store.remove(name)
        self.store.write(f"files/flags.txt.{'0' * 64}", b"")  # As a process leaves that died before its first version.
        self.store.write("notes.txt", b"")
        self.publish(self.mirror(), FIRST)
        self.assertEqual(self.fetched("there"), FIRST)

    @parameterized.parameters("files/flags.txt", "files/checkpoints/", "versions/")
    def test_an_object_that_is_lost_while_a_run_goes_on_is_written_again(self, begin):
        mirror = self.mirror()
        self.publish(mirror, FIRST)
        for contents in (FIRST, FIRST | {"metrics.jsonl": b"{}\n"}):
            self.store.remove(max(name for name in self.store.list() if name.startswith(begin)))
            self.publish(mirror, contents, ends=True)
            self.assertTrue(mirror.holds_all())
            self.assertEqual(self.fetched(f"there{len(contents)}"), contents)

    def test_a_store_that_loses_what_is_written_does_not_hold_all(self):
        mirror = self.mirror()
        self.write(FIRST)
        with (
            mock.patch.object(Store, "list", return_value={}),
            self.assertRaisesRegex(
                StoreError, r"files/\S+: was written, and is not there; all of the run is kept in .*/here"
            ),
        ):
            mirror.publish(ends=True)
        self.assertFalse(mirror.holds_all())

    @parameterized.parameters("flags.txt", "checkpoints")
    def test_a_folder_of_which_a_part_is_gone_is_fetched_anew(self, gone):
        self.publish(self.mirror(), FIRST)
        if gone == "checkpoints":
            shutil.rmtree(self.tmp / "here" / gone)
        else:
            (self.tmp / "here" / gone).unlink()
        self.assertEqual(self.fetched("here"), FIRST)

    def test_a_folder_is_removed_at_once(self):
        self.publish(self.mirror(), FIRST)
        unlink = os.unlink
        for place in range(3):
            left = iter(range(place))

            def unlink_or_die(path, left=left, **options):
                if next(left, None) is None:
                    raise Died
                unlink(path, **options)

            with mock.patch.object(os, "unlink", unlink_or_die), self.assertRaises(Died):
                discard(self.tmp / "here")
            self.assertEqual(self.fetched("here"), FIRST)
            self.assertCountEqual([path.name for path in self.tmp.iterdir()], ["here"])

    def test_who_goes_on_from_the_last_valid_version_keeps_the_folder(self):
        self.publish(self.mirror(), FIRST)
        other = self.mirror("there")
        self.publish(other, SECOND, "there")
        self.damage(f"versions/{self.versions()[-1]}")
        self.write(THIRD)
        with self.assertLogs("absl", "WARNING"):
            mirror = self.mirror()
        self.assertEqual(self.files(), FIRST | THIRD)
        mirror.publish()
        self.assertEqual(self.fetched("elsewhere"), THIRD)

    def test_a_run_that_was_removed_from_the_store(self):
        self.publish(self.mirror(), FIRST)
        self.clear()
        with self.assertRaisesRegex(
            WorkdirError, f"holds no run any more, and {self.tmp}/here does; remove that folder"
        ):
            self.mirror()

    def test_what_is_no_run_is_not_written_over(self):
        self.store.write("model.npz", b"")
        with self.assertRaisesRegex(WorkdirError, r"holds a run \(model.npz\) without its state; give another workdir"):
            self.mirror()

    @parameterized.parameters(
        "../flags.txt", "/etc/flags.txt", "a/../../b", ".bashrc", "a/.b", "", "a\0b", "checkpoints/.."
    )
    def test_a_version_names_nothing_outside(self, path):
        facts = {"format_version": 1, "files": {path: {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}}}
        self.assert_refused(facts, "no version of the run there is whole")

    @parameterized.parameters(
        ([], "no version"), ({}, "no version"), ({"format_version": 1, "files": [1]}, "no version"),
        ({"format_version": 1, "files": {"a": 7}}, "no version"),
        ({"format_version": 2, "files": {}}, "have format 2; this program reads 1"),
    )  # fmt: skip
    def test_a_version_that_is_none(self, facts, problem):
        self.assert_refused(facts, problem)

    def assert_refused(self, facts, problem):
        content = json.dumps(facts).encode()
        self.store.write(f"versions/{1:012}.{hashlib.sha256(content).hexdigest()}.json", content)
        with self.assertRaisesRegex(WorkdirError, problem):
            self.mirror()
        self.assertEmpty(self.files())

    def test_a_process_that_dies_at_some_operations_leaves_a_version(self):
        self.assert_leaves_a_version(range(1, 1000, 4))

    @pytest.mark.exhaustive
    def test_a_process_that_dies_at_any_operation_leaves_a_version(self):
        self.assert_leaves_a_version(range(1000))

    def assert_leaves_a_version(self, places):
        deaths = 0
        for is_done in (False, True):
            for place in places:
                self.clear()
                name = f"{is_done}{place}"
                mirror = self.mirror(name)
                self.publish(mirror, FIRST, name)
                self.publish(mirror, SECOND, name)
                try:
                    with dying(place, is_done):
                        self.publish(mirror, THIRD, name, ends=True)
                except Died:
                    deaths += 1
                else:
                    break
                elsewhere = self.fetched(f"{name}-elsewhere")
                self.assertIn(elsewhere, (SECOND, THIRD))
                # The same machine goes on from its folder, and after its next version nothing is left over.
                again = self.mirror(name)
                self.assertEqual(self.files(name), THIRD)
                again.publish(ends=True)
                self.assertEqual(self.fetched(f"{name}-again"), THIRD)
                self.publish(again, THIRD | {"flags.txt": b"--seed=1\n"}, name, ends=True)
                self.assertLen(self.versions(), 2)
                self.assertLen(self.store.list("files"), len(THIRD) + 1)
                plain = {path for path in self.store.list() if not path.startswith(("files/", "versions/"))}
                self.assertEqual(plain, {"flags.txt", "metrics.jsonl", "report.json"})
        self.assertGreater(deaths, 30 // places.step)

    def test_a_process_that_dies_while_it_fetches_leaves_nothing_that_counts(self):
        self.publish(self.mirror(), SECOND)
        for place in range(10**6):
            name = f"there{place}"
            try:
                with dying(place, is_done=True):
                    self.mirror(name)
            except Died:
                self.assertEqual(self.fetched(name), SECOND)
            else:
                break
        self.assertGreater(place, 8)


class StalledTest(parameterized.TestCase):
    """A run that is told to stop while its store gives no answer."""

    def setUp(self):
        super().setUp()
        cache = self.create_tempdir().full_path
        self.enterContext(mock.patch.dict(os.environ, {"TFPIPE_CACHE_DIR": cache, "TFPIPE_STORE_SECONDS": "60"}))
        self.enterContext(mock.patch.multiple(mirroring, _SECONDS_BETWEEN_LOOKS=0.01, _SECONDS_TO_STOP=0.02))
        self.enterContext(mock.patch.multiple(mirroring, _SECONDS_TO_END=0.02))
        self.released = threading.Event()
        self.addCleanup(self.released.set)

    def stall(self, *_, **__):
        self.released.wait(30)
        raise ConnectionError

    @parameterized.parameters(False, True)
    def test_it_ends_and_keeps_the_folder(self, ends):
        address = f"memory://{type(self).__name__}.{self._testMethodName}.{ends}"
        told = "no answer within 0 s after the run was told to stop; all of the run is kept in .*, from where the same"
        with (
            mock.patch.object(MemoryFileSystem, "pipe_file", self.stall),
            self.assertRaisesRegex(StoreError, told),
            staging.opened(address) as workdir,
        ):
            workdir.path.mkdir()
            workdir.flags.write_text("--seed=0\n")
            workdir.publish(ends=ends, stops=lambda: True)
        self.released.set()
        with staging.opened(address) as workdir:
            self.assertEqual(workdir.flags.read_text(), "--seed=0\n")
            workdir.publish(ends=True)


class StagingTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.cache = pathlib.Path(self.create_tempdir().full_path)
        self.enterContext(
            mock.patch.dict(os.environ, {"TFPIPE_CACHE_DIR": str(self.cache), "TFPIPE_STORE_SECONDS": "0.1"})
        )
        self.address = f"memory://{type(self).__name__}.{self._testMethodName}"

    def kept(self):
        return [path for path in (self.cache / "runs").iterdir() if path.is_dir()]

    def test_the_folder_is_gone_when_the_store_has_all(self):
        with staging.opened(f"{self.address}/") as workdir:
            self.assertEqual((workdir.name, workdir.full_name), (self.address, self.address))
            workdir.path.mkdir()
            workdir.flags.write_text("--seed=0\n")
            self.assertEqual(workdir.shown(workdir.flags), f"{self.address}/flags.txt")
            workdir.publish(ends=True)
        self.assertEmpty(self.kept())
        with staging.fetched(self.address, ("flags.txt",)) as workdir:
            self.assertEqual(workdir.flags.read_text(), "--seed=0\n")
            there = workdir.path
        self.assertFalse(there.exists())

    def test_the_folder_stays_when_the_store_fails(self):
        with (
            mock.patch.object(MemoryFileSystem, "pipe_file", side_effect=ConnectionError),
            self.assertRaisesRegex(
                StoreError, f"cannot be written: .* all of the run is kept in {self.cache}/runs/.*, from"
            ),
            staging.opened(self.address) as workdir,
        ):
            workdir.path.mkdir()
            workdir.flags.write_text("--seed=0\n")
            workdir.publish()
        (folder,) = self.kept()
        with staging.opened(self.address) as workdir:
            self.assertEqual(workdir.path, folder)
            self.assertEqual(workdir.flags.read_text(), "--seed=0\n")
            workdir.publish()

    def test_one_process_of_a_machine_has_it(self):
        with (
            staging.opened(self.address),
            self.assertRaisesRegex(
                WorkdirError, rf"^workdir={self.address}: is in use by process {os.getpid()} on .*; wait"
            ),
            staging.opened(self.address),
        ):
            self.fail("it was entered twice")

    def test_however_its_address_is_written(self):
        again = self.address.replace("memory://", "MEMORY:///") + "//"
        with (
            staging.opened(self.address),
            self.assertRaisesRegex(WorkdirError, rf"^workdir={self.address}: is in use"),
            staging.opened(again),
        ):
            self.fail("it was entered twice")

    @parameterized.parameters(
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
        {"FSSPEC_S3": '{"client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}'},
    )  # fmt: skip
    def test_a_folder_belongs_to_one_server(self, **environ):
        folders = []
        with mock.patch.object(Mirror, "fetch"), mock.patch.object(access, "Store"):
            for changed in ({}, environ):
                with mock.patch.dict(os.environ, changed), staging.opened("s3://bucket/run") as workdir:
                    folders.append(workdir.path)
        self.assertNotEqual(*folders)

    @parameterized.parameters("s3:/bucket/run", pathlib.Path("s3://bucket/run"))
    def test_an_address_that_lost_a_slash_is_no_folder(self, given):
        problem = "^workdir=s3:/bucket/run: has one slash where an address has two; give s3://bucket/run, as text$"
        with self.assertRaisesRegex(ConfigError, problem), staging.opened(given):
            self.fail("there was one")

    def test_a_folder_that_cannot_be_written_is_named(self):
        (self.cache / "runs").touch()
        problem = f"needs the folder {self.cache}/runs, which cannot be written: .*; TFPIPE_CACHE_DIR names another"
        with self.assertRaisesRegex(WorkdirError, problem), staging.opened(self.address):
            self.fail("there was one")

    def test_a_path_stays_a_path(self):
        for given in ("run", pathlib.Path("run")):
            with staging.opened(given) as workdir:
                self.assertEqual((workdir.path, workdir.is_elsewhere), (pathlib.Path("run"), False))
                with staging.opened(workdir) as same:
                    self.assertIs(same, workdir)
        self.assertIsInstance(workdir, Workdir)

    def test_a_store_that_holds_no_run(self):
        with self.assertRaisesRegex(WorkdirError, "holds no run; --model="), staging.fetched(self.address, ()):
            self.fail("there was one")


if __name__ == "__main__":
    absltest.main()

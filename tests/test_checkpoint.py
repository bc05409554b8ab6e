import errno
import hashlib
import io
import itertools
import json
import os
import pathlib
import pickle
import sys
import zipfile

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import faults
from tests.command import python_module
from tfpipe.disk import checkpoints
from tfpipe.disk.checkpoints import Checkpoints, Saved
from tfpipe.exceptions import DataError


def state(number):
    return Saved(
        {"number": number, "words": "dög"}, {"W": np.full((3, 4), number, np.float32), "n": np.full(7, number)}
    )


def sample(size):
    """About 40 places in `size` bytes, the first and the last among them."""
    return sorted({*range(0, size, size // 40), size - 1})


def sealed(body):
    """A file with the right checksum, whatever it holds: `body` ends where the checksum goes."""
    return bytes(body) + hashlib.sha256(body).hexdigest().encode()


def deaths(program, folder):
    """What could be read after deaths at operations on files, by kind: see `tests.kill_points`."""
    found = json.loads(python_module(program, folder).stdout)
    for kind, one in found.items():
        print(f"{kind}: {2 * len(one['operations'])} deaths in {len(one['operations'])} operations", file=sys.stderr)
    return found


class CheckpointsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.checkpoints = Checkpoints(self.folder)

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def assert_holds(self, number):
        saved = self.checkpoints.load()
        self.assertEqual(saved.facts, state(number).facts)
        self.assertEqual(set(saved.arrays), {"W", "n"})
        for name, array in state(number).arrays.items():
            np.testing.assert_array_equal(saved.arrays[name], array, strict=True)

    def test_the_newest_of_two_is_loaded(self):
        self.assertIsNone(self.checkpoints.load())
        for number in (3, 20, 100):
            self.checkpoints.save(number, state(number))
            self.assert_holds(number)
        self.assertEqual(self.names(), ["000000000020.npz", "000000000100.npz"])

    def test_numpy_reads_it(self):
        self.checkpoints.save(3, state(3))
        with np.load(self.folder / "000000000003.npz") as archive:
            self.assertEqual(json.loads(archive["facts"].tobytes())["number"], 3)
            np.testing.assert_array_equal(archive["W"], np.full((3, 4), 3))

    def test_data_is_on_the_disk_before_it_takes_its_place(self):
        self.checkpoints.save(1, state(1))
        self.checkpoints.save(2, state(2))
        with faults.traced(faults.nothing) as names:
            self.checkpoints.save(3, state(3))
        # The file, its name, the list of names, and only then the oldest goes.
        self.assertEqual(names, ["open", "write", "fsync", "close", "replace", "open", "fsync", "close", "unlink"])

    def test_whoever_dies_leaves_the_older_or_the_newer_one(self):
        found = deaths("tests.kill_points", self.folder)
        self.assertEqual(set(found), {"state", "model"})
        for one in found.values():
            names = one["operations"]
            self.assertGreater(names.count("write"), 2)
            renamed = names.index("replace")
            self.assertEqual(one["after"], ["older"] * renamed + ["newer"] * (len(names) - renamed))
            self.assertEqual(one["before"], ["older", *one["after"][:-1]])

    @parameterized.parameters(errno.ENOSPC, errno.EIO)
    def test_a_failure_of_any_operation_leaves_a_whole_state(self, number):
        self.checkpoints.save(5, state(5))
        self.checkpoints.save(10, state(10))
        with faults.traced(faults.nothing, most=512) as names:
            self.checkpoints.save(15, state(15))
        for place, name in enumerate(names):
            self.checkpoints.clear()
            self.checkpoints.save(5, state(5))
            self.checkpoints.save(10, state(10))
            error = OSError(number, os.strerror(number))
            with faults.traced(faults.failing(place, error), most=512):
                if name == "unlink":  # The oldest may stay for a while.
                    self.checkpoints.save(20, state(20))
                else:
                    with self.assertRaises(OSError):
                        self.checkpoints.save(20, state(20))
            self.assert_holds(10 if place <= names.index("replace") else 20)
            self.assertEqual([path for path in self.names() if path.startswith(".")], [])
            self.checkpoints.save(20, state(20))  # There is room again.
            self.assert_holds(20)

    @parameterized.parameters(1, 7, 512)
    def test_a_disk_that_takes_a_part_gets_the_rest(self, most):
        with faults.traced(faults.nothing, most=most) as names:
            self.checkpoints.save(3, state(3))
        size = (self.folder / "000000000003.npz").stat().st_size
        self.assertEqual(names.count("write"), -(-size // most))
        self.assert_holds(3)


class BeginTest(absltest.TestCase):
    @pytest.mark.exhaustive
    def test_a_run_that_dies_while_it_begins_can_begin_again(self):
        found = deaths("tests.kill_points_begin", self.create_tempdir().full_path)
        begin, anew = found["begin"], found["anew"]
        self.assertEqual(begin["operations"].count("replace"), 2)  # The state and flags.txt.
        self.assertEqual({*begin["before"], *begin["after"]}, {"newer"})
        # While it removes another run it is that one, or new, or refused.
        for read in (anew["before"], anew["after"]):
            self.assertEqual(read, sorted(read, key=["older", "refused", "newer"].index))
            self.assertEqual(set(read), {"older", "refused", "newer"})


class DamageTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.checkpoints = Checkpoints(self.folder)
        for number in (1, 2):
            self.checkpoints.save(number, state(number))
        self.older, self.newer = sorted(self.folder.iterdir())
        self.content = self.newer.read_bytes()

    def assert_put_aside(self, content):
        self.newer.write_bytes(content)
        with self.assertLogs("absl", "WARNING") as log:
            self.assertEqual(self.checkpoints.load().facts["number"], 1)
        self.assertRegex(log.output[0], r"2\.npz: .*; put aside as 000000000002\.npz\.damaged")
        aside = self.newer.with_name(f"{self.newer.name}.damaged")
        self.assertEqual(aside.read_bytes(), content)
        self.assertEqual(sorted(self.folder.iterdir()), [self.older, aside])
        aside.unlink()

    def check_truncated_and_flipped(self, places):
        for place in places:
            self.assert_put_aside(self.content[:place])
            damaged = bytearray(self.content)
            damaged[place] ^= 1 << (place % 8)
            self.assert_put_aside(bytes(damaged))

    def test_truncated_and_with_a_byte_flipped(self):
        self.check_truncated_and_flipped(sample(len(self.content)))

    @pytest.mark.exhaustive
    def test_truncated_at_every_length_and_with_every_byte_flipped(self):
        self.check_truncated_and_flipped(range(len(self.content)))

    def test_with_something_behind_it(self):
        self.assert_put_aside(self.content + b"\0")

    def test_with_none_left_it_is_an_error_and_stays_one(self):
        self.older.write_bytes(b"")
        self.newer.write_bytes(b"")
        for _ in range(2):
            with self.assertRaisesRegex(
                DataError, r"2\.npz\.damaged: the state .* is damaged, and no older one is left"
            ):
                self.checkpoints.load()
        self.checkpoints.clear()
        self.assertIsNone(self.checkpoints.load())

    def test_another_version_is_no_damage(self):
        saved = state(3)
        content = bytes(checkpoints.encode(saved._replace(facts={"format_version": 1})))
        self.newer.write_bytes(content)
        with self.assertRaisesRegex(DataError, "a state of format version 1; this program reads 2"):
            self.checkpoints.load()
        self.assertEqual(self.newer.read_bytes(), content)


class HostileTest(parameterized.TestCase):
    """Whoever can write a file can also write the right checksum."""

    def assert_refused(self, content, message):
        with self.assertRaisesRegex(DataError, f"^here: not a state of a run: .*{message}"):
            checkpoints.decode("here", content)

    def archive(self, members, compression=zipfile.ZIP_STORED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
            archive.comment = bytes(64)
        return sealed(buffer.getbuffer()[:-64])

    def npy(self, array):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array)
        return buffer.getvalue()

    def test_a_pickle_is_not_executed(self):
        trace = pathlib.Path(self.create_tempdir().full_path) / "ran"

        class Hostile:
            def __reduce__(self):
                return open, (str(trace), "w")

        payload = pickle.dumps(Hostile())
        as_object = self.npy(np.array([Hostile()], object))
        for data, message in ((payload, "magic string"), (as_object, "refused: an array of type object")):
            for name in ("facts.npy", "W.npy"):
                self.assert_refused(self.archive({name: data}), message)
        self.assertFalse(trace.exists())

    def test_no_archive(self):
        for body in (b"", b"PK", b"\0" * 1000, pickle.dumps({})):
            self.assert_refused(sealed(body), "")

    def test_shapes_that_promise_more_than_there_is(self):
        header = self.npy(np.zeros(4))
        self.assertIn(b"(4,)", header)
        for shape in (b"(4000000000000,)", b"(5,)", b"(-4,)", b"(0,)", b"(2**99,)", b"(4, 4e9)"):
            padded = header.replace(b"(4,)", shape).replace(b" " * (len(shape) - 4) + b"\n", b"\n")
            self.assert_refused(self.archive({"facts.npy": padded}), "facts")

    def test_a_bomb(self):
        size = 1 << 26
        small = self.archive({"facts.npy": self.npy(np.zeros(size, np.uint8))}, zipfile.ZIP_DEFLATED)
        self.assertLess(len(small), 1 << 20)
        self.assert_refused(small, "")  # It holds what it promises, but no JSON.
        promised = bytearray(small[:-64])
        where = promised.index(b"PK\x01\x02") + 24
        promised[where : where + 4] = (0xFFFFFF00).to_bytes(4, "little")
        self.assert_refused(sealed(promised), "")

    @parameterized.parameters(
        b"", b"[]", b"{", b"[" * 100_000, b'{"format_version": ' + b"9" * 10_000 + b"}", b"\xff\xfe", b"null", b"{}"
    )
    def test_facts_that_are_none(self, text):
        self.assert_refused(self.archive({"facts.npy": self.npy(np.frombuffer(text or b" ", np.uint8))}), "")

    def test_names_are_names_and_no_paths(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        before = sorted(folder.parent.rglob("*"))
        facts = self.npy(np.frombuffer(b'{"format_version": 2}', np.uint8))
        names = ("../evil.npy", "/tmp/evil.npy", "a/../../b.npy", "C:\\evil.npy")
        saved = checkpoints.decode("here", self.archive({"facts.npy": facts, **dict.fromkeys(names, facts)}))
        self.assertLen(saved.arrays, 4)
        self.assertEqual(sorted(folder.parent.rglob("*")), before)

    def test_two_arrays_of_one_name(self):
        buffer = io.BytesIO()
        facts = self.npy(np.frombuffer(b'{"format_version": 2}', np.uint8))
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in ("facts.npy", "facts"):
                archive.writestr(name, facts)
            archive.comment = bytes(64)
        self.assert_refused(sealed(buffer.getbuffer()[:-64]), "two arrays have the same name")

    def check_any_bytes(self, places):
        content = bytes(checkpoints.encode(state(3)))[:-64]
        random = np.random.default_rng(0)
        for place, _ in itertools.product(places(len(content)), range(2)):
            changed = bytearray(content)
            changed[place] = random.integers(256)
            try:
                checkpoints.decode("here", sealed(changed))
            except DataError as error:
                self.assertStartsWith(str(error), "here: ")
                self.assertLen(str(error).splitlines(), 1)

    def test_any_bytes_in_some_places(self):
        self.check_any_bytes(sample)

    @pytest.mark.exhaustive
    def test_any_bytes_in_any_place(self):
        self.check_any_bytes(range)


if __name__ == "__main__":
    absltest.main()

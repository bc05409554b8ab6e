"""Objects become files: by ranges, once, whole, and in the version that the store has."""

import contextlib
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from unittest import mock

import fsspec
import numpy as np
from absl.testing import absltest, parameterized

from tests import object_store, web
from tfpipe.exceptions import StoreError
from tfpipe.log import log
from tfpipe.stores import cache
from tfpipe.stores.access import Limits, Store
from tfpipe.stores.home import VARIABLE

ROOT = pathlib.Path(__file__).parent.parent
PATIENT = functools.partial(Store, limits=Limits(call=60), sleep=lambda seconds: None)
RANGE = 1000
# Of the objects of a folder.
SIZES = {"a/1.bin": 10, "a/2.bin": 2000, "b/2.bin": 0, "c d/ü+%.bin": 30, "large.bin": (1 << 20) + 5}


def impatient(whole):
    """Opens stores that wait 0.2 s for an answer, and give up after `whole` seconds that they pretend to sleep."""
    slept = [0.0]
    limits = Limits(call=0.2, whole=whole, first_wait=1)
    return functools.partial(Store, limits=limits, clock=lambda: sum(slept), sleep=slept.append)


def content(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def ranges(size):
    return [(begin, min(begin + RANGE, size)) for begin in range(0, size, RANGE)]


class CacheTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.enter_context(mock.patch.dict(os.environ, {VARIABLE: str(self.folder / "cache")}))
        self.enter_context(mock.patch.object(cache, "RANGE_BYTES", RANGE))

    def files(self):
        """The names of all files in the cache but for locks, those in trees, and of folders."""
        found = (self.folder / "cache").rglob("*")
        return sorted(path.name for path in found if path.is_file() and path.name != "lock" and "tree" not in str(path))

    def assert_one_line(self, error, *words):
        line = str(error.exception)
        self.assertTrue(line.isprintable(), line)
        for word in words:
            self.assertIn(word, line)


class RangesTest(CacheTest):
    def setUp(self):
        super().setUp()
        self.web = self.enter_context(web.Web())
        self.address = f"http://{self.web.place}/data/x.bin"
        self.put(content(3500))

    def put(self, data):
        self.web.objects["/data/x.bin"] = data

    def local(self, opened=PATIENT):
        return cache.local(self.address, opened)

    def test_an_object_is_fetched_once(self):
        path = self.local()
        self.assertEqual((path.name, path.read_bytes()), ("x.bin", content(3500)))
        self.assertEqual(self.web.ranges(), [(0, 1000), (1000, 2000), (2000, 3000), (3000, 3500)])
        self.assertEqual(self.local(), path)
        self.assertEqual(self.web.requests, [web.Request("HEAD", "/data/x.bin")])
        self.assertLen(self.files(), 1)

    @parameterized.parameters(0, 1, 999, 1000, 1001)
    def test_of_any_size(self, size):
        self.put(content(size))
        self.assertEqual(self.local().read_bytes(), content(size))
        self.assertEqual(self.web.ranges(), ranges(size))

    def assert_goes_on(self):
        """A fetch of 40 ranges that ended after 20 answers fetches those alone that it did not mark as there."""
        (marks,) = (self.folder / "cache").rglob("*.ranges")
        there = {tuple(map(int, line.split())) for line in marks.read_text().splitlines()}
        self.assertBetween(len(there), 17, 20)  # Of four at once three may have come when the fourth failed.
        self.web.requests.clear()
        self.web.fault = lambda request: None
        self.assertEqual(self.local().read_bytes(), content(40_000))
        self.assertEqual(set(self.web.ranges()), set(ranges(40_000)) - there)
        self.assertLen(self.files(), 1)

    def test_a_fetch_that_was_broken_off_goes_on(self):
        self.put(content(40_000))
        given = iter(range(20))
        self.web.fault = lambda request: None if not request.span or next(given, None) is not None else 403
        with self.assertRaises(StoreError) as error:
            self.local()
        self.assert_one_line(error, f"{self.address}: cannot be read: access is denied")
        self.assert_goes_on()

    def test_a_process_that_is_killed_leaves_what_it_has(self):
        self.put(content(40_000))
        reached, never = threading.Event(), self.enter_context(releasing())
        given = iter(range(20))

        def fault(request):
            if request.span and next(given, None) is None:
                reached.set()
                never.wait()

        self.web.fault = fault
        program = f"from tfpipe.stores import cache; cache.RANGE_BYTES = {RANGE}; cache.local({self.address!r})"
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
        self.assertTrue(reached.wait(60))
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assert_goes_on()

    def test_marks_that_are_damaged_do_not_count(self):
        def fault(request):
            if request.span != (3000, 3500):
                return None
            while [path.read_text().count("\n") for path in (self.folder / "cache").rglob("*.ranges")] != [3]:
                os.sched_yield()  # Until the others are there.
            return 403

        self.web.fault = fault
        with self.assertRaises(StoreError):
            self.local()
        (marks,) = (self.folder / "cache").rglob("*.ranges")
        self.assertEqual(sorted(marks.read_text().splitlines()), ["0 1000", "1000 2000", "2000 3000"])
        marks.write_bytes(b"0 1000\n2000 2999\n\xff\n1000 20")
        self.web.ranges()
        self.web.fault = lambda request: None
        self.assertEqual(self.local().read_bytes(), content(3500))
        self.assertEqual(self.web.ranges(), [(1000, 2000), (2000, 3000), (3000, 3500)])

    def test_a_part_that_is_gone_is_fetched_whole(self):
        self.web.fault = lambda request: 403 if request.span == (3000, 3500) else None
        with self.assertRaises(StoreError):
            self.local()
        (part,) = (self.folder / "cache").rglob("*.part")
        part.unlink()
        self.web.ranges()
        self.web.fault = lambda request: None
        self.assertEqual(self.local().read_bytes(), content(3500))
        self.assertEqual(self.web.ranges(), ranges(3500))

    def test_another_version_is_fetched_and_the_old_one_stays(self):
        old = self.local()
        self.put(content(3500, seed=1))
        new = self.local()
        self.assertEqual((old.read_bytes(), new.read_bytes()), (content(3500), content(3500, seed=1)))
        self.web.ranges()
        self.put(content(3500))  # As it was: so it is there.
        self.assertEqual(self.local(), old)
        self.assertEqual(self.web.ranges(), [])

    def test_parts_of_another_version_are_not_used_and_removed(self):
        self.web.fault = lambda request: 403 if request.span == (3000, 3500) else None
        with self.assertRaises(StoreError):
            self.local()
        self.put(content(3500, seed=1))
        self.web.ranges()
        self.web.fault = lambda request: None
        self.assertEqual(self.local().read_bytes(), content(3500, seed=1))
        self.assertEqual(self.web.ranges(), ranges(3500))
        self.assertLen(self.files(), 1)

    @parameterized.parameters(3500, 1200)
    def test_an_object_that_changes_under_way(self, size):
        def change(request):
            if request.span == (2000, 3000):
                self.web.fault = lambda request: None
                self.put(content(size, seed=1))

        self.web.fault = change
        with self.assertLogs(log) as told:
            path = self.local()
        self.assertEqual(path.read_bytes(), content(size, seed=1))
        self.assertIn(f"{self.address}: changed while it was fetched; begun anew", "\n".join(told.output))

    def test_an_object_that_changes_all_the_time(self):
        seeds = iter(range(1000))

        def change(request):
            if request.span:
                self.put(content(3500, next(seeds)))

        self.web.fault = change
        with self.assertRaises(StoreError) as error:
            self.local()
        self.assert_one_line(error, f"{self.address}: changed 3 times while it was fetched; read it when nobody writes")

    def test_a_store_that_tells_no_version_is_read_anew(self):
        self.web.tells_version = False
        self.assertEqual(self.local().read_bytes(), content(3500))
        self.put(content(3500, seed=1))
        self.assertEqual(self.local().read_bytes(), content(3500, seed=1))
        self.assertLen(self.files(), 1)
        self.assertLen(self.web.ranges(), 8)

    def test_what_fails_for_a_while_is_tried_again(self):
        never = self.enter_context(releasing())
        faults = {(0, 1000): [503, 503], (1000, 2000): ["half"], (2000, 3000): [429, "half"], (3000, 3500): ["stall"]}

        def fault(request):
            found = faults[request.span].pop() if faults.get(request.span) else None
            return never.wait() and None if found == "stall" else found

        self.web.fault = fault
        self.assertEqual(self.local(impatient(1e6)).read_bytes(), content(3500))
        self.assertGreaterEqual(self.web.ranges().count((0, 1000)), 3)

    @parameterized.parameters(
        (503, "the store answers 503"), ("half", "its answer is damaged"), ("stall", "no answer within")
    )
    def test_what_fails_for_good_is_one_line(self, kind, words):
        never = self.enter_context(releasing())

        def fault(request):
            if request.span == (1000, 2000):
                return never.wait() and None if kind == "stall" else kind
            return None

        self.web.fault = fault
        with self.assertRaises(StoreError) as error:
            self.local(impatient(3))
        self.assert_one_line(error, f"{self.address}: cannot be read: ", words, "tries in")

    def test_folders_of_http(self):
        self.address = f"http://{self.web.place}/data/"
        with self.assertRaises(StoreError) as error:
            self.local()
        self.assert_one_line(error, "/data: HTTP lists no objects; give the address of each file")

    def test_what_is_not_there(self):
        self.address += "x"
        with self.assertRaises(StoreError) as error:
            self.local()
        self.assert_one_line(error, f"{self.address}: cannot be read: there is no such object")

    def test_no_secret_is_told_or_written(self):
        self.address = f"http://user:hush@{self.web.place}/data/x.bin?X-Amz-Signature=hush"
        shown = f"http://{self.web.place}/data/x.bin"
        with self.assertLogs(log) as told:
            path = self.local()
            self.web.fault = lambda request: 403
            with self.assertRaises(StoreError) as error:
                self.local()
        self.assert_one_line(error, f"{shown}: cannot be read: access is denied")
        self.assertIn(shown, "\n".join(told.output))
        names = [str(each) for each in (self.folder / "cache").rglob("*")]
        self.assertNotIn("hush", "\n".join([str(error.exception), str(path), *names, *told.output]))

    def test_of_another_query_there_may_be_another_object(self):
        paths = []
        for query in ("id=1", "id=2"):
            self.address = f"http://{self.web.place}/data/x.bin?{query}"
            paths.append(self.local())
        self.assertNotEqual(*paths)

    def test_a_damaged_file_is_fetched_anew(self):
        path = self.local()
        path.chmod(0o600)
        path.write_bytes(b"")
        self.assertEqual(self.local().read_bytes(), content(3500))
        shutil.rmtree(self.folder / "cache")
        self.assertEqual(self.local().read_bytes(), content(3500))

    def test_a_full_disk(self):
        usage = shutil.disk_usage(self.folder)._replace(free=3499)
        with mock.patch.object(shutil, "disk_usage", return_value=usage), self.assertRaises(StoreError) as error:
            self.local()
        where = self.folder / "cache" / "data"
        self.assert_one_line(error, f"{where}: has 3.5 kB free, and {self.address} takes 3.5 kB; {VARIABLE}")

    def test_a_cache_that_cannot_be_written(self):
        (self.folder / "cache").write_bytes(b"")
        with self.assertRaises(StoreError) as error:
            self.local()
        self.assert_one_line(
            error, f"{self.folder / 'cache' / 'data'}: cannot hold {self.address}: ", "names another folder"
        )

    def test_two_at_once_fetch_once(self):
        waits, found = threading.Event(), []
        self.web.fault = lambda request: None if not request.span else waits.wait(60) and None

        def told(record):
            if "another process fetches it; waiting" in record.getMessage():
                waits.set()
            return True

        log.addFilter(told)
        self.addCleanup(log.removeFilter, told)
        threads = [threading.Thread(target=lambda: found.append(self.local())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([path.read_bytes() for path in found], [content(3500)] * 2)
        self.assertEqual(self.web.ranges(), ranges(3500))


@contextlib.contextmanager
def releasing():
    """An event that comes when the test is over: until then requests that wait for it have no answer."""
    never = threading.Event()
    try:
        yield never
    finally:
        never.set()


class FolderTest(CacheTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.store = cls.enterClassContext(object_store.ObjectStore())

    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.dict(os.environ, self.store.env))
        self.enter_context(mock.patch.object(cache, "RANGE_BYTES", 1 << 20))
        self.bucket = web.Bucket(self.store, self.id())
        self.objects = {f"data/{name}": content(size, size) for name, size in SIZES.items()}
        for key, data in self.objects.items():
            self.bucket.put(key, data)
        self.bucket.put("data/", b"")  # So consoles make folders.
        self.bucket.put("database/other", b"another folder")
        self.bucket.fetched()

    def there(self, path):
        return {f"data/{file.relative_to(path)}": file.read_bytes() for file in path.rglob("*") if file.is_file()}

    def test_all_objects_below_become_files(self):
        path = cache.local(f"{self.bucket.address}/data")
        self.assertEqual((path.name, self.there(path)), ("data", self.objects))
        expected = [key for key, data in self.objects.items() if data]
        self.assertEqual(self.bucket.fetched(), sorted([*expected, "data/large.bin"]))  # In two ranges.
        self.assertEqual(cache.local(f"{self.bucket.address}/data"), path)
        self.assertEqual(self.bucket.fetched(), [])

    def test_only_what_has_changed_is_fetched(self):
        old = cache.local(f"{self.bucket.address}/data/")
        self.bucket.fetched()
        self.bucket.put("data/a/1.bin", b"new")
        self.bucket.put("data/b/3.bin", b"one more")
        path = cache.local(f"{self.bucket.address}/data/")
        self.assertEqual(self.bucket.fetched(), ["data/a/1.bin", "data/b/3.bin"])
        changed = {"data/a/1.bin": b"new", "data/b/3.bin": b"one more"}
        self.assertEqual(self.there(path), self.objects | changed)
        self.assertEqual(self.there(old), self.objects)


class NamesTest(CacheTest):
    @parameterized.parameters(
        ("a/../../b", "no path of a file"), ("a//b", "no path of a file"), ("c/d", "a file and a folder")
    )
    def test_names_that_files_cannot_have(self, name, words):
        files = fsspec.filesystem("memory")
        self.addCleanup(files.store.clear)
        files.pipe_file("/data/c", b"0")
        files.store[f"/data/{name}"] = files.store["/data/c"]
        with self.assertRaises(StoreError) as error:
            cache.local("memory://data")
        self.assert_one_line(error, "memory://data: holds ", words, "; rename")

    def test_the_last_part_of_an_address(self):
        with self.assertRaises(StoreError) as error:
            cache.local("memory://data/..")
        self.assert_one_line(error, "memory://data/..: ")


if __name__ == "__main__":
    absltest.main()

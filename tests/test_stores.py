"""Addresses of object stores, and their objects: what is tried again, what is not, and what is said of it."""

import errno
import importlib
import logging
import socket
import sys
import threading
import traceback
from unittest import mock

import aiohttp
import fsspec
from absl.testing import absltest, parameterized
from botocore.exceptions import ClientError, NoCredentialsError
from fsspec.implementations.memory import MemoryFileSystem

from tests.object_store import KEY, SECRET
from tfpipe.exceptions import AbsentError, ConfigError, StoreError
from tfpipe.stores import address
from tfpipe.stores.access import Info, Limits, Store, limits_of


class AddressTest(parameterized.TestCase):
    @parameterized.parameters("s3://bucket/run", "memory://run", "ftp://host/x", "file:///x", "S3://bucket/run")
    def test_what_is_one(self, text):
        self.assertTrue(address.is_address(text))

    @parameterized.parameters("run", "/tmp/s3://run", "mnist:3.0.1", "C:\\run", "://x", "", "3s://x")
    def test_what_is_none(self, text):
        self.assertFalse(address.is_address(text))

    @parameterized.parameters(
        ("file:///data/run", "give the path as it is: /data/run"),
        ("ftp://host/x", "no such kind of store; known are gs://, s3://, hdfs://, http://, https://"),
        ("s3://bucket", "names no object; give an address such as s3://BUCKET/NAME"),
        ("memory://", "names no object; give an address such as memory://NAME"),
        ("s3://bucket/run ", "is no address; give one such as s3://BUCKET/NAME"),
        ("s3://bucket/a\nb", "is no address; give one such as s3://BUCKET/NAME"),
        ("https://host:port/x", "is no address; give one such as https://HOST/PATH"),
        ("https://host/run", "can be read, and not written; give a folder, or an address of gs, s3 or hdfs"),
        ("s3://bucket/ru*n", "has one of ? # * [ ], which stores take for more than a name; leave it out"),
    )
    def test_what_no_run_can_be_kept_at(self, text, problem):
        with self.assertRaises(ConfigError) as caught:
            address.check("workdir", text, writes=True)
        self.assertEndsWith(str(caught.exception), f": {problem}")
        self.assertStartsWith(str(caught.exception), "workdir=")

    @parameterized.parameters("s3://bucket/run", "gs://b/a/b", "hdfs://host:8020/run", "memory://run")
    def test_where_a_run_can_be_kept(self, text):
        address.check("workdir", text, writes=True)

    def test_what_is_gone_with_the_process(self):
        with self.assertRaisesRegex(ConfigError, "^workdir=memory://run: is gone when the command ends; give a folder"):
            address.check("workdir", "memory://run", writes=True, outlasts=True)
        address.check("workdir", "s3://bucket/run", writes=True, outlasts=True)

    @parameterized.parameters(
        (
            "s3:/bucket/run",
            "workdir=s3:/bucket/run: has one slash where an address has two; give s3://bucket/run, as text",
        ),
        ("GS:/b/x", "workdir=GS:/b/x: has one slash where an address has two; give GS://b/x, as text"),
        (
            "http:/u:secret@host/x?secret",
            "workdir=http:/host/x: has one slash where an address has two; give http://host/x, as text",
        ),
    )
    def test_an_address_that_lost_a_slash(self, text, problem):
        with self.assertRaises(ConfigError) as caught:
            address.check_path("workdir", text)
        self.assertEqual(str(caught.exception), problem)

    @parameterized.parameters("run", "s3", "s3:run", "./s3:/run", "/s3:/run", "as3:/run", "C:/run", "s3://bucket/run")
    def test_a_path_that_is_one(self, text):
        address.check_path("workdir", text)

    def test_one_place_has_one_name(self):
        for text in ("s3://bucket/a/b", "S3://bucket//a/b/", "s3:///bucket/a///b"):
            self.assertEqual(address.one_name(text), "s3://bucket/a/b")
        self.assertEqual(address.one_name("s3://Bucket/A"), "s3://Bucket/A")

    @parameterized.parameters(
        ("https://user:secret@host:80/a/b?signature=secret#secret", "https://host:80/a/b"),
        ("https://user:sec/ret@host/a", "https://..."),
        ("http://secret@[::1]:80/x", "http://[::1]:80/x"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("s3://key:secret@bucket/run", "s3://bucket/run"),
        ("runs/1", "runs/1"),
    )
    def test_what_is_shown_holds_no_secret(self, text, shown):
        self.assertEqual(address.shown(text), shown)
        self.assertEqual(address.shown(shown), shown)

    @parameterized.parameters(
        ("s3://key:secret@bucket/run", "AWS_ACCESS_KEY_ID"),
        ("gs://key:secret@bucket/run", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("hdfs://user:secret@host/run", "HADOOP_USER_NAME"),
    )
    def test_a_password_in_an_address_is_refused_and_not_repeated(self, text, remedy):
        with self.assertRaisesRegex(ConfigError, f"holds a user or a password; .*{remedy}") as caught:
            address.check("workdir", text)
        self.assertNotIn("secret", str(caught.exception))

    def test_joined(self):
        self.assertEqual(address.joined("s3://bucket/run/", ["a/", "/b.npz"]), "s3://bucket/run/a/b.npz")
        self.assertEqual(address.joined("s3://bucket/run", ""), "s3://bucket/run")
        self.assertEqual(address.joined("https://host/a?x=1", "b"), "https://host/a/b?x=1")


class Time:
    """A clock that stands still but for the waits, which it notes."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.waits.append(seconds)


def of_s3(status, code):
    """What botocore raises, with a secret in its words."""
    answer = {"Error": {"Code": code, "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, KEY)


def of_http(status):
    return aiohttp.ClientResponseError(mock.Mock(real_url=f"https://host/{SECRET}"), (), status=status, message=SECRET)


def as_s3fs(error, cause):
    """As s3fs translates what botocore raises."""
    error.__cause__ = cause
    return error


def unresolved(number):
    """What aiohttp raises if the system finds no address of a host."""
    cause = socket.gaierror(number, SECRET)
    return as_s3fs(aiohttp.ClientConnectorDNSError(mock.Mock(ssl=SECRET), cause), cause)


class StoreTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.time = Time()
        self.address = f"memory://{type(self).__name__}.{self._testMethodName}"
        self.store = self.opened()
        self.store.write("a/b.npz", b"0123456789")
        self.addCleanup(self.clear)

    def clear(self):
        for name in self.store.list():
            self.store.remove(name)

    def opened(self, limits=Limits()):  # noqa: B008
        return Store(self.address, limits=limits, clock=self.time.clock, sleep=self.time.sleep)

    def failing(self, *errors, then=b"0123456789"):
        """Reads fail so, one after the other; what follows gives `then`."""
        answers = iter(errors)

        def cat_file(*_, **__):
            if (error := next(answers, None)) is not None:
                raise error
            return then

        return mock.patch.object(MemoryFileSystem, "cat_file", cat_file)

    def test_objects_come_back_as_they_were_written(self):
        self.store.write("c", b"")
        self.assertEqual(self.store.read("a/b.npz"), b"0123456789")
        self.assertEqual(self.store.read("a/b.npz", 2, 5), b"234")
        self.assertEqual(self.store.read("a/b.npz", 7), b"789")
        self.assertEqual(self.store.read("a/b.npz", end=2), b"01")
        self.assertEqual(self.store.read("a/b.npz", 4, 4), b"")
        self.assertEqual(self.store.read("c"), b"")
        self.assertEqual([*self.store.list()], ["a/b.npz", "c"])
        self.assertEqual([*self.store.list("a")], ["b.npz"])
        self.assertEqual(self.store.list()["a/b.npz"].size, 10)
        self.assertEqual(self.store.list("nowhere"), {})
        before = self.store.info("a/b.npz")
        self.store.write("a/b.npz", b"012345678_")
        self.assertNotEqual(self.store.info("a/b.npz"), before)
        self.assertIsInstance(before, Info)
        for _ in range(2):
            self.store.remove("c")
        self.assertEqual([*self.store.list()], ["a/b.npz"])
        for absent in ("c", "a"):
            with self.assertRaises(AbsentError):
                self.store.info(absent)

    @parameterized.parameters(
        (ConnectionResetError(), "the connection failed or was too slow"),
        (TimeoutError(), "the connection failed or was too slow"),
        (aiohttp.ClientPayloadError(SECRET), "the connection failed or was too slow"),
        (of_http(503), r"the store answers 503 \(Service Unavailable\)"),
        (of_http(429), r"the store answers 429 \(Too Many Requests\)"),
        (as_s3fs(OSError(errno.EBUSY, SECRET), of_s3(503, "SlowDown")), r"the store answers 503 \(SlowDown\)"),
        (as_s3fs(FileNotFoundError(SECRET), of_http(500)), r"the store answers 500 \(Internal Server Error\)"),
        (OSError(errno.EIO, SECRET), "Input/output error"),
        (unresolved(socket.EAI_AGAIN), "the connection failed or was too slow"),
        (as_s3fs(OSError(errno.EINVAL, SECRET), of_s3(400, "RequestTimeout")), r"answers 400 \(RequestTimeout\)"),
        (as_s3fs(of_http(400), aiohttp.http_exceptions.BadStatusLine(SECRET)), "its answer is damaged"),
    )
    def test_what_may_pass_is_tried_again(self, error, problem):
        with self.failing(error, error, error), self.assertLogs("absl", "INFO") as log:
            self.assertEqual(self.store.read("a/b.npz"), b"0123456789")
        self.assertLen(self.time.waits, 3)
        for wait, longest in zip(self.time.waits, (0.5, 1.0, 2.0), strict=True):
            self.assertBetween(wait, longest / 2, longest)
        self.assertLen(log.output, 1)
        self.assertRegex(log.output[0], rf"a/b.npz: .*{problem}; tried again$")

    def test_it_gives_up_after_a_time(self):
        with self.failing(*[of_http(502)] * 99), self.assertRaises(StoreError) as caught:
            self.opened(Limits(whole=60, longest_wait=8)).read("a/b.npz")
        self.assertLessEqual(max(self.time.waits), 8)
        self.assertBetween(sum(self.time.waits), 52, 60)
        self.assertEqual(
            str(caught.exception),
            f"{self.address}/a/b.npz: cannot be read: the store answers 502 (Bad Gateway) "
            f"({len(self.time.waits) + 1} tries in {sum(self.time.waits):.0f} s); try again when the store answers",
        )

    @parameterized.parameters(
        (PermissionError(SECRET), StoreError, "access is denied; give credentials that may do that"),
        (
            as_s3fs(PermissionError(SECRET), of_s3(403, "InvalidAccessKeyId")), StoreError,
            r"access is denied \(InvalidAccessKeyId\); give credentials",
        ),
        (of_http(401), StoreError, "access is denied; give credentials"),
        (FileNotFoundError(SECRET), AbsentError, "there is no such object; check the address"),
        (of_http(404), AbsentError, "there is no such object; check the address"),
        (as_s3fs(FileNotFoundError(SECRET), of_s3(404, "NoSuchBucket")), StoreError, "there is no such bucket; check"),
        (as_s3fs(OSError(errno.EINVAL, SECRET), of_s3(400, "Bad Words")), StoreError, r"answers 400 \(Bad Request\)"),
        (NoCredentialsError(), StoreError, "there are no credentials for it; set those of the store, such as AWS_"),
        (ValueError(SECRET), StoreError, "its library fails by ValueError; check the address and the store"),
    )  # fmt: skip
    def test_what_stays_is_said_at_once(self, error, kind, problem):
        with self.failing(error), self.assertRaisesRegex(StoreError, f"cannot be read: .*{problem}") as caught:
            self.store.read("a/b.npz")
        self.assertIs(type(caught.exception), kind)
        self.assertEmpty(self.time.waits)

    @parameterized.parameters(of_http(503), ValueError(f"https://{KEY}:{SECRET}@host"), of_s3(403, "AccessDenied"))
    def test_no_words_of_the_library_are_passed_on(self, error):
        with self.failing(*[error] * 99), self.assertRaises(StoreError) as caught:
            self.store.read("a/b.npz")
        said = "".join(traceback.format_exception(caught.exception))
        self.assertIn("StoreError", said)
        for secret in (SECRET, KEY):
            self.assertNotIn(secret, said)

    def test_half_an_object_is_an_error_that_is_tried_again(self):
        for read in (lambda: self.store.read("a/b.npz"), lambda: self.store.read("a/b.npz", 0, 10)):
            with (
                self.failing(then=b"01234"),
                self.assertRaisesRegex(
                    StoreError, r"5 bytes came, and (the object has|10 were asked).*tries in 1\d\d s"
                ),
            ):
                read()

    def test_half_an_object_that_was_written_is_written_again(self):
        pipe_file, taken = MemoryFileSystem.pipe_file, iter((3, 5))

        def part(files, path, content, **options):
            return pipe_file(files, path, content[: next(taken, None)], **options)

        with mock.patch.object(MemoryFileSystem, "pipe_file", part), self.assertLogs("absl", "INFO") as log:
            self.store.write("d", b"0123456789")
        self.assertRegex(log.output[0], "3 bytes arrived of 10; tried again")
        self.assertEqual(self.store.read("d"), b"0123456789")
        self.assertLen(self.time.waits, 2)

    def test_an_object_that_is_not_there_after_it_was_written_is_written_again(self):
        info, answers = MemoryFileSystem.info, iter((FileNotFoundError(SECRET),))

        def late(files, path, **options):
            if (error := next(answers, None)) is not None:
                raise error
            return info(files, path, **options)

        with mock.patch.object(MemoryFileSystem, "info", late), self.assertLogs("absl", "INFO") as log:
            self.store.write("d", b"0123456789")
        self.assertRegex(log.output[0], "it is not there after it was written; tried again")

    def test_a_server_that_knows_no_ranges(self):
        with self.failing():
            self.assertEqual(self.store.read("a/b.npz", 2, 5), b"234")

    def test_a_call_that_stalls_is_left_behind(self):
        released, calls = threading.Event(), []

        def stall(*_, **__):
            calls.append(len(calls))
            if len(calls) == 1:
                released.wait(60)
            return b"0123456789"

        self.addCleanup(released.set)
        with mock.patch.object(MemoryFileSystem, "cat_file", stall), self.assertLogs("absl", "INFO") as log:
            self.assertEqual(self.opened(Limits(call=0.05)).read("a/b.npz", 0, 10), b"0123456789")
        self.assertEqual(calls, [0, 1])
        self.assertRegex(log.output[0], r"no answer within 0\.05 s; tried again")

    def test_a_store_that_does_not_open_in_time(self):
        released = threading.Event()
        self.addCleanup(released.set)
        with (
            mock.patch.object(fsspec.core, "url_to_fs", side_effect=lambda *_, **__: released.wait(60)),
            self.assertRaisesRegex(StoreError, r"^memory://\S+: cannot be opened: no answer within 0\.05 s; try again"),
        ):
            self.opened(Limits(call=0.05))

    def test_a_package_is_quiet_before_it_is_imported(self):
        levels, logger = [], logging.getLogger("gcsfs")
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.NOTSET)

        def import_module(name):
            levels.append((name, logger.level))
            raise ImportError

        with mock.patch.object(importlib, "import_module", import_module), self.assertRaises(StoreError):
            Store("gs://bucket/run")
        self.assertEqual(levels, [("fsspec", logging.CRITICAL)])

    def test_a_host_that_nobody_knows_is_tried_three_times(self):
        with self.failing(*[unresolved(socket.EAI_NONAME)] * 99), self.assertRaises(StoreError) as caught:
            self.store.read("a/b.npz")
        self.assertLen(self.time.waits, 2)
        self.assertRegex(
            str(caught.exception), r"its host is not known \(3 tries in \d s\); check the address, and AWS_"
        )
        self.assertNotIn(SECRET, str(caught.exception))

    @parameterized.parameters(("s3://bucket/run", "s3fs"), ("gs://bucket/run", "gcsfs"), ("s3://bucket/run", "fsspec"))
    def test_a_package_that_is_missing_is_named(self, text, package):
        with (
            mock.patch.dict(sys.modules, {package: None}),
            self.assertRaisesRegex(StoreError, rf"^{text}: needs {package}, which .*; pip install 'tfpipe\[stores\]'$"),
        ):
            Store(text)

    def test_the_web_has_no_list(self):
        with self.assertRaisesRegex(
            StoreError, "^http://host/run: HTTP lists no objects; give the address of each file"
        ):
            Store("http://user:secret@host/run").list()

    def test_the_environment_sets_the_limits(self):
        self.assertEqual(limits_of({}), Limits())
        self.assertEqual(limits_of({"TFPIPE_STORE_SECONDS": "600"}), Limits(whole=600))
        self.assertEqual(limits_of({"TFPIPE_STORE_SECONDS": "0.5"}), Limits(call=0.5, whole=0.5))
        for wrong in ("0", "-1", "nan", "inf", "a\nminute"):
            with self.assertRaisesRegex(StoreError, "^TFPIPE_STORE_SECONDS=.*: must be a number of seconds above 0$"):
                limits_of({"TFPIPE_STORE_SECONDS": wrong})


if __name__ == "__main__":
    absltest.main()

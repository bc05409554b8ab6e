"""An object store: objects below one address, read and written whole or by ranges, each call tried again if need be."""

import contextlib
import importlib
import logging
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from tfpipe.exceptions import AbsentError, StoreError
from tfpipe.log import log
from tfpipe.stores import address as addresses
from tfpipe.stores import background
from tfpipe.stores.failures import ShortError, StalledError, UnsizedError, failure
from tfpipe.text import one_line

_Found = TypeVar("_Found")
# What tells one version of an object from the next, by the names that the file systems give it; the best first.
_VERSIONS = ("generation", "ETag", "etag", "md5Hash", "Last-Modified", "mtime", "LastModified", "created")
_SLOWEST = 256 << 10  # Bytes a second: a call on a large object may take longer.
VARIABLE = "TFPIPE_STORE_SECONDS"
# Not that of the module: a thread would disturb a program that has set its seed.
_JITTER = random.Random()
# Of each package. They would tell of keys that were found, and of failures in words that may hold secrets.
_LOGGERS = {"s3fs": ("s3fs", "aiobotocore", "botocore"), "gcsfs": ("gcsfs", "google.auth"), "aiohttp": ("fsspec.http",)}


class Limits(NamedTuple):
    """How long a store may take.

    Attributes:
      call: seconds for one call, beside those for its bytes.
      whole: seconds after which a call that fails is not tried again.
      first_wait: seconds before the second try; twice as long before each that follows.
      longest_wait: seconds between two tries.
    """

    call: float = 30.0
    whole: float = 180.0
    first_wait: float = 0.5
    longest_wait: float = 30.0


def limits_of(environ: Mapping[str, str]) -> Limits:
    """The limits: `$TFPIPE_STORE_SECONDS` sets `whole`, and no call may take longer.

    Raises:
      StoreError: it is no number of seconds.
    """
    usual, given = Limits(), environ.get(VARIABLE)
    if not given:
        return usual
    try:
        whole = float(given)
    except ValueError:
        whole = math.nan
    if not 0 < whole < math.inf:
        raise StoreError(f"{VARIABLE}={one_line(given)}: must be a number of seconds above 0")
    return usual._replace(call=min(usual.call, whole), whole=whole)


class Info(NamedTuple):
    """What a store says of an object.

    Attributes:
      size: bytes.
      version: changes when the object does, as far as the store tells: an ETag, a generation, or a time; may be empty.
    """

    size: int
    version: str


class Store:
    """The objects below an address. Several threads may use it.

    A call that fails for what may pass is tried again, with waits that double and vary at random: no answer in time, no
    connection, 5xx, 429, too few bytes. What will not pass is not: no permission, no such object; a host that nobody
    knows is tried three times.

    Args:
      address: checked by `address.check`.
      limits: how long all may take; None: as the environment says.
      clock: seconds, from any time on.
      sleep: waits so many seconds.

    Attributes:
      limits: how long all may take.
      shown: the address for people, without secrets.

    Raises:
      StoreError: from any method, with a line that holds no secret; on construction if a package is missing.
    """

    def __init__(
        self,
        address: str,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._scheme = addresses.scheme(address)
        self._address = f"{self._scheme}://{address.partition('://')[2]}"
        self.limits = limits_of(os.environ) if limits is None else limits
        self._clock = clock
        self._sleep = sleep
        self.shown = addresses.shown(address)
        self._files, self._root = self._opened()

    def info(self, path: str = "") -> Info:
        """Size and version of an object. Raises AbsentError if there is none."""
        return self._tried("read", path, lambda: _info(self._fresh().info(self._at(path))))

    def read(self, path: str = "", begin: int | None = None, end: int | None = None) -> bytes:
        """An object, or its bytes from `begin` up to `end`, which lie within it.

        Raises:
          AbsentError: there is none.
        """
        if begin is None and end is None:
            size = self.info(path).size
            return self._tried("read", path, lambda: self._whole(path, size), size)
        first, last = begin or 0, self.info(path).size if end is None else end
        return self._tried("read", path, lambda: self._range(path, first, last), last - first)

    def write(self, path: str, content: bytes) -> None:
        """Makes an object of `content`, or replaces the one that is there.

        A reader sees the whole of it or nothing, as far as the store promises that; see `docs/reliability.md`.
        """
        self._tried("written", path, lambda: self._written(path, content), len(content))

    def list(self, path: str = "") -> dict[str, Info]:
        """The objects below a path, at any depth: by their paths from there on, in order."""
        if self._scheme in addresses.READ_ONLY:
            raise StoreError(f"{self._shown(path)}: HTTP lists no objects; give the address of each file")
        return self._tried("listed", path, lambda: self._listed(path))

    def remove(self, path: str) -> None:
        """Removes an object, if it is there."""
        with contextlib.suppress(AbsentError):
            self._tried("removed", path, lambda: self._fresh().rm_file(self._at(path)))

    def _opened(self) -> tuple[Any, str]:
        package = addresses.PACKAGES[self._scheme]
        for name in _LOGGERS.get(package or "", ()):  # Before: some tell of themselves when they are imported.
            if (logger := logging.getLogger(name)).level == logging.NOTSET:
                logger.setLevel(logging.CRITICAL)
        for name in ("fsspec", *([package] if package else [])):
            try:
                importlib.import_module(name)
            except ImportError:
                raise StoreError(
                    f"{self.shown}: needs {name}, which cannot be imported; pip install 'tfpipe[stores]'"
                ) from None
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {}
        if self._scheme == "s3":  # Else it would try again inside each of our tries.
            seconds = {"connect_timeout": self.limits.call, "read_timeout": self.limits.call}
            options = {"config_kwargs": {"retries": {"total_max_attempts": 1}, **seconds}}
        # A program may have changed its environment since, with its keys.
        options |= {"use_listings_cache": False, "skip_instance_cache": True}
        try:  # In time: some ask a server for keys.
            files, root = _in_time(lambda: url_to_fs(self._address, **options), self.limits.call)
        except Exception as error:
            found = failure(error)
            remedy = found.remedy
            if self._scheme == "hdfs":
                remedy = "pyarrow needs Hadoop's libhdfs: set JAVA_HOME, HADOOP_HOME and CLASSPATH"
            raise StoreError(f"{self.shown}: cannot be opened: {found.problem}; {remedy}") from None
        if self._scheme == "s3":
            files.retries = 1
        return files, root

    def _fresh(self) -> Any:
        """The file system, with nothing remembered of what others may have changed."""
        self._files.invalidate_cache()
        return self._files

    def _at(self, path: str) -> str:
        is_web = self._scheme in addresses.READ_ONLY
        return addresses.joined(self._address if is_web else self._root, path) if path else self._root

    def _shown(self, path: str) -> str:
        return addresses.joined(self.shown, path)

    def _whole(self, path: str, size: int) -> bytes:
        content = self._files.cat_file(self._at(path))
        if len(content) != size and len(content) != (promised := _info(self._fresh().info(self._at(path))).size):
            raise ShortError(f"{len(content)} bytes came, and the object has {promised}")
        return content

    def _range(self, path: str, begin: int, end: int) -> bytes:
        if begin == end:
            return b""
        content = self._files.cat_file(self._at(path), start=begin, end=end)
        if len(content) > end - begin and len(content) >= end:  # A web server that does not know of ranges.
            content = content[begin:end]
        if len(content) != end - begin:
            raise ShortError(f"{len(content)} bytes came, and {end - begin} were asked for")
        return content

    def _written(self, path: str, content: bytes) -> None:
        self._files.pipe_file(self._at(path), content)
        try:
            there = _info(self._fresh().info(self._at(path))).size
        except FileNotFoundError as error:
            raise ShortError("it is not there after it was written") from error
        if there != len(content):
            raise ShortError(f"{there} bytes arrived of {len(content)}")

    def _listed(self, path: str) -> dict[str, Info]:
        at = self._at(path)
        found = self._fresh().find(at, detail=True)
        below = f"{at.strip('/')}/"
        named = {name.lstrip("/"): about for name, about in found.items() if not name.endswith("/")}
        return {name.removeprefix(below): _info(named[name]) for name in sorted(named) if name.startswith(below)}

    def _tried(self, done: str, path: str, call: Callable[[], _Found], size: int = 0) -> _Found:
        """What `call`, which moves `size` bytes, gives in the end; `done` says in errors what failed."""
        limit = self.limits.call + size / _SLOWEST
        begin, wait, tries = self._clock(), self.limits.first_wait, 0
        while True:
            tries += 1
            try:
                return _in_time(call, limit)
            except Exception as error:
                found = failure(error)
            pause = wait * _JITTER.uniform(0.5, 1.0)  # So that many who failed together do not come back together.
            is_lasting = not found.is_transient or tries == found.most_tries
            if is_lasting or self._clock() - begin + pause > self.limits.whole:
                times = f" ({tries} tries in {self._clock() - begin:.0f} s)" if tries > 1 else ""
                kind = AbsentError if found.is_absent else StoreError
                problem = f"cannot be {done}: {found.problem}{times}"
                raise kind(f"{self._shown(path)}: {problem}; {found.remedy}") from None  # See `failures`.
            if tries == 1:
                log.info("%s: %s; tried again", self._shown(path), found.problem)
            self._sleep(pause)
            wait = min(2 * wait, self.limits.longest_wait)


def _info(about: dict[str, Any]) -> Info:
    """From what a file system says of an object."""
    if about.get("type") == "directory":
        raise FileNotFoundError
    size = about.get("size")
    if size is None:
        raise UnsizedError("the server does not tell how many bytes it has")
    version = next((about[name] for name in _VERSIONS if about.get(name)), "")
    return Info(int(size), str(version).strip('"'))


def _in_time(call: Callable[[], _Found], seconds: float) -> _Found:
    """What `call` gives; in a thread of its own, which is left behind if that takes longer.

    Raises:
      StalledError: it does.
    """
    future = background.begun(call)
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # The call's own.
            raise
        raise StalledError(f"no answer within {seconds:.3g} s") from None

"""Objects of stores as files of this machine: fetched by ranges, several at once, and only what is not there yet.

The cache is the folder `data` in that of `home`, with a folder for each address:

    NAME-DIGEST/lock                  held by the process that fetches
    NAME-DIGEST/OBJECT                a version of an object, whole
    NAME-DIGEST/OBJECT.part           one that is on its way, and
    NAME-DIGEST/OBJECT.ranges         which ranges of it are there, a line each
    NAME-DIGEST/VERSION.tree/NAME     what readers are given: links to the objects, under the names that they have

What is whole is never changed, so a reader needs no lock; any of it may be removed while nobody reads it.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import queue
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import tqdm

from tfpipe.exceptions import AbsentError, StoreError
from tfpipe.log import log
from tfpipe.stores import address as addresses
from tfpipe.stores.access import Info, Store
from tfpipe.stores.home import VARIABLE, home

RANGE_BYTES = 8 << 20
_RANGES_AT_ONCE = 4
# Up to so many bytes an object of a folder is fetched beside others: what takes time is the way to the store.
_SMALL_BYTES = 1 << 20
_SMALL_AT_ONCE = 16
# After so many of these the store is asked whether all are as they were.
_BATCH = 1000
_TRIES = 3
_REMEDY = f"{VARIABLE} names another folder"
Item = TypeVar("Item")


class _ChangedError(Exception):
    """An object is another than when its fetching began."""


def folder() -> pathlib.Path:
    """Where the cache is. Raises StoreError if nobody knows."""
    return home() / "data"


def local(address: str, opened: Callable[[str], Store] = Store) -> pathlib.Path:
    """The file, or the folder with all that lies below it, that an address names, as it is now.

    The store is asked once which version of what there is. What the cache has of that is not fetched again, and a
    fetch that was broken off goes on with the ranges that are missing. An object counts as whole when it has as many
    bytes as the store promised, and the store had the same version of it after each range.

    Args:
      address: checked by `address.check`.
      opened: makes the store of it.

    Returns:
      The path, whose last part is that of the address. It must not be written to.

    Raises:
      StoreError: there is no such object; the store does not give it, or others change it all the time; or the cache
        cannot be written. One line, without secrets.
    """
    store = opened(address)
    for _ in range(_TRIES):
        version = _Version(address, _objects(store, address))
        if version.is_whole():
            return version.place
        with _writing(store.shown), _owned(version.home, store.shown):
            if version.is_whole():  # Another process was at it.
                return version.place
            try:
                _fetch(store, version)
            except _ChangedError:
                log.info("%s: changed while it was fetched; begun anew", store.shown)
                continue
            return version.place
    raise StoreError(f"{store.shown}: changed {_TRIES} times while it was fetched; read it when nobody writes there")


def _objects(store: Store, address: str) -> dict[str, Info]:
    """What there is: `""` for the object of this address, or those below it by their paths from there on."""
    is_web = addresses.scheme(address) in addresses.READ_ONLY
    if is_web and store.shown.endswith("/"):
        store.list()  # Says that it cannot.
    try:
        return {"": store.info()}
    except AbsentError:
        found = {} if is_web else _below(store)
        if not found:
            raise
    for path in found:
        if not _is_plain(path):
            raise StoreError(f"{store.shown}: holds {path!r:.200}, which is no path of a file; rename it")
        if around := next((str(each) for each in pathlib.PurePosixPath(path).parents if str(each) in found), None):
            raise StoreError(f"{store.shown}: holds {around!r} and {path!r:.200}, a file and a folder; rename one")
    return found


def _below(store: Store) -> dict[str, Info]:
    """The objects below an address, but for those of consoles, which end in `/`, so that an empty folder shows."""
    return {path: info for path, info in store.list().items() if path and not path.endswith("/")}


def _is_plain(path: str) -> bool:
    """Whether it leads to a file below the folder where it is looked for."""
    return {"", ".", ".."}.isdisjoint(path.split("/")) and "\0" not in path


class _Version:
    """What an address names, as the store has it now, and where in the cache that lies.

    Attributes:
      objects: as `_objects` gives them.
      home: the folder of the address in the cache.
      place: the file or folder that readers are given.
    """

    def __init__(self, address: str, objects: dict[str, Info]):
        shown = addresses.shown(address)
        name = shown.rstrip("/").rpartition("/")[2]
        if not _is_plain(name):
            raise StoreError(f"{shown}: its last part is no name of a file; give another address")
        # The whole address: of the same name with another query there may be other data.
        self.home = folder() / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:60]}-{_digest(address)}"
        self.objects = objects
        # A store that tells no version could change without notice: such a fetch is of this moment.
        self.is_of_now = not all(info.version for info in objects.values())
        self._moment = uuid.uuid4().hex if self.is_of_now else ""
        known = [f"{path}\n{info.size}\n{info.version}" for path, info in sorted(objects.items())]
        self.tree = self.home / f"{_digest(self._moment, *known)}.tree"
        self.place = self.tree / name

    def is_whole(self) -> bool:
        """Whether it is in the cache."""
        return all(_size(self.path_of(path)) == info.size for path, info in self.objects.items())

    def path_of(self, path: str) -> pathlib.Path:
        """The file that readers know an object by."""
        return self.place / path if path else self.place

    def stored(self, path: str, info: Info) -> pathlib.Path:
        """The file that holds a version of an object."""
        return self.home / _digest(self._moment, path, str(info.size), info.version)


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode(errors="surrogateescape")).hexdigest()[:32]


def _size(path: pathlib.Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@contextlib.contextmanager
def _writing(shown: str) -> Iterator[None]:
    """Raises StoreError for an OSError inside, which is one of the cache."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{folder()}: cannot hold {shown}: {error.strerror or error}; {_REMEDY}") from error


@contextlib.contextmanager
def _owned(home: pathlib.Path, shown: str) -> Iterator[None]:
    """Makes the folder of an address, and keeps others out of it who would fetch the same."""
    home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.mkdir(exist_ok=True)
    with open(home / "lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # The system gives it back, however a process ends.
        except BlockingIOError:
            log.info("%s: another process fetches it; waiting for that", shown)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # A file system without locks; whoever else fetches writes the same bytes.
            log.info("%s cannot be locked: %s", home, error)
        yield


def _fetch(store: Store, version: _Version) -> None:
    """Brings into the cache what it lacks, as `version.place`.

    Raises:
      _ChangedError: the store has other objects now.
    """
    objects, is_folder = version.objects, "" not in version.objects
    # Of large objects in a folder by their own word: in a list a store may tell a version in another way.
    large = {path: store.info(path) for path, info in objects.items() if is_folder and info.size > _SMALL_BYTES}
    small = {path: info for path, info in objects.items() if is_folder and path not in large}
    if not is_folder:
        large = objects
    stored = {path: version.stored(path, info) for path, info in (large | small).items()}
    lacking = [path for path, info in (large | small).items() if _size(stored[path]) != info.size]
    parts = [_Part(stored[path], path, large[path]) for path in lacking if path in large]
    _remove_leftovers(version, [part.path for part in parts])
    total = sum(part.lacking for part in parts) + sum(small[path].size for path in lacking if path in small)
    _check_room(store.shown, version.home, total)
    if lacking:
        what = "1 object" if len(lacking) == 1 else f"{len(lacking)} objects"
        log.info("%s: fetching %s, %s, into %s", store.shown, what, _in_words(total), folder())
    with tqdm.tqdm(total=total, desc="fetching", unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for part in parts:
            part.fetch(store, bar)
        of_batches = [path for path in lacking if path in small]
        for start in range(0, len(of_batches), _BATCH):
            batch = of_batches[start : start + _BATCH]
            _fetch_small(store, {stored[path]: (path, small[path]) for path in batch}, bar)
            if _below(store) != objects:
                raise _ChangedError
            for path in batch:
                _complete(stored[path])
    if is_folder and not of_batches and _below(store) != objects:
        raise _ChangedError
    _link(version, stored)


def _fetch_small(store: Store, objects: Mapping[pathlib.Path, tuple[str, Info]], bar: tqdm.tqdm) -> None:
    """Writes each object beside the file that is to hold it."""

    def fetch(file: pathlib.Path) -> int:
        path, info = objects[file]
        data = store.read(path, 0, info.size)
        with open(_part_of(file), "wb") as part:
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
        return len(data)

    _side_by_side(fetch, list(objects), _SMALL_AT_ONCE, bar)


class _Part:
    """An object on its way into the cache.

    Args:
      file: what is to hold it.
      name: its path in the store.
      info: its size and version.

    Attributes:
      path: the file that holds those ranges that are there.
      lacking: how many bytes are not.
    """

    def __init__(self, file: pathlib.Path, name: str, info: Info):
        self.path = _part_of(file)
        self._file, self._name, self._info = file, name, info
        self._ranges = file.with_suffix(".ranges")
        ranges = [(begin, min(begin + RANGE_BYTES, info.size)) for begin in range(0, info.size, RANGE_BYTES)]
        there = self._there()
        self._missing = [each for each in ranges if each not in there]
        self.lacking = sum(end - begin for begin, end in self._missing)
        self._writing = threading.Lock()
        self._descriptor: int | None = None

    def fetch(self, store: Store, bar: tqdm.tqdm) -> None:
        """Fetches the ranges that are missing, and puts the object in its place.

        Raises:
          _ChangedError: the store has another version now. What is there is of the one that was asked for.
        """

        def fetch(span: tuple[int, int]) -> int:
            try:
                data = store.read(self._name, *span)
            except StoreError:
                self._check_unchanged(store)
                raise
            self._check_unchanged(store)  # Before it counts: a later fetch goes on with it.
            self._write(span, data)
            return len(data)

        self._open()
        try:
            _side_by_side(fetch, self._missing, _RANGES_AT_ONCE, bar)
        finally:
            self._close()
        _complete(self._file)
        self._ranges.unlink(missing_ok=True)

    def _there(self) -> set[tuple[int, int]]:
        """The ranges that an earlier fetch has brought."""
        if _size(self.path) != self._info.size:
            return set()
        try:
            lines = self._ranges.read_text("ascii", errors="replace").splitlines(keepends=True)
        except OSError:
            return set()
        matches = (re.fullmatch(r"([0-9]+) ([0-9]+)\n", line) for line in lines)  # The last may be half a line.
        return {(int(match[1]), int(match[2])) for match in matches if match}

    def _open(self) -> None:
        if _size(self.path) != self._info.size:
            self._ranges.unlink(missing_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._descriptor, self._info.size)

    def _write(self, span: tuple[int, int], data: bytes) -> None:
        with self._writing:
            if self._descriptor is None:  # Given up, while a thread still waited for the store.
                return
            rest, place = memoryview(data), span[0]
            while rest:  # A disk that is nearly full takes a part.
                count = os.pwrite(self._descriptor, rest, place)
                rest, place = rest[count:], place + count
            os.fdatasync(self._descriptor)  # What is said to be there must be there after a power cut.
            with open(self._ranges, "a") as ranges:
                ranges.write(f"{span[0]} {span[1]}\n")

    def _check_unchanged(self, store: Store) -> None:
        if store.info(self._name) != self._info:
            raise _ChangedError

    def _close(self) -> None:
        with self._writing:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _part_of(file: pathlib.Path) -> pathlib.Path:
    return file.with_suffix(".part")


def _complete(file: pathlib.Path) -> None:
    """Gives an object that is there as a whole its name."""
    os.rename(_part_of(file), file)
    file.chmod(0o400)


def _side_by_side(work: Callable[[Item], int], items: Sequence[Item], threads: int, bar: tqdm.tqdm) -> None:
    """`work` of every item, which returns how many bytes came; the first error ends it.

    The threads die with the process, which a store that does not answer would keep alive otherwise.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    done: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    ends = threading.Event()

    def run() -> None:
        while not ends.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(work(item))
            except BaseException as error:
                done.put(error)

    for item in items:
        waiting.put(item)
    for _ in range(min(threads, len(items))):
        threading.Thread(target=run, daemon=True, name="fetch").start()
    try:
        for _ in items:
            outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            bar.update(outcome)
    finally:
        ends.set()


def _remove_leftovers(version: _Version, parts: Sequence[pathlib.Path]) -> None:
    """Removes what fetches that were broken off have left of other versions."""
    kept = {path for part in parts for path in (part, part.with_suffix(".ranges"))}
    for path in version.home.iterdir():
        is_old = version.is_of_now and path.name != "lock"
        if path.suffix == ".new" or (path.suffix == ".tree" and is_old):
            shutil.rmtree(path)
        elif path not in kept and (path.suffix in (".part", ".ranges") or is_old):
            path.unlink()


def _check_room(shown: str, home: pathlib.Path, size: int) -> None:
    free = shutil.disk_usage(home).free
    if size > free:
        problem = f"has {_in_words(free)} free, and {shown} takes {_in_words(size)}"
        raise StoreError(f"{folder()}: {problem}; {_REMEDY}")


def _link(version: _Version, stored: Mapping[str, pathlib.Path]) -> None:
    """Makes `version.place` of the files that hold the objects."""
    new = version.tree.with_suffix(".new")
    for path, file in stored.items():
        link = new / version.path_of(path).relative_to(version.tree)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, link)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            shutil.copyfile(file, link)  # A file system without links.
    if version.tree.exists():  # Damaged.
        shutil.rmtree(version.tree)
    os.rename(new, version.tree)


def _in_words(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"

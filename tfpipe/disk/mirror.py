"""A run on an object store: versions of its files, of which the newest valid one wins.

A store has no rename and no lock, so nothing that a version needs is ever written over, and nothing is removed but
what a version that this run has gone past names: whatever else lies there stays. Below the address lie

- `files/PATH.SHA256`: a file of the run as it was at some time, by its content;
- `versions/NUMBER.SHA256.json`: which of them make a version; written last, and its name tells whether it is whole;
- `PATH`: all but the states under their own names, for people and other programs, as they were when the run last ended.
  The run itself does not read these.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import re
import shutil
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import wait
from typing import NamedTuple, TypeVar

from tfpipe.disk import files
from tfpipe.exceptions import AbsentError, StoreError, WorkdirError, brief
from tfpipe.log import log
from tfpipe.stores import background
from tfpipe.stores.access import Store
from tfpipe.text import is_one_line, one_line

FORMAT_VERSION = 1
_FILES, _VERSIONS, _STATES = "files", "versions", "checkpoints"
_DIGITS = 12
_NAME = re.compile(rf"[0-9]{{{_DIGITS}}}\.[0-9a-f]{{64}}\.json")
_RECORD = ".version"
_AT_ONCE = 8
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_STOP = 10.0
_SECONDS_TO_END = 5.0
_Done = TypeVar("_Done")


class Kept(NamedTuple):
    """A file of a version.

    Attributes:
      sha256: of its content, hexadecimal.
      size: bytes.
    """

    sha256: str
    size: int


class Version(NamedTuple):
    """A version of a run.

    Attributes:
      name: of its object, below `versions/`.
      files: what it is made of, by their paths in the workdir.
      follows: the name of the version that it replaces; None: it is the first one, or that is not known.
    """

    name: str
    files: dict[str, Kept]
    follows: str | None


class Mirror:
    """Keeps a workdir in `folder` on a store, version by version. Several threads may use it.

    Args:
      store: where to.
      folder: of the run on this machine, which this process alone uses; it need not be there.
    """

    def __init__(self, store: Store, folder: pathlib.Path):
        self.name = store.shown
        self._store = store
        self._folder = folder
        self._lock = threading.Lock()
        self._newest: Version | None = None
        self._known: set[str] = set()  # The versions on the store that are no surprise.
        self._read: dict[str, Version] = {}  # What some of them are.
        self._number = 0
        self._is_whole = False  # Whether the store was last seen to have all of the newest version.
        self._is_left = False  # Whether nothing is to be written any more.

    def fetch(self) -> None:
        """Brings the folder to the newest valid version, unless it goes on from the newest one already.

        Raises:
          StoreError: the store does not answer.
          WorkdirError: no version is valid; or the folder has what the store has not, and the store has gone on since;
            or there is no run, and something else.
        """
        if _aside(self._folder).exists():
            shutil.rmtree(_aside(self._folder))
        names = _names(self._store)
        self._known = set(names)
        self._number = int(names[-1][:_DIGITS]) if names else 0
        base, tried = self._record()
        if not names:
            self._check_is_free(base)
            return
        if names[-1] in (base, *tried):
            version = self._version(names[-1])  # If that is damaged, all files are written anew.
            if self._goes_on_from(version):
                self._newest = version
                return
        incoming = self._folder.with_name(f"{self._folder.name}.new")
        version = self._newest = _newest_valid(self._store, names, incoming, None)
        if version.name in (base, *tried) and self._goes_on_from(version):
            shutil.rmtree(incoming)  # What is newer there is damaged, and the folder may be newer than both.
            return
        is_apart = base in names and base not in self._followed(version, names)
        if is_apart or _progress(_paths(self._folder)) > _progress(version.files):
            shutil.rmtree(incoming)
            raise self._error(
                f"was gone on with from elsewhere, and {self._folder} holds a state that is not there; remove "
                "that folder, or name it as the workdir of a run of its own"
            )
        _write_record(incoming, version.name, [])
        discard(self._folder)
        incoming.rename(self._folder)
        self._is_whole = True

    def publish(self, *, ends: bool = False, stops: Callable[[], bool] = lambda: False) -> None:
        """Makes a version of the folder as it is, if that is not the last one.

        Args:
          ends: whether the run ends: then its files are kept under their own names too.
          stops: asked every second; once it says so, the store has ten seconds more.

        Raises:
          OSError: the folder cannot be read or written.
          StoreError: the store does not take it; what it had, it has.
          WorkdirError: another process has written a version since.
        """
        publishing = background.begun(lambda: self._publish(ends))
        try:
            while not wait([publishing], _SECONDS_BETWEEN_LOOKS).done:
                if stops() and not wait([publishing], _SECONDS_TO_STOP).done:
                    problem = f"no answer within {_SECONDS_TO_STOP:.0f} s after the run was told to stop"
                    raise StoreError(f"{self.name}: cannot be written: {problem}; {self._kept_here()}")
        except BaseException:
            self.leave()
            raise
        publishing.result()

    def leave(self) -> None:
        """From now on no version is written; what is being brought to the store may still get there."""
        self._is_left = True

    def holds_all(self) -> bool:
        """Whether the store has all that the folder has. Raises OSError if the folder cannot be read."""
        if not self._lock.acquire(timeout=_SECONDS_TO_END):
            return False
        try:
            contents = _contents(self._folder)
            return not contents or (
                self._is_whole and self._newest is not None and _kept_of(contents) == self._newest.files
            )
        finally:
            self._lock.release()

    def _publish(self, ends: bool) -> None:
        with self._lock:
            if self._is_left:
                return
            try:
                contents = _contents(self._folder)
                if not ends and self._newest is not None and _kept_of(contents) == self._newest.files:
                    return
                self._is_whole = False
                self._bring(contents)
                if ends:
                    _each(self._copy, [path for path in contents if not _is_state(path)])
                self._is_whole = True
            except StoreError as error:
                raise StoreError(f"{error}; {self._kept_here()}") from None

    def _kept_here(self) -> str:
        return f"all of the run is kept in {self._folder}, from where the same command goes on"

    def _check_is_free(self, base: str | None) -> None:
        """Raises WorkdirError unless a new run can begin on the store, which has no version."""
        if base is not None:
            raise self._error(f"holds no run any more, and {self._folder} does; remove that folder to begin anew")
        for path in self._store.list():
            first, _, rest = path.partition("/")
            if first in _OF_A_RUN:
                raise self._error(f"holds a run ({one_line(path)}) without its state; give another workdir")
            if first == _VERSIONS or (first == _FILES and not _OBJECT.fullmatch(rest)):
                raise self._error(f"holds {one_line(path)}, which is of no run; give another workdir")

    def _goes_on_from(self, version: Version) -> bool:
        """Whether the folder, which began with a version, has all of it still, or a newer state."""
        here = _paths(self._folder)
        if (reached := _progress(here)) != (published := _progress(version.files)):
            return reached > published
        return bool(reached) and set(version.files) <= set(here)

    def _bring(self, contents: "_Contents") -> None:
        """Makes a version, and brings what the store lacks of it, which may have lost something since."""
        before, put = self._newest, _kept_of(contents)
        names = self._look()
        changed = {path for path, kept in put.items() if before is None or before.files.get(path) != kept}
        missing = [path for path in put if path in changed.union(self._lost(put))]
        put |= dict(zip(missing, _each(lambda path: self._put_file(path, contents[path][1]), missing), strict=True))
        if before is None or before.name not in names or put != before.files:
            if self._is_left:
                raise StoreError(f"{self.name}: is not written any more")
            self._newest = self._write(put, before)
        newest = self._newest
        assert newest is not None
        names = self._look()  # Another process may have written in the meantime.
        lost = [_object(path, put[path]) for path in self._lost(put)]
        if newest.name not in names:
            lost.append(f"{_VERSIONS}/{newest.name}")
        if lost:
            raise StoreError(f"{self.name}/{lost[0]}: was written, and is not there")
        self._remove_superseded(newest, names)
        gone = [path for path in (before.files if before else {}) if path not in put and not _is_state(path)]
        self._try_to_remove(gone)

    def _look(self) -> set[str]:
        """The versions that are there. Raises WorkdirError if another process wrote one."""
        names = set(_names(self._store))
        if others := names - self._known:
            number = int(max(others)[:_DIGITS])
            raise self._error(
                f"another process writes there (version {number}); end one of both, and give the command again"
            )
        return names

    def _lost(self, files_of: dict[str, Kept]) -> list[str]:
        """Which files the store has not, or not whole."""
        there = self._store.list(_FILES)
        sizes = {f"{_FILES}/{name}": info.size for name, info in there.items()}
        return [path for path, kept in files_of.items() if sizes.get(_object(path, kept)) != kept.size]

    def _write(self, put: dict[str, Kept], before: Version | None) -> Version:
        follows = before.name if before else None
        facts = {
            "format_version": FORMAT_VERSION,
            "files": {path: kept._asdict() for path, kept in put.items()},
            "follows": follows,
        }
        content = json.dumps(facts, sort_keys=True).encode()
        self._number += 1
        name = f"{self._number:0{_DIGITS}}.{hashlib.sha256(content).hexdigest()}.json"
        version = self._read[name] = Version(name, put, follows)
        # Before it: where no answer comes, nobody knows whether it is there.
        base, tried = self._record()
        _write_record(self._folder, base, [*tried, version.name])
        self._known.add(version.name)
        self._store.write(f"{_VERSIONS}/{version.name}", content)
        if not self._is_left:  # Else the folder may be another's by now.
            _write_record(self._folder, version.name, [])
        return version

    def _put_file(self, path: str, state: bytes | None) -> Kept:
        content = (self._folder / path).read_bytes() if state is None else state  # It may have grown since.
        kept = Kept(hashlib.sha256(content).hexdigest(), len(content))
        self._store.write(_object(path, kept), content)
        return kept

    def _copy(self, path: str) -> None:
        self._store.write(path, (self._folder / path).read_bytes())

    def _remove_superseded(self, newest: Version, names: set[str]) -> None:
        """Removes the versions behind the newest two, and what they alone need: nothing that none of them names.

        What cannot be removed now is so after the next.
        """
        try:
            old = self._followed(newest, names)[2:]
            stay = [self._version(name) for name in names.difference(old)]
            needed = {_object(path, kept) for version in stay for path, kept in version.files.items()}
            for name in reversed(old):
                theirs = {_object(path, kept) for path, kept in self._version(name).files.items()}
                _each(self._store.remove, sorted(theirs - needed))
                self._store.remove(f"{_VERSIONS}/{name}")  # After them: else nobody would know whose they are.
                del self._read[name]
        except (StoreError, WorkdirError) as error:
            log.info("%s", error)

    def _try_to_remove(self, paths: list[str]) -> None:
        try:
            _each(self._store.remove, paths)
        except StoreError as error:
            log.info("%s", error)

    def _followed(self, version: Version, names: Collection[str]) -> list[str]:
        """The names of a version and of those that led to it, as far back as they are there; the newest first."""
        found = [version.name]
        while (follows := version.follows) is not None and follows in names and follows not in found:
            found.append(follows)
            version = self._version(follows)
        return found

    def _version(self, name: str) -> Version:
        """One that is known; as if it had no files if it is damaged, or was removed."""
        if name not in self._read:
            try:
                self._read[name] = _read(self._store, name)
            except _DamagedError:
                self._read[name] = Version(name, {}, None)
        return self._read[name]

    def _record(self) -> tuple[str | None, list[str]]:
        """From which version the folder goes on, and which were written since without an answer."""
        try:
            facts = json.loads((self._folder / _RECORD).read_bytes())
            return facts["base"], facts["tried"]
        except (FileNotFoundError, ValueError):
            return None, []

    def _error(self, problem: str) -> WorkdirError:
        return WorkdirError("workdir", self.name, problem)


def fetch(store: Store, folder: pathlib.Path, wanted: Collection[str]) -> None:
    """Brings those `wanted` files of a run on a store that it has into `folder`, of its newest valid version.

    Raises:
      StoreError: the store does not answer.
      WorkdirError: it holds no run, or no version that is valid.
    """
    names = _names(store)
    if not names:
        problem = f"holds no run; --model={store.shown}/model.npz would name a model that lies there"
        raise WorkdirError("workdir", store.shown, problem)
    _newest_valid(store, names, folder, wanted)


def discard(folder: pathlib.Path) -> None:
    """Removes a folder, if it is there, at once: half of one could pass for the run. Raises OSError."""
    if folder.exists():
        folder.rename(_aside(folder))
        shutil.rmtree(_aside(folder))


class _DamagedError(Exception):
    """An object is not what was written."""


# The newest states, which may be removed while the rest is written, with their bytes; of others None.
_Contents = dict[str, tuple[Kept, bytes | None]]
_OF_A_RUN = ("flags.txt", "metrics.jsonl", "model.npz", "report.json", "report.html", "tensorboard", "screen", _STATES)
_OBJECT = re.compile(r".+\.[0-9a-f]{64}", re.DOTALL)


def _aside(folder: pathlib.Path) -> pathlib.Path:
    """Where a folder lies that is being removed."""
    return folder.with_name(f"{folder.name}.old")


def _names(store: Store) -> list[str]:
    """The versions on a store, the newest last."""
    return sorted(name for name in store.list(_VERSIONS) if _NAME.fullmatch(name))


def _newest_valid(store: Store, names: list[str], folder: pathlib.Path, wanted: Collection[str] | None) -> Version:
    """Brings the newest valid version into `folder`, made anew; of it those files that are `wanted`, or all."""
    for name in reversed(names):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        try:
            version = _read(store, name)
            fetch_file = functools.partial(_fetch_file, store, folder, version)
            _each(fetch_file, [path for path in version.files if wanted is None or path in wanted])
            return version
        except _DamagedError as error:
            log.warning("%s: %s; an older version is looked for", store.shown, error)
    shutil.rmtree(folder)
    raise WorkdirError("workdir", store.shown, "no version of the run there is whole; give another workdir")


def _read(store: Store, name: str) -> Version:
    where = f"{_VERSIONS}/{name}"
    try:
        content = store.read(where)
    except AbsentError:
        raise _DamagedError(f"{where} is gone") from None
    if hashlib.sha256(content).hexdigest() != name.split(".")[1]:
        raise _DamagedError(f"{where} is damaged")
    try:
        facts = json.loads(content)
        if facts["format_version"] != FORMAT_VERSION:
            problem = f"its versions have format {facts['format_version']!r}; this program reads {FORMAT_VERSION}"
            raise WorkdirError("workdir", store.shown, problem)
        found = {path: Kept(str(kept["sha256"]), int(kept["size"])) for path, kept in facts["files"].items()}
        follows = facts.get("follows")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _DamagedError(f"{where} is no version: {brief(error)}") from error
    if not all(_is_inside(path) for path in found):
        raise _DamagedError(f"{where} names files outside the workdir")
    return Version(name, found, str(follows) if follows else None)


def _fetch_file(store: Store, folder: pathlib.Path, version: Version, path: str) -> None:
    kept = version.files[path]
    where = _object(path, kept)
    try:
        content = store.read(where)
    except AbsentError:
        raise _DamagedError(f"{where} is gone") from None
    if (hashlib.sha256(content).hexdigest(), len(content)) != kept:
        raise _DamagedError(f"{where} is damaged")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(folder / path, content)


def _each(do: Callable[[str], _Done], names: Sequence[str]) -> list[_Done]:
    """What `do` gives of each; several at once, for a store is far away."""
    return background.each(do, names, _AT_ONCE)


def _is_inside(path: str) -> bool:
    parts = pathlib.PurePosixPath(path).parts
    is_below = bool(parts) and not path.startswith("/") and not any(part.startswith(".") for part in parts)
    return is_below and is_one_line(path)


def _object(path: str, kept: Kept) -> str:
    return f"{_FILES}/{path}.{kept.sha256}"


def _contents(folder: pathlib.Path) -> _Contents:
    """What a version of a folder has. States come first: what else a run holds may be newer than its state."""
    while True:
        with contextlib.suppress(FileNotFoundError):  # A state that was the newest when the folder was looked through.
            return _contents_now(folder)


def _contents_now(folder: pathlib.Path) -> _Contents:
    found: _Contents = {}
    for path in sorted(_paths(folder), key=_is_state, reverse=True):
        if _is_state(path):
            state = (folder / path).read_bytes()
            found[path] = Kept(hashlib.sha256(state).hexdigest(), len(state)), state
        else:
            with open(folder / path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found[path] = Kept(digest, file.tell()), None
    return found


def _kept_of(contents: _Contents) -> dict[str, Kept]:
    return {path: kept for path, (kept, _) in contents.items()}


def _paths(folder: pathlib.Path) -> list[str]:
    """What belongs to a run: its files, and of each folder of states the newest one."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    plain = [path for path in found if _is_inside(path) and pathlib.PurePosixPath(path).parent.name != _STATES]
    states: dict[pathlib.PurePosixPath, str] = {}
    for path in sorted(path for path in found if _is_state(path)):
        states[pathlib.PurePosixPath(path).parent] = path
    return [*plain, *states.values()]


def _is_state(path: str) -> bool:
    return re.fullmatch(rf"(.*/)?{_STATES}/[0-9]+\.npz", path) is not None


def _progress(paths: Collection[str]) -> tuple[str, ...]:
    """How far the states among them are: that of the run, then those of its parts."""
    states = [path for path in paths if _is_state(path)]
    return tuple(sorted(states, key=lambda path: (path.count("/"), path)))


def _write_record(folder: pathlib.Path, base: str | None, tried: list[str]) -> None:
    files.write_whole(folder / _RECORD, json.dumps({"base": base, "tried": tried}).encode())

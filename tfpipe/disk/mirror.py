"""A run on an object store: versions of its files, of which the newest valid one wins.

A store has no rename and no lock, so nothing that a version needs is ever written over. Below the address lie

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
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from tfpipe.disk import files
from tfpipe.exceptions import AbsentError, StoreError, WorkdirError, brief
from tfpipe.log import log
from tfpipe.stores.access import Store
from tfpipe.text import is_one_line

FORMAT_VERSION = 1
_FILES, _VERSIONS, _STATES = "files", "versions", "checkpoints"
_DIGITS = 12
_NAME = re.compile(rf"[0-9]{{{_DIGITS}}}\.[0-9a-f]{{64}}\.json")
_RECORD = ".version"
_AT_ONCE = 8
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
    """

    name: str
    files: dict[str, Kept]


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
        self._number = 0

    def fetch(self) -> None:
        """Brings the folder to the newest valid version, unless it goes on from the newest one already.

        Raises:
          StoreError: the store does not answer.
          WorkdirError: no version is valid; or the folder has what the store has not, and the store has gone on since.
        """
        names = _names(self._store)
        self._known = set(names)
        self._number = int(names[-1][:_DIGITS]) if names else 0
        base, tried = self._record()
        if names and names[-1] in (base, *tried):
            with contextlib.suppress(_DamagedError):  # Then all files are written anew.
                self._newest = _read(self._store, names[-1])
            return
        if not names:
            if base is not None:
                raise self._error(f"holds no run any more, and {self._folder} does; remove that folder to begin anew")
            if there := sorted(set(_OF_A_RUN) & set(self._store.list())):
                raise self._error(f"holds a run ({there[0]}) without its state; give another workdir")
            return
        incoming = self._folder.with_name(f"{self._folder.name}.new")
        version = _newest_valid(self._store, names, incoming, None)
        if _progress(_paths(self._folder)) > _progress(version.files):
            shutil.rmtree(incoming)
            raise self._error(
                f"was gone on with from elsewhere, and {self._folder} holds a newer state that is not there; remove "
                "that folder, or name it as the workdir of a run of its own"
            )
        _write_record(incoming, version.name, [])
        if self._folder.exists():
            shutil.rmtree(self._folder)
        incoming.rename(self._folder)
        self._newest = version

    def publish(self, *, ends: bool = False) -> None:
        """Makes a version of the folder as it is, if that is not the last one.

        Args:
          ends: whether the run ends: then its files are kept under their own names too.

        Raises:
          OSError: the folder cannot be read or written.
          StoreError: the store does not take it; what it had, it has.
          WorkdirError: another process has written a version since.
        """
        with self._lock:
            try:
                before = self._newest
                contents = _contents(self._folder)
                if before is None or _kept_of(contents) != before.files:
                    self._newest = self._put(contents, before)
                    self._remove_all_but(self._newest, before)
                if ends:
                    _each(self._copy, [path for path in contents if not _is_state(path)])
            except StoreError as error:
                kept = f"all of the run is kept in {self._folder}, from where the same command goes on"
                raise StoreError(f"{error}; {kept}") from None

    def holds_all(self) -> bool:
        """Whether the store has all that the folder has. Raises OSError if the folder cannot be read."""
        with self._lock:
            contents = _contents(self._folder)
            return not contents or (self._newest is not None and _kept_of(contents) == self._newest.files)

    def _put(self, contents: "_Contents", before: Version | None) -> Version:
        if others := set(_names(self._store)) - self._known:
            number = int(max(others)[:_DIGITS])
            raise self._error(
                f"another process writes there (version {number}); end one of both, and give the command again"
            )
        put = _kept_of(contents)
        changed = [path for path, kept in put.items() if before is None or before.files.get(path) != kept]
        put |= dict(zip(changed, _each(lambda path: self._put_file(path, contents[path][1]), changed), strict=True))
        facts = {"format_version": FORMAT_VERSION, "files": {path: kept._asdict() for path, kept in put.items()}}
        content = json.dumps(facts, sort_keys=True).encode()
        self._number += 1
        version = Version(f"{self._number:0{_DIGITS}}.{hashlib.sha256(content).hexdigest()}.json", put)
        # Before it: where no answer comes, nobody knows whether it is there.
        base, tried = self._record()
        _write_record(self._folder, base, [*tried, version.name])
        self._known.add(version.name)
        self._store.write(f"{_VERSIONS}/{version.name}", content)
        _write_record(self._folder, version.name, [])
        return version

    def _put_file(self, path: str, state: bytes | None) -> Kept:
        content = (self._folder / path).read_bytes() if state is None else state  # It may have grown since.
        kept = Kept(hashlib.sha256(content).hexdigest(), len(content))
        self._store.write(_object(path, kept), content)
        return kept

    def _copy(self, path: str) -> None:
        self._store.write(path, (self._folder / path).read_bytes())

    def _remove_all_but(self, newest: Version, before: Version | None) -> None:
        """Removes what is older than the newest two versions; what cannot be removed now is so after the next."""
        kept = [newest, *([before] if before else [])]
        needed = {_object(path, file) for version in kept for path, file in version.files.items()}
        try:
            old = set(_names(self._store)) - {version.name for version in kept}
            _each(self._store.remove, [f"{_VERSIONS}/{name}" for name in old])  # Before what they need.
            gone = [path for path in (before.files if before else {}) if path not in newest.files]
            there = {f"{_FILES}/{name}" for name in self._store.list(_FILES)}
            _each(self._store.remove, [*(there - needed), *(path for path in gone if not _is_state(path))])
        except StoreError as error:
            log.info("%s", error)

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


class _DamagedError(Exception):
    """An object is not what was written."""


# The newest states, which may be removed while the rest is written, with their bytes; of others None.
_Contents = dict[str, tuple[Kept, bytes | None]]
_OF_A_RUN = ("flags.txt", "metrics.jsonl", "model.npz", "report.json", "report.html")


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
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _DamagedError(f"{where} is no version: {brief(error)}") from error
    if not all(_is_inside(path) for path in found):
        raise _DamagedError(f"{where} names files outside the workdir")
    return Version(name, found)


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
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(do, names))


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

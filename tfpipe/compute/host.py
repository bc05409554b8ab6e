"""The process belongs to whoever calls: what other libraries do to it when they are imported and used is undone.

All of this is the process's, not a thread's: of two threads that changed it side by side and put it back, the later
would bring back what the other had changed. So they take turns.
"""

import contextlib
import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_changing_warnings = threading.RLock()
_counting = threading.Lock()
# Of the handler that stands in for one of the host's.
_users = 0
_stand_in: logging.Handler = logging.NullHandler()


@contextlib.contextmanager
def undoing_imports() -> Iterator[None]:
    """For imports: takes back what they do to the environment and to the filters of warnings.

    Meanwhile no garbage is collected: modules are made to stay, and to look through those of TensorFlow again and again
    takes a quarter of the time of its import.
    """
    with _changing_warnings, warnings.catch_warnings():
        before, collects = dict(os.environ), gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()
            for name in os.environ.keys() - before.keys():
                del os.environ[name]
            os.environ.update(before)


@contextlib.contextmanager
def hiding(*packages: str) -> Iterator[None]:
    """For imports: these packages are not found, but where they are imported already.

    For what imports them if they are there, and is not asked for what it needs them for.
    """
    with _changing_warnings:
        hidden: dict[str, Any] = {name: None for name in packages if name not in sys.modules}
        sys.modules.update(hidden)
        try:
            yield
        finally:
            for name in hidden:
                sys.modules.pop(name, None)


@contextlib.contextmanager
def as_error(category: type[Warning]) -> Iterator[None]:
    """Warnings of a category are raised, in whatever thread."""
    with _changing_warnings, warnings.catch_warnings():
        warnings.simplefilter("error", category)
        yield


@contextlib.contextmanager
def leaving_logging_alone() -> Iterator[None]:
    """Where nobody has configured logging, keeps `absl.logging.info` and its kin from doing so at their first message.

    The host could not do it any more afterwards. Meanwhile the root logger has the handler that Python itself uses
    where there is none.
    """
    global _users, _stand_in
    root = logging.getLogger()
    with _counting:
        is_needed = _users > 0 or not root.handlers
        if is_needed:
            _stand_in = _stand_in if _users else logging.lastResort or logging.NullHandler()
            root.addHandler(_stand_in)
            _users += 1
    try:
        yield
    finally:
        if is_needed:
            with _counting:
                _users -= 1
                if not _users:
                    root.removeHandler(_stand_in)

"""Lets the operating system fail, or the process die, at a chosen operation on files."""

import contextlib
import os
from unittest import mock

OPERATIONS = ("open", "write", "fsync", "close", "replace", "unlink")


@contextlib.contextmanager
def traced(at, most=None):
    """Within it, `at(number, name, call)` takes the place of each operation; `call()` is the operation itself.

    No write takes more than `most` bytes. Gives the list of the names of the operations so far.
    """
    names = []

    def instead(name, original):
        def operation(*arguments, **options):
            names.append(name)
            if name == "write":
                descriptor, data = arguments
                arguments = (descriptor, data[:most])
            return at(len(names) - 1, name, lambda: original(*arguments, **options))

        return operation

    with contextlib.ExitStack() as stack:
        for name in OPERATIONS:
            stack.enter_context(mock.patch.object(os, name, instead(name, getattr(os, name))))
        yield names


def nothing(number, name, call):
    return call()


def failing(place, error):
    """For `traced`: operation number `place` fails."""

    def at(number, name, call):
        if number == place:
            raise error
        return call()

    return at


def failing_from(place, error):
    """For `traced`: from operation number `place` on, none writes any more."""

    def at(number, name, call):
        if number >= place and name in ("write", "replace"):
            raise error
        return call()

    return at

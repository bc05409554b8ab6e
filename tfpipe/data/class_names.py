"""Names of classes that Unicode holds equal, and those that may be mistakes."""

import unicodedata
from collections.abc import Iterable, Sequence

from tfpipe.exceptions import enumeration


def composed(name: str) -> str:
    """The one spelling of names that look and mean the same, Unicode's NFC."""
    return unicodedata.normalize("NFC", name)


def spelled_in_two_ways(names: Iterable[str]) -> list[str]:
    """A line for each name that is there in several spellings, which Unicode holds equal."""
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(composed(name), set()).add(name)
    told = "is spelled in two ways, which Unicode holds equal: it is one"
    return [f"the class {name} {told}" for name, of_class in spellings.items() if len(of_class) > 1]


def doubtful(names: Sequence[str]) -> str:
    """What may be a mistake in the names of classes, in words; nothing if there is none."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(composed(name).casefold().strip(), []).append(name)
    found = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    found += [repr(name) for name in names if name != name.strip() and [name] in alike.values()]
    how = "differ in small and capital letters or space alone, or end in space"
    return f"names of classes {how}: {enumeration(found)}" if found else ""

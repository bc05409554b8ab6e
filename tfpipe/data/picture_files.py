"""Which files below a folder are pictures."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from tfpipe.data.pictures import is_picture, knows_heif
from tfpipe.exceptions import enumeration
from tfpipe.text import one_line

# What systems and programs leave in folders: archives of macOS, Synology's and QNAP's thumbnails, Windows.
_OF_SYSTEMS = ("__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "lost+found")
_FILES_OF_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_HEIF = (".heic", ".heif", ".hif")
_MOST_NAMED = 5


class Listing(NamedTuple):
    """What lies below a folder.

    Attributes:
      pictures: paths of files that Pillow may decode: those in the folder, sorted, then folder by folder.
      skipped: paths of other files: of no suffix that Pillow knows, or no regular files, such as pipes.
      hidden: how many files are hidden, or a system's own.
      problems: a folder that is not looked into, and why, for each of those.
    """

    pictures: list[str]
    skipped: list[str]
    hidden: int
    problems: list[tuple[str, str]]


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system's own."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS or name.lower() in _FILES_OF_SYSTEMS


def below(folder: str, *, deep: bool = True) -> Listing:
    """Lists what lies in `folder`, and below it if `deep`. Links to folders are not followed."""
    pictures: list[str] = []
    skipped: list[str] = []
    problems: list[tuple[str, str]] = []
    hidden, waiting = 0, [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problems.append((place, f"cannot be read: {error.strerror}"))
            continue
        inner = []
        for entry in found:
            if entry.is_dir():
                if is_hidden(entry.name):
                    continue
                if entry.is_symlink():
                    problems.append((entry.path, "a link to a folder; expected pictures, or folders of them"))
                else:
                    inner.append(entry.path)
            elif is_hidden(entry.name):
                hidden += 1
            # A link to nothing is to be found out by who opens it.
            elif is_picture(entry.name) and (entry.is_file() or not os.path.exists(entry.path)):
                pictures.append(entry.path)
            else:
                skipped.append(entry.path)
        waiting += reversed(inner if deep else [])
    return Listing(pictures, skipped, hidden, problems)


def names(root: str, paths: Sequence[str]) -> str:
    """The first of the paths, from `root` on, and how many more there are, on one line."""
    return enumeration([one_line(os.path.relpath(path, root)) for path in paths], _MOST_NAMED)


def remedy(skipped: Sequence[str]) -> str:
    """What would make pictures of them, behind a semicolon; empty if nothing is known."""
    are_heif = any(path.lower().endswith(_HEIF) for path in skipped)
    return "; pip install 'tfpipe[heif]' to read HEIF" if are_heif and not knows_heif() else ""


def skipped_line(root: str, skipped: Sequence[str], hidden: int) -> str:
    """What was left out, in words."""
    parts = []
    if skipped:
        what = "1 file that is no picture" if len(skipped) == 1 else f"{len(skipped)} files that are no pictures"
        parts.append(f"{what}: {names(root, skipped)}{remedy(skipped)}")
    if hidden:
        parts.append(f"{hidden} hidden or of the system")
    return f"{root}: left out {'; and '.join(parts)}"

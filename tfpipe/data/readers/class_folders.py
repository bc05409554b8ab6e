"""How a folder of pictures is laid out: its splits, its classes, and which pictures they have."""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from tfpipe.data import picture_files
from tfpipe.data.class_names import composed, doubtful, spelled_in_two_ways
from tfpipe.data.split_names import NAMES, split_of, split_of_folder
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log
from tfpipe.text import is_one_line, one_line

_MOST_NAMED = 3


class Picture(NamedTuple):
    """A file that is to be decoded, and the number of its class."""

    path: pathlib.Path
    label: int


class Layout(NamedTuple):
    """What a folder holds.

    Attributes:
      splits: the pictures of each split that there is, `train` among them; those of folders in an order that is drawn
        once and for all.
      folders: the folders of these splits.
      class_names: by number; None: the classes have numbers alone.
      notes: what is to be said of how the folder was read, a line each.
      is_listed: whether people list the training pictures in the order that these have; else by their paths.
      parts: for each split that a list of pictures says, `train` among them, the numbers of its pictures among the
        training ones; None: all of these are for training, but for what is drawn from them.
    """

    splits: dict[str, list[Picture]]
    folders: dict[str, pathlib.Path]
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    is_listed: bool = False
    parts: dict[str, np.ndarray] | None = None


def is_there(root: pathlib.Path) -> bool:
    """Whether `root` has folders in it that are neither hidden nor a system's own."""
    return any(_is_class_folder(inner) for inner in root.iterdir())


def listed(root: pathlib.Path) -> Layout:
    """Lists the pictures below `root`, and says in the log how it was understood and what was left out.

    The folders with the classes lie in `root`, or in folders for the splits, which have one of the usual names. Where a
    folder holds one folder alone, and this one holds folders and no pictures, it is looked for in there.

    Raises:
      DataError: there are no pictures, or none of a class; what the folders stand for cannot be told; a class of
        another split is not in the training split; a name has a line break; a link leads out of `root`.
    """
    try:
        return _Reader(root).layout()
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror}") from error


class _Reader:
    def __init__(self, root: pathlib.Path):
        self._root = root
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._loose: list[str] = []
        self._skipped: list[str] = []
        self._hidden = 0
        self._folders_in_classes: dict[str, set[str]] = {}

    def layout(self) -> Layout:
        folders = self._split_folders()
        classes: dict[str, list[pathlib.Path]] = {}
        for name, folder in folders.items():
            known = [composed(c.name) for c in classes.get("train", [])]
            folders[name], classes[name] = self._classes(folder, known)
        numbers: dict[str, int] = {}
        names: list[str] = []
        for folder in classes["train"]:
            if composed(folder.name) not in numbers:
                numbers[composed(folder.name)] = len(names)
                names.append(folder.name)
        splits = {name: self._pictures(name, folders[name], of_split, numbers) for name, of_split in classes.items()}
        self._warn_of_folders_in_classes()
        for line in spelled_in_two_ways(folder.name for of_split in classes.values() for folder in of_split):
            self._note(f"{self._root}: {line}")
        for note in self._notes:
            log.info("%s", note)
        warnings = self._warnings
        if doubts := doubtful(names):
            warnings.append(f"{self._root}: {doubts}")
        if self._loose:
            what = (
                "1 picture in no class is" if len(self._loose) == 1 else f"{len(self._loose)} pictures in no class are"
            )
            shown = picture_files.names(str(self._root), self._loose)
            warnings.append(f"{self._root}: {what} left out: {shown}")
        if self._skipped:
            warnings.append(picture_files.skipped_line(str(self._root), self._skipped, self._hidden))
        for line in warnings:
            log.warning("%s", line)
        if self._hidden and not self._skipped:
            log.info("%s", picture_files.skipped_line(str(self._root), [], self._hidden))
        return Layout(splits, folders, tuple(names), (*self._notes, *warnings))

    def _split_folders(self) -> dict[str, pathlib.Path]:
        """The folders of the splits; or the one that holds the classes, as that of `train`."""
        root = self._root
        folders = self._folders(root)
        while (
            _of_training(self._splits_in(folders)) is None and (inner := self._only_folder(root, folders)) is not None
        ):
            self._note(f"{inner}: the only folder in {root}, so the classes are looked for in there")
            root, folders = inner, self._folders(inner)
        called_so = self._splits_in(folders)
        training = _of_training(called_so)
        others = [folder for folder in folders if folder not in called_so]
        left_out = self._left_out(called_so, others)
        others = [folder for folder in others if folder not in left_out]
        # `01_train` beside `02_bus` is a class.
        is_split = training is not None and (split_of(training.name) is not None or len(called_so) > 1)
        if training is None or (others and (not is_split or self._has_pictures(training))):
            if named_so := [folder for folder in folders if split_of(folder.name) or split_of_folder(folder.name)]:
                self._warn_of_classes_called_so(root, named_so)
            return {"train": root}
        by_split: dict[str, pathlib.Path] = {}
        for folder, name in called_so.items():
            if name in by_split:
                both = f"{by_split[name].name} and {folder.name}"
                raise DataError(f"{root}: holds {both}, which both stand for {name}; expected one of them")
            by_split[name] = folder
        if others:
            raise DataError(
                f"{root}: holds {training.name} beside {others[0].name}; expected splits alone, or classes alone"
            )
        for folder in left_out:
            count = len(picture_files.below(str(folder)).pictures)
            what = "1 picture" if count == 1 else f"{count} pictures"
            self._warnings.append(f"{folder}: {what} in no class folders are left out, beside folders of splits")
        self._leave_out(picture_files.below(str(root), deep=False))
        if any(folder.name != name for name, folder in by_split.items()):
            shown = ", ".join(f"{by_split[name].name} for {name}" for name in NAMES if name in by_split)
            self._note(f"{root}: holds splits, {shown}")
        return {name: by_split[name] for name in NAMES if name in by_split}

    def _splits_in(self, folders: list[pathlib.Path]) -> dict[pathlib.Path, str]:
        """Those of the folders that are called for a split, with it."""
        return {folder: split for folder in folders if (split := self._split_of(folder))}

    def _split_of(self, folder: pathlib.Path) -> str | None:
        """The split that a folder is called for, by one of the usual names; by others if it may hold classes alone."""
        if split := split_of(folder.name):
            return split
        split = split_of_folder(folder.name)
        return split if split and self._holds_folders_alone(folder) else None

    def _left_out(self, called_so: dict[pathlib.Path, str], others: list[pathlib.Path]) -> list[pathlib.Path]:
        """Those of `others`, beside folders of splits, that hold pictures in no classes, such as those to predict."""
        if not all(map(self._holds_folders_alone, called_so)):
            return []
        return [
            folder
            for folder in others
            if (len(called_so) > 1 or split_of_folder(folder.name)) and self._holds_pictures_alone(folder)
        ]

    def _warn_of_classes_called_so(self, root: pathlib.Path, folders: list[pathlib.Path]) -> None:
        names = enumeration([folder.name for folder in folders])
        what = f"{names} is read as a class" if len(folders) == 1 else f"{names} are read as classes"
        self._warnings.append(f"{root}: {what}, as there are no folders of classes for training in it")

    def _warn_of_folders_in_classes(self) -> None:
        """Warns where all classes hold folders of the same names: those may be splits or folds, or the true classes."""
        classes = self._folders_in_classes
        shared = set.intersection(*classes.values()) if len(classes) > 1 else set()
        if len(shared) > 1:
            self._warnings.append(
                f"{self._root}: the classes {enumeration(list(classes), _MOST_NAMED)} all hold the folders "
                f"{enumeration(sorted(shared), _MOST_NAMED)}, and each takes the pictures of all of its own; if those "
                "are splits, expected SPLIT/CLASS/PICTURE, or --split_file=FILE; if they are the classes, CLASS/PICTURE"
            )

    def _classes(self, folder: pathlib.Path, known: list[str]) -> tuple[pathlib.Path, list[pathlib.Path]]:
        """The folder that holds the classes of a split, `folder` or one in it, and their folders."""
        classes = self._folders(folder)
        while (inner := self._only_folder(folder, classes)) is not None and composed(inner.name) not in known:
            self._note(f"{inner}: the only folder in {folder}, so the classes are looked for in there")
            folder, classes = inner, self._folders(inner)
        return folder, classes

    def _only_folder(self, folder: pathlib.Path, folders: list[pathlib.Path]) -> pathlib.Path | None:
        """The folder in `folder` that holds folders and no pictures, if it is the only one there."""
        if len(folders) != 1 or self._has_pictures(folder) or self._has_pictures(folders[0]):
            return None
        return folders[0] if self._folders(folders[0]) else None

    def _pictures(
        self, split: str, parent: pathlib.Path, classes: list[pathlib.Path], numbers: dict[str, int]
    ) -> list[Picture]:
        beside = picture_files.below(str(parent), deep=False)
        self._leave_out(beside)
        pictures: list[Picture] = []
        empty: list[tuple[pathlib.Path, picture_files.Listing]] = []
        for folder in classes:
            number = numbers.get(composed(folder.name))
            if number is None:
                raise DataError(f"{folder}: the training split has no class of this name")
            found = picture_files.below(str(folder))
            for path, problem in found.problems:
                raise DataError(f"{path}: {problem}")
            self._skipped += found.skipped
            self._hidden += found.hidden
            if split == "train":
                self._folders_in_classes[folder.name] = _folders_of(found.pictures, str(folder))
            pictures += [Picture(self._checked(pathlib.Path(path)), number) for path in found.pictures]
            if not found.pictures and (split == "train" or found.skipped):
                empty.append((folder, found))
        if not pictures and not any(found.skipped for _, found in empty):
            loose = f"; {len(beside.pictures)} lie in no class" if beside.pictures else ""
            raise DataError(f"{parent}: no pictures in class folders; expected CLASS/PICTURE{loose}")
        filled = {picture.label for picture in pictures}
        for folder, found in empty:
            if numbers[composed(folder.name)] not in filled:  # Of one spelling of its name there may be none.
                raise DataError(f"{folder}: a class without pictures{_instead(folder, found.skipped)}")
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(pictures))
        return [pictures[i] for i in order]

    def _folders(self, parent: pathlib.Path) -> list[pathlib.Path]:
        return [self._checked(path) for path in sorted(parent.iterdir()) if _is_class_folder(path)]

    def _checked(self, path: pathlib.Path) -> pathlib.Path:
        if not path.name.isascii() and not _is_utf8(path.name):
            raise DataError(f"{one_line(str(path))}: a name that is not UTF-8; rename it")
        if not is_one_line(path.name):
            raise DataError(f"{path}: a name with a line break or another control character; rename it")
        if path.is_symlink() and not path.resolve().is_relative_to(self._root.resolve()):
            raise DataError(f"{path}: a link that leads out of {self._root}; expected pictures inside of it")
        return path

    def _has_pictures(self, folder: pathlib.Path) -> bool:
        return bool(picture_files.below(str(folder), deep=False).pictures)

    def _holds_folders_alone(self, folder: pathlib.Path) -> bool:
        return bool(self._folders(folder)) and not self._has_pictures(folder)

    def _holds_pictures_alone(self, folder: pathlib.Path) -> bool:
        """Whether it, or the only folder in it, holds pictures and no folders."""
        inner = self._folders(folder)
        if len(inner) == 1 and not self._has_pictures(folder):
            return self._holds_pictures_alone(inner[0])
        return not inner and self._has_pictures(folder)

    def _leave_out(self, beside: picture_files.Listing) -> None:
        """Counts what lies beside folders, and is none."""
        self._loose += beside.pictures
        self._skipped += beside.skipped
        self._hidden += beside.hidden

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)


def _is_class_folder(path: pathlib.Path) -> bool:
    return not picture_files.is_hidden(path.name) and path.is_dir()


def _folders_of(pictures: list[str], folder: str) -> set[str]:
    """The names of the folders in `folder` that hold pictures, in themselves or below."""
    paths = (path[len(folder) + len(os.sep) :].split(os.sep, 1) for path in pictures)
    return {path[0] for path in paths if len(path) > 1}


def _is_utf8(name: str) -> bool:
    """Whether a name that the system gave is text, rather than bytes that are kept as halves of surrogate pairs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_training(called_so: dict[pathlib.Path, str]) -> pathlib.Path | None:
    return next((folder for folder, split in called_so.items() if split == "train"), None)


def _instead(folder: pathlib.Path, skipped: list[str]) -> str:
    if not skipped:
        return "; remove the folder, or fill it"
    files = "1 file" if len(skipped) == 1 else f"{len(skipped)} files"
    shown = picture_files.names(str(folder), skipped)
    remedy = picture_files.remedy(skipped) or "; convert them, or remove the folder"
    return f", but {files} that Pillow does not read ({shown}){remedy}"

"""How a folder of pictures is laid out: its splits, its classes, and which pictures they have."""

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfpipe.data import picture_files
from tfpipe.data.picture_files import composed
from tfpipe.data.split_names import NAMES, split_of
from tfpipe.exceptions import DataError, enumeration
from tfpipe.log import log
from tfpipe.text import is_one_line


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
        self._loose: list[str] = []
        self._skipped: list[str] = []
        self._hidden = 0

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
        self._note_spellings([folder for of_split in classes.values() for folder in of_split])
        for note in self._notes:
            log.info("%s", note)
        doubts = _doubtful_names(names)
        warnings = [f"{self._root}: {doubts}"] if doubts else []
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
        while _training(folders) is None and (inner := self._only_folder(root, folders)) is not None:
            self._note(f"{inner}: the only folder in {root}, so the classes are looked for in there")
            root, folders = inner, self._folders(inner)
        called_so = {folder: split for folder in folders if (split := split_of(folder.name))}
        training = _training(folders)
        if training is None or (len(called_so) < len(folders) and self._has_pictures(training)):
            if called_so:
                shown = enumeration([folder.name for folder in called_so])
                self._note(f"{root}: {shown} is read as a class, as there are no folders of classes for training in it")
            return {"train": root}
        by_split: dict[str, pathlib.Path] = {}
        for folder, name in called_so.items():
            if name in by_split:
                both = f"{by_split[name].name} and {folder.name}"
                raise DataError(f"{root}: holds {both}, which both stand for {name}; expected one of them")
            by_split[name] = folder
        others = [folder.name for folder in folders if folder not in called_so]
        if others:
            raise DataError(
                f"{root}: holds {training.name} beside {others[0]}; expected splits alone, or classes alone"
            )
        if any(folder.name != name for name, folder in by_split.items()):
            shown = ", ".join(f"{by_split[name].name} for {name}" for name in NAMES if name in by_split)
            self._note(f"{root}: holds splits, {shown}")
        return {name: by_split[name] for name in NAMES if name in by_split}

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
        self._loose += beside.pictures
        self._skipped += beside.skipped
        self._hidden += beside.hidden
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
        if not is_one_line(path.name):
            raise DataError(f"{path}: a name with a line break or another control character; rename it")
        if path.is_symlink() and not path.resolve().is_relative_to(self._root.resolve()):
            raise DataError(f"{path}: a link that leads out of {self._root}; expected pictures inside of it")
        return path

    def _has_pictures(self, folder: pathlib.Path) -> bool:
        return bool(picture_files.below(str(folder), deep=False).pictures)

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _note_spellings(self, folders: Iterable[pathlib.Path]) -> None:
        spellings: dict[str, set[str]] = {}
        for folder in folders:
            spellings.setdefault(composed(folder.name), set()).add(folder.name)
        for name, of_class in spellings.items():
            if len(of_class) > 1:
                self._note(
                    f"{self._root}: the class {name} is spelled in two ways, which Unicode holds equal: it is one"
                )


def _is_class_folder(path: pathlib.Path) -> bool:
    return not picture_files.is_hidden(path.name) and path.is_dir()


def _training(folders: list[pathlib.Path]) -> pathlib.Path | None:
    return next((folder for folder in folders if split_of(folder.name) == "train"), None)


def _instead(folder: pathlib.Path, skipped: list[str]) -> str:
    if not skipped:
        return "; remove the folder, or fill it"
    files = "1 file" if len(skipped) == 1 else f"{len(skipped)} files"
    shown = picture_files.names(str(folder), skipped)
    remedy = picture_files.remedy(skipped) or "; convert them, or remove the folder"
    return f", but {files} that Pillow does not read ({shown}){remedy}"


def _doubtful_names(names: list[str]) -> str:
    """What may be a mistake in the names of classes, in words; nothing if there is none."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(composed(name).casefold().strip(), []).append(name)
    doubtful = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    doubtful += [repr(name) for name in names if name != name.strip() and [name] in alike.values()]
    how = "differ in small and capital letters or space alone, or end in space"
    return f"names of classes {how}: {enumeration(doubtful)}" if doubtful else ""

"""A folder of class folders of pictures: PNG, JPEG, BMP or GIF.

    root/cat/1.png, root/dog/7.jpg, ...          or          root/train/cat/1.png, root/test/cat/2.png, ...

Pillow reads the pictures rather than the readers of Keras or TFDS, because those name no file that does not decode, and
count none that they leave out.
"""

import collections
import concurrent.futures
import math
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tqdm
from PIL import Image

from tfpipe import memory
from tfpipe.compute import cpu, host
from tfpipe.data.examples import Examples
from tfpipe.data.pictures import FORMATS, MODES, SUFFIXES, decoded
from tfpipe.data.readers import idx
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError, brief
from tfpipe.log import log
from tfpipe.memory import check_fits_memory

_GRAYSCALE_MODES = ("1", "L", "LA", "I", "I;16")
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


class _Picture(NamedTuple):
    path: pathlib.Path
    label: int


class _Head(NamedTuple):
    """What the first bytes of a picture tell: its size, or what is wrong with it."""

    picture: _Picture
    height: int = 0
    width: int = 0
    grayscale: bool = True
    problem: str = ""


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a folder with folders in it that are not hidden, and without IDX files."""
    is_one = path.is_dir() and not idx.is_there(path) and any(_is_class_folder(inner) for inner in path.iterdir())
    return path if is_one else None


def read(
    root: pathlib.Path, *, image_size: tuple[int, int] | None, color_mode: str | None, skip_bad_images: bool
) -> Source:
    """Decodes every picture below `root`: `[N, H, W]` or `[N, H, W, 3]` uint8.

    The class names are the names of the class folders of the training split, sorted. Within a split the pictures come
    in an order that is drawn once and for all, so that the end of the training examples holds all classes. They are
    listed by their paths, folder by folder, those that do not decode too.

    Args:
      root: the folder, with class folders in it, or with `train`, `validation` (or `val`) and `test` above them.
      image_size: height and width to which pictures are brought, by Pillow's bilinear filter; None: they have one size.
      color_mode: `grayscale` or `rgb`; None: grayscale unless a picture has colours.
      skip_bad_images: leave out pictures that do not decode.

    Raises:
      DataError: there are no pictures; one does not decode, has another size, or lies outside of `root`; a class of
        another split is not in the training split.
    """
    splits = _list_splits(root)
    # Pillow warns of pictures above 89 million pixels, and fails above twice as many. Both are errors here.
    with host.as_error(Image.DecompressionBombWarning):
        heads = {name: _each("reading", _head, pictures) for name, (pictures, _) in splits.items()}
    bad = _drop_bad(heads, skip_bad_images)
    everything = [head for of_split in heads.values() for head in of_split]
    size = image_size or _common_size(everything)
    mode = MODES[color_mode or ("grayscale" if all(h.grayscale for h in everything) else "rgb")]
    class_names = splits["train"][1]
    examples, numbers = {}, {}
    for name, of_split in heads.items():
        images, decoded = _decode(of_split, size, mode, skip_bad_images)
        bad += len(of_split) - len(decoded)
        labels = np.array([head.picture.label for head in decoded], np.int32)
        examples[name] = Examples(images, labels, str(root if len(splits) == 1 else root / name))
        numbers[name] = {head.picture.path: number for number, head in enumerate(decoded)}
    if bad:
        log.warning("%s: left out %d pictures that do not decode", root, bad)
    paths = sorted((picture.path for picture in splits["train"][0]), key=lambda path: path.parts)
    listing = np.array([numbers["train"].get(path, -1) for path in paths])
    return Source(examples["train"], examples.get("validation"), examples.get("test"), 255.0, class_names, listing)


def _list_splits(root: pathlib.Path) -> dict[str, tuple[list[_Picture], tuple[str, ...]]]:
    """The pictures and the class names of each split; what is not a picture is counted in the log."""
    folders = _folders(root, root)
    by_split = {_SPLITS[folder.name]: folder for folder in folders if folder.name in _SPLITS}
    if "train" in by_split:
        if len(by_split) < sum(folder.name in _SPLITS for folder in folders):
            raise DataError(f"{root}: holds validation and val; expected one of them")
        others = [folder.name for folder in folders if folder.name not in _SPLITS]
        if others:
            raise DataError(f"{root}: holds train beside {others[0]}; expected train, validation and test alone")
        splits = {name: _folders(root, by_split[name]) for name in ("train", "validation", "test") if name in by_split}
    else:
        splits = {"train": folders}

    numbers = {folder.name: number for number, folder in enumerate(splits["train"])}
    ignored = 0
    listed: dict[str, tuple[list[_Picture], tuple[str, ...]]] = {}
    for name, classes in splits.items():
        pictures = []
        for folder in classes:
            if folder.name not in numbers:
                raise DataError(f"{folder}: the training split has no class of this name")
            paths, others_count = _pictures(root, folder)
            ignored += others_count
            pictures += [_Picture(path, numbers[folder.name]) for path in paths]
        if not pictures:
            where = root if len(splits) == 1 else by_split[name]
            raise DataError(f"{where}: no pictures in class folders; expected CLASS/PICTURE ({', '.join(SUFFIXES)})")
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(pictures))
        listed[name] = [pictures[i] for i in order], tuple(numbers)
    if ignored:
        log.info("%s: ignored %d files that are hidden or no pictures", root, ignored)
    return listed


def _folders(root: pathlib.Path, parent: pathlib.Path) -> list[pathlib.Path]:
    """The folders in `parent`, sorted; not the hidden ones."""
    folders = sorted(path for path in parent.iterdir() if _is_class_folder(path))
    return [_inside(root, _printable(path)) for path in folders]


def _is_class_folder(path: pathlib.Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _pictures(root: pathlib.Path, folder: pathlib.Path) -> tuple[list[pathlib.Path], int]:
    """The pictures below `folder`, sorted, and how many other files there are."""
    pictures, others = [], 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if pathlib.Path(place, name).is_symlink():  # os.walk does not follow it: its pictures must not just vanish.
                raise DataError(
                    f"{pathlib.Path(place, name)}: a link to a folder; expected pictures, or folders of them"
                )
        for name in sorted(names):
            path = pathlib.Path(place, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                others += 1
                continue
            pictures.append(_inside(root, _printable(path)))
    return pictures, others


def _inside(root: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{path}: a link that leads out of {root}; expected pictures inside of it")
    return path


def _printable(path: pathlib.Path) -> pathlib.Path:
    if not path.name.isprintable():
        raise DataError(f"{path}: a name with a line break or another character that cannot be shown; rename it")
    return path


def _each(verb: str, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`function` of every item, in order, by several threads: Pillow lets go of the interpreter while it decodes."""
    items = list(items)
    with concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool:
        bar = tqdm.tqdm(
            pool.map(function, items), desc=verb, total=len(items), unit=" pictures", disable=None, leave=False
        )
        return list(bar)


def _head(picture: _Picture) -> _Head:
    try:
        with Image.open(picture.path, formats=FORMATS) as image:
            width, height = image.size
            return _Head(picture, height, width, image.mode in _GRAYSCALE_MODES)
    except MemoryError:
        raise
    except Exception as error:  # Damage shows in many kinds of errors, depending on the format.
        return _Head(picture, problem=brief(error))


def _drop_bad(heads: dict[str, list[_Head]], skip: bool) -> int:
    """Takes the pictures that do not open out of `heads`, and returns their number."""
    count = 0
    for name, of_split in heads.items():
        bad = [head for head in of_split if head.problem]
        if bad and not skip:
            raise _bad_picture(bad[0].picture, bad[0].problem)
        heads[name] = [head for head in of_split if not head.problem]
        if not heads[name]:
            raise DataError(f"{bad[0].picture.path.parent}: no picture of the split {name} decodes")
        count += len(bad)
    return count


def _bad_picture(picture: _Picture, problem: str) -> DataError:
    return DataError(f"{picture.path}: does not decode: {problem}; skip_bad_images leaves such pictures out")


def _common_size(heads: list[_Head]) -> tuple[int, int]:
    """The height and width of all pictures; DataError for the first that differs from what most are."""
    (usual, count), *_ = collections.Counter((head.height, head.width) for head in heads).most_common()
    for head in heads:
        if (head.height, head.width) != usual:
            sizes = f"is {head.height} x {head.width}, but {count} of {len(heads)} pictures are {usual[0]} x {usual[1]}"
            raise DataError(f"{head.picture.path}: {sizes}; image_size=HEIGHT,WIDTH brings all to one size")
    return usual


def _decode(heads: list[_Head], size: tuple[int, int], mode: str, skip: bool) -> tuple[np.ndarray, list[_Head]]:
    """The pictures as one array, and the heads of those that did decode, in the same order."""
    shape = (len(heads), *size, *((3,) if mode == "RGB" else ()))
    check_fits_memory(f"{heads[0].picture.path.parent}: {len(heads)} pictures", math.prod(shape))
    images = memory.empty(shape, np.uint8)

    def decode(place: int) -> str:
        try:
            images[place] = decoded(heads[place].picture.path, size, mode)
            return ""
        except MemoryError:
            raise
        except Exception as error:  # As in _head.
            return brief(error)

    problems = _each("decoding", decode, range(len(heads)))
    sound = [place for place, problem in enumerate(problems) if not problem]
    if len(sound) < len(heads):
        if not skip:
            place = next(place for place, problem in enumerate(problems) if problem)
            raise _bad_picture(heads[place].picture, problems[place])
        images = images[sound]
    return images, [heads[place] for place in sound]

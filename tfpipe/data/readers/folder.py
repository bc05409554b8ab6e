"""A folder of class folders of pictures, of any format that Pillow decodes.

    root/cat/1.png, root/dog/7.jpg, ...          or          root/train/cat/1.png, root/test/cat/2.png, ...

Pillow reads the pictures rather than the readers of Keras or TFDS, because those name no file that does not decode, and
count none that they leave out.
"""

import collections
import concurrent.futures
import functools
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
from tfpipe.config import NATIVE, DataConfig, Reading
from tfpipe.data import picture_files, pictures, sizes
from tfpipe.data.examples import Examples
from tfpipe.data.readers import class_folders, idx
from tfpipe.data.readers.class_folders import Layout, Picture
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError, brief
from tfpipe.log import log
from tfpipe.memory import check_fits_memory


class _Head(NamedTuple):
    """What the first bytes of a picture tell: its size, or what is wrong with it.

    `largest` is the largest value of a gray one of more than 8 bits a pixel, where it was looked for; else -1.
    """

    picture: Picture
    height: int = 0
    width: int = 0
    grayscale: bool = True
    largest: int = -1
    problem: str = ""


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a folder with folders in it that are not hidden, and without IDX files."""
    return path if path.is_dir() and not idx.is_there(path) and class_folders.is_there(path) else None


def read(
    root: pathlib.Path,
    *,
    image_size: tuple[int, int] | str | None,
    color_mode: str | None,
    skip_bad_images: bool,
    fit: str = DataConfig.fit,
    orientation: str = DataConfig.orientation,
    background: str = DataConfig.background,
    gray_max: int | None = DataConfig.gray_max,
    decoding: str = DataConfig.decoding,
    layout: Layout | None = None,
) -> Source:
    """Decodes every picture below `root`: `[N, H, W]` or `[N, H, W, 3]` uint8.

    The class names are the names of the class folders of the training split, sorted. Within a split the pictures come
    in an order that is drawn once and for all, so that the end of the training examples holds all classes. They are
    listed by their paths, folder by folder, those that do not decode too.

    Args:
      root: the folder, with class folders in it, or with folders for splits above them; see `class_folders`.
      image_size: height and width to which pictures are brought, by Pillow's bilinear filter; `native`: they have one
        size, and keep it; None: `sizes.default` of the training pictures, and a note says so where one has another.
      color_mode: `grayscale` or `rgb`; None: grayscale unless a picture has colours.
      skip_bad_images: leave out pictures that do not decode.
      fit: `stretch`, `crop` or `pad`.
      orientation: `upright` or `stored`.
      background: `white`, `black`, or `none`.
      gray_max: what is white in gray pictures of more than 8 bits a pixel; None: the training pictures tell.
      decoding: `reduced` or `full`, of JPEG.
      layout: the pictures, which a list of the name `root` has; None: those of the class folders in it.

    Raises:
      DataError: there are no pictures; one does not decode, lies outside of `root`, or has another size than others
        where they keep it; a class has none; a class of another split is not in the training split.
    """
    layout = layout or class_folders.listed(root)
    class_names = layout.class_names or ()
    reading = Reading(orientation, background, gray_max, fit, decoding)
    notes = list(layout.notes)
    # Pillow warns of pictures above 89 million pixels, and fails above twice as many. Both are errors here.
    with host.as_error(Image.DecompressionBombWarning):
        head = functools.partial(_head, reading=reading, look_for_largest=gray_max is None)
        heads = {name: _each("reading", head, of_split) for name, of_split in layout.splits.items()}
    bad = _drop_bad(heads, skip_bad_images)
    everything = [head for of_split in heads.values() for head in of_split]
    training = _for_training(root, heads["train"], layout)
    if image_size is None:
        size, note = _default_size(root, everything, training, fit)
        if note:
            notes.append(note)
            log.info("%s", note)
    else:
        size = _common_size(everything) if isinstance(image_size, str) else image_size
    mode = pictures.MODES[color_mode or ("grayscale" if all(h.grayscale for h in everything) else "rgb")]
    largest = max(head.largest for head in training)
    if largest >= 0:
        white = (1 << max(8, largest.bit_length())) - 1
        reading = reading._replace(gray_max=white)
        notes.append(
            f"{root}: in gray pictures of more than 8 bits a pixel {white} is white, for the largest value "
            f"in training is {largest}; --gray_max says otherwise"
        )
        log.info("%s", notes[-1])
        if above := [head for head in everything if head.largest > white]:
            notes.append(_above(root, above, white))
            log.warning("%s", notes[-1])
    examples, listings = {}, {}
    for name, of_split in heads.items():
        images, decoded = _decode(of_split, size, mode, reading, skip_bad_images)
        bad += {head.picture.path for head in of_split} - {head.picture.path for head in decoded}
        labels = np.array([head.picture.label for head in decoded], np.int32)
        files = [os.path.relpath(head.picture.path, root if root.is_dir() else root.parent) for head in decoded]
        where = str(root if len(heads) == 1 else layout.folders[name])
        paths = [picture.path for picture in layout.splits[name]]
        if not layout.is_listed:
            paths.sort(key=lambda path: path.parts)
        place = {path: number for number, path in enumerate(paths)}
        listed = np.array([place[head.picture.path] for head in decoded])
        examples[name] = Examples(images, labels, where, files=files, listed=listed)
        listings[name] = np.full(len(paths), -1)
        listings[name][listed] = np.arange(len(listed))
    for number in np.setdiff1d(np.arange(len(class_names)), examples["train"].labels):
        raise DataError(f"{root}: no picture of the class {class_names[number]} decodes; expected one at least")
    if bad:
        what = "1 picture that does" if len(bad) == 1 else f"{len(bad)} pictures that do"
        shown = picture_files.names(str(root if root.is_dir() else root.parent), sorted(map(str, bad)))
        notes.append(f"{root}: left out {what} not decode: {shown}")
        log.warning("%s", notes[-1])
    listing = listings["train"]
    parts = None
    if layout.parts is not None:
        parts = {split: listing[rows][listing[rows] >= 0] for split, rows in layout.parts.items()}
    return Source(
        examples["train"],
        examples.get("validation"),
        examples.get("test"),
        pixel_max=255.0,
        class_names=layout.class_names,
        listing=listing,
        reading=reading,
        notes=tuple(notes),
        parts=parts,
    )


def _each(verb: str, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`function` of every item, in order, by several threads: Pillow lets go of the interpreter while it decodes."""
    items = list(items)
    with concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool:
        bar = tqdm.tqdm(
            pool.map(function, items), desc=verb, total=len(items), unit=" pictures", disable=None, leave=False
        )
        return list(bar)


def _head(picture: Picture, *, reading: Reading, look_for_largest: bool) -> _Head:
    try:
        with open(picture.path, "rb") as file, pictures.opened(file, picture.path.name) as image:
            height, width = pictures.upright_size(image, reading)
            grayscale, is_deep = pictures.is_gray(image), pictures.is_deep(image)
        largest = pictures.largest_value(picture.path, reading) if is_deep and look_for_largest else -1
        return _Head(picture, height, width, grayscale, largest)
    except MemoryError:
        raise
    except Exception as error:  # Damage shows in many kinds of errors, depending on the format.
        return _Head(picture, problem=_problem(error))


def _problem(error: Exception) -> str:
    """Why a picture is none that can be used."""
    return str(error) if isinstance(error, DataError) else f"does not decode: {brief(error)}"


def _drop_bad(heads: dict[str, list[_Head]], skip: bool) -> list[pathlib.Path]:
    """Takes the pictures that do not open out of `heads`, and returns them."""
    left_out: list[pathlib.Path] = []
    for name, of_split in heads.items():
        bad = [head for head in of_split if head.problem]
        if bad and not skip:
            raise _bad_picture(bad[0].picture, bad[0].problem)
        heads[name] = [head for head in of_split if not head.problem]
        if not heads[name]:
            raise DataError(f"{bad[0].picture.path.parent}: no picture of the split {name} decodes")
        left_out += [head.picture.path for head in bad]
    return left_out


def _for_training(root: pathlib.Path, heads: list[_Head], layout: Layout) -> list[_Head]:
    """Those of `heads`, of the training split, that are in no other part of it; DataError if there are none.

    Of a list that says no row is for training, which may measure a model, they are all.
    """
    if layout.parts is None or "train" not in layout.parts:
        return heads
    paths = {layout.splits["train"][row].path for row in layout.parts["train"]}
    if found := [head for head in heads if head.picture.path in paths]:
        return found
    raise DataError(f"{root}: no picture of the split train decodes")


def _bad_picture(picture: Picture, problem: str) -> DataError:
    return DataError(f"{picture.path}: {problem}; skip_bad_images leaves such pictures out")


def _above(root: pathlib.Path, heads: list[_Head], gray_max: int) -> str:
    """Says of which pictures gray values are beyond what training told to be white."""
    shown = picture_files.names(
        str(root if root.is_dir() else root.parent), sorted(str(head.picture.path) for head in heads)
    )
    what = "1 picture has" if len(heads) == 1 else f"{len(heads)} pictures have"
    most = max(head.largest for head in heads)
    return (
        f"{root}: {what} gray values above {gray_max}, up to {most}, which become white, for no training picture has "
        f"such: {shown}; --gray_max says otherwise"
    )


def _default_size(
    root: pathlib.Path, everything: list[_Head], training: list[_Head], fit: str
) -> tuple[tuple[int, int], str]:
    """The size that pictures are brought to where none is given; and a line about it, empty if all have it already."""
    size = sizes.default((head.height, head.width) for head in training)
    found = {(head.height, head.width) for head in everything}
    if found == {size}:
        return size, ""
    by_area = [" x ".join(map(str, one)) for one in sorted(found, key=lambda one: (math.prod(one), one))]
    options = "--image_size=HEIGHT,WIDTH gives another size"
    if len(found) == 1:
        which, options = by_area[0], f"{options}, --image_size={NATIVE} keeps theirs"
    else:
        which = f"{len(found)} sizes, from {by_area[0]} to {by_area[-1]},"
        options += "" if fit != DataConfig.fit else ", --fit=crop or pad keeps their shapes"
    return size, f"{root}: pictures of {which} are brought to {size[0]} x {size[1]}; {options}"


def _common_size(heads: list[_Head]) -> tuple[int, int]:
    """The height and width of all pictures; DataError for the first that differs from what most are."""
    (usual, count), *_ = collections.Counter((head.height, head.width) for head in heads).most_common()
    for head in heads:
        if (head.height, head.width) != usual:
            sizes = f"is {head.height} x {head.width}, but {count} of {len(heads)} pictures are {usual[0]} x {usual[1]}"
            raise DataError(f"{head.picture.path}: {sizes}; image_size=HEIGHT,WIDTH brings all to one size")
    return usual


def _decode(
    heads: list[_Head], size: tuple[int, int], mode: str, reading: Reading, skip: bool
) -> tuple[np.ndarray, list[_Head]]:
    """The pictures as one array, and the heads of those that did decode, in the same order."""
    shape = (len(heads), *size, *((3,) if mode == "RGB" else ()))
    check_fits_memory(f"{heads[0].picture.path.parent}: {len(heads)} pictures", math.prod(shape))
    images = memory.empty(shape, np.uint8)

    def decode(place: int) -> str:
        try:
            images[place] = pictures.decoded(heads[place].picture.path, size, mode, reading)
            return ""
        except MemoryError:
            raise
        except Exception as error:  # As in _head.
            return _problem(error)

    problems = _each("decoding", decode, range(len(heads)))
    sound = [place for place, problem in enumerate(problems) if not problem]
    if len(sound) < len(heads):
        if not skip:
            place = next(place for place, problem in enumerate(problems) if problem)
            raise _bad_picture(heads[place].picture, problems[place])
        images = images[sound]
    return images, [heads[place] for place in sound]

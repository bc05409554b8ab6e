"""From pictures, or rows in an `.npy`, to a model's predictions, one after the other. NumPy and Pillow only."""

import collections
import concurrent.futures
import glob
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import UnidentifiedImageError

from tfpipe.data import addresses, picture_files, pictures
from tfpipe.data.readers import arrays
from tfpipe.exceptions import ConfigError, DataError, brief, enumeration
from tfpipe.log import log
from tfpipe.model.artifact import TrainedModel
from tfpipe.stores.address import is_address, shown
from tfpipe.text import one_line

_ROWS_AT_ONCE = 256
_MOST_NAMED = 10
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Prediction(NamedTuple):
    """What a model says of one picture.

    Attributes:
      path: of the picture; for a row of an `.npy`, with its number behind: `batch.npy[3]`.
      probabilities: `[K]` float64; None if it cannot be read.
      problem: what is wrong with it then.
    """

    path: str
    probabilities: np.ndarray | None
    problem: str = ""


class _File(NamedTuple):
    """What is to be predicted; or why it is not.

    Attributes:
      path: what people know it by.
      problem: why it is not.
      place: where it lies, in the cache, if `path` is an address.
    """

    path: str
    problem: str = ""
    place: str | None = None


def predict(model: TrainedModel, paths: Iterable[str], *, at_once: int) -> Iterator[Prediction]:
    """The predictions of `model`, in the order of `paths`. What cannot be read is reported in its place.

    Args:
      model: says how pictures become its input.
      paths: of pictures and of `.npy` files, folders with pictures in them, and patterns (`*.png`) of all these; or
        addresses of such files and folders in stores, without patterns.
      at_once: how many pictures are read at the same time, and how many are held in memory.
    """

    def of_file(file: _File) -> Iterator[Prediction]:
        if file.problem:
            return iter([Prediction(file.path, None, file.problem)])
        place = file.place or file.path
        if place.lower().endswith(".npy"):
            return _of_rows(model, file.path, place)
        return iter([_of_picture(model, file.path, place)])

    for found in _in_order(of_file, _files(paths), at_once):
        yield from found


def _of_picture(model: TrainedModel, path: str, place: str) -> Prediction:
    """The prediction for a picture, which lies at `place`."""
    try:
        if os.path.isdir(place):
            raise DataError("holds no pictures that Pillow reads")
        if os.path.exists(place) and not os.path.isfile(place):
            raise DataError("is no file")
        if model.color_mode is None:
            raise DataError(f"the model takes rows of {len(model.W)} numbers, in an .npy file, and no pictures")
        height, width = model.image_shape[:2]
        mode = pictures.MODES[model.color_mode]
        pixels = pictures.decoded(pathlib.Path(place), (height, width), mode, model.reading)
        # Bytes are what they are; other data has another white, such as 16 or 1.
        scaled = pixels if model.white == 255 else pixels * (model.white / 255)
        return _prediction(path, model.probabilities(scaled[np.newaxis])[0])
    except MemoryError:
        return Prediction(path, None, "asks for more memory than is free")
    except UnidentifiedImageError:
        return Prediction(path, None, f"is no picture that Pillow reads{picture_files.remedy([path])}")
    except OSError as error:
        return Prediction(path, None, error.strerror or f"does not decode: {error}")
    except DataError as error:
        return Prediction(path, None, str(error))
    except Exception as error:  # Damage shows in many kinds of errors, depending on the format.
        return Prediction(path, None, f"does not decode: {brief(error)}")


def _of_rows(model: TrainedModel, path: str, place: str) -> Iterator[Prediction]:
    """The predictions for the rows of an `.npy`, which lies at `place` and may be larger than memory."""
    try:
        rows = arrays.mapped(pathlib.Path(place))
        if rows.shape[1:] not in (model.image_shape, (len(model.W),)):
            raise DataError(f"{place}: holds an array of shape {rows.shape}; the model takes {_rows_of(model)}")
        if rows.dtype.kind not in "buif":
            raise DataError(f"{place}: holds values of type {rows.dtype}; expected numbers")
    except DataError as error:
        yield Prediction(path, None, str(error).removeprefix(f"{place}: "))
        return
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = np.asarray(rows[start : start + _ROWS_AT_ONCE], np.float64)
        finite = np.asarray(np.isfinite(block.reshape(len(block), -1)).all(axis=1))
        found = model.probabilities(np.where(np.isfinite(block), block, 0.0))
        for number, (probabilities, is_finite) in enumerate(zip(found, finite, strict=True), start=start):
            name = f"{path}[{number}]"
            if is_finite:
                yield _prediction(name, probabilities)
            else:
                yield Prediction(name, None, "holds a value that is not finite")


def _rows_of(model: TrainedModel) -> str:
    """What the model takes, in words."""
    if model.columns:
        names = enumeration([one_line(str(column)) for column in model.columns], _MOST_NAMED)
        return f"[N, {len(model.W)}]: {names}"
    return f"[N, {' x '.join(map(str, model.image_shape))}] or flat rows"


def _prediction(path: str, probabilities: np.ndarray) -> Prediction:
    if np.isfinite(probabilities).all():
        return Prediction(path, probabilities)
    return Prediction(path, None, "is too much for the model: its sums are not finite")


def _files(paths: Iterable[str]) -> Iterator[_File]:
    """Each path by itself; folders and patterns as the files that they stand for, sorted."""
    for path in paths:
        if is_address(path):
            yield from _of_store(path)
        elif os.path.isdir(path):
            yield from _pictures(path)
        elif not os.path.lexists(path) and (found := sorted(glob.glob(path, recursive=True))):
            yield from _files(found)
        else:
            yield _File(path)


def _of_store(address: str) -> Iterator[_File]:
    """The file, or the files of a folder, that an address names; they are in the cache then."""
    name = shown(address)
    try:
        place = addresses.fetched("FILE", address)
    except (DataError, ConfigError) as error:
        yield _File(name, str(error).removeprefix("FILE=").removeprefix(f"{name}: "))
        return
    for file in _pictures(place, name) if os.path.isdir(place) else [_File(place)]:
        yield _File(name + file.path.removeprefix(place), file.problem, file.path)


def _pictures(folder: str, name: str | None = None) -> list[_File]:
    """The pictures below `folder`, sorted; none that is hidden, or in a hidden folder. The log names other files.

    Folders that are not looked into are among them, with what is wrong. `name` is what people call the folder.
    """
    listing = picture_files.below(folder)
    if listing.skipped:
        line = picture_files.skipped_line(folder, listing.skipped, listing.hidden)
        log.warning("%s", (name or folder) + line.removeprefix(folder))
    return sorted([*map(_File, listing.pictures), *(_File(*problem) for problem in listing.problems)]) or [
        _File(folder)
    ]


def _in_order(function: Callable[[Item], Outcome], items: Iterable[Item], at_once: int) -> Iterator[Outcome]:
    """`function` of every item, by several threads, with as many under way as are computed at once."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        under_way: collections.deque[concurrent.futures.Future[Outcome]] = collections.deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= at_once:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

"""Arrays as `Examples` holds them; DataError, a line that says what would be right, for those that it cannot use."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfpipe.data import scaling
from tfpipe.data.labels import of_examples
from tfpipe.data.rows import BLOCK_BYTES, blocks
from tfpipe.exceptions import DataError, brief

# What rounding to float32 may be of a column's standard deviation.
_MOST_LOST = 0.1
# A column that varies by less, relative to its mean, is a constant that float64 has rounded.
_LEAST_VARIATION = 1e-12


class Share(NamedTuple):
    """Which of the processes it is that load the same data, by which each looks at other values of a mapped file.

    Attributes:
      rank: its number.
      size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def of(self, n_rows: int) -> np.ndarray:
        """`[n]` int64: the numbers of its rows, of so many."""
        begin, end = (number * n_rows // self.size for number in (self.rank, self.rank + 1))
        return np.arange(begin, end)


# Of a process by itself.
WHOLE = Share()


def checked_array(values: npt.ArrayLike, what: str, name: str) -> np.ndarray:
    """The array. DataError for what would lose something of it."""
    try:
        array = np.asanyarray(values)
    except ValueError as error:  # Lists of several lengths.
        raise DataError(f"{name}: {what} that make no array: {brief(error)}; expected lists of one length") from error
    if isinstance(array, np.ma.MaskedArray):
        problem = "in a masked array, whose mask would be lost; expected an array, such as its filled(0)"
        raise DataError(f"{name}: {what} {problem}")
    if array.dtype.kind == "c":
        raise DataError(f"{name}: {what} of type {array.dtype}, of which a part would be lost; expected real numbers")
    if array.dtype == object and what == "labels":
        return _labels_of_objects(np.asarray(array), name)
    return array if what == "images" else np.asarray(array)


def _labels_of_objects(objects: np.ndarray, name: str) -> np.ndarray:
    """The text or the integers that an array holds as objects, as pandas has them; DataError for others."""
    flat = objects.ravel().tolist()
    kinds: tuple[type, ...] = (str,) if flat and isinstance(flat[0], str) else (int, np.integer)
    row = next((row for row, value in enumerate(flat) if not isinstance(value, kinds)), None)
    if row is not None:
        found = f"label {flat[row]!r:.80} of example {row // max(1, objects[:1].size)}"
        raise DataError(f"{name}: labels in objects, and {found}; expected text in all of them, or integers in all")
    try:
        return np.array(flat, np.str_ if kinds == (str,) else np.int64).reshape(objects.shape)
    except OverflowError as error:
        raise DataError(f"{name}: labels in objects of more than 64 bits; expected numbers of classes") from error


def noun(images: np.ndarray) -> str:
    """What people call them: rows of features, or images."""
    return "rows" if images.ndim == 2 else "images"


def checked_images(images: np.ndarray, name: str, share: Share = WHOLE) -> np.ndarray:
    """`[N, ...]` uint8, float16 or float32, finite; a memory map of floating-point numbers stays one.

    Of such a map each process looks at its share of the rows, which together are all; but of columns that float32 might
    not tell apart the first looks at all rows, for the others: a share of a column may vary less than the column.

    Raises:
      DataError: images of another form, or a value that is not finite in float32.
    """
    if images.ndim < 2 or images.size == 0:
        raise DataError(f"{name}: images of shape {images.shape}; expected [N, ...] with at least one pixel each")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "biuf":
        raise DataError(f"{name}: {noun(images)} of type {images.dtype}; expected numbers")
    is_mapped = isinstance(images, np.memmap) and images.dtype.kind == "f" and images.dtype.itemsize <= 8
    if float32_may_lose(images.dtype) and images.ndim == 2:
        if not is_mapped or share.rank == 0:
            check_float32_tells_apart(_finite_blocks(images, np.arange(len(images)), name), name)
    else:
        own = share.of(len(images)) if is_mapped else np.arange(len(images))
        collections.deque(_finite_blocks(images, own, name), maxlen=0)
    return images if is_mapped else images.astype(np.float16 if images.dtype == np.float16 else np.float32, copy=False)


def _finite_blocks(images: np.ndarray, rows: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """Consecutive rows of the images, in pieces. Raises DataError for a value that is not finite in float32."""
    start = int(rows[0]) if len(rows) else 0
    for block in blocks(images, rows, BLOCK_BYTES, max(images.itemsize, np.dtype(np.float32).itemsize)):
        with np.errstate(over="ignore"):  # What does not fit float32 becomes infinite.
            finite = np.isfinite(np.asarray(block, np.float32)).reshape(len(block), -1).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise DataError(f"{name}: {_wrong_value(block[row], start + row)}")
        start += len(block)
        yield block


def float32_may_lose(dtype: np.dtype) -> bool:
    """Whether there are numbers of this type that float32 cannot tell apart."""
    return not np.can_cast(dtype, np.float32)


def check_float32_tells_apart(rows: Iterable[np.ndarray], name: str, column_names: Sequence[str] = ()) -> None:
    """Raises DataError for a column of which float32, in which rows are held, would leave next to nothing.

    Args:
      rows: in pieces `[n, D]`.
      name: what holds them, in errors.
      column_names: of the D columns; none: they have numbers.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = scaling.moments(rows)
        step = np.spacing(np.abs(mean).astype(np.float32))
    lost = (step > _MOST_LOST * deviation) & (deviation > _LEAST_VARIATION * np.abs(mean))
    if lost.any():
        column = int(np.argmax(lost))
        which = repr(column_names[column]) if column_names else column
        raise DataError(
            f"{name}: column {which} lies at {mean[column]:.10g} varying by {deviation[column]:.3g}, which float32, in"
            " which rows are held, cannot tell apart; take the mean off beforehand, or drop the column"
        )


def _wrong_value(image: np.ndarray, row: int) -> str:
    """Says where the first value is that is not finite in float32, of image number `row`."""
    with np.errstate(over="ignore"):
        place = np.argwhere(~np.isfinite(np.asarray(image, np.float32)))[0]
    value = image[tuple(place)]
    shown = "NaN" if np.isnan(value) else f"{value:g}"
    where = f"row {row}, column {place[0]}" if len(place) == 1 else f"image {row}, at {', '.join(map(str, place))},"
    return f"{where} is {shown}; expected finite numbers that float32 can hold"


def checked_labels(labels: np.ndarray, images: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """`[N]` int32, and the class names where they are names."""
    encoded, class_names = of_examples(labels, name)
    if len(encoded) != len(images):
        raise DataError(f"{name}: {len(images)} {noun(images)} but {len(encoded)} labels; expected as many")
    wrong = encoded > np.iinfo(np.int32).max
    if wrong.any():
        row = int(np.argmax(wrong))
        most = np.iinfo(np.int32).max
        raise DataError(f"{name}: label {encoded[row]} of example {row} is out of range; expected at most {most}")
    return encoded.astype(np.int32, copy=False), class_names


def checked_weights(weights: np.ndarray, n_rows: int, name: str) -> np.ndarray:
    """`[N]` float64. DataError unless they can be what N = `n_rows` examples count."""
    expected = "expected a finite number of at least 0 for each"
    if weights.dtype.kind not in "biuf" or weights.shape != (n_rows,):
        found = f"weights of shape {weights.shape} and type {weights.dtype} for {n_rows} examples"
        raise DataError(f"{name}: {found}; expected [{n_rows}] numbers")
    with np.errstate(over="ignore"):
        weights = weights.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{name}: weight {weights[row]:g} of example {row}; {expected}")
    if not weights.any():
        raise DataError(f"{name}: the weight of every example is 0; {expected}, and one above 0")
    return weights


def checked_groups(groups: np.ndarray, n_rows: int, name: str) -> np.ndarray:
    """`[N]` int64. DataError unless they can be numbers of groups of N = `n_rows` examples."""
    if groups.dtype.kind not in "iu" or groups.shape != (n_rows,):
        found = f"groups of shape {groups.shape} and type {groups.dtype} for {n_rows} examples"
        raise DataError(f"{name}: {found}; expected [{n_rows}] integers")
    return groups.astype(np.int64)  # Of uint64 other numbers become of large ones, as different from each other.

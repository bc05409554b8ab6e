"""Which size pictures take, and how they come to it. A size is height and width, in pixels."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image

# Of the longer side, where no size is given: 49,152 inputs in colours.
LARGEST_DEFAULT = 128
# What the sides of a JPEG may be divided by when it is decoded, besides 1; and how many times as large as it is wanted
# each must be then.
SCALES, REMAINING = (2, 4, 8), 2


def inscribed(outer: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """The largest size within `outer` of the shape of `shape`: sides to the nearest pixel, halves up, at least 1."""
    height = max(1, (2 * outer[1] * shape[0] + shape[1]) // (2 * shape[1]))
    width = max(1, (2 * outer[0] * shape[1] + shape[0]) // (2 * shape[0]))
    return min(outer[0], height), min(outer[1], width)


def default(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The size that pictures of these sizes are brought to where none is given.

    Its longer side is the median of theirs, and at most 128. It has their shape if all have one; else it is square.
    """
    sizes = list(sizes)
    side = min(LARGEST_DEFAULT, statistics.median_low(map(max, sizes)))
    brought = {inscribed((side, side), size) for size in sizes}
    return brought.pop() if len(brought) == 1 else (side, side)


def reduction(size: tuple[int, int], wanted: tuple[int, int], fit: str) -> int:
    """1, 2, 4 or 8: what the sides of a JPEG of `size` are divided by when it is decoded.

    The largest of these at which each side of what is then resized, as `fit` says, is at least twice what is wanted.
    """
    part = inscribed(size, wanted) if fit == "crop" else size
    resized = inscribed(wanted, size) if fit == "pad" else wanted
    most = min(side // (REMAINING * of_resized) for side, of_resized in zip(part, resized, strict=True))
    return max((scale for scale in SCALES if scale <= most), default=1)


class Reduced(NamedTuple):
    """A picture that was decoded smaller than it is.

    Attributes:
      size: its own size.
      scale: what its sides were divided by; the quotients are rounded up.
      begin: where it begins from the top and from the left in what was decoded, in pixels of this: below 1, and above 0
        where the row or the column that was rounded up is the first, as of pictures that were turned.
    """

    size: tuple[int, int]
    scale: int
    begin: tuple[float, float]


def fitted(
    picture: Image.Image, wanted: tuple[int, int], fit: str, around: str, reduced: Reduced | None = None
) -> Image.Image:
    """Brings a picture to the size that is wanted, by Pillow's bilinear filter.

    Args:
      picture: gray or coloured, of 8 bits a channel.
      wanted: the size.
      fit: `stretch`: all of it, whatever its shape. `crop`: the largest part of the shape that is wanted, from its
        middle. `pad`: all of it in its own shape, in the middle of a ground.
      around: the colour of this ground.
      reduced: says that it was decoded smaller than it is.
    """
    size, scale, begin = reduced or Reduced((picture.height, picture.width), 1, (0.0, 0.0))
    part = inscribed(size, wanted) if fit == "crop" else size
    top, left = (first + (whole - taken) // 2 / scale for first, whole, taken in zip(begin, size, part, strict=True))
    height, width = inscribed(wanted, size) if fit == "pad" else wanted
    # One side after the other: in one call it depends on Pillow's version which is first, and so does the rounding.
    picture = _resized(picture, (width, picture.height), (left, 0, left + part[1] / scale, picture.height))
    picture = _resized(picture, (width, height), (0, top, width, top + part[0] / scale))
    if (height, width) == wanted:
        return picture
    ground = Image.new(picture.mode, wanted[::-1], around)
    ground.paste(picture, ((wanted[1] - width) // 2, (wanted[0] - height) // 2))
    return ground


def _resized(picture: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """`box` of the picture as one of `size`, width and height; that alone if there is nothing to do, without a copy."""
    if picture.size == size and box == (0, 0, *size):
        return picture
    return picture.resize(size, Image.Resampling.BILINEAR, box)

"""From a picture of any size and kind to the pixels that a model takes, and from such pixels to a picture."""

import io
import pathlib

import numpy as np
from PIL import Image

from tfpipe.exceptions import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
FORMATS = ("PNG", "JPEG", "BMP", "GIF")

# What color_mode says, in Pillow's words.
MODES = {"grayscale": "L", "rgb": "RGB"}


def fitted(picture: Image.Image, size: tuple[int, int], mode: str) -> np.ndarray:
    """Brings a picture to `size`, height and width, by Pillow's bilinear filter: `[H, W]` or `[H, W, 3]` uint8.

    Args:
      picture: of any mode that Pillow has.
      size: height and width.
      mode: `L` or `RGB`.
    """
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip.
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture = picture.convert(mode)
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture)


def decoded(path: pathlib.Path, size: tuple[int, int], mode: str) -> np.ndarray:
    """The picture in a file, as `fitted` gives it.

    Raises:
      OSError: it cannot be read.
      DataError: it has so many pixels that Pillow warns of them, 89 million.
      Exception: it does not decode; which one depends on the format.
    """
    # From memory: of a file, Pillow's PNG reader would allocate whatever length a damaged chunk claims.
    with Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS) as opened:
        if Image.MAX_IMAGE_PIXELS is not None and opened.width * opened.height > Image.MAX_IMAGE_PIXELS:
            raise DataError(f"has {opened.width} x {opened.height} pixels; at most {Image.MAX_IMAGE_PIXELS} are read")
        return fitted(opened, size, mode)


def brightened(images: np.ndarray) -> np.ndarray:
    """Images of any numeric type as uint8: 0 is black, or the least value if that is below; the largest is white."""
    values = np.asarray(images, np.float64)
    low, high = min(0.0, values.min(initial=0)), values.max(initial=0)
    return np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)

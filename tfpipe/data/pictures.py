"""From a picture of any size and kind to the pixels that a model takes, and from such pixels to a picture."""

import functools
import io
import os
import pathlib
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from tfpipe.config import Reading
from tfpipe.data import sizes
from tfpipe.exceptions import DataError

# What color_mode says, in Pillow's words.
MODES = {"grayscale": "L", "rgb": "RGB"}

# Pillow gives the first to Ghostscript, a program of its own, and recognizes the second without decoding it.
_NOT_READ = ("EPS", "MPEG")
# What begins a part of a PNG file that may hold EXIF data.
_PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
# Where Pillow keeps it, of PNG and JPEG.
_OF_EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
# A tag of TIFF, by its number and a value of it; and of pixels that it says this of.
_PHOTOMETRIC, _WHITE_IS_0, _LARGEST_OF_16_BITS = 262, 0, 65535
_TURNED_BY_90_DEGREES = (5, 6, 7, 8)
# Orientations in which the top of what is upright, or its left, is the bottom or the right of what is stored.
_BOTTOM_OR_RIGHT_BECOMES_TOP, _BOTTOM_OR_RIGHT_BECOMES_LEFT = (3, 4, 7, 8), (2, 3, 6, 7)


def is_picture(name: str) -> bool:
    """Whether Pillow has a decoder for files whose names end as `name` does."""
    return _is_of_a_picture(os.path.splitext(name)[1].lower())


def opened(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """The picture in `file`, whose pixels are not decoded yet.

    The content tells the format. Where a format has no mark at the beginning of its files, the suffix of `name` must
    tell it too.

    Raises:
      UnidentifiedImageError: it is no picture that Pillow decodes.
      Exception: it is damaged; which one depends on the format.
    """
    try:
        return Image.open(file, formats=("PNG", "JPEG", "BMP", "GIF"))  # First, as is_picture has it.
    except UnidentifiedImageError:
        pass
    try:
        return Image.open(file, formats=_formats(os.path.splitext(name)[1].lower()))
    except UnidentifiedImageError:  # Pillow's words quote the file, whose name is told anyway.
        raise UnidentifiedImageError("no picture that Pillow knows") from None


def upright_size(picture: ImageFile.ImageFile, reading: Reading) -> tuple[int, int]:
    """Height and width that a picture, opened from a file, has where it is read by `reading`."""
    width, height = picture.size
    # Of a square it does not matter, and may take time to find.
    if reading.orientation == "upright" and width != height and orientation(picture) in _TURNED_BY_90_DEGREES:
        return width, height
    return height, width


def is_deep(picture: Image.Image) -> bool:
    """Whether it is gray with more than 8 bits a pixel."""
    return picture.mode.startswith("I")


def is_gray(picture: Image.Image) -> bool:
    """Whether it has no colours by its kind."""
    return picture.mode in ("1", "L", "LA", "La") or is_deep(picture)


def fitted(
    picture: Image.Image, size: tuple[int, int], mode: str, reading: Reading, reduced: sizes.Reduced | None = None
) -> np.ndarray:
    """Brings a picture to `size`, height and width, by Pillow's bilinear filter: `[H, W]` or `[H, W, 3]` uint8.

    It is composited on the background, becomes gray or coloured, is turned upright, and then brought to the size as
    `reading.fit` says; where that leaves a margin, this has the colour of the background, or is white if that is none.

    Args:
      picture: of any mode that Pillow has, but of floating-point numbers.
      size: height and width.
      mode: `L` or `RGB`.
      reading: how it is read.
      reduced: says, of what it is when it was turned, that it was decoded smaller than it is.

    Raises:
      DataError: its pixels are floating-point numbers, or gray of more than 8 bits and below 0, or where the white of
        these is not known.
    """
    picture.load()
    if picture.mode == "F":
        raise DataError("has floating-point pixels, whose range is not known; expected integers, or arrays in an .npy")
    orientation = _orientation(picture) if reading.orientation == "upright" else 1
    if is_deep(picture):
        if reading.gray_max is None:
            unlike = "is gray of more than 8 bits a pixel, and no training picture was: what is white is not known"
            raise DataError(f"{unlike}; --gray_max=VALUE tells it in training")
        values, is_transparent = _deep_values(picture)
        pixels = np.clip(values * 256 // (reading.gray_max + 1), 0, 255).astype(np.uint8)
        if reading.background != "none":
            pixels[is_transparent] = 255 if reading.background == "white" else 0
        picture = Image.fromarray(pixels)
    elif reading.background != "none" and picture.has_transparency_data:
        pixels = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", pixels.size, reading.background), pixels)
    picture = picture.convert(mode)
    if orientation != 1:
        # The orientation alone: Pillow would write the other EXIF data anew, and fail if that is damaged.
        picture.info.clear()
        picture.getexif()[ExifTags.Base.Orientation] = orientation
        picture = ImageOps.exif_transpose(picture)
    around = "white" if reading.background == "none" else reading.background
    return np.asarray(sizes.fitted(picture, size, reading.fit, around, reduced))


def decoded(path: pathlib.Path, size: tuple[int, int], mode: str, reading: Reading) -> np.ndarray:
    """The picture in a file, as `fitted` gives it; of a JPEG that is decoded no larger than `reading` says.

    Raises:
      OSError: it cannot be read.
      DataError: it has so many pixels that Pillow warns of them, 89 million, or floating-point ones.
      Exception: it does not decode; which one depends on the format.
    """
    with _in_memory(path) as picture:
        reduced = None
        if reading.decoding == "reduced" and isinstance(picture, JpegImagePlugin.JpegImageFile):
            reduced = _reduce(picture, size, reading)
        return fitted(picture, size, mode, reading, reduced)


def largest_value(path: pathlib.Path, reading: Reading) -> int:
    """The largest value in a gray picture of more than 8 bits a pixel, but for what the background takes the place of.

    Raises:
      DataError: as `fitted`, for such pictures.
      Exception: as `decoded`.
    """
    with _in_memory(path) as picture:
        values, is_transparent = _deep_values(picture)
    return int(values.max(initial=0, where=~is_transparent if reading.background != "none" else True))


def orientation(picture: ImageFile.ImageFile) -> int:
    """How a picture, opened from a file, is to be turned, as EXIF numbers it, 1 to 8: 1 is upright, or not known.

    Raises:
      Exception: it is damaged; which one depends on the format.
    """
    if picture.format in ("TIFF", "HEIF"):  # Their readers turn them, and say the size that follows.
        return 1
    # The EXIF data may follow the pixels; once these are decoded, there is no file any more.
    if picture.format == "PNG" and picture.fp is not None and any(m in _content(picture.fp) for m in _PNG_EXIF):
        picture.load()
    return _orientation(picture)


def brightened(images: np.ndarray) -> np.ndarray:
    """Images of any numeric type as uint8: 0 is black, or the least value if that is below; the largest is white."""
    values = np.asarray(images, np.float64)
    low, high = min(0.0, values.min(initial=0)), values.max(initial=0)
    return np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def _in_memory(path: pathlib.Path) -> ImageFile.ImageFile:
    # Of a file, Pillow's PNG reader would allocate whatever length a damaged chunk claims.
    picture = opened(io.BytesIO(path.read_bytes()), path.name)
    if Image.MAX_IMAGE_PIXELS is not None and picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
        raise DataError(f"has {picture.width} x {picture.height} pixels; at most {Image.MAX_IMAGE_PIXELS} are read")
    return picture


def _reduce(picture: JpegImagePlugin.JpegImageFile, size: tuple[int, int], reading: Reading) -> sizes.Reduced:
    """Has a picture decoded no larger than it takes to bring it to `size`."""
    upright = upright_size(picture, reading)
    scale = sizes.reduction(upright, size, reading.fit)
    picture.draft(None, (picture.width // scale, picture.height // scale))
    orientation = _orientation(picture) if reading.orientation == "upright" else 1
    is_last_first = orientation in _BOTTOM_OR_RIGHT_BECOMES_TOP, orientation in _BOTTOM_OR_RIGHT_BECOMES_LEFT
    begin = [(-side % scale) / scale * is_first for side, is_first in zip(upright, is_last_first, strict=True)]
    return sizes.Reduced(upright, scale, (begin[0], begin[1]))


def _deep_values(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The values of a gray picture of more than 8 bits a pixel, 0 black, `[H, W]` int64; and where it is transparent.

    Raises:
      DataError: a value is below 0, which no picture has.
    """
    values = np.asarray(picture).astype(np.int64)
    if values.min(initial=0) < 0:
        found = f"has gray values below 0, down to {values.min()}"
        raise DataError(f"{found}; expected values from 0 on, or arrays in an .npy")
    is_transparent = values == picture.info.get("transparency", -1)
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_0:
        values = _LARGEST_OF_16_BITS - values  # As Pillow does of 8 bits, and not of 16.
    return values, is_transparent


def _content(file: IO[bytes]) -> bytes:
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    return content


def _orientation(picture: Image.Image) -> int:
    """As EXIF numbers them: 1 is upright, or not known."""
    # Nearly always: to ask for a record of nothing would take longer, and of PNG decode the picture.
    if picture.format in ("PNG", "JPEG") and picture.info.keys().isdisjoint(_OF_EXIF):
        return 1
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Damaged EXIF data says nothing of the pixels.
        return 1
    return orientation if orientation in range(1, 9) else 1


def _is_read(format: str) -> bool:
    factory = Image.OPEN[format][0] if format in Image.OPEN else None
    is_stub = isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)  # It decodes nothing.
    return factory is not None and not is_stub and format not in _NOT_READ


@functools.cache
def knows_heif() -> bool:
    """Whether the package is there by which Pillow reads HEIF, the format of phones; Pillow reads it from now on."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@functools.cache
def _is_of_a_picture(suffix: str) -> bool:
    Image.preinit()  # The usual formats; all of them take 0.1 s to import, and HEIF as much again.
    format = Image.EXTENSION.get(suffix) or Image.registered_extensions().get(suffix)
    if format is None and knows_heif():
        format = Image.EXTENSION.get(suffix)
    return format is not None and _is_read(format)


@functools.cache
def _formats(suffix: str) -> tuple[str, ...]:
    """The formats that a file of this suffix may have."""
    knows_heif()
    of_suffix = Image.registered_extensions().get(suffix)
    return tuple(name for name in Image.ID if _is_read(name) and (Image.OPEN[name][1] or name == of_suffix))

"""The bytes of a picture to the pixels that a model takes within a TensorFlow graph, to the bit as by `data.pictures`.

TensorFlow decodes PNG, JPEG, GIF and BMP, knows no EXIF data and no palette of BMP, and drops transparency. So the
orientation is looked for here, in the EXIF data of JPEG and PNG, PNG is composited, and BMP gets its colours. A picture
whose orientation may stand elsewhere is refused, and so are a transparent GIF and other formats. What is not to the bit
is JPEG in CMYK, of which Pillow rounds to the nearest value and TensorFlow down.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfpipe.config import Reading
from tfpipe.data import sizes
from tfpipe.model import exif, fitting

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_BMP = b"BM"
_GIF = b"GIF8"
# Before the first frame; the lowest bit of the byte behind says whether a colour is transparent.
_GIF_CONTROL = b"\x21\xf9\x04"
# Where its width and height stand; they follow this before a frame that begins in the corner and is as large.
_GIF_SIZE, _GIF_FRAME = (6, 10), b"\x2c\0\0\0\0"
# What is looked for before the pixels is within so many bytes.
_HEAD = 1 << 17
# From this one on, height and width are exchanged.
_FIRST_ON_ITS_SIDE = 5
# For each from 1 on: whether the top of what is upright, and its left, is the bottom or the right of what is stored.
_BOTTOM_OR_RIGHT_BECOMES_TOP_OR_LEFT = ((0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (0, 1), (1, 1), (1, 0))
# Bits a value and kind of colours, in the header of PNG; kind 0 is gray, and from 4 on they have alpha.
_PNG_BITS, _PNG_COLOURS, _PNG_ALPHA = 24, 25, 4
# Fields in the header of BMP: where the pixels begin; and how long its second part is, which begins there, and of this.
_BMP_PIXELS, _BMP_HEADER, _BMP_BITS, _BMP_COMPRESSION = 10, 14, 28, 30
# How Pillow makes gray of colours: ITU-R 601, in units of 2^-16.
_GRAY, _GRAY_UNIT = (19595, 38470, 7471), 1 << 16


def pixels(data: tf.Tensor, size: tuple[int, int], mode: str, reading: Reading) -> tf.Tensor:
    """What `data.pictures.decoded` gives of the same file: `[H, W]` or `[H, W, 3]` float64, whole numbers up to 255.

    Args:
      data: the bytes of a file, `[]`. Another format is an error when the graph runs, and so is an orientation that
        may stand elsewhere than in EXIF data, where `reading` turns pictures.
      size: H and W.
      mode: `L` or `RGB`.
      reading: how it is read.
    """
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _HEAD), tf.uint8), tf.int64)
    is_png, is_jpeg = _begins(data, _PNG), _begins(data, _JPEG)
    orientation = tf.constant(1, tf.int64)
    if reading.orientation == "upright":
        orientation = exif.orientation(data, is_png, is_jpeg)
    picture, stored, scale = tf.cond(
        is_png,
        lambda: _whole(_png(data, head, reading)),
        lambda: tf.cond(is_jpeg, lambda: _jpeg(data, orientation, size, reading), lambda: _whole(_other(data, head))),
    )
    picture.set_shape([None, None, 3])
    if mode == "L":
        gray = tf.tensordot(picture, tf.constant(_GRAY, tf.float64), [[2], [0]])
        picture = tf.floor((gray + _GRAY_UNIT // 2) / _GRAY_UNIT)[..., tf.newaxis]
    if reading.orientation == "upright":
        channels = picture.shape[2]
        picture = tf.switch_case(tf.cast(orientation, tf.int32) - 1, _turns(picture))
        picture.set_shape([None, None, channels])
    upright = _upright(stored, orientation)
    extra = tf.cast(-upright % scale, tf.float64) / tf.cast(scale, tf.float64)
    is_last_first = tf.constant(_BOTTOM_OR_RIGHT_BECOMES_TOP_OR_LEFT, tf.float64)[orientation - 1]
    reduced = fitting.Reduced(upright, scale, extra * is_last_first)
    picture = fitting.fitted(picture, size, reading.fit, 0 if reading.background == "black" else 255, reduced)
    return picture[..., 0] if mode == "L" else picture


def _begins(data: tf.Tensor, mark: bytes) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(mark)) == mark


def _upright(size: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Height and width, `[2]`, of what is turned."""
    return tf.where(orientation >= _FIRST_ON_ITS_SIDE, size[::-1], size)


def _whole(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A picture, its height and width, and what these were divided by to get there: nothing."""
    return picture, tf.shape(picture, tf.int64)[:2], tf.constant(1, tf.int64)


def _jpeg(
    data: tf.Tensor, orientation: tf.Tensor, size: tuple[int, int], reading: Reading
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The picture as it is decoded, the height and width that it has, and what these were divided by."""

    def reduced_by(scale: int) -> Callable[[], tf.Tensor]:
        # As Pillow has libjpeg decode; its fast way would be up to 3 levels off.
        return lambda: tf.cast(
            tf.io.decode_jpeg(data, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE"), tf.float64
        )

    if reading.decoding == "full":
        return _whole(reduced_by(1)())
    # As `data.sizes.reduction`.
    stored, wanted = tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.int64), tf.constant(size, tf.int64)
    upright = _upright(stored, orientation)
    part = fitting.inscribed(upright, wanted) if reading.fit == "crop" else upright
    resized = fitting.inscribed(wanted, upright) if reading.fit == "pad" else wanted
    most = tf.reduce_min(part // (sizes.REMAINING * resized))
    halvings = tf.reduce_sum([tf.cast(most >= scale, tf.int32) for scale in sizes.SCALES])
    picture = tf.switch_case(halvings, [reduced_by(1), *map(reduced_by, sizes.SCALES)])
    return picture, stored, tf.constant((1, *sizes.SCALES), tf.int64)[halvings]


def _other(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    is_gif = _begins(data, _GIF)
    # Some versions of TensorFlow decode more, such as WebP, whose EXIF data and transparency are not looked for.
    known = tf.debugging.Assert(
        is_gif | _begins(data, _BMP), ["no picture of a kind that is read: PNG, JPEG, GIF, BMP"]
    )
    flags = tf.pad(_after(head, _GIF_CONTROL), [[0, 1]])[0]
    opaque = tf.debugging.Assert(~(is_gif & (flags % 2 == 1)), ["a transparent GIF, which TensorFlow fills otherwise"])
    size = tf.unstack(tf.pad(head, [[0, _GIF_SIZE[1]]])[slice(*_GIF_SIZE)], num=4)
    is_filled = tf.size(_after(head, [*_GIF_FRAME, *size])) > 0
    filled = tf.debugging.Assert(~is_gif | is_filled, ["a GIF whose first frame is smaller than it is"])

    def gif() -> tf.Tensor:
        return tf.cast(tf.io.decode_image(data, channels=3, expand_animations=False), tf.float64)

    with tf.control_dependencies([known, opaque, filled]):
        return tf.cond(is_gif, gif, lambda: _bmp(data, head))


def _bmp(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    header = tf.pad(head, [[0, _BMP_COMPRESSION + 4]])  # Of a file that is cut off: it does not decode.
    bits = header[_BMP_BITS]

    def number(place: int) -> tf.Tensor:
        return sum(header[place + i] * 256**i for i in range(4))

    plain = tf.debugging.Assert(
        (number(_BMP_COMPRESSION) == 0) & (number(_BMP_HEADER) >= 40) & tf.reduce_any(bits == [8, 24, 32]),
        ["a BMP of another kind than those of 8, 24 or 32 bits a pixel without compression"],
    )

    def of_palette() -> tf.Tensor:
        palette = head[_BMP_HEADER + number(_BMP_HEADER) : number(_BMP_PIXELS)]
        colours = tf.reshape(palette[: tf.size(palette) // 4 * 4], [-1, 4])[:, 2::-1]  # Blue is first.
        return tf.gather(colours, tf.cast(tf.io.decode_bmp(data)[..., 0], tf.int32))

    def of_colours() -> tf.Tensor:
        return tf.cast(tf.io.decode_bmp(data)[..., :3], tf.int64)

    with tf.control_dependencies([plain]):
        return tf.cast(tf.cond(bits == 8, of_palette, of_colours), tf.float64)


def _png(data: tf.Tensor, head: tf.Tensor, reading: Reading) -> tf.Tensor:
    header = tf.pad(head, [[0, _PNG_COLOURS + 1]])  # Of a file that is cut off: it does not decode.
    background = 255 if reading.background == "white" else 0

    def deep() -> tf.Tensor:
        if reading.gray_max is None:
            refused = tf.debugging.Assert(
                False, ["a gray PNG of 16 bits: what is white is not known without --gray_max"]
            )
            with tf.control_dependencies([refused]):
                return tf.cast(tf.io.decode_png(data, channels=3), tf.float64)
        values = tf.cast(tf.io.decode_png(data, channels=1, dtype=tf.uint16), tf.float64)
        pixels = tf.minimum(tf.floor(values * 256 / (reading.gray_max + 1)), 255)
        if reading.background != "none":
            chunk = tf.cast(transparent(), tf.float64)
            high_and_low = tf.pad(chunk, [[0, 2]])
            is_apart = (tf.size(chunk) == 0) | (values != 256 * high_and_low[0] + high_and_low[1])
            pixels = tf.where(is_apart, pixels, tf.constant(background, tf.float64))
        return tf.repeat(pixels, 3, axis=2)

    def transparent() -> tf.Tensor:
        """What the file says of transparency, unless it has alpha: the bytes from there to the pixels; or none."""
        of_pixels = _after(head, b"IDAT")
        is_known = (header[_PNG_COLOURS] >= _PNG_ALPHA) | (tf.size(of_pixels) > 0)
        begins = tf.debugging.Assert(
            is_known, [f"a PNG whose pixels begin behind {_HEAD} bytes: whether it is transparent is not looked for"]
        )
        with tf.control_dependencies([begins]):
            begin = head[: tf.size(head) - tf.size(of_pixels)]
        return _after(begin, b"tRNS")

    def of_bytes() -> tf.Tensor:
        if reading.background == "none":
            return tf.cast(tf.io.decode_png(data, channels=3), tf.float64)
        # With four channels TensorFlow leaves values of fewer than 8 bits as they are: white and opaque would be 1.
        colours, alpha = (tf.cast(tf.io.decode_png(data, channels=n), tf.float64) for n in (3, 4))
        bits, kind, alpha = header[_PNG_BITS], header[_PNG_COLOURS], alpha[..., 3:]
        chunk = tf.cast(transparent(), tf.float64)
        opaque = tf.constant(255, tf.float64)
        alpha = tf.where((kind == 0) & (bits == 1) & (alpha > 0), opaque, alpha)
        # Of 2 and 4 bits Pillow looks for the transparent value, which has so many, among values of 8.
        is_apart = colours[..., :1] != tf.pad(chunk, [[0, 2]])[1]
        alpha = tf.where((kind == 0) & ((bits == 2) | (bits == 4)), opaque * tf.cast(is_apart, tf.float64), alpha)
        alpha = tf.where((kind >= _PNG_ALPHA) | (tf.size(chunk) > 0), alpha, opaque)
        return tf.floor((colours * alpha + background * (255 - alpha)) / 255 + 0.5)

    return tf.cond((header[_PNG_BITS] == 16) & (header[_PNG_COLOURS] == 0), deep, of_bytes)


def _turns(picture: tf.Tensor) -> Sequence[Callable[[], tf.Tensor]]:
    """What makes a picture upright, for each orientation from 1 on."""
    turned = tf.transpose(picture, [1, 0, 2])
    return [
        lambda: picture,
        lambda: tf.reverse(picture, [1]),
        lambda: tf.reverse(picture, [0, 1]),
        lambda: tf.reverse(picture, [0]),
        lambda: turned,
        lambda: tf.reverse(turned, [1]),
        lambda: tf.reverse(turned, [0, 1]),
        lambda: tf.reverse(turned, [0]),
    ]


def _after(head: tf.Tensor, mark: Sequence[int | tf.Tensor]) -> tf.Tensor:
    """The bytes that follow the first `mark` in `head`, `[N]` int64; none where it is not there."""
    count = tf.maximum(tf.size(head) - len(mark) + 1, 0)
    is_mark = tf.reduce_all([head[i : i + count] == byte for i, byte in enumerate(mark)], axis=0)
    places = tf.concat([tf.where(is_mark)[:, 0], [tf.size(head, tf.int64)]], axis=0)
    return head[places[0] + len(mark) :]

"""The bytes of a picture to its pixels within a TensorFlow graph, as `data.pictures` reads them with Pillow.

TensorFlow decodes PNG, JPEG, GIF and BMP, knows no EXIF data, and drops transparency. So the orientation is looked for
here, in the EXIF data of JPEG and PNG (not in XMP), and PNG is composited. A transparent GIF is refused, and so are
other formats.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfpipe.config import Reading

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_BMP = b"BM"
_GIF = b"GIF8"
# Before the first frame; the lowest bit of the byte behind says whether a colour is transparent.
_GIF_CONTROL = b"\x21\xf9\x04"
# EXIF data stands near the beginning: JPEG has segments of at most 64 KiB, and few before it.
_HEAD = 1 << 17
# A directory of EXIF data: entries of so many bytes, in each a tag, and from byte 8 on its value.
_ENTRY, _TAG_OF_ORIENTATION = 12, 0x0112
# Bits a pixel and kind of colours, in the header of PNG; 0 is gray without alpha.
_PNG_BITS, _PNG_COLOURS = 24, 25


def decoded(data: tf.Tensor, reading: Reading) -> tf.Tensor:
    """`[H, W, 3]` float64, whole numbers from 0 to 255, of the bytes of a file, `[]`. Another format is an error."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _HEAD), tf.uint8), tf.int64)
    is_png = _begins(data, _PNG)
    picture = tf.cond(
        is_png,
        lambda: _png(data, head, reading),
        lambda: _other(data, head),
    )
    if reading.orientation == "upright":
        found = tf.cond(is_png, lambda: _after(head, b"eXIf"), lambda: _after(head, b"Exif\0\0"))
        orientation = tf.cond(
            is_png | _begins(data, _JPEG), lambda: _orientation(found), lambda: tf.constant(1, tf.int64)
        )
        picture = tf.switch_case(tf.cast(orientation, tf.int32) - 1, _turns(picture))
    picture.set_shape([None, None, 3])
    return picture


def _begins(data: tf.Tensor, mark: bytes) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(mark)) == mark


def _other(data: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    is_gif = _begins(data, _GIF)
    # Some versions of TensorFlow decode more, such as WebP, whose EXIF data and transparency are not looked for.
    is_known = is_gif | _begins(data, _JPEG) | _begins(data, _BMP)
    known = tf.debugging.Assert(is_known, ["no picture of a kind that is read: PNG, JPEG, GIF, BMP"])
    flags = tf.pad(_after(head, _GIF_CONTROL), [[0, 1]])[0]
    opaque = tf.debugging.Assert(~(is_gif & (flags % 2 == 1)), ["a transparent GIF, which TensorFlow fills otherwise"])
    with tf.control_dependencies([known, opaque]):
        return tf.cast(tf.io.decode_image(data, channels=3, expand_animations=False), tf.float64)


def _png(data: tf.Tensor, head: tf.Tensor, reading: Reading) -> tf.Tensor:
    header = tf.pad(head, [[0, _PNG_COLOURS + 1]])  # Of a file that is cut off: it does not decode.

    def deep() -> tf.Tensor:
        values = tf.cast(tf.io.decode_png(data, channels=1, dtype=tf.uint16), tf.float64)
        pixels = tf.minimum(tf.floor(values * 256 / (reading.gray_max + 1)), 255)
        return tf.repeat(pixels, 3, axis=2)

    def of_bytes() -> tf.Tensor:
        if reading.background == "none":
            return tf.cast(tf.io.decode_png(data, channels=3), tf.float64)
        # With four channels TensorFlow leaves gray of fewer than 8 bits as it is: white and opaque would be 1.
        colours, alpha = (tf.cast(tf.io.decode_png(data, channels=n), tf.float64) for n in (3, 4))
        is_coarse = (header[_PNG_BITS] < 8) & (header[_PNG_COLOURS] == 0)
        alpha = tf.where(is_coarse & (alpha[..., 3:] > 0), tf.constant(255, tf.float64), alpha[..., 3:])
        background = 255 if reading.background == "white" else 0
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


def _after(head: tf.Tensor, mark: bytes) -> tf.Tensor:
    """The bytes that follow the first `mark` in `head`, `[N]` int64; none where it is not there."""
    count = tf.maximum(tf.size(head) - len(mark) + 1, 0)
    is_mark = tf.reduce_all([head[i : i + count] == byte for i, byte in enumerate(mark)], axis=0)
    places = tf.concat([tf.where(is_mark)[:, 0], [tf.size(head, tf.int64)]], axis=0)
    return head[places[0] + len(mark) :]


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """What EXIF data says, 1 to 8; 1 where it says nothing."""
    is_little = tf.reduce_all(exif[:1] == ord("I"))

    def number(parts: Sequence[tf.Tensor]) -> tf.Tensor:
        little = sum(part * 256**place for place, part in enumerate(parts))
        big = sum(part * 256**place for place, part in enumerate(reversed(parts)))
        return tf.where(is_little, little, big)

    padded = tf.pad(exif, [[0, 8]])
    begin = tf.minimum(number([padded[place] for place in range(4, 8)]), tf.size(exif, tf.int64))
    directory = tf.pad(exif[begin:], [[0, 2]])
    count = tf.minimum(number([directory[0], directory[1]]), (tf.size(directory, tf.int64) - 2) // _ENTRY)
    entries = tf.reshape(directory[2 : 2 + count * _ENTRY], [-1, _ENTRY])
    is_orientation = number([entries[:, 0], entries[:, 1]]) == _TAG_OF_ORIENTATION
    values = tf.boolean_mask(number([entries[:, 8], entries[:, 9]]), is_orientation)
    value = tf.concat([values, [1]], axis=0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)

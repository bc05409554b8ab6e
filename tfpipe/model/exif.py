"""How a picture is turned, within a TensorFlow graph, from the bytes of its file: as `data.pictures.orientation`.

Pillow takes an orientation from XMP, or from the raw EXIF profile of PNG, where EXIF data has none. Both may be
compressed or have many forms: a picture that may have it there alone is refused.
"""

from collections.abc import Sequence

import tensorflow as tf

# What stands before EXIF data in PNG, and in a segment of JPEG, which begins 4 bytes before that with this marker.
_PNG, _JPEG, _JPEG_SEGMENT, _SEGMENT_BYTES = b"eXIf", b"Exif\0\0", b"\xff\xe1", 4
# How EXIF data begins.
_LITTLE, _BIG = b"II", b"MM"
# Of EXIF data so many bytes are looked at: in JPEG it has at most 64 KiB.
_MOST_BYTES = 1 << 17
# A directory of EXIF data: entries of so many bytes, in each a tag, and from byte 8 on its value.
_ENTRY, _TAG_OF_ORIENTATION = 12, 0x0112
_ELSEWHERE = (b"tiff:Orientation", b"XML:com.adobe.xmp\0\1", b"Raw profile type exif")


def orientation(data: tf.Tensor, is_png: tf.Tensor, is_jpeg: tf.Tensor) -> tf.Tensor:
    """As EXIF numbers it, `[]` int64, 1 to 8: 1 is upright, or not known.

    An error when the graph runs: EXIF data has none, and there may be one elsewhere.

    Args:
      data: the bytes of a file, `[]`.
      is_png: whether it is PNG, `[]` bool.
      is_jpeg: whether it is JPEG. In other formats no EXIF data is looked for.
    """
    begun = tf.case([(is_png, lambda: _of_png(data)), (is_jpeg, lambda: _of_jpeg(data))], lambda: tf.constant(b""))
    value = _tag(tf.cast(tf.io.decode_raw(tf.strings.substr(begun, 0, _MOST_BYTES), tf.uint8), tf.int64))
    is_elsewhere = tf.reduce_any([tf.size(tf.strings.split(data, mark)) > 1 for mark in _ELSEWHERE])
    known = tf.debugging.Assert(
        (value != 0) | ~is_elsewhere, ["a picture whose orientation may stand in XMP, or in a PNG's raw EXIF profile"]
    )
    with tf.control_dependencies([known]):
        return tf.where((value >= 1) & (value <= 8), value, 1)


def _of_png(data: tf.Tensor) -> tf.Tensor:
    """The bytes of a file from where its EXIF data begins; none where it has none."""
    pieces = tf.strings.split(data, _PNG)
    begins = tf.strings.substr(pieces[1:], 0, len(_LITTLE))
    return _behind(pieces, (begins == _LITTLE) | (begins == _BIG), _PNG)


def _of_jpeg(data: tf.Tensor) -> tf.Tensor:
    """As `_of_png`."""
    pieces = tf.strings.split(data, _JPEG)
    ends = tf.strings.substr(tf.strings.join([b"\0" * _SEGMENT_BYTES, pieces[:-1]]), -_SEGMENT_BYTES, 2)
    return _behind(pieces, ends == _JPEG_SEGMENT, _JPEG)


def _behind(pieces: tf.Tensor, is_there: tf.Tensor, mark: bytes) -> tf.Tensor:
    """What follows the first `mark` between two pieces, `[N]`, where `is_there`, `[N - 1]`, is true; else no bytes."""
    places = tf.concat([tf.where(is_there)[:, 0], [tf.size(is_there, tf.int64)]], axis=0)
    return tf.strings.reduce_join(pieces[places[0] + 1 :], separator=mark)


def _tag(exif: tf.Tensor) -> tf.Tensor:
    """What EXIF data, `[N]` int64, has for the orientation; 0 where it has nothing."""
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
    return tf.concat([values, [0]], axis=0)[0]

"""Where the images lie while a run trains: resident on its device, or in a file that memory cannot hold."""

import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.compute.copies import Copies
from tfpipe.compute.programs import padded
from tfpipe.data import Examples
from tfpipe.log import log
from tfpipe.memory import ALIGNMENT, available_memory

# The memory of the host, whatever device trains.
HOST = "/CPU:0"
# Arrays up to this size are copied, with room for more rows, so that programs for about as many rows are one.
_SMALL_BYTES = 4 << 20


class Resident(NamedTuple):
    """The examples of one split, and where they are.

    Attributes:
      images: `[M, D]`, as stored: the images of the split, perhaps with others around them.
      rows: `[n]` int64, the rows of its examples in `images`, ascending.
      labels: `[n]` int32.
      is_resident: whether `images` is on the device that trains, which then takes rows from it as it goes. If not, it
        is on the host, and rows are brought as they are needed.
      mapped: the memory map that `images` is; None if it is none.
    """

    images: tf.Tensor
    rows: np.ndarray
    labels: np.ndarray
    is_resident: bool
    mapped: np.memmap | None

    @property
    def travel_type(self) -> tf.DType:
        """The type in which images travel that are not resident: as stored, but float32 at most."""
        return tf.float32 if self.images.dtype.size > tf.float32.size else self.images.dtype

    @property
    def bytes_per_image(self) -> int:
        """That travel with each span."""
        return 0 if self.is_resident else self.images.shape[1] * self.travel_type.size

    def read_ahead(self, *, shuffle: bool) -> Callable[[np.ndarray], None] | None:
        """For a file that memory cannot hold: what tells the kernel which rows will be read, if that helps; else None.

        Rows of 3 kB in random order from a disk, with a cold cache: 1 MB/s as the kernel reads, which brings 128 kB
        around each row; 30 MB/s without that; 180 MB/s if it is told beforehand, so that it can read many rows at once.
        In order, every fifth row: 130 MB/s as the kernel reads, 32 where others are trained on in random order, 200 if
        it is told; three of five rows: 290, and 180 if it is told.
        """
        if self.mapped is None:
            return None
        file = self.mapped._mmap  # type: ignore[attr-defined]
        page, size = mmap.PAGESIZE, self.mapped[0].nbytes
        start = self.mapped.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data
        begin, end = start + int(self.rows[0]) * size, start + (int(self.rows[-1]) + 1) * size
        is_large = _is_larger_than_memory(self.mapped)
        # Said in any case: the map may have served another run before.
        order = mmap.MADV_RANDOM if is_large and shuffle else mmap.MADV_NORMAL
        first_page = begin // page * page
        file.madvise(order, first_page, end - first_page)

        def will_need(rows: np.ndarray) -> None:
            starts = start + np.sort(rows, axis=None) * size
            firsts = starts // page * page
            for first, length in zip(firsts.tolist(), (starts + size - firsts).tolist(), strict=True):
                file.madvise(mmap.MADV_WILLNEED, first, length)

        are_few = 2 * len(self.rows) * size < end - begin
        return will_need if is_large and (shuffle or are_few) else None


def place(splits: Iterable[Examples], copies: Copies | None = None) -> list[Resident]:
    """Brings the images of each split to the current device: once, where they are rows of one array.

    On the CPU nothing is copied if the array is large and begins where TensorFlow wants it to; else, of a large one, no
    more than from the first row to the last that any split has. What is larger than memory, or than the device's, stays
    on the host.

    Args:
      splits: the examples.
      copies: to which the images are added that other devices are to have too.
    """
    placed: dict[Any, tuple[tf.Tensor, bool]] = {}
    splits, resident = list(splits), []
    for examples in splits:
        stored = examples.stored
        shared, mapped = _shared(stored), next(_maps(stored), None)
        if shared is None and mapped is not None:
            log.info("a memory map that cannot be shared is copied into memory; open it in mode 'c', in C order")
            mapped = None
        if mapped is None and stored.nbytes <= _SMALL_BYTES:
            shared = None
        if shared is None:
            own = _wanted(stored, splits)
            whole, first = stored[own], -own.start
        else:
            whole, first = shared, (stored.ctypes.data - shared.ctypes.data) // stored[0].nbytes
        array = whole.ctypes.data, whole.shape, whole.strides, whole.dtype
        if array not in placed:
            with tf.device(HOST):
                tensor = _copied(whole) if shared is None else _tensor(shared)
            stays = mapped is not None and _is_larger_than_memory(mapped)
            placed[array] = (tensor, False) if stays else _on_device(tensor, copies)
        images, is_resident = placed[array]
        resident.append(Resident(images, examples.rows + first, examples.labels, is_resident, mapped))
    return resident


def _wanted(stored: np.ndarray, splits: Iterable[Examples]) -> slice:
    """The rows of an array that is to be copied: if it is large, from the first to the last that any split has."""
    rows = [examples.rows for examples in splits if examples.stored is stored and len(examples)]
    if stored.nbytes <= _SMALL_BYTES or not rows:
        return slice(0, len(stored))
    return slice(min(int(of_each[0]) for of_each in rows), max(int(of_each[-1]) for of_each in rows) + 1)


def part(whole: Resident, rows: slice) -> Resident:
    """Some consecutive examples of a split that lies on the host: on the current device these alone."""
    own = whole._replace(rows=whole.rows[rows], labels=whole.labels[rows])
    if not whole.is_resident:
        return own
    with tf.device(HOST):
        images = tf.gather(whole.images, own.rows)
    images, is_resident = _on_device(images)
    if not is_resident:
        return own._replace(is_resident=False)
    return own._replace(images=images, rows=np.arange(len(own.rows)))


def copied_bytes(splits: Iterable[Examples]) -> int:
    """Bytes of images of which `place` makes a copy in the memory of the host."""
    arrays = {examples.stored.ctypes.data: examples.stored for examples in splits if len(examples)}
    copied = (stored for stored in arrays.values() if stored.nbytes <= _SMALL_BYTES or _shared(stored) is None)
    return sum(stored.size * min(stored.itemsize, tf.float32.size) for stored in copied)


def rounded(images: np.ndarray) -> np.ndarray:
    """Images in the type in which they are held: in the machine's byte order, as float32 at most."""
    dtype = np.dtype(np.float32) if images.dtype.itemsize > 4 else images.dtype.newbyteorder("=")
    return images.astype(dtype, copy=False)


def is_too_large(examples: Examples) -> bool:
    """Whether the images are in a file that memory cannot hold."""
    mapped = next(_maps(examples.stored), None)
    return mapped is not None and _is_larger_than_memory(mapped)


def _shared(images: np.ndarray) -> np.ndarray | None:
    """The array `[M, D]` that `images` is a part of, if TensorFlow can use that where it lies.

    The whole, because a part seldom begins where TensorFlow wants an array to: from_dlpack would end the process.
    """
    whole: Any = next(_maps(images), images)
    if whole is images and isinstance(images.base, np.ndarray):
        whole = images.base
    row = images[0].nbytes
    if not (whole.flags.c_contiguous and whole.flags.writeable and images.flags.c_contiguous and images.dtype.isnative):
        return None
    # A view that does not begin with a row of the whole is none of its rows.
    begin = images.ctypes.data - whole.ctypes.data
    if whole.ctypes.data % ALIGNMENT or whole.nbytes % row or begin % row:
        return None
    return whole.reshape(-1).view(images.dtype).reshape(-1, images[0].size)


def _tensor(array: np.ndarray) -> tf.Tensor:
    """A tensor that is the array itself: tf.constant would copy it."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _copied(images: np.ndarray) -> tf.Tensor:
    """A tensor `[M, D]` with the images `rounded`, and perhaps rows of zeros."""
    rows = rounded(images.reshape(len(images), -1))
    room = padded(len(rows)) - len(rows) if rows.nbytes <= _SMALL_BYTES else 0
    return tf.constant(np.pad(rows, ((0, room), (0, 0))) if room else rows)


def _on_device(tensor: tf.Tensor, copies: Copies | None = None) -> tuple[tf.Tensor, bool]:
    """The tensor on the current device, and True; or as it is, and False, if a device has not enough memory."""
    try:
        own = tf.identity(tensor)
        if copies is not None:
            copies.make(own)
        return own, True
    except tf.errors.ResourceExhaustedError:
        log.info("images %s are too many for the memory of the device: they stay on the host", tensor.shape)
        return tensor, False


def _is_larger_than_memory(mapped: np.memmap) -> bool:
    return mapped.nbytes >= available_memory()


def _maps(images: np.ndarray) -> Iterator[np.memmap]:
    """The memory maps that `images` is a view of, the whole file's first."""
    maps = []
    array: Any = images
    while isinstance(array, np.memmap) and array._mmap is not None:  # type: ignore[attr-defined]
        maps.append(array)
        array = array.base
    return reversed(maps)

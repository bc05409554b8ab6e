"""NumPy's file formats, read as data: arrays of numbers or of text, and nothing that would have to be executed.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Arrays of objects, which hold pickles,
are refused before anything of them is read, and no memory is taken for what a file cannot hold.
"""

import math
import zipfile
import zlib
from typing import IO, NamedTuple

import numpy as np

from tfpipe import memory
from tfpipe.exceptions import DataError, brief
from tfpipe.memory import DEFLATE_MOST, check_fits_memory


class Header(NamedTuple):
    """What an array in a file says of itself.

    Attributes:
      shape: its lengths.
      fortran_order: whether the first index runs fastest.
      dtype: of its values.
      size: bytes of the header.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    size: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def load(where: str, file: IO[bytes]) -> dict[str, np.ndarray]:
    """All arrays of the archive in `file`, by name, which `where` names in errors.

    Raises:
      DataError: the archive is damaged, or holds what is no array of numbers or text.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return {
                name: read_member(f"{where} ({name})", archive, info) for name, info in members(where, archive).items()
            }
    except (DataError, MemoryError):
        raise
    except Exception as error:  # A damaged directory can fail in any way: in names that are no text, for one.
        raise DataError(f"{where}: not an .npz archive, or damaged: {brief(error)}") from error


def members(where: str, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive, by name. Raises DataError if two have the same."""
    found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(found) != len(archive.infolist()):
        raise DataError(f"{where}: two arrays have the same name")
    return found


def read_member(where: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array of an archive.

    Raises:
      DataError: it is damaged, or not one of numbers or text.
    """
    if info.file_size > max(info.compress_size, 1) * DEFLATE_MOST:
        raise DataError(f"{where}: {info.compress_size} bytes cannot expand to the promised {info.file_size}")
    try:
        with archive.open(info) as file:
            header = read_header(where, file, info.file_size)
            check_fits_memory(where, header.nbytes)
            data = memory.read(file, header.nbytes)
            file.read(1)  # The end: this verifies the checksum.
    except zlib.error as error:
        raise DataError(f"{where}: damaged: {brief(error)}") from error
    if len(data) != header.nbytes:
        raise DataError(f"{where}: truncated: {len(data)} of {header.nbytes} bytes")
    return data.view(header.dtype).reshape(header.shape, order="F" if header.fortran_order else "C")


def claimed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header | None:
    """What a member says of itself, whatever it is; None if it is no array."""
    try:
        with archive.open(info) as file:
            return parsed("", file, info.file_size)
    except MemoryError:
        raise
    except Exception:  # A damaged archive can fail in any way; whoever reads the member is told how.
        return None


def parsed(where: str, file: IO[bytes], size: int) -> Header:
    """The header of an array in `size` bytes, whatever it promises; leaves `file` behind it.

    Raises:
      DataError: there is none.
    """
    counting = _Counting(file, size)
    try:
        version = np.lib.format.read_magic(counting)  # type: ignore[arg-type]
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(counting)  # type: ignore[arg-type]
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(counting)  # type: ignore[arg-type]
        else:
            raise ValueError(f"version {version} of the format holds no plain arrays")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # A damaged header can fail in any way: it is the text of a Python literal.
        raise DataError(f"{where}: not an .npy array, or damaged: {brief(error)}") from error
    return Header(shape, fortran_order, dtype, counting.count)


def read_objects(where: str, file: IO[bytes], size: int, most: int) -> tuple[Header, bytes] | None:
    """The header and the pickle, which stays one, of an array of objects in a file of `size` bytes; else None.

    Raises:
      DataError: it is no array; the pickle has more than `most` bytes.
    """
    header = parsed(where, file, size)
    if not header.dtype.hasobject:
        return None
    if size - header.size > most:
        raise DataError(f"{where}: refused: an array of type object of more than {most} bytes; expected text")
    return header, file.read(size - header.size)


def read_header(where: str, file: IO[bytes], size: int) -> Header:
    """Reads the header of an array that fills `size` bytes with it, and leaves `file` behind it."""
    header = parsed(where, file, size)
    shape, dtype = header.shape, header.dtype
    if dtype.hasobject or dtype.kind not in "biufUS":
        raise DataError(f"{where}: refused: an array of type {dtype}; expected numbers or text")
    if any(length <= 0 for length in shape) or dtype.itemsize == 0:
        raise DataError(f"{where}: an array of shape {shape} holds nothing")
    if header.size + header.nbytes != size:
        promised = f"its header promises {' x '.join(map(str, shape))} of {dtype} = {header.nbytes} bytes"
        raise DataError(f"{where}: truncated or damaged: {promised}, and {size - header.size} follow")
    return header


class _Counting:
    """A file of `size` bytes that counts what is read, for files that cannot tell where they stand.

    It never asks for more than there is: memory would be taken for that.
    """

    def __init__(self, file: IO[bytes], size: int):
        self._file = file
        self._size = size
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._size - self.count))
        self.count += len(data)
        return data

"""HDF5: datasets by the names that arrays of an `.npz` have, `group/name` in groups; and MATLAB's `-v7.3`."""

import functools
import math
import mmap
import os
import pathlib
import struct
from typing import TYPE_CHECKING

import numpy as np

from tfpipe import memory
from tfpipe.compute import host
from tfpipe.config import DataConfig
from tfpipe.data.readers import matlab, matlab_variables, named
from tfpipe.data.readers.named import NO_ARRAY, Stored
from tfpipe.data.readers.npz_names import Form
from tfpipe.data.readers.source import Source
from tfpipe.exceptions import DataError
from tfpipe.memory import DEFLATE_MOST, check_fits_memory

if TYPE_CHECKING:
    import h5py

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where the first signature may stand, when there is none at 0; the next ones are twice as far off each.
_USER_BLOCK = 512
_SUFFIXES = (".h5", ".hdf5")
# Filters that expand a byte to no more than deflate does: gzip, shuffle, fletcher32, lzf.
_BOUNDED = frozenset([1, 2, 3, 32000])
_NUMBERS = "biuf"
# How a collection of texts of variable length begins, with its version; then come its size and its objects.
_COLLECTION, _SIZE, _OBJECT = b"GCOL\x01\0\0\0", struct.Struct("<Q"), struct.Struct("<HHIQ")
# MATLAB's mark of a variable and of one without values.
_CLASS, _EMPTY = "MATLAB_class", "MATLAB_empty"


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file that is HDF5 by its content, or else by its name."""
    if not path.is_file():
        return None
    return path if path.suffix.lower() in _SUFFIXES or _is_hdf5(path) else None


def read(
    path: pathlib.Path,
    images_key: str | None = None,
    labels_key: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
) -> Source:
    """Reads the datasets of an HDF5 file as `arrays.read_npz` reads the arrays of an archive; arguments are the same.

    Text is of fixed or of variable length. MATLAB lists the axes the other way round, and may have the examples last;
    see `matlab.examples_first`.

    Raises:
      DataError: the file is damaged; it holds no such datasets; their values lie in other files, were never written, or
        are packed by a filter that is not there; or there is no h5py, by which it is read.
      ConfigError: a key names no dataset.
    """
    try:
        with host.undoing_imports():
            import h5py
    except ImportError:
        raise DataError(f"{path}: is read by a package that is not there: pip install 'tfpipe[hdf5]'") from None
    with named.reading(path, "an HDF5 file"), h5py.File(path, "r", locking="best-effort") as file:
        datasets = _datasets(path, file)
        size = os.stat(path).st_size
        stored = {name: _stored(f"{path} ({name})", dataset, size) for name, dataset in datasets.items()}
        content = named.content(path, stored, *(key and key.lstrip("/") for key in (images_key, labels_key)))
        is_matlab = any(_CLASS in dataset.attrs for dataset in datasets.values())
    if is_matlab:
        content, note = matlab.examples_first(content)
    else:
        note = ""
    return matlab.noted(named.source(content, numbered=numbered_classes), note)


def _is_hdf5(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at < size:
            file.seek(at)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            at = 2 * at or _USER_BLOCK
    return False


def _datasets(path: pathlib.Path, file: "h5py.File") -> dict[str, "h5py.Dataset"]:
    """All that lie in the file itself, but for what MATLAB keeps beside its variables."""
    import h5py

    datasets = {}

    def visit(name: str, item: "h5py.Dataset | h5py.Group") -> None:
        if isinstance(item, h5py.Dataset):
            if not name.startswith("#"):
                datasets[name] = item
        elif "pandas_type" in item.attrs:
            # Its arrays are a table in pieces, and the numbers of the rows would be taken for labels.
            remedy = f"pandas.read_hdf({path.name!r}, {name!r}).to_parquet('table.parquet') makes a table that is read"
            raise DataError(f"{path}: {name} is a table as pandas writes it; {remedy}")

    file.visititems(visit)
    return datasets


def _stored(where: str, dataset: "h5py.Dataset", size: int) -> Stored:
    return Stored(_form(dataset), functools.partial(_read, where, dataset, size))


def _form(dataset: "h5py.Dataset") -> Form:
    import h5py

    if dataset.shape is None or _EMPTY in dataset.attrs:
        return NO_ARRAY
    if _CLASS in dataset.attrs:
        if _matlab_class(dataset) not in matlab_variables.NUMBERS:
            return NO_ARRAY
        return matlab_variables.form(dataset.shape[::-1], _matlab_dtype(dataset))
    if dataset.dtype.kind in _NUMBERS or h5py.check_string_dtype(dataset.dtype) is not None:
        return Form(dataset.shape, dataset.dtype)
    return NO_ARRAY


def _matlab_class(dataset: "h5py.Dataset") -> str:
    of_class = dataset.attrs[_CLASS]
    return of_class.decode("ascii", "replace") if isinstance(of_class, bytes) else str(of_class)


def _matlab_dtype(dataset: "h5py.Dataset") -> np.dtype:
    return np.dtype(bool) if _matlab_class(dataset) == "logical" else dataset.dtype


def _read(where: str, dataset: "h5py.Dataset", size: int, kind: str) -> np.ndarray:
    """The values of a dataset in a file of `size` bytes; `kind` is what they are, as `Stored` says."""
    if _CLASS in dataset.attrs:
        if _form(dataset) == NO_ARRAY:
            raise DataError(f"{where}: {matlab.unusable(_matlab_class(dataset))}")
        values = _numbers(where, dataset, size).T
        return matlab.as_kind(values.astype(_matlab_dtype(dataset), copy=False), kind)
    if dataset.shape is None or not (dataset.dtype.kind in _NUMBERS or dataset.dtype.kind in "OS"):
        raise DataError(f"{where}: of type {dataset.dtype}; expected numbers or text")
    if dataset.dtype.kind == "O":
        return _texts(where, dataset, size, kind)
    return _numbers(where, dataset, size)


def _texts(where: str, dataset: "h5py.Dataset", size: int, kind: str) -> np.ndarray:
    """Text of variable length."""
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is None or kind not in named.MAY_BE_TEXT:
        what = "text" if kind in named.MAY_BE_TEXT else "numbers"
        raise DataError(f"{where}: an array of type {dataset.dtype}; expected {what}")
    _check_stored(where, dataset, size)
    _check_texts(where, dataset.file.filename)
    values = dataset.asstr()[...]
    longest = max(map(len, values.flat), default=0)
    check_fits_memory(where, dataset.size * longest * np.dtype("U1").itemsize)
    return values.astype(str)


def _numbers(where: str, dataset: "h5py.Dataset", size: int) -> np.ndarray:
    """Numbers, or text of fixed length."""
    _check_stored(where, dataset, size)
    values = memory.empty(dataset.shape, dataset.dtype.newbyteorder("="))
    dataset.read_direct(values)
    return values


def _check_stored(where: str, dataset: "h5py.Dataset", size: int) -> None:
    """Raises DataError for values that the file does not have, or of which it has more than memory can hold.

    HDF5 would give zeros for what was never written, however much of it, and reads other files where it is told to.
    """
    import h5py

    if not dataset.size:
        raise DataError(f"{where}: an array of shape {dataset.shape} holds nothing")
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{where}: its values lie in other files; expected them in this one")
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(place) for place in range(plist.get_nfilters())]
    for code, _, _, name in filters:
        if not h5py.h5z.filter_avail(code):
            remedy = "save it with compression='gzip', or as .npz"
            raise DataError(f"{where}: packed by filter {code} ({name.decode('ascii', 'replace')}), not here; {remedy}")
    if dataset.chunks is not None:
        wanted = math.prod(
            -(-length // of_chunk) for length, of_chunk in zip(dataset.shape, dataset.chunks, strict=True)
        )
        written = dataset.id.get_num_chunks()
        # HDF5 unpacks a chunk as a whole.
        check_fits_memory(where, math.prod(dataset.chunks) * dataset.dtype.itemsize)
    else:
        wanted, written = dataset.nbytes, dataset.id.get_storage_size()
    if written < wanted:
        pieces = "bytes" if dataset.chunks is None else "chunks"
        raise DataError(f"{where}: {written} of {wanted} {pieces} were written; expected all of them")
    packed = min(dataset.id.get_storage_size(), size)
    if {code for code, *_ in filters} <= _BOUNDED and dataset.nbytes > packed * DEFLATE_MOST:
        raise DataError(f"{where}: {packed} bytes cannot expand to the promised {dataset.nbytes}")
    check_fits_memory(where, dataset.nbytes)


def _check_texts(where: str, path: str) -> None:
    """Raises DataError for damaged collections of texts, in which HDF5 1.14 would go round for ever.

    Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, "Disk Format: Level 1E - Global Heap".
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_COLLECTION)
        while start >= 0:
            at = start + len(_COLLECTION) + _SIZE.size
            (length,) = _SIZE.unpack(data[at - _SIZE.size : at].ljust(_SIZE.size, b"\0"))
            end = start + length
            if end > len(data):
                raise DataError(f"{where}: damaged: its texts are cut off")
            while at + _OBJECT.size <= end:
                number, _, _, n_bytes = _OBJECT.unpack_from(data, at)
                step = _OBJECT.size + -(-n_bytes // 8) * 8 if number else n_bytes  # Number 0 is free space, as it is.
                if not 0 < step <= end - at:
                    raise DataError(f"{where}: damaged: a text of {n_bytes} bytes where {end - at} are left")
                at += step
            start = data.find(_COLLECTION, start + 1)

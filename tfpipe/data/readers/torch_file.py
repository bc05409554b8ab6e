"""Tensors that `torch.save` wrote, in the zip format that it has since PyTorch 1.6: read without PyTorch.

The zip holds `NAME/data.pkl`, a pickle of which nothing is executed, and `NAME/data/KEY`, the values of each storage.
Source: torch/serialization.py.
"""

import functools
import math
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from tfpipe import memory
from tfpipe.config import DataConfig
from tfpipe.data.readers import named, theano_pickle
from tfpipe.data.readers.named import NO_ARRAY, Stored
from tfpipe.data.readers.npz_names import Form
from tfpipe.data.readers.plain_pickle import unpickle
from tfpipe.data.readers.source import Source
from tfpipe.data.readers.torch_pickle import Tensor, TensorUnpickler
from tfpipe.exceptions import DataError
from tfpipe.memory import DEFLATE_MOST, check_fits_memory

_SUFFIXES = (".pt", ".pth")
_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(r"([^/]+)/data\.pkl", re.DOTALL)
# More than anybody gives a name to; lists of tensors are cut off here.
_MOST_ARRAYS = 10_000
_Order = Literal["<", ">"]


def recognise(dataset: str, path: pathlib.Path) -> pathlib.Path | None:
    """The path, if it is one of a file of `torch.save` by its content, or else by its name."""
    if not path.is_file():
        return None
    return path if path.suffix.lower() in _SUFFIXES or _is_torch(path) else None


def read(
    path: pathlib.Path,
    images_key: str | None = None,
    labels_key: str | None = None,
    numbered_classes: bool = DataConfig.numbered_classes,
) -> Source:
    """Reads tensors as `arrays.read_npz` reads the arrays of an archive; the arguments are the same.

    The file holds a dictionary, a tuple or a list of tensors, and of lists of numbers or texts; in a tuple their places
    are their names. Those of a dictionary, tuple or list in it are called `OUTER/INNER`. bfloat16 becomes float32.

    Raises:
      DataError: the file is damaged, or of the older format; it holds other objects, or no such tensors.
      ConfigError: a key names no tensor.
    """
    with named.reading(path, "a file of torch.save"):
        if not _is_zip(path):
            remedy = f"expected the zip format that it has since PyTorch 1.6, or an .npz: {_converting(path)}"
            raise DataError(f"{path}: not of torch.save, or of an older one; {remedy}")
        with zipfile.ZipFile(path) as archive:
            stored = _stored(path, archive)
            content = named.content(path, stored, images_key, labels_key)
    return named.source(content, numbered=numbered_classes)


def _is_zip(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _is_torch(path: pathlib.Path) -> bool:
    if not _is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(map(_PICKLE.fullmatch, archive.namelist()))
    except Exception:  # A damaged archive can fail in any way, and its format is not known then.
        return False


def _converting(path: pathlib.Path) -> str:
    """A command that makes an `.npz` of a file that PyTorch can read."""
    code = f"import numpy, torch; numpy.savez('{path.stem}.npz', **torch.load('{path}', weights_only=True))"
    return f'python -c "{code}" (with one * for a tuple)'


def _stored(path: pathlib.Path, archive: zipfile.ZipFile) -> dict[str, Stored]:
    """The tensors and lists of the file, by name."""
    members = {info.filename: info for info in archive.infolist()}
    roots = [match[1] for name in members if (match := _PICKLE.fullmatch(name))]
    if len(roots) != 1 or f"{roots[0]}/constants.pkl" in members:
        what = "a TorchScript program" if roots else "no data.pkl"
        raise DataError(f"{path}: holds {what}; expected tensors, as torch.save writes them")
    (root,) = roots
    value = _unpickled(path, archive, members[f"{root}/data.pkl"])
    byte_order = members.get(f"{root}/byteorder")  # Older versions wrote none, on machines of this order.
    order: _Order = ">" if byte_order and archive.open(byte_order).read(3) == b"big" else "<"
    stored = {}
    for name, inner in _flat(path, value):
        where = f"{path} ({name})"
        if not isinstance(inner, Tensor):
            stored[name] = _of_values(where, inner)
            continue
        info = members.get(f"{root}/data/{inner.storage.key}")
        form = Form(inner.size, inner.storage.type.converted)
        stored[name] = Stored(form, functools.partial(_read, where, archive, info, inner, order))
    return stored


def _unpickled(path: pathlib.Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.file_size > theano_pickle.MOST_BYTES:
        raise DataError(f"{path}: its pickle has more than {theano_pickle.MOST_BYTES} bytes; expected tensors")
    remedy = f"where you trust it, torch.load('{path}', weights_only=False) reads it, and numpy.savez"
    expected = f"expected tensors and nothing else; {remedy}(FILE, images=..., labels=...) saves what is read here"
    return unpickle(path, _content(str(path), archive, info).tobytes(), TensorUnpickler, expected)


def _content(where: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """The bytes of a member. Raises DataError if they are not there, or more than memory can hold."""
    if info.file_size > max(info.compress_size, 1) * DEFLATE_MOST:
        raise DataError(f"{where}: {info.compress_size} bytes cannot expand to the promised {info.file_size}")
    if not info.file_size:
        raise DataError(f"{where}: damaged: {info.filename} is empty")
    check_fits_memory(where, info.file_size)
    with archive.open(info) as file:
        data = memory.read(file, info.file_size)
        file.read(1)  # The end: this verifies the checksum.
    if len(data) != info.file_size:
        raise DataError(f"{where}: truncated: {len(data)} of {info.file_size} bytes")
    return data


def _flat(path: pathlib.Path, value: Any) -> Iterator[tuple[str, Any]]:
    """What a file holds, by name."""
    count = 0
    for name, inner in _items(value):
        is_outer = isinstance(inner, dict) or (
            isinstance(inner, (list, tuple)) and any(isinstance(each, Tensor) for each in inner)
        )
        for last, each in _items(inner) if is_outer else [("", inner)]:
            count += 1
            if count > _MOST_ARRAYS:
                problem = f"holds more than {_MOST_ARRAYS} tensors"
                raise DataError(
                    f"{path}: {problem}; expected one of all images, which torch.stack makes, and one of labels"
                )
            yield f"{name}/{last}" if is_outer else name, each


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return [(str(place), inner) for place, inner in enumerate(value)]
    return [("tensor", value)] if isinstance(value, Tensor) else []


def _of_values(where: str, values: Any) -> Stored:
    """A list of numbers or of texts, as an array; or what is neither."""
    types = {type(value) for value in values} if isinstance(values, (list, tuple)) else set()
    if len(types) == 1 and (of_all := types.pop()) in (str, int, bool, float):
        return Stored(Form((len(values),), np.dtype(of_all)), functools.partial(_read_values, where, values, of_all))
    return Stored(NO_ARRAY, functools.partial(_refuse, where))


def _read_values(where: str, values: list, of_all: type, kind: str) -> np.ndarray:
    longest = max(map(len, values)) if of_all is str else 2
    check_fits_memory(where, len(values) * longest * np.dtype("U1").itemsize)
    return np.array(values, of_all)


def _refuse(where: str, kind: str) -> np.ndarray:
    raise DataError(f"{where}: neither a tensor nor a list of numbers or of texts")


def _read(
    where: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, tensor: Tensor, order: _Order, kind: str
) -> np.ndarray:
    """The values of a tensor, whose storage is a member of the archive."""
    dtype = tensor.storage.type.stored.newbyteorder(order)
    if info is None or info.file_size != tensor.storage.length * dtype.itemsize:
        raise DataError(f"{where}: damaged: {tensor.storage.length} values are promised, and the file has others")
    if 0 in tensor.size:
        raise DataError(f"{where}: a tensor of shape {tensor.size} holds nothing")
    check_fits_memory(where, math.prod(tensor.size) * dtype.itemsize)
    values = _content(where, archive, info).view(dtype)[tensor.offset :]
    values = np.lib.stride_tricks.as_strided(
        values, tensor.size, [step * dtype.itemsize for step in tensor.stride], writeable=False
    )
    if tensor.storage.type.converted != tensor.storage.type.stored:  # bfloat16: the upper half of a float32.
        return np.left_shift(values, 16, dtype=np.uint32, order="C").view(np.float32)
    if tensor.offset or order != "<" or not values.flags.c_contiguous:
        return named.laid_out(values)
    return values

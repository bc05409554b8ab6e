"""The pickle in a file of `torch.save`: tensors as windows on storages, of which no value was read yet.

Source of the format: torch/serialization.py and torch/_utils.py.
"""

import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tfpipe.data.readers.plain_pickle import PlainUnpickler, PythonUnpickler, Refused

_MOST_AXES = 32


@dataclasses.dataclass(frozen=True)
class Type:
    """The type of a storage's values: as NumPy reads them, and what they become. bfloat16 NumPy has not."""

    stored: np.dtype
    converted: np.dtype


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where values lie: in the member `key` of the zip, so many of one type."""

    type: Type
    key: str
    length: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What the pickle says of a tensor: a window on a storage, all in numbers of values."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    lengths = (offset, *size, *stride)
    if not isinstance(storage, Storage) or any(type(length) is not int or length < 0 for length in lengths):
        raise ValueError("a tensor without storage, or of lengths that are no numbers")
    if len(size) != len(stride) or len(size) > _MOST_AXES:
        raise ValueError(f"a tensor of {len(size)} sizes and {len(stride)} strides")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.length:
        raise ValueError(f"a tensor that reaches to value {last} of {storage.length}")
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor: Tensor, requires_grad: Any, hooks: Any) -> Tensor:
    return tensor


def _ordered_dict() -> dict:
    return {}


def _type(name: str, converted: str | None = None) -> Type:
    return Type(np.dtype(name), np.dtype(converted or name))


_ADMITTED: Mapping[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch", "DoubleStorage"): _type("f8"),
    ("torch", "FloatStorage"): _type("f4"),
    ("torch", "HalfStorage"): _type("f2"),
    ("torch", "BFloat16Storage"): _type("u2", "f4"),
    ("torch", "LongStorage"): _type("i8"),
    ("torch", "IntStorage"): _type("i4"),
    ("torch", "ShortStorage"): _type("i2"),
    ("torch", "CharStorage"): _type("i1"),
    ("torch", "ByteStorage"): _type("u1"),
    ("torch", "BoolStorage"): _type("?"),
}


class TensorUnpickler(PlainUnpickler):
    """Reads tensors, in dictionaries, tuples and lists. Keys are text or integers, whose hash takes no time."""

    admitted = _ADMITTED

    def persistent_load(self, pid: Any) -> Storage:
        kind, of_values, key, _device, length = pid
        if kind != "storage" or not isinstance(of_values, Type) or type(key) is not str or type(length) is not int:
            raise ValueError("a storage that is none")
        return Storage(of_values, key, length)

    def load_setitem(self) -> None:
        self._check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check_keys(self.stack[::2])  # Those since the mark.
        super().load_setitems()

    def _check_keys(self, keys: list) -> None:
        if any(type(key) not in (str, int) for key in keys):
            raise Refused("it has a dictionary by something else than text or integers")

    dispatch: ClassVar = {
        **PlainUnpickler.dispatch,
        pickle.EMPTY_DICT[0]: PythonUnpickler.load_empty_dictionary,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.BINPERSID[0]: PythonUnpickler.load_binpersid,
        pickle.BINFLOAT[0]: PythonUnpickler.load_binfloat,
    }

"""What `torch.save` writes, without PyTorch: its pickle to the byte. Source: torch/serialization.py, _tensor.py."""

import collections
import io
import math
import pickle
import sys
import types
import zipfile
from unittest import mock

import numpy as np

_NAMES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage",
    "int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage",
    "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip


def _rebuild(name):
    def function(*args):
        raise AssertionError("pickles name it, and nothing calls it")

    function.__module__, function.__qualname__ = "torch._utils", name
    return function


_FUNCTIONS = {name: _rebuild(name) for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_sparse_tensor")}
_STORAGES = {name: type(name, (), {"__module__": "torch"}) for name in _NAMES.values()}


class Storage:
    def __init__(self, values):
        self.values = np.ascontiguousarray(values).reshape(-1)


class Tensor:
    """A window on a storage: offset and strides in values, as a tensor has them."""

    def __init__(self, values, storage=None, offset=0, stride=None, rebuild="_rebuild_tensor_v2"):
        values = np.asarray(values)
        self.storage = storage or Storage(values)
        self.offset, self.size = offset, values.shape
        steps = (math.prod(values.shape[axis + 1 :]) for axis in range(values.ndim))
        self.stride = tuple(steps) if stride is None else stride
        self.rebuild = rebuild

    def __reduce_ex__(self, protocol):
        args = (self.storage, self.offset, self.size, self.stride, False, collections.OrderedDict())
        return _FUNCTIONS[self.rebuild], args


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce_ex__(self, protocol):
        return _FUNCTIONS["_rebuild_parameter"], (self.tensor, True, collections.OrderedDict())


def save(value, root="archive", byte_order="little", compression=zipfile.ZIP_STORED, **members):
    """The bytes of a file with `value`, in which tensors are `Tensor`, or arrays; `members` stand beside the data."""
    storages = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if not isinstance(obj, Storage):
                return None
            if obj not in storages:
                storages.append(obj)
            of_type = _STORAGES[_NAMES[obj.values.dtype.name]]
            return ("storage", of_type, str(storages.index(obj)), "cpu", obj.values.size)

        def reducer_override(self, obj):
            return Tensor(obj).__reduce_ex__(2) if isinstance(obj, np.ndarray) else NotImplemented

    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.__dict__.update(_STORAGES, _utils=utils)
    utils.__dict__.update(_FUNCTIONS)
    data = io.BytesIO()
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        Pickler(data, protocol=2).dump(value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", data.getvalue())
        if byte_order is not None:
            archive.writestr(f"{root}/byteorder", byte_order)
        for key, storage in enumerate(storages):
            order = ">" if byte_order == "big" else "<"
            values = storage.values.view(np.uint16) if storage.values.dtype.name == "bfloat16" else storage.values
            archive.writestr(f"{root}/data/{key}", values.astype(values.dtype.newbyteorder(order)).tobytes())
        archive.writestr(f"{root}/version", "3\n")
        archive.writestr(f"{root}/.data/serialization_id", "0" * 40)
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
    return file.getvalue()

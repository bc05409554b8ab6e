"""What processes tell each other, as bytes: a name, facts and arrays of numbers. Nothing in them is executed."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_LENGTH = 8
# Of arrays, which are read where they lie.
_ALIGNMENT = 16
_KINDS = "biuf"


class Message(NamedTuple):
    """What one process tells others.

    Attributes:
      name: what it is about.
      facts: what JSON can say.
      arrays: of numbers, by name.
    """

    name: str
    facts: Mapping[str, Any] = {}
    arrays: Mapping[str, np.ndarray] = {}

    def packed(self) -> bytes:
        """As bytes."""
        forms = {name: [array.dtype.str, *array.shape] for name, array in self.arrays.items()}
        header = _filled(json.dumps([self.name, self.facts, forms]).encode(), -_LENGTH)
        arrays = (_filled(array.tobytes()) for array in self.arrays.values())
        return b"".join([len(header).to_bytes(_LENGTH, "little"), header, *arrays])

    @classmethod
    def unpacked(cls, content: bytes) -> "Message":
        """The way back. Raises ValueError, or what else such bytes lead to, if they are no message."""
        begin = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
        name, facts, forms = json.loads(content[_LENGTH:begin])
        arrays = {}
        for key, (kind, *shape) in forms.items():
            dtype = np.dtype(kind)
            if dtype.kind not in _KINDS:
                raise ValueError(f"{key} holds no numbers")
            count = int(np.prod(shape, dtype=np.int64))
            arrays[key] = np.frombuffer(content, dtype, count, begin).reshape(shape)
            begin += -(-count * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        return cls(name, facts, arrays)


def _filled(content: bytes, after: int = 0) -> bytes:
    """With spaces up to where an array may begin."""
    return content + b" " * ((after - len(content)) % _ALIGNMENT)

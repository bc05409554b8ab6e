"""Pickles read as plain data: nothing in them is executed.

A pickle is a program that may name any function. Here every name is refused but those that a reader admits, and it
binds them to stand-ins of its own, which only record what they are given.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

from tfpipe.exceptions import DataError, brief

# Python's own unpickler in its Python form: the C form allocates whatever size a damaged file asks for.
PythonUnpickler: Any = pickle._Unpickler
_OPCODE_NAMES = (
    "PROTO FRAME MARK STOP GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG "
    "LONG1 STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST APPEND APPENDS GET BINGET "
    "LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE"
)
_OPCODES = frozenset(getattr(pickle, name) for name in _OPCODE_NAMES.split())


class Refused(pickle.UnpicklingError):
    """The pickle names something that is not admitted."""


class PlainUnpickler(PythonUnpickler):
    """Reads what `admitted` can build, and refuses all else.

    Attributes:
      admitted: what stands in for a name, by module and name.
      with_state: the classes whose state a pickle may set.
    """

    admitted: ClassVar[Mapping[tuple[str, str], Any]] = {}
    with_state: ClassVar[tuple[type, ...]] = ()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.admitted[module, name]
        except KeyError:
            raise Refused(f"it names {module}.{name}") from None

    def load_bytearray8(self) -> None:
        # The inherited method allocates the promised length before it looks for the bytes.
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def load_build(self) -> None:
        # The inherited method would also set attributes of the functions that are admitted.
        if not isinstance(self.stack[-2], self.with_state):
            raise Refused("it sets the state of something that is no array")
        super().load_build()

    # No dictionaries and sets: a small file can hold a key whose hash takes for ever.
    dispatch: ClassVar = {
        **{code: function for code, function in PythonUnpickler.dispatch.items() if bytes([code]) in _OPCODES},
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.BUILD[0]: load_build,
    }


def unpickle(where: object, data: bytes, unpickler: type[PlainUnpickler], expected: str) -> Any:
    """What the pickle `data` says.

    Args:
      where: its file, in errors.
      data: the pickle.
      unpickler: reads it.
      expected: what would be right where something is refused.

    Raises:
      DataError: it is damaged, or names something that is not admitted.
    """
    try:
        return unpickler(io.BytesIO(data), encoding="latin1").load()
    except Refused as error:
        raise DataError(f"{where}: refused: {error}; {expected}") from None
    except MemoryError:
        raise
    except Exception as error:  # A damaged pickle can fail in any way; none of them is more than damage.
        raise DataError(f"{where}: not a readable pickle: {brief(error)}") from error

"""XLA programs that a process keeps: each is made once for its shapes, types and words, whoever runs it next."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

_all: list["Program"] = []
# One at a time, but for one inside another: Python could not do more, and the first one traced is the first to compile.
_tracing = threading.RLock()


class Portable(NamedTuple):
    """A program, and what it is called with, for an XLA outside TensorFlow.

    Attributes:
      stablehlo: the program, as text of MLIR.
      inputs: its parameters in their order: tensors, and variables as they are before the call.
      variables: the places in `inputs` of those that are variables. What the call makes of those that it assigns are
        the last of its results, in the same order; before them come those that it returns.
    """

    stablehlo: str
    inputs: list[np.ndarray]
    variables: list[int]


class Program:
    """A function of tensors as an XLA program.

    All that varies from run to run is an argument: a tensor or a variable, or a text, of which each value makes a
    program of its own. So a second run on the same shapes compiles nothing.

    Args:
      compute: the function. What loops or chooses by a tensor in it says so, by `tf.while_loop` and `tf.cond`:
        AutoGraph, which would read it for them, takes twice as long as all the rest of tracing.
    """

    def __init__(self, compute: Callable[..., Any]):
        self._function = tf.function(compute, jit_compile=True, autograph=False)
        self._concrete: dict[Any, Any] = {}
        _all.append(self)

    def __call__(self, *arguments: Any) -> Any:
        return self.traced(*arguments)(*arguments)

    def traced(self, *arguments: Any) -> Callable[..., Any]:
        """The program for such arguments, which XLA compiles when it is first called."""
        signature = _signature(arguments)
        if signature not in self._concrete:
            # Threads that make a first call at once would all be taken for causes of tracing, of which TensorFlow
            # warns. What was traced, they compile side by side.
            with _tracing:
                self._concrete[signature] = self._function.get_concrete_function(*arguments)
        # By the function itself a call would take 0.65 ms before anything is computed, so 0.30: 4 % of MNIST's epochs.
        return self._concrete[signature]

    @property
    def made(self) -> int:
        """How many programs there are, of different shapes, types and words."""
        return self._function.experimental_get_tracing_count()

    def instructions(self, *arguments: Any) -> str:
        """What XLA makes of it for these arguments, in XLA's own language, HLO."""
        return self._function.experimental_get_compiler_ir(*arguments)("hlo")

    def portable(self, *arguments: Any) -> Portable:
        """The program for these arguments, before XLA makes anything of it, and their values."""
        inputs = [part for part in tf.nest.flatten(arguments) if tf.is_tensor(part)]
        variables = [place for place, part in enumerate(inputs) if isinstance(part, tf.Variable)]
        text = self._function.experimental_get_compiler_ir(*arguments)("stablehlo")
        return Portable(text, [part.numpy() for part in inputs], variables)


def count() -> int:
    """How many programs this process has made."""
    return sum(program.made for program in _all)


def graph(compute: Callable[..., Any], *arguments: Any) -> bytes:
    """TensorFlow's graph of a function of tensors, before XLA makes a program of it: a serialized GraphDef."""
    with _tracing:
        concrete = tf.function(compute, autograph=False).get_concrete_function(*arguments)
    return concrete.graph.as_graph_def().SerializeToString()


def between_traces() -> contextlib.AbstractContextManager[Any]:
    """For what Python alone has to do while XLA compiles: side by side with it, tracing would take as much longer."""
    return _tracing


def padded(count: int) -> int:
    """The next of few sizes, 1, 2, 3, 4, 6, 8, 12, 16, 24, ..., so that programs for about as many are one."""
    power = 1 << max(0, count - 1).bit_length()
    return power * 3 // 4 if power >= 4 and count <= power * 3 // 4 else power


def _signature(arguments: Any) -> Any:
    """What makes two calls calls of one program."""
    parts = ((part.shape, part.dtype) if hasattr(part, "dtype") else part for part in tf.nest.flatten(arguments))
    return *map(type, arguments), *parts

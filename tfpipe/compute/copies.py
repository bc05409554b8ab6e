"""Tensors that several devices of a process need: each has them once."""

from typing import Any, TypeVar

import tensorflow as tf

from tfpipe.compute.device import Device

T = TypeVar("T")


class Copies:
    """What lies on each device: tensors that serve a whole run, on the first, and a copy of them on each other one.

    Where a run has a single device nothing is copied, and nothing is looked up.

    Args:
      device: those of the run.
    """

    def __init__(self, device: Device):
        self._others = device.others
        # By its address, of a tensor that is held so that none other has that.
        self._made: dict[int, tuple[tf.Tensor, list[tf.Tensor]]] = {}

    def make(self, value: Any) -> None:
        """Copies the tensors of a value, which may be nested, to the other devices, unless they are there.

        Raises:
          tf.errors.ResourceExhaustedError: a device has not enough memory.
        """
        if not self._others:
            return
        for part in tf.nest.flatten(value):
            if tf.is_tensor(part) and id(part) not in self._made:
                self._made[id(part)] = part, [_copied(part, name) for name in self._others]

    def on(self, number: int, value: T) -> T:
        """A value, which may be nested, with its tensors as they lie on a device; those without a copy, as they are."""
        if not number:
            return value
        return tf.nest.map_structure(lambda part: self._on(number, part), value)

    def _on(self, number: int, part: Any) -> Any:
        made = self._made.get(id(part))
        return made[1][number - 1] if made else part


def _copied(tensor: tf.Tensor, name: str) -> tf.Tensor:
    with tf.device(name):
        return tf.identity(tensor)

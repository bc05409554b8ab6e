"""Threads that compute on a device, or on several."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

import tensorflow as tf

from tfpipe.compute.copies import Copies
from tfpipe.compute.device import Device

T = TypeVar("T")


class Workers:
    """Enough threads to train as many programs as the device runs, to measure beside, and to draw and save.

    A context manager: at its end it waits for the calls that have begun, which cannot start others any more.

    Attributes:
      device: on which they compute.
      copies: what each of several devices has of the same tensors.
      each: those of each of several devices; of a single one, these.
    """

    def __init__(self, device: Device):
        self.device = device
        self.copies = Copies(device)
        self._names = device.name, *device.others
        self._pool = ThreadPoolExecutor(3 * device.programs + 5)
        self.each = [Workers(own) for own in device.each] if device.others else [self]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, *(own._pool for own in self.each)):
            pool.shutdown()

    def start(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Calls `function` in a thread, on the first device."""
        return self._start(0, function, *arguments)

    def _start(self, number: int, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        def work() -> Any:
            with tf.device(self._names[number]):  # Which holds for one thread.
                return function(*self.copies.on(number, arguments))

        return self._pool.submit(work)

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """As the built-in function, but the calls side by side. If one raises, so does this; the others go on.

        They are dealt over the devices: the first call is the first one's, the next one the next one's, and so on in
        turn. Each has its arguments as they lie there: see `Copies.on`.
        """
        return self.start_all(function, *arguments)()

    def as_dealt(self, number: int, value: T) -> T:
        """A value, which may be nested, as call `number` of `map` finds it: with its tensors as they lie there."""
        return self.copies.on(number % len(self._names), value)

    def start_all(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> Callable[[], list[Any]]:
        """Begins with what `map` does: the result waits for it."""
        calls = enumerate(zip(*arguments, strict=True))
        futures = [self._start(number % len(self._names), function, *each) for number, each in calls]
        return lambda: [future.result() for future in futures]

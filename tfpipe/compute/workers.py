"""Threads that compute on a device."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import tensorflow as tf

from tfpipe.compute.device import Device


class Workers:
    """Enough threads to train as many programs as the device runs, to measure beside, and to draw and save.

    A context manager: at its end it waits for the calls that have begun, which cannot start others any more.

    Attributes:
      device: on which they compute.
    """

    def __init__(self, device: Device):
        self.device = device
        self._pool = ThreadPoolExecutor(3 * device.programs + 4)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def start(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Calls `function` in a thread."""

        def work() -> Any:
            with tf.device(self.device.name):  # Which holds for one thread.
                return function(*arguments)

        return self._pool.submit(work)

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """As the built-in function, but the calls side by side. If one raises, so does this; the others go on."""
        return self.start_all(function, *arguments)()

    def start_all(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> Callable[[], list[Any]]:
        """Begins with what `map` does: the result waits for it."""
        futures = [self.start(function, *each) for each in zip(*arguments, strict=True)]
        return lambda: [future.result() for future in futures]

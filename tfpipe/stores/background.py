"""Calls in threads that nobody has to wait for: a store may take minutes, and a process must be able to end."""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

_Done = TypeVar("_Done")


def begun(call: Callable[[], _Done]) -> Future[_Done]:
    """What `call` will give, in a thread of its own; unlike that of a pool it ends with the process."""
    future: Future[_Done] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="store").start()
    return future


def each(call: Callable[[str], _Done], values: Sequence[str], at_once: int) -> list[_Done]:
    """What `call` gives of each, several at once. If one raises, no other begins, and so does this when all ended."""
    waiting = collections.deque(enumerate(values))
    found: dict[int, _Done] = {}

    def work() -> None:
        try:
            while True:
                try:
                    number, value = waiting.popleft()
                except IndexError:
                    return
                found[number] = call(value)
        except BaseException:
            waiting.clear()
            raise

    futures = [begun(work) for _ in range(min(at_once, len(values)))]
    concurrent.futures.wait(futures)
    for future in futures:
        future.result()
    return [found[number] for number in range(len(values))]

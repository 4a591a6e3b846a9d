"""Map a function over items in threads, with DSPy's context carried along."""

from __future__ import annotations

import contextvars
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

LOOK_UP = 0.2
"""Seconds after which the waiting thread looks up, so that Ctrl-C is heard on every platform."""

LINGER = 30.0
"""Seconds that an error waits at most for the calls under way: they are paid for."""


def as_completed(
    function: Callable[[T], R], items: Sequence[T], *, num_threads: int
) -> Iterator[tuple[int, R]]:
    """Yield (position, ``function(item)``) as the calls finish, whatever their order.

    After the first exception no call begins; it is raised once those under way have finished,
    or :data:`LINGER` is over. Threads are daemons: an interrupted program ends at once instead of
    waiting for answers nobody reads.

    Args:
        function: Called in worker threads, or in this one if there is no use for several.
        items: The arguments.
        num_threads: Calls that run at the same time.
    """
    if num_threads == 1 or len(items) <= 1:  # stays in the calling thread: easy to debug
        yield from enumerate(map(function, items))
        return
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, R | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while (position := _next(todo)) is not None:
            try:
                done.put((position, function(items[position]), None))
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                done.put((position, None, error))

    for position in range(len(items)):
        todo.put(position)
    for number in range(min(num_threads, len(items))):
        context = contextvars.copy_context()
        name = f"gpo-{number}"
        threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()
    left, failure, until = len(items), None, math.inf
    try:
        while left and (time.monotonic() < until or not done.empty()):
            finished = _next(done, LOOK_UP)
            if finished is None:
                continue
            left -= 1
            position, result, error = finished
            if error is None:
                yield position, result  # type: ignore[misc]  # without an error there is a result
            elif failure is None:
                failure = error
                until = time.monotonic() + (LINGER if isinstance(error, Exception) else 0.0)
                left -= _drop(todo)
    finally:
        _drop(todo)
    if failure is not None:
        raise failure


def ordered_map(function: Callable[[T], R], items: Sequence[T], *, num_threads: int) -> list[R]:
    """Return ``function(item)`` for each item, in item order whatever finishes first."""
    results = dict(as_completed(function, items, num_threads=num_threads))
    return [results[position] for position in range(len(items))]


def _next(waiting: queue.SimpleQueue[T], seconds: float = 0.0) -> T | None:
    """Return what comes out of a queue within some seconds, or None."""
    try:
        return waiting.get(block=seconds > 0, timeout=seconds or None)
    except queue.Empty:
        return None


def _drop(todo: queue.SimpleQueue[int]) -> int:
    """Empty a queue and return how many were in it."""
    dropped = 0
    while _next(todo) is not None:
        dropped += 1
    return dropped

"""Make calls at the same time, in threads, with DSPy's context carried along."""

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

Finished = tuple[int, R | None, BaseException | None]
"""Position of a call, and its result or its error."""


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
        for position, item in enumerate(items):
            yield position, function(item)
        return
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[Finished[R]] = queue.SimpleQueue()

    def work() -> None:
        while (position := next_of(todo)) is not None:
            try:
                done.put((position, function(items[position]), None))
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                done.put((position, None, error))

    def drop() -> int:
        dropped = 0
        while next_of(todo) is not None:
            dropped += 1
        return dropped

    for position in range(len(items)):
        todo.put(position)
    for number in range(min(num_threads, len(items))):
        context = contextvars.copy_context()
        name = f"gpo-{number}"
        threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()
    yield from _deliver(done, len(items), drop)


def ordered_map(function: Callable[[T], R], items: Sequence[T], *, num_threads: int) -> list[R]:
    """Return ``function(item)`` for each item, in item order whatever finishes first."""
    results = dict(as_completed(function, items, num_threads=num_threads))
    return [results[position] for position in range(len(items))]


def next_of(waiting: queue.SimpleQueue[T], seconds: float = 0.0) -> T | None:
    """Return what comes out of a queue within some seconds, or None."""
    try:
        return waiting.get(block=seconds > 0, timeout=seconds or None)
    except queue.Empty:
        return None


def _deliver(
    done: queue.SimpleQueue[Finished[R]], left: int, drop: Callable[[], int]
) -> Iterator[tuple[int, R]]:
    """Yield what comes out of ``done``; raise the first error when no call is under way.

    Args:
        done: Where the calls put what came of them.
        left: How many there are.
        drop: Keeps back the calls that have not begun, and returns how many.
    """
    failure, until = None, math.inf
    try:
        while left and (time.monotonic() < until or not done.empty()):
            finished = next_of(done, LOOK_UP)
            if finished is None:
                continue
            left -= 1
            position, result, error = finished
            if error is None:
                yield position, result  # type: ignore[misc]  # without an error there is a result
            elif failure is None:
                failure = error
                until = time.monotonic() + (LINGER if isinstance(error, Exception) else 0.0)
                left -= drop()
    finally:
        drop()
    if failure is not None:
        raise failure

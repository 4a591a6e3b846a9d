"""Map a function over items in threads, with DSPy's context carried along."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

LOOK_UP = 0.2
"""Seconds after which the waiting thread looks up, so that Ctrl-C is heard on every platform."""


def as_completed(
    function: Callable[[T], R], items: Sequence[T], *, num_threads: int
) -> Iterator[tuple[int, R]]:
    """Yield (position, ``function(item)``) as the calls finish, whatever their order.

    The first exception is raised when it happens, and what has not begun is dropped. Threads are
    daemons: an interrupted program ends at once instead of waiting for answers nobody reads.

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
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                position = todo.get_nowait()
            except queue.Empty:
                return
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
    try:
        for _ in items:
            position, result, error = _wait(done)
            if error is not None:
                stop.set()
                yield from _finished(done)
                raise error
            yield position, result  # type: ignore[misc]  # without an error there is a result
    finally:
        stop.set()


def ordered_map(function: Callable[[T], R], items: Sequence[T], *, num_threads: int) -> list[R]:
    """Return ``function(item)`` for each item, in item order whatever finishes first."""
    results = dict(as_completed(function, items, num_threads=num_threads))
    return [results[position] for position in range(len(items))]


def _finished(
    done: queue.SimpleQueue[tuple[int, R | None, BaseException | None]],
) -> Iterator[tuple[int, R]]:
    """Yield what else has finished by now: it was paid for."""
    while True:
        try:
            position, result, error = done.get_nowait()
        except queue.Empty:
            return
        if error is None:
            yield position, result  # type: ignore[misc]  # without an error there is a result


def _wait(done: queue.SimpleQueue[T]) -> T:
    while True:
        try:
            return done.get(timeout=LOOK_UP)
        except queue.Empty:
            continue

"""Map a function over items in threads: DSPy's context carried along, results in item order."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Sequence[T], *, num_threads: int) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in item order whatever finishes first.

    The first exception is raised as soon as it happens, and what has not begun is dropped:
    waiting for results one after another would hide a refused key behind a slow first item.

    Args:
        function: Called in worker threads, or in this one if ``num_threads`` is 1.
        items: The arguments.
        num_threads: Calls that run at the same time.
    """
    if num_threads == 1 or len(items) == 1:  # stays in the calling thread: easy to debug
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(min(num_threads, len(items) or 1), thread_name_prefix="gpo")
    try:
        yield from _in_order(
            [pool.submit(contextvars.copy_context().run, function, item) for item in items]
        )
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _in_order(futures: Sequence[Future[R]]) -> Iterator[R]:
    condition = threading.Condition()
    failed: list[BaseException] = []

    def note(future: Future[R]) -> None:
        with condition:
            if not future.cancelled() and (error := future.exception()) is not None:
                failed.append(error)
            condition.notify()

    for future in futures:
        future.add_done_callback(note)
    for future in futures:
        with condition:
            # The time-out keeps the main thread responsive to Ctrl-C on every platform.
            while not (future.done() or failed):
                condition.wait(0.2)
        if failed:
            raise failed[0]
        yield future.result()

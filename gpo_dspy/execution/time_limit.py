"""Wait for a call only so long; what takes longer is left behind in its thread."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from gpo_dspy.execution.parallel import LOOK_UP, next_of

R = TypeVar("R")


class Stopwatch:
    """Adds up the time of attempts; one that raised does not count, nor does what lies between.

    A backend that is away raises, and the wait for it lies between two attempts: neither is the
    time of the example that needs it.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Take the time of the block."""
        self._since = since = time.monotonic()
        try:
            yield
            self._before += time.monotonic() - since
        finally:
            self._since = None

    @property
    def seconds(self) -> float:
        """Seconds so far, the attempt under way included."""
        since = self._since
        return self._before + (0.0 if since is None else time.monotonic() - since)


def call_within(
    seconds: float | None, function: Callable[[Stopwatch], R], late: Callable[[], R]
) -> R:
    """Return ``function(stopwatch)``, or ``late()`` once the stopwatch shows more than ``seconds``.

    The call runs in a daemon thread with the caller's context. When it is late the thread is left
    to itself: Python cannot stop it, and its result is dropped.

    Args:
        seconds: How long to wait; None waits without end, in the calling thread.
        function: Takes its time with the stopwatch that it is given.
        late: Makes the result of a call that took too long.
    """
    stopwatch = Stopwatch()
    if seconds is None:
        return function(stopwatch)
    done: queue.SimpleQueue[tuple[R | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((function(stopwatch), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            done.put((None, error))

    context = contextvars.copy_context()
    name = f"{threading.current_thread().name}-timed"
    threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()
    finished = None
    while finished is None and (left := seconds - stopwatch.seconds) > 0:
        finished = next_of(done, min(left, LOOK_UP))
    finished = finished or next_of(done)
    if finished is None:
        return late()
    result, error = finished
    if error is not None:
        raise error
    # It may have finished between two looks at the stopwatch: late is late, whoever looks.
    return late() if stopwatch.seconds > seconds else result  # type: ignore[return-value]

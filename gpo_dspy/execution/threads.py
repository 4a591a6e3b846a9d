"""Executors of our own: daemon threads, or the calling thread itself."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

R = TypeVar("R")

IDLE = 1.0
"""Seconds that a thread waits for another call before it ends."""


class DaemonThreads(Executor):
    """Makes calls in threads that end with the program.

    An interrupted program ends at once, instead of waiting for answers nobody reads, as it does
    with a :class:`~concurrent.futures.ThreadPoolExecutor`. Threads begin when they are needed and
    end when they are idle, so that there is nothing to shut down.

    Args:
        most: Calls at the same time.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._begun = self._waiting = 0
        self._todo: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Begin a call, or have it wait for a thread."""
        future: Future[R] = Future()
        with self._changed:
            self._todo.append(partial(_fulfil, future, partial(function, *args, **kwargs)))
            self._changed.notify()
            if len(self._todo) > self._waiting and self._begun < self._most:
                self._begun += 1
                name = f"gpo-{self._begun}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def _work(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        """Return a call to make, or None if there was none for a while: then the thread ends."""
        with self._changed:
            while not self._todo:
                self._waiting += 1
                notified = self._changed.wait(IDLE)
                self._waiting -= 1
                if not notified and not self._todo:
                    self._begun -= 1
                    return None
            return self._todo.popleft()


class CallingThread(Executor):
    """Makes each call where it is submitted, one after another: easy to debug."""

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Make a call; what is no mere error, as Ctrl-C, is raised at once."""
        future: Future[R] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(error)
        return future


def _fulfil(future: Future[R], call: Callable[[], R]) -> None:
    """Make a call for a future that was not cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        future.set_exception(error)

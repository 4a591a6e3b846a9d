"""Executors of the user's: how many calls they make at a time, and where."""

from __future__ import annotations

import contextvars
import os
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def places(executor: Executor | None) -> int | None:
    """Return how many calls an executor makes at the same time, if it says so."""
    found = getattr(executor, "_max_workers", None)
    return found if isinstance(found, int) and found > 0 else None


def in_this_process(executor: Executor) -> bool:
    """Tell whether an executor's calls share the memory of this process; if in doubt, ask it."""
    if isinstance(executor, ThreadPoolExecutor | ProcessPoolExecutor):
        return isinstance(executor, ThreadPoolExecutor)
    return bool(executor.submit(whereabouts).result() == whereabouts())


def whereabouts() -> tuple[str, int]:
    """Return the machine and the process that this is called in."""
    return socket.gethostname(), os.getpid()


def submit_here(executor: Executor, function: Callable[[T], R], item: T) -> Future[R]:
    """Begin a call in an executor of this process, with the caller's context."""
    return executor.submit(contextvars.copy_context().run, function, item)

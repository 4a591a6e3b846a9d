"""Executors of the user's: a pool of threads, shared or sized as they like."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def places(executor: Executor | None) -> int | None:
    """Return how many calls an executor runs at the same time, if it says so."""
    found = getattr(executor, "_max_workers", None)
    return found if isinstance(found, int) and found > 0 else None


def submit_here(executor: Executor, function: Callable[[T], R], item: T) -> Future[R]:
    """Begin a call in an executor of this process, with the caller's context."""
    return executor.submit(contextvars.copy_context().run, function, item)

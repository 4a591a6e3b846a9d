"""One connection, used by one thread at a time; whole transactions, tried again where it helps."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from gpo_dspy.errors import RunBusy, StorageError
from gpo_dspy.storage.faults import explain
from gpo_dspy.storage.location import Location
from gpo_dspy.storage.postgresql import postgresql_engine
from gpo_dspy.storage.sqlite import same_file, sqlite_engine

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

_FIRST = 5.0  # seconds to wait for a server that was never reached: its name may be wrong


class Database:
    """Runs functions as transactions on one connection, which is made anew when it is lost.

    One connection and a lock, because SQLite has one writer anyway: threads that wait for a lock
    are served sooner than connections that poll for the file's.

    Args:
        location: Where the database is.
        read_only: Never write.
        patience: Seconds after which what passes (locks, lost connections) is given up.

    Raises:
        StorageError: There can be no such database.
    """

    def __init__(self, location: Location, *, read_only: bool, patience: float) -> None:
        self.location, self.read_only = location, read_only
        self._engine = _engine(location, read_only, patience)
        self._patience = patience
        self._retrying = Retrying(
            stop=self._is_enough,
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            retry=retry_if_exception(_passes),
            before_sleep=_tell,
            reraise=True,
        )
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_there: Callable[[], bool] = lambda: True
        self._inherited: list[Connection | None] = []
        self._reached = self._closed = False

    def read(self, work: Callable[[Connection], Value]) -> Value:
        """Return what a function reads.

        Raises:
            StorageError: The database could not be read.
        """
        return cast("Value", self._retrying(self._once, work, "BEGIN"))

    def write(self, work: Callable[[Connection], Value]) -> Value:
        """Run a function as one transaction; it may be run again, so it must bear that.

        Raises:
            StorageError: The database could not be written; nothing of it is there.
        """
        if self.read_only:
            raise StorageError(f"The storage {self.location.shown} was opened only for reading.")
        return cast("Value", self._retrying(self._once, work, "BEGIN IMMEDIATE"))

    def close(self) -> None:
        """Close the connection, after the transaction that is under way."""
        with self._alone():
            self._closed = True
            self._drop()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if os.getpid() != self._process:
            self._leave_to_parent()
        with self._lock:
            yield

    def _once(self, work: Callable[[Connection], Any], begin: str) -> Any:
        with self._alone():
            if self._closed:
                raise StorageError(f"The storage {self.location.shown} is closed.")
            try:
                connection = self._connected()
                connection.info["begin"] = begin
                with connection.begin():
                    return work(connection)
            except DBAPIError as error:
                self._drop()
                raise explain(error, self.location.shown) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._reached = True
            if self.location.path is not None:
                self._is_there = same_file(self.location.path)
        elif not self._is_there():
            self._drop()
            raise StorageError(
                f"The storage {self.location.shown} was moved or deleted while in use; "
                "what was written before is in that file."
            )
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except DBAPIError:  # it was lost; there is nothing to close
                connection.invalidate()

    def _leave_to_parent(self) -> None:
        """After a fork: neither use nor close what the parent process goes on using."""
        self._inherited.append(self._connection)
        self._connection = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    def _is_enough(self, state: RetryCallState) -> bool:
        patience = self._patience if self._reached else min(self._patience, _FIRST)
        return (state.seconds_since_start or 0.0) >= patience


def _tell(state: RetryCallState) -> None:
    if state.outcome is not None:
        logger.info("%s Trying again.", state.outcome.exception())


def _passes(error: BaseException) -> bool:
    return isinstance(error, StorageError) and not (error.lasting or isinstance(error, RunBusy))


def _engine(location: Location, read_only: bool, patience: float) -> Engine:
    if location.path is not None:
        return sqlite_engine(location.path, read_only=read_only, patience=patience)
    return postgresql_engine(location, read_only=read_only, patience=patience)

"""Opens SQLite files: in WAL mode to write, and without leaving a trace to read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, Engine, NullPool, create_engine, event

from gpo_dspy.errors import StorageError

BUSY = 0.5
"""Seconds that SQLite itself waits for a lock before the whole transaction is tried again."""


def sqlite_engine(path: Path, *, read_only: bool, patience: float) -> Engine:
    """Return an engine for a file; making the file and its folder, unless it is only read.

    Raises:
        StorageError: There is no such file to read, or no folder can be made for it.
    """
    _check(path, read_only)
    made = read_only

    def connect() -> sqlite3.Connection:
        nonlocal made
        # Made once: if the file is gone later, an empty one in its place would hide the loss.
        options = _reading(path) if read_only else "mode=rw" if made else "mode=rwc"
        connection = sqlite3.connect(
            f"{path.as_uri()}?{options}",
            uri=True,
            timeout=min(patience, BUSY),
            check_same_thread=False,
            isolation_level=None,  # else the driver would begin transactions on its own
        )
        try:
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                connection.execute("PRAGMA journal_mode = WAL")
                # A killed process loses nothing; a power cut may lose the last batches.
                connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        made = True
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer that began as a reader could not wait for another one's lock.
        connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))

    return engine


def _check(path: Path, read_only: bool) -> None:
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise StorageError(f"The storage {path} is not there; check the path.")
        is_folder = path.is_dir()
    except OSError as error:
        what = "cannot be reached" if read_only else "is in a folder that cannot be made"
        raise StorageError(
            f"The storage {path} {what} ({error.strerror}); give another path."
        ) from error
    if is_folder:
        raise StorageError(f"The storage {path} is a folder; give the path of a file in it.")


def _reading(path: Path) -> str:
    """Return the options that read a file and leave no file beside it."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "mode=rw"  # SQLite takes away its own helper files only where it may write
    log, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    if index.exists() or (log.exists() and log.stat().st_size):
        return "mode=ro"
    # Nobody is writing, and SQLite must not try to make the files it would write with.
    return "mode=ro&immutable=1"


def same_file(path: Path) -> Callable[[], bool]:
    """Return a check whether a path still leads to the file that it leads to now.

    SQLite would go on writing to a file that was deleted, and all of it would be lost.
    """

    def number() -> tuple[int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    now = number()
    return lambda: number() == now

"""Brings a database to the version of the tables that this program knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, insert, inspect, select, text, update

from gpo_dspy.errors import StorageError
from gpo_dspy.storage.database import Database
from gpo_dspy.storage.schema import metadata, version

VERSION = 1

UPGRADES: Mapping[int, Callable[[Connection], None]] = {}
"""For each older version the step to the next one. A step names its tables in SQL, not by
:mod:`~.schema`, which describes the newest version only."""

_LOCK = 5_190_402  # any number; one process at a time makes or upgrades the tables


def bring_up(database: Database) -> None:
    """Make the tables in an empty database, or upgrade older ones; all of it or nothing.

    Raises:
        StorageError: The tables are newer than this program, not ours, or not there.
    """
    shown = database.location.shown
    found = database.read(lambda connection: _version(connection, shown))
    if found == VERSION:
        return
    if database.read_only:
        state = "holds no runs" if found is None else "is of an older version of gpo_dspy"
        raise StorageError(
            f"The storage {shown} {state}; run GPO(storage=...) on it once, or open it for writing."
        )
    database.write(lambda connection: _upgrade(connection, shown))


def _upgrade(connection: Connection, shown: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = _version(connection, shown)  # again: another process may have been faster
    if found is None:
        metadata.create_all(connection)
        connection.execute(insert(version), {"version": VERSION})
        return
    for old in range(found, VERSION):
        UPGRADES[old](connection)
    connection.execute(update(version), {"version": VERSION})


def _version(connection: Connection, shown: str) -> int | None:
    """Return the version of the tables, or None if there are none."""
    names = set(inspect(connection).get_table_names())
    if version.name in names:
        found = connection.execute(select(version.c.version)).scalars().all()
        if len(found) != 1:
            raise StorageError(f"The storage {shown} does not say its version; it is damaged.")
        if found[0] > VERSION:
            raise StorageError(
                f"The storage {shown} was written by a newer gpo_dspy (tables of version "
                f"{found[0]}, this one knows {VERSION}): pip install -U gpo-dspy"
            )
        return int(found[0])
    foreign = sorted(names & set(metadata.tables))
    if foreign:
        raise StorageError(
            f"The storage {shown} has tables that are not gpo_dspy's but have their names "
            f"({', '.join(foreign)}); give it a database of its own."
        )
    return None

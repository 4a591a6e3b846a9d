"""Connects to PostgreSQL through psycopg 3."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, event

from gpo_dspy.errors import StorageError
from gpo_dspy.storage.location import Location


def postgresql_engine(location: Location, *, read_only: bool, patience: float) -> Engine:
    """Return an engine for a server.

    Raises:
        StorageError: psycopg is not installed.
    """
    try:
        engine = create_engine(
            location.url,
            poolclass=NullPool,
            hide_parameters=True,
            isolation_level="READ COMMITTED",  # whatever the server's default
        )
    except ImportError as error:
        raise StorageError(
            f'The storage {location.shown} needs psycopg: pip install "gpo-dspy[postgresql]"'
        ) from error

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        milliseconds = max(1, round(1000 * patience))
        connection.execute(f"SET lock_timeout = {milliseconds}")
        if read_only:
            connection.execute("SET default_transaction_read_only = on")
        connection.commit()

    return engine

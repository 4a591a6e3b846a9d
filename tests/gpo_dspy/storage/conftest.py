"""Both databases for the storage's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import psycopg
import pytest
from cluster import Cluster, NoServer
from samples import Open

from gpo_dspy.storage.storage import Storage

_names = count()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Cluster]:
    """Start a server of our own, or skip; where CI=true a missing server is a failure."""
    try:
        cluster = Cluster()
    except NoServer as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"The tests on PostgreSQL must run here: {reason}")
        pytest.skip(str(reason))
    yield cluster
    cluster.remove()


@pytest.fixture
def postgresql_url(postgresql_server: Cluster) -> str:
    """Return the URL of an empty schema."""
    name = f"test_{next(_names)}"
    with psycopg.connect(postgresql_server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return postgresql_server.url(options=f"-csearch_path%3D{name}")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a file that is not there yet."""
    return f"sqlite:///{tmp_path}/gpo.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def open_at(url: str) -> Iterator[Open]:
    """Open storages at the same place; all are closed after the test."""
    with ExitStack() as stack:

        def opened(at: str = url, **options: object) -> Storage:
            return stack.enter_context(Storage(at, **options))  # type: ignore[arg-type]

        yield opened


@pytest.fixture
def storage(open_at: Open) -> Storage:
    """Return an empty storage of each kind."""
    return open_at()

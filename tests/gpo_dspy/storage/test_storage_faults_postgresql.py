"""A server that is restarted, killed or locked: bounded retries, nothing lost or done twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from cluster import Cluster
from samples import Open, count_rows, evaluation, full_batch, new_run
from sqlalchemy import event

from gpo_dspy.errors import StorageError
from gpo_dspy.storage import new_owner
from gpo_dspy.storage.rows import Batch, Owner
from gpo_dspy.storage.storage import Storage


@pytest.fixture
def url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def begin(storage: Storage) -> tuple[int, Owner]:
    owner = new_owner()
    return storage.create_run(new_run(), owner), owner


def backend(storage: Storage) -> int:
    """Return the pid of the server's process that serves a storage."""
    connection = storage._database._connection
    assert connection is not None
    assert connection.connection.dbapi_connection is not None
    return int(connection.connection.dbapi_connection.info.backend_pid)


def terminate(admin: psycopg.Connection, pid: int) -> None:
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_a_connection_lost_between_two_calls_is_made_anew(
    storage: Storage, admin: psycopg.Connection
) -> None:
    run, owner = begin(storage)
    for number in range(3):
        before = backend(storage)
        terminate(admin, before)
        storage.save(run, owner, full_batch(number))
        assert backend(storage) != before
    assert len(storage.journal(run).evaluations) == 3


def test_a_connection_lost_before_any_statement_of_a_transaction(
    storage: Storage, admin: psycopg.Connection
) -> None:
    run, owner = begin(storage)
    engine, statements, victim = storage._database._engine, 0, -1

    @event.listens_for(engine, "before_cursor_execute")
    def kill(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements == victim:
            terminate(admin, backend(storage))

    storage.save(run, owner, full_batch(0))
    whole = statements
    assert whole > 10
    for number in range(1, whole + 1):
        statements, victim = 0, number
        storage.save(run, owner, full_batch(number))
        assert statements > whole  # it was tried again
    victim = -1
    assert storage.run(run).metric_calls == whole + 1  # type: ignore[union-attr]
    assert len(storage.lm_calls(run)) == 2 * (whole + 1)
    assert len(storage.prompts(run)) == len(storage.steps(run)) == whole + 1


def test_a_connection_lost_at_the_commit(storage: Storage, admin: psycopg.Connection) -> None:
    run, owner = begin(storage)
    left = 1

    @event.listens_for(storage._database._engine, "commit")
    def kill(_: object) -> None:
        nonlocal left
        if left:
            left -= 1
            terminate(admin, backend(storage))

    storage.save(run, owner, full_batch(1))
    assert not left
    assert len(storage.lm_calls(run)) == 2


def test_a_server_that_is_restarted_in_the_middle(
    storage: Storage, postgresql_server: Cluster
) -> None:
    run, owner = begin(storage)
    errors: list[Exception] = []
    written, ended = 0, threading.Event()

    def write() -> None:
        nonlocal written
        try:
            while not ended.is_set():
                storage.acquire(owner, [evaluation(written).key])
                storage.save(run, owner, full_batch(written))
                written += 1
        except StorageError as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(2):
        enough = written + 20
        while written < enough and thread.is_alive():
            time.sleep(0.01)
        postgresql_server.restart()
    enough = written + 5
    while written < enough and thread.is_alive():
        time.sleep(0.01)
    ended.set()
    thread.join()
    assert not errors
    assert list(storage.journal(run).evaluations) == [evaluation(i).key for i in range(written)]
    assert len(storage.lm_calls(run)) == 2 * written


def test_a_server_that_stays_away_is_given_up_and_comes_back(
    open_at: Open, postgresql_server: Cluster
) -> None:
    storage = open_at(patience=1.0)
    run, owner = begin(storage)
    postgresql_server.stop()
    try:
        started = time.monotonic()
        with pytest.raises(StorageError, match=r"cannot be reached|lost its connection") as caught:
            storage.save(run, owner, full_batch())
        assert 1.0 <= time.monotonic() - started < 10
        assert not caught.value.lasting
        with pytest.raises(StorageError, match="cannot be reached; is the server running"):
            open_at(patience=0.1)
    finally:
        postgresql_server.start()
    storage.save(run, owner, full_batch())
    assert len(storage.journal(run).evaluations) == 1


@contextmanager
def locked(admin: psycopg.Connection, table: str) -> Iterator[None]:
    with admin.transaction():
        admin.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_lock_is_waited_for_and_given_up(open_at: Open, admin: psycopg.Connection) -> None:
    storage = open_at(patience=1.0)
    run, owner = begin(storage)
    with locked(admin, "gpo_evaluations"):
        started = time.monotonic()
        with pytest.raises(StorageError, match="is locked by another process") as caught:
            storage.save(run, owner, full_batch())
        assert 1.0 <= time.monotonic() - started < 10
        assert not caught.value.lasting
        saving = threading.Thread(target=storage.save, args=(run, owner, full_batch()))
        saving.start()
        time.sleep(0.3)
    saving.join()
    assert count_rows(storage)["gpo_evaluations"] == 1


def test_a_deadlock_is_got_out_of(storage: Storage, admin: psycopg.Connection) -> None:
    run, owner = begin(storage)
    saving = threading.Thread(target=storage.save, args=(run, owner, full_batch()))
    try:
        with locked(admin, "gpo_evaluations"):
            saving.start()  # has its run's row, and waits for the table
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            with psycopg.connect(storage_url(admin), autocommit=True) as looker:
                while not looker.execute(waiting).fetchone()[0]:  # type: ignore[index]
                    time.sleep(0.01)
            admin.execute("UPDATE gpo_runs SET seconds = 7 WHERE id = %s", [run])
    except psycopg.errors.DeadlockDetected:
        pass  # the server chose the other one
    saving.join()
    assert count_rows(storage)["gpo_evaluations"] == 1


def storage_url(admin: psycopg.Connection) -> str:
    return f"{admin.info.dsn} password={admin.info.password}"


def test_a_server_that_only_reads(open_at: Open, storage: Storage, url: str) -> None:
    begin(storage)
    standby = open_at(f"{url}%20-cdefault_transaction_read_only%3Don")
    assert len(standby.runs()) == 1
    with pytest.raises(StorageError, match="is read-only; connect to the primary") as caught:
        begin(standby)
    assert caught.value.lasting


def test_a_user_without_rights(
    open_at: Open, storage: Storage, url: str, admin: psycopg.Connection
) -> None:
    begin(storage)
    admin.execute("DROP ROLE IF EXISTS guest")
    admin.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    guest = f"postgresql://guest:guest@{url.partition('@')[2]}"
    with pytest.raises(StorageError, match=r"rights|holds no runs") as caught:
        open_at(guest, read_only=True)
    assert caught.value.lasting
    schema = admin.execute("SELECT current_schema()").fetchone()
    assert schema is not None
    admin.execute(f"GRANT USAGE ON SCHEMA {schema[0]} TO guest")
    with pytest.raises(StorageError, match="does not let this user do that; grant") as caught:
        open_at(guest)
    assert caught.value.lasting
    admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema[0]} TO guest")
    reader = open_at(guest)
    assert len(reader.runs()) == 1
    with pytest.raises(StorageError, match="does not let this user"):
        begin(reader)
    admin.execute("DROP OWNED BY guest")
    admin.execute("DROP ROLE guest")


def test_prompts_become_visible_in_the_order_of_their_ids(
    open_at: Open, storage: Storage, admin: psycopg.Connection
) -> None:
    """Who has read up to 7 does not look for 6: so 7 must not be there before 6."""
    slow, fast = open_at(), open_at()
    (first, one), (second, two) = begin(slow), begin(fast)
    with locked(admin, "gpo_vectors"):  # the last table that is written
        threads = [
            threading.Thread(target=slow.save, args=(first, one, full_batch(1))),
            threading.Thread(
                target=fast.save, args=(second, two, Batch(prompts=full_batch(2).prompts))
            ),
        ]
        threads[0].start()
        with psycopg.connect(storage_url(admin), autocommit=True) as looker:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not looker.execute(waiting).fetchone()[0]:  # type: ignore[index]
                time.sleep(0.01)
        threads[1].start()
        time.sleep(0.3)
        assert storage.prompts(second) == []
    for thread in threads:
        thread.join()
    assert [len(storage.prompts(run)) for run in (first, second)] == [1, 1]

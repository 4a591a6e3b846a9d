"""What a person is told of a fault, and that whatever is tried again is done once."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import psycopg
import pytest
from samples import Open, count_rows, evaluation, full_batch, new_run
from sqlalchemy.exc import DBAPIError

from gpo_dspy.errors import GPOError, RunBusy, StorageError
from gpo_dspy.storage import new_owner
from gpo_dspy.storage.faults import explain
from gpo_dspy.storage.rows import Batch, RunStatus
from gpo_dspy.storage.storage import Storage


def error_of(code: str) -> psycopg.Error:
    """Return the error that a server reports by a code."""
    return psycopg.errors.lookup(code)("said the server")


@pytest.mark.parametrize(
    ("cause", "says", "lasting"),
    [
        (error_of("53100"), "has no space left on the server's disk; make room there", True),
        (error_of("53300"), "is overloaded", False),
        (error_of("40001"), "gave way to another process", False),
        (error_of("40P01"), "gave way to another process", False),
        (error_of("55P03"), "is locked by another process", False),
        (error_of("57P01"), "is stopping or starting", False),
        (error_of("57P03"), "is stopping or starting", False),
        (error_of("08006"), "has lost its connection", False),
        (error_of("XX001"), "is damaged; see the server's log", True),
        (error_of("58030"), "has trouble with the server's files", True),
        (error_of("25006"), "is read-only; connect to the primary server", True),
        (error_of("42P01"), "lacks a table", True),
        (error_of("22P02"), "refused a statement", True),
        (psycopg.OperationalError("connection refused"), "cannot be reached", False),
        (psycopg.OperationalError("no pg_hba.conf entry"), "refuses connections from", True),
        (sqlite3.OperationalError("database table is locked"), "is locked by another", False),
        (sqlite3.OperationalError("locking protocol"), "is the file on a network drive", False),
        (sqlite3.OperationalError("disk I/O error"), "is the disk full, a limit on", True),
        (sqlite3.OperationalError("no such table: gpo_runs"), "lacks a table or column", True),
        (sqlite3.IntegrityError("NOT NULL constraint failed"), "refused a statement", True),
    ],
)
def test_a_fault_is_explained(cause: Exception, says: str, lasting: bool) -> None:
    error = explain(DBAPIError("SELECT 1", {}, cause), "postgresql://me:***@host/db")
    assert isinstance(error, GPOError)
    assert says in str(error)
    assert str(error).startswith("The storage postgresql://me:***@host/db ")
    assert str(cause) in str(error)
    assert error.lasting is lasting


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a storage commit, but not hear that it did, as when a connection breaks just then."""

    def make(storage: Storage) -> list[int]:
        dialect = storage._database._engine.dialect
        commit, heard = dialect.do_commit, [0]

        def once(connection: Any) -> None:
            commit(connection)
            if not heard[0]:
                heard[0] = 1
                kind = (
                    sqlite3.OperationalError("database is locked")
                    if dialect.name == "sqlite"
                    else psycopg.OperationalError("server closed the connection unexpectedly")
                )
                raise kind

        monkeypatch.setattr(dialect, "do_commit", once)
        return heard

    return make


def test_a_commit_that_was_not_heard_of_is_not_done_twice(storage: Storage, deaf: Any) -> None:
    heard = deaf(storage)

    def again() -> None:
        assert heard[0] == 1, "the first commit was not the one that broke"
        heard[0] = 0

    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    again()
    assert [row.id for row in storage.runs()] == [run]
    keys = [evaluation(i).key for i in range(3)]
    assert storage.acquire(owner, keys).granted == frozenset(keys)
    again()
    storage.save(run, owner, full_batch(1))
    again()
    once = count_rows(storage)
    assert once["gpo_lm_calls"] == 2
    storage.save(run, owner, full_batch(1))
    assert count_rows(storage) == once
    again()
    storage.release(owner, keys)
    again()
    storage.leave_run(run, owner, RunStatus.FINISHED, "{}")
    again()
    assert storage.run(run).status is RunStatus.FINISHED  # type: ignore[union-attr]
    heir = new_owner()
    storage.take_run(run, heir)
    again()
    storage.beat(heir)
    again()
    storage.leave_run(run, heir, RunStatus.STOPPED, None)
    again()
    assert storage.delete_run(run)
    assert heard[0] == 1
    assert storage.runs() == []


def test_a_fault_of_the_caller_is_not_tried_again(storage: Storage) -> None:
    tries = 0

    def work(_: object) -> None:
        nonlocal tries
        tries += 1
        raise RunBusy("busy")

    with pytest.raises(RunBusy):
        storage._database.write(work)
    assert tries == 1


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupt_leaves_nothing_and_the_storage_usable(
    storage: Storage, interrupt: type[BaseException]
) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    before = count_rows(storage)

    def work(connection: Any) -> None:
        from gpo_dspy.storage import saving

        saving.save(connection, run, owner, full_batch(1), {})
        raise interrupt

    with pytest.raises(interrupt):
        storage._database.write(work)
    assert count_rows(storage) == before
    storage.save(run, owner, full_batch(1))


def test_threads_share_a_storage(storage: Storage) -> None:
    owner, errors = new_owner(), []
    run = storage.create_run(new_run(), owner)

    def write(first: int) -> None:
        try:
            for number in range(first, first + 25):
                assert storage.acquire(owner, [evaluation(number).key]).granted
                storage.save(run, owner, full_batch(number))
                storage.beat(owner)
                assert evaluation(number).key in storage.journal(run).evaluations
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(100 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert storage.run(run).metric_calls == 200  # type: ignore[union-attr]


def test_closing_waits_for_the_call_under_way(open_at: Open) -> None:
    storage, inside, go_on = open_at(), threading.Event(), threading.Event()
    owner = new_owner()

    def work(connection: Any) -> None:
        inside.set()
        go_on.wait()

    calling = threading.Thread(target=storage._database.write, args=(work,))
    calling.start()
    inside.wait()
    closing = threading.Thread(target=storage.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    calling.join()
    closing.join()
    with pytest.raises(StorageError, match="is closed"):
        storage.save(1, owner, Batch())

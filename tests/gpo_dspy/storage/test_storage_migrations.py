"""Old storages are upgraded whole or not at all; newer and foreign ones are left alone."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from samples import Open, count_rows, evaluation, full_batch, new_run
from sqlalchemy import Connection, create_engine, text

from gpo_dspy.errors import StorageError
from gpo_dspy.storage import migrations, new_owner
from gpo_dspy.storage.storage import Storage

VERSION_1 = Path(__file__).parent / "version_1.sql"


def run_sql(storage: Storage, *statements: str) -> None:
    def work(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    storage._database.write(work)


def test_a_storage_is_opened_again_as_it_was(open_at: Open) -> None:
    owner = new_owner()
    with open_at() as first:
        run = first.create_run(new_run(), owner)
        first.save(run, owner, full_batch(1))
    with open_at() as again:
        assert again.journal(run).evaluations == {"key 001": (evaluation(1), True)}
        assert count_rows(again)["gpo_version"] == 1


def test_a_newer_storage_is_refused(open_at: Open, storage: Storage) -> None:
    run_sql(storage, "UPDATE gpo_version SET version = version + 1")
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"newer gpo_dspy .*: pip install -U gpo-dspy"):
            open_at(read_only=read_only)


def test_tables_of_the_same_name_are_left_alone(open_at: Open, storage: Storage) -> None:
    run_sql(storage, "DROP TABLE gpo_version")
    with pytest.raises(StorageError, match=r"not gpo_dspy's but have their names .*gpo_runs"):
        open_at()


def test_a_storage_without_a_version_is_damaged(open_at: Open, storage: Storage) -> None:
    run_sql(storage, "DELETE FROM gpo_version")
    with pytest.raises(StorageError, match="does not say its version; it is damaged"):
        open_at()


def test_other_tables_beside_ours_do_not_matter(open_at: Open, storage: Storage) -> None:
    run_sql(storage, "CREATE TABLE runs (id INTEGER)", "INSERT INTO runs VALUES (7)")
    assert open_at().runs() == []


def test_an_older_storage_is_upgraded_step_by_step(
    open_at: Open, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.create_run(new_run(), new_owner())
    steps = []

    old = migrations.VERSION
    upgrades = {}
    for number, name in enumerate(("first", "second")):

        def upgrade(connection: Connection, name: str = name) -> None:
            steps.append(name)
            connection.execute(text(f"ALTER TABLE gpo_runs ADD COLUMN {name} INTEGER DEFAULT 5"))

        upgrades[old + number] = upgrade
    monkeypatch.setattr(migrations, "UPGRADES", upgrades)
    monkeypatch.setattr(migrations, "VERSION", old + 2)
    with pytest.raises(StorageError, match="of an older version"):
        open_at(read_only=True)
    upgraded = open_at()
    assert steps == ["first", "second"]
    assert len(upgraded.runs()) == 1
    run_sql(upgraded, "UPDATE gpo_runs SET first = second + 1")
    open_at()
    assert steps == ["first", "second"]


def test_an_upgrade_that_fails_changes_nothing(
    open_at: Open, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.create_run(new_run(), new_owner())
    old = migrations.VERSION

    def good(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE gpo_runs ADD COLUMN added INTEGER"))
        connection.execute(text("DROP TABLE gpo_readings"))

    def bad(connection: Connection) -> None:
        raise RuntimeError("half way")

    monkeypatch.setattr(migrations, "UPGRADES", {old: good, old + 1: bad})
    with monkeypatch.context() as newer:
        newer.setattr(migrations, "VERSION", old + 2)
        with pytest.raises(RuntimeError, match="half way"):
            open_at()
    assert len(open_at().runs()) == 1
    assert count_rows(storage)["gpo_readings"] == 0
    with pytest.raises(StorageError):
        run_sql(storage, "UPDATE gpo_runs SET added = 1")


def test_many_that_open_a_new_storage_make_it_once(open_at: Open, url: str) -> None:
    start, errors = threading.Barrier(8), []

    def opening() -> None:
        start.wait()
        try:
            Storage(url).close()
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=opening) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert count_rows(open_at())["gpo_version"] == 1


def test_a_file_written_by_version_1_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.read_text())
    connection.close()
    with Storage(f"sqlite:///{path}") as storage:
        (row,) = storage.runs()
        assert storage.journal(row.id).evaluations == {
            e.key: (e, True) for e in (evaluation(1), evaluation(2))
        }
        assert (row.metric_calls, row.steps, row.result) == (2, 2, '{"best": 1}')
        assert len(storage.memory_ids(embedder="ngrams")) == 2
        owner = new_owner()
        storage.take_run(row.id, owner)
        storage.save(row.id, owner, full_batch(3))


def test_the_tables_are_those_that_version_1_wrote(tmp_path: Path) -> None:
    """A change of the tables needs a new version, and this test one more file."""

    def tables(path: Path) -> list[tuple[object, ...]]:
        connection = sqlite3.connect(path)
        query = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        found = connection.execute(query).fetchall()
        connection.close()
        return [(kind, name, sql and " ".join(sql.split())) for kind, name, sql in found]

    old, new = tmp_path / "old.db", tmp_path / "new.db"
    connection = sqlite3.connect(old)
    connection.executescript(VERSION_1.read_text())
    connection.close()
    Storage(f"sqlite:///{new}").close()
    assert tables(new) == tables(old)


def test_a_database_of_something_else_is_used_beside_it(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/other.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE trials (id INTEGER)"))
    engine.dispose()
    with Storage(f"sqlite:///{tmp_path}/other.db") as storage:
        assert storage.runs() == []

"""Reading changes nothing, makes no file, and works where nothing can be written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import Open, count_rows, evaluation, full_batch, new_run

from gpo_dspy.errors import StorageError
from gpo_dspy.storage import new_owner, open_storage
from gpo_dspy.storage.rows import Batch, RunStatus
from gpo_dspy.storage.storage import Storage

READ = """
import os, sys
from gpo_dspy.errors import StorageError
from gpo_dspy.storage import open_storage
where, at_first = sys.argv[1:]
open_storage(at_first).close()  # all is imported before the rights to read it are given up
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    with open_storage(where, read_only=True) as storage:
        print(*(len(storage.journal(run.id).evaluations) for run in storage.runs()))
except StorageError as error:
    print(error)
"""


def test_reading_works_and_writing_is_refused(open_at: Open, storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.save(run, owner, full_batch(1))
    before = count_rows(storage)
    reader = open_at(read_only=True)
    assert reader.journal(run) == storage.journal(run)
    assert reader.runs() == storage.runs()
    for forbidden in (
        lambda: reader.create_run(new_run(), owner),
        lambda: reader.save(run, owner, full_batch(2)),
        lambda: reader.take_run(run, owner),
        lambda: reader.leave_run(run, owner, RunStatus.STOPPED, None),
        lambda: reader.acquire(owner, ["key"]),
        lambda: reader.release(owner, ["key"]),
        lambda: reader.beat(owner),
        lambda: reader.delete_run(run),
    ):
        with pytest.raises(StorageError, match="opened only for reading"):
            forbidden()
    assert count_rows(storage) == before


def test_a_reader_sees_what_is_written_meanwhile(open_at: Open, storage: Storage) -> None:
    reader, owner = open_at(read_only=True), new_owner()
    assert reader.runs() == []
    run = storage.create_run(new_run(), owner)
    assert [row.id for row in reader.runs()] == [run]
    storage.save(run, owner, Batch(evaluations=((evaluation(1), True),)))
    assert len(reader.journal(run).evaluations) == 1


def test_an_empty_database_is_not_filled_by_reading(url: str, open_at: Open) -> None:
    with pytest.raises(StorageError, match="holds no runs" if "post" in url else "is not there"):
        open_at(read_only=True)
    assert open_at().runs() == []


def test_reading_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "gpo.db"
    with pytest.raises(StorageError, match="is not there; check the path"):
        open_storage(f"sqlite:///{path}", read_only=True)
    with pytest.raises(StorageError, match="is not there"):
        open_storage(f"sqlite:///{tmp_path}/folder/gpo.db", read_only=True)
    assert not list(tmp_path.iterdir())
    Storage(f"sqlite:///{path}").close()
    written = path.read_bytes()
    with open_storage(f"sqlite:///{path}", read_only=True) as storage:
        assert storage.runs() == []
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == written


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Return a folder that other users may look into."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def read_elsewhere(path: Path, tmp_path: Path) -> str:
    """Read a storage as a user who may write neither the file nor its folder."""
    path.chmod(0o444)
    path.parent.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ, f"sqlite:///{path}", f"sqlite:///{tmp_path}/first.db"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    path.parent.chmod(0o755)
    path.chmod(0o644)
    return done.stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="rights of folders are those of POSIX")
def test_a_folder_that_cannot_be_written(shared_folder: Path, tmp_path: Path) -> None:
    path, owner = shared_folder / "gpo.db", new_owner()
    with Storage(f"sqlite:///{path}") as storage:
        run = storage.create_run(new_run(), owner)
        storage.save(run, owner, full_batch(1))
    assert read_elsewhere(path, tmp_path) == "1"
    assert list(shared_folder.iterdir()) == [path]
    with Storage(f"sqlite:///{path}") as storage:  # a writer is at it
        storage.save(run, owner, full_batch(2))
        assert read_elsewhere(path, tmp_path) == "2"
    assert list(shared_folder.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="rights of folders are those of POSIX")
@pytest.mark.parametrize("index", [True, False])
def test_a_folder_that_cannot_be_written_after_a_writer_was_killed(
    shared_folder: Path, tmp_path: Path, index: bool
) -> None:
    """Without its index, what the last writer left is read only where SQLite may tidy up."""
    path = shared_folder / "gpo.db"
    with Storage(f"sqlite:///{path}") as storage:
        owner = new_owner()
        storage.save(storage.create_run(new_run(), owner), owner, full_batch(1))
        killed = shared_folder / "killed"
        killed.mkdir()
        for name in ("gpo.db", "gpo.db-wal", *(["gpo.db-shm"] if index else [])):
            (killed / name).write_bytes((shared_folder / name).read_bytes())
    says = read_elsewhere(killed / "gpo.db", tmp_path)
    assert says == "1" if index else "cannot be opened; check the path and its permissions" in says
    with open_storage(f"sqlite:///{killed}/gpo.db", read_only=True) as storage:
        assert len(storage.runs()) == 1

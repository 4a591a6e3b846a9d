"""A full disk, a damaged, locked or read-only file: a clear error, nothing half-written."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from samples import Open, count_rows, evaluation, full_batch, new_run

from gpo_dspy.errors import StorageError
from gpo_dspy.storage import new_owner, open_storage
from gpo_dspy.storage.rows import Batch, Owner
from gpo_dspy.storage.storage import Storage

HERE = Path(__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="uses POSIX's limits and rights")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gpo.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def begin(storage: Storage) -> tuple[int, Owner]:
    owner = new_owner()
    return storage.create_run(new_run(), owner), owner


def large(number: int, size: int = 20_000) -> Batch:
    return Batch(evaluations=((evaluation(number, detail="x" * size), True),), seconds=number)


def is_whole(path: Path) -> bool:
    connection = sqlite3.connect(path)
    answer = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return bool(answer == [("ok",)])


# --- the disk -------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from itertools import count
from samples import new_run
from test_storage_faults_sqlite import large
from gpo_dspy.errors import StorageError
from gpo_dspy.storage import new_owner
from gpo_dspy.storage.storage import Storage

storage, owner = Storage(sys.argv[1]), new_owner()
run = storage.create_run(new_run(), owner)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, most))
for number in count():
    try:
        storage.save(run, owner, large(number))
    except StorageError as error:
        assert error.lasting
        assert len(storage.journal(run).evaluations) == number  # it can still be read
        assert storage.run(run).seconds == max(0, number - 1)
        print(error)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
for again in range(number, number + 30):
    storage.save(run, owner, large(again))
storage.close()
print(number, again + 1)
"""


@posix
def test_a_limit_on_file_sizes_is_met(url: str, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, url],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=HERE,
    )
    message, counts = done.stdout.splitlines()
    refused, stored = map(int, counts.split())
    assert "could not be read or written; is the disk full, a limit on file sizes" in message
    assert refused > 0
    assert is_whole(path)
    with Storage(url) as storage:
        (row,) = storage.runs()
        assert row.metric_calls == stored == refused + 30


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mounted, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        path, ballast = tmp_path / "disk" / "gpo.db", tmp_path / "disk" / "ballast"
        ballast.write_bytes(b"x" * 300_000)
        with Storage(f"sqlite:///{path}") as storage:
            run, owner = begin(storage)
            number = 0
            with pytest.raises(StorageError, match="has no space left on its disk; make room") as e:  # noqa: PT012
                for number in range(1000):
                    storage.save(run, owner, large(number))
            assert e.value.lasting
            assert 0 < len(storage.journal(run).evaluations) == number
            ballast.unlink()
            for again in range(number, number + 5):
                storage.save(run, owner, large(again))
            assert len(storage.journal(run).evaluations) == number + 5
        assert is_whole(path)


def test_a_new_storage_on_a_full_disk_is_not_half_made(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        ballast = tmp_path / "disk" / "ballast"
        ballast.write_bytes(b"x" * 950_000)
        url = f"sqlite:///{tmp_path}/disk/gpo.db"
        with pytest.raises(StorageError, match="has no space left") as caught:
            Storage(url)
        assert caught.value.lasting
        ballast.unlink()
        with Storage(url) as storage:
            begin(storage)
            assert len(storage.runs()) == 1


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"not a database, but a text\n" * 200, bytes(range(256)) * 32])
def test_another_kind_of_file_is_refused(url: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(StorageError, match="is not an SQLite database; give another") as caught:
            open_storage(url, read_only=read_only)
        assert caught.value.lasting
    assert path.read_bytes() == content


def test_an_empty_file_is_a_new_storage(url: str, path: Path) -> None:
    path.touch()
    with Storage(url) as storage:
        assert storage.runs() == []


def damage(path: Path, first: int) -> None:
    """Overwrite all that comes after some bytes."""
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        length = file.tell()
        file.seek(first)
        file.write(b"\xa5" * (length - first))


def test_a_damaged_file_is_refused(url: str, path: Path) -> None:
    with Storage(url) as storage:
        run, owner = begin(storage)
        for number in range(20):
            storage.save(run, owner, large(number))
    damage(path, 4096)
    with pytest.raises(StorageError, match=r"is damaged; bring back a copy, .*\.recover") as caught:
        Storage(url).journal(run)
    assert caught.value.lasting


def test_a_truncated_file_is_refused(url: str, path: Path) -> None:
    with Storage(url) as storage:
        run, owner = begin(storage)
        for number in range(20):
            storage.save(run, owner, large(number))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StorageError, match="is damaged"):
        Storage(url).journal(run)


def test_a_file_that_is_damaged_in_the_middle(url: str, path: Path) -> None:
    with Storage(url) as storage:
        run, owner = begin(storage)
        for number in range(60):
            storage.save(
                run, owner, large(number, size=100_000)
            )  # more than SQLite keeps in memory
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        damage(path, 100 * 4096)
        with pytest.raises(StorageError, match="is damaged") as caught:
            storage.journal(run)
        assert caught.value.lasting


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_vanishes_is_missed_at_the_next_write(
    url: str, path: Path, tmp_path: Path, replaced: bool
) -> None:
    """SQLite alone would go on writing to a file that nobody will ever find."""
    with Storage(url) as storage:
        run, owner = begin(storage)
        path.rename(tmp_path / "moved.db")
        if replaced:
            Storage(url).close()
        with pytest.raises(StorageError, match="was moved or deleted while in use") as caught:
            storage.save(run, owner, full_batch())
        assert caught.value.lasting
        with pytest.raises(StorageError):
            storage.save(run, owner, full_batch())
    assert path.exists() is replaced


WITHOUT_RIGHTS = """
import os, sys
from samples import full_batch, new_run
from gpo_dspy.errors import StorageError
from gpo_dspy.storage import new_owner
from gpo_dspy.storage.storage import Storage
Storage(sys.argv[1]).close()  # all is imported before the rights to read it are given up
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for where in sys.argv[2:]:
    try:
        storage, owner = Storage(where), new_owner()
        storage.save(storage.create_run(new_run(), owner), owner, full_batch())
    except StorageError as error:
        assert error.lasting
        print(error)
"""


@posix
def test_files_without_the_right_to_write(tmp_path: Path) -> None:
    cases = [  # rights of the folder, rights of the file, what is said
        (0o755, 0o444, "is read-only; make the file and its folder writable"),
        (0o555, 0o666, "is read-only; make|cannot be opened; check the path"),
        (0o000, 0o666, "in a folder that cannot be made .*give another path|cannot be opened"),
        (0o755, 0o000, "cannot be opened; check the path and its permissions"),
    ]
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        paths = [Path(name) / str(number) / "gpo.db" for number in range(len(cases))]
        for path, (folder, file, _) in zip(paths, cases, strict=True):
            Storage(f"sqlite:///{path}").close()
            path.chmod(file)
            path.parent.chmod(folder)
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_RIGHTS, f"sqlite:///{tmp_path}/first.db"]
            + [f"sqlite:///{path}" for path in paths],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=HERE,
        )
        said = done.stdout.splitlines()
        assert len(said) == len(cases), done.stdout
        for path, (*_, says), line in zip(paths, cases, said, strict=True):
            assert re.search(says, line)
            path.parent.chmod(0o755)
            path.chmod(0o644)
            assert count_rows_of(path) == 0


def count_rows_of(path: Path) -> int:
    with Storage(f"sqlite:///{path}") as storage:
        return len(storage.runs())


# --- locks ----------------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another process lock a file inside the block."""
    with subprocess.Popen(
        [sys.executable, HERE / "locking.py", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate()


def test_a_short_lock_is_waited_for(url: str, path: Path) -> None:
    with Storage(url) as storage:
        run, owner = begin(storage)
        saving = threading.Thread(target=storage.save, args=(run, owner, full_batch()))
        with locked(path):
            saving.start()
            saving.join(1.2)  # longer than SQLite itself waits
            assert saving.is_alive()
        saving.join()
        assert count_rows(storage)["gpo_evaluations"] == 1


def test_a_long_lock_is_given_up(url: str, path: Path, open_at: Open) -> None:
    storage = open_at(patience=0.8)
    run, owner = begin(storage)
    with locked(path):
        started = time.monotonic()
        with pytest.raises(StorageError, match="is locked by another process; close") as caught:
            storage.save(run, owner, full_batch())
        assert 0.8 <= time.monotonic() - started < 10
        assert not caught.value.lasting
        assert storage.journal(run).evaluations == {}  # readers need no lock
        with pytest.raises(StorageError, match="is locked"):
            open_at(patience=0.1).create_run(new_run(), new_owner())
    storage.save(run, owner, full_batch())
    assert len(storage.journal(run).evaluations) == 1


# --- kill -9 --------------------------------------------------------------------------------------


@posix
def test_a_writer_that_is_killed_leaves_whole_batches(url: str) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "killing.py", url, "25"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert int(done.stdout) >= 25

"""What may be given as a storage, and that its password is shown nowhere."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from cluster import Cluster
from samples import Open, new_run

from gpo_dspy.errors import StorageError
from gpo_dspy.storage import new_owner, open_storage
from gpo_dspy.storage.storage import Storage

PASSWORD = "hunter2"  # noqa: S105


def whole(error: BaseException) -> str:
    """Return all that a person sees of an error, causes included."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u@host/db", "dialect 'mysql'; SQLite .* and PostgreSQL"),
        ("postgresql+psycopg2://host/db", "through psycopg 3"),
        ("sqlite+aiosqlite:///x.db", "dialect 'sqlite\\+aiosqlite'"),
        ("sqlite://", "is gone when the process ends; it needs a file"),
        ("sqlite:///:memory:", 'needs a file, such as storage="sqlite:///runs.db"'),
        ("sqlite:///file:x?mode=memory&uri=true", "is no path"),
        ("sqlite:///x.db?timeout=3", "no options for SQLite, found timeout"),
        ("runs.db", "not a URL .* For a file write sqlite:///runs.db"),
        ("data/runs.sqlite", "For a file write sqlite:///data/runs.sqlite"),
        (f"u:{PASSWORD}@host/x.db", "not a URL"),
        ("", "not a URL"),
        (f"postgresql://u:{PASSWORD}@ss@host/db", "more than one @"),
        (f"postgresql://u:{PASSWORD}@host:port/db", "not a URL"),
        (f"mysql://u:{PASSWORD}@host/db", "mysql"),
        (f"{PASSWORD}", "not a URL"),
    ],
)
def test_bad_urls_are_refused(url: str, says: str) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        open_storage(url)
    assert caught.value.lasting
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:{}@127.0.0.1:{}/db",
        "postgresql+psycopg://me@127.0.0.1:{1}/db?password={0}",
        "postgresql://127.0.0.1:{1}/db?user=me&password={0}&sslpassword={0}",
    ],
)
def test_a_password_is_never_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    nobody_listens = 9
    with caplog.at_level("DEBUG"), pytest.raises(StorageError) as caught:
        Storage(url.format(PASSWORD, nobody_listens), patience=0.1)
    assert "cannot be reached" in str(caught.value)
    assert not caught.value.lasting
    assert "127.0.0.1" in str(caught.value)
    assert "***" in str(caught.value)
    assert PASSWORD not in whole(caught.value) + repr(caught.value.__cause__) + caplog.text


def test_a_server_shows_no_password_either(postgresql_server: Cluster, open_at: Open) -> None:
    url = postgresql_server.url()
    storage = open_at(url)
    assert storage.url == url.replace(postgresql_server.password, "***")
    storage.close()
    with pytest.raises(StorageError) as closed:
        storage.runs()
    wrong = postgresql_server.url().replace(postgresql_server.password, PASSWORD)
    with pytest.raises(StorageError, match="refuses the user or the password") as refused:
        Storage(wrong)
    missing = postgresql_server.url().replace("/postgres", "/nothing")
    with pytest.raises(StorageError, match="no such database or user; create it") as unknown:
        Storage(missing)
    for caught in (closed, refused, unknown):
        assert caught.value.lasting
        assert PASSWORD not in whole(caught.value)
        assert postgresql_server.password not in whole(caught.value)


def test_without_psycopg_the_command_to_install_it_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r'pip install "gpo-dspy\[postgresql\]"') as caught:
        open_storage(f"postgresql://me:{PASSWORD}@host/db")
    assert PASSWORD not in whole(caught.value)


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    with Storage(f"sqlite:///{tmp_path}/new/folder/gpo.db"):
        assert (tmp_path / "new" / "folder" / "gpo.db").is_file()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"in a folder that cannot be made .*give another path"):
        Storage(f"sqlite:///{tmp_path}/file/gpo.db")
    with pytest.raises(StorageError, match="is a folder"):
        Storage(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("name", ["with space.db", "q?uestion.db", "h#ash %41.db", "ümlaut.db"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    with Storage(f"sqlite:///{tmp_path}/{quote(name) if '?' in name else name}") as storage:
        storage.create_run(new_run(), new_owner())
    made = {path.name for path in tmp_path.iterdir()}
    assert len(made) == 1
    assert Storage(storage.url).runs()


def test_a_relative_path_stays_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Storage("sqlite:///gpo.db") as storage:
        storage._database._drop()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        storage.create_run(new_run(), new_owner())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "gpo.db"]
    assert storage.url == "sqlite:///gpo.db"


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Storage("sqlite:///~/gpo.db").close()
    assert (tmp_path / "gpo.db").is_file()


def test_no_home_is_refused() -> None:
    with pytest.raises(StorageError, match="has no path"):
        Storage("sqlite:///~nobody-of-this-name/gpo.db")


def test_a_closed_storage_says_so(storage: Storage) -> None:
    storage.close()
    storage.close()
    with pytest.raises(StorageError, match="is closed"):
        storage.runs()
    with pytest.raises(StorageError, match="is closed"):
        storage.beat(new_owner())

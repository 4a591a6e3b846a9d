"""What a storage URL means, and how it is shown: never with the password."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from gpo_dspy.errors import StorageError

ADVICE = 'Give storage="sqlite:///runs.db" or "postgresql://user:password@host/database".'

FILE_ENDINGS = (".db", ".sqlite", ".sqlite3")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a storage is.

    Attributes:
        url: What SQLAlchemy connects to, password included.
        shown: The same for people, without the password.
        path: The file of an SQLite database.
    """

    url: URL
    shown: str
    path: Path | None


def parse(url: str) -> Location:
    """Return the location that a URL means.

    Raises:
        StorageError: It means none, or one that cannot keep anything.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError, AttributeError):
        # Without the cause: its message may show the whole text, password included.
        advice = f"For a file write sqlite:///{url}." if _is_file_name(url) else ADVICE
        raise StorageError(f"storage is not a URL that SQLAlchemy understands. {advice}") from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return _file(parsed)
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return _server(parsed)
    raise StorageError(
        f"storage has the dialect {parsed.drivername!r}; SQLite (sqlite://) and PostgreSQL through "
        f"psycopg 3 (postgresql://) are supported. {ADVICE}"
    )


def _is_file_name(text: str) -> bool:
    """Tell whether a text may be shown, being a file's name: another may be a password."""
    return text.endswith(FILE_ENDINGS) and not set(text) & set(":@?")


def _file(url: URL) -> Location:
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:"):
        what = "is gone when the process ends" if not name.startswith("file:") else "is no path"
        raise StorageError(
            f"storage {str(url)!r} {what}; it needs a file, such as "
            'storage="sqlite:///runs.db" (three slashes, four for an absolute path).'
        )
    if url.query:
        options = ", ".join(sorted(url.query))
        raise StorageError(f"storage takes no options for SQLite, found {options}; leave them out.")
    try:
        path = Path(name).expanduser().absolute()  # absolute: the process may change its folder
    except RuntimeError as error:  # ~ without a home
        raise StorageError(f"The storage {name} has no path: {error}") from error
    return Location(url.set(database=str(path)), str(url), path)


def _server(url: URL) -> Location:
    if "@" in (url.host or ""):
        raise StorageError(
            "storage has more than one @ in its URL; write @ in a password as %40, "
            "and other characters by urllib.parse.quote(password, safe='')."
        )
    # libpq takes passwords from the query as well: password, sslpassword, oauth_client_secret.
    secrets = [name for name in url.query if "password" in name or "secret" in name]
    shown = url.update_query_dict(dict.fromkeys(secrets, "***"))
    rendered = shown.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")
    # A network that swallows packets must not hold a run for ever: seconds, but for the last.
    patience = {
        "connect_timeout": "10",
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
        "application_name": "gpo_dspy",
    }
    query = {name: value for name, value in patience.items() if name not in url.query}
    full = url.set(drivername="postgresql+psycopg").update_query_dict(query)
    return Location(full, rendered, None)

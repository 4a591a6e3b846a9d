"""What a database's error means for a person, and whether waiting helps."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from gpo_dspy.errors import StorageError

# (part of SQLite's message, what it means, whether it lasts); the first that fits counts.
_SQLITE = (
    ("is locked", "is locked by another process; close what else has it open", False),
    ("locking protocol", "cannot be locked; is the file on a network drive?", False),
    ("readonly", "is read-only; make the file and its folder writable", True),
    ("disk is full", "has no space left on its disk; make room and run the same again", True),
    (
        "disk i/o error",
        "could not be read or written; is the disk full, a limit on file sizes or a quota reached, "
        "or the file on a network drive?",
        True,
    ),
    ("not a database", "is not an SQLite database; give another path", True),
    (
        "malformed",
        "is damaged; bring back a copy, or save what is left with: sqlite3 FILE .recover",
        True,
    ),
    ("unable to open", "cannot be opened; check the path and its permissions", True),
    ("no such", "lacks a table or column; it is damaged, or somebody changed it", True),
)

# (beginning of PostgreSQL's error code, what it means, whether it lasts).
_POSTGRESQL = (
    ("08", "has lost its connection", False),
    ("23503", "was changed by another process at the same time", False),
    ("25006", "is read-only; connect to the primary server", True),
    ("28", "refuses the user or the password", True),
    ("3D000", "has no such database; create it with: createdb NAME", True),
    ("40", "gave way to another process", False),
    ("42501", "does not let this user do that; grant the rights on the schema", True),
    ("42P01", "lacks a table; it is damaged, or somebody changed it", True),
    ("53100", "has no space left on the server's disk; make room there", True),
    ("53", "is overloaded", False),
    ("55P03", "is locked by another process", False),
    ("57014", "cancelled the statement", False),
    ("57P", "is stopping or starting, or closed the connection", False),
    ("58", "has trouble with the server's files; see the server's log", True),
    ("XX", "is damaged; see the server's log", True),
)

# PostgreSQL gives no code to refusals while connecting.
_REFUSALS = (
    ("password authentication failed", "refuses the user or the password", True),
    ("no password supplied", "wants a password", True),
    ("no pg_hba.conf entry", "refuses connections from this host", True),
    ("does not exist", "has no such database or user; create it with: createdb NAME", True),
)


def explain(error: DBAPIError, shown: str) -> StorageError:
    """Return the error to raise for one that came from a database.

    Args:
        error: What SQLAlchemy raised.
        shown: The storage's URL without the password.
    """
    cause = error.orig
    said = " ".join(str(cause).split())
    code = getattr(cause, "sqlstate", None)
    if type(cause).__module__.startswith("sqlite3"):
        means, lasting = _first_in(_SQLITE, said.lower())
    elif code:
        means, lasting = _first_beginning(code)
    else:
        means, lasting = _first_in(_REFUSALS, said)
        if not means and error.connection_invalidated:
            means, lasting = "has lost its connection; is the server running?", False
        elif not means:
            means, lasting = "cannot be reached; is the server running and the host right?", False
    if not means:
        means = "refused a statement"
    end = "" if means.endswith("?") else "."
    return StorageError(f"The storage {shown} {means}{end} ({said})", lasting=lasting)


def _first_in(table: tuple[tuple[str, str, bool], ...], said: str) -> tuple[str, bool]:
    return next(((means, lasts) for part, means, lasts in table if part in said), ("", True))


def _first_beginning(code: str) -> tuple[str, bool]:
    found = ((means, lasts) for start, means, lasts in _POSTGRESQL if code.startswith(start))
    return next(found, ("", True))

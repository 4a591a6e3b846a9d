"""Where runs are kept: SQLite in a file for one machine, PostgreSQL for a team.

    from gpo_dspy.storage import open_storage

    with open_storage("sqlite:///runs.db", read_only=True) as storage:
        for run in storage.runs():
            print(run.id, run.study, run.status.value, run.best_score)

A storage is a journal of each run, from which a killed run is carried on, and a cache of
evaluations that all runs share. SQLAlchemy is imported when the first storage is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpo_dspy.storage.owners import new_owner

if TYPE_CHECKING:
    from gpo_dspy.storage.storage import Storage

__all__ = ["Storage", "new_owner", "open_storage"]


def open_storage(url: str, *, read_only: bool = False, patience: float = 30.0) -> Storage:
    """Open a storage; see :class:`gpo_dspy.storage.storage.Storage`.

    Args:
        url: Such as "sqlite:///runs.db" or "postgresql://user:password@host/database".
        read_only: Never write; the database must exist.
        patience: Seconds after which a lock or a lost connection is given up, about.

    Raises:
        StorageError: The URL is not understood, or the database cannot be opened.
    """
    from gpo_dspy.storage.storage import Storage

    return Storage(url, read_only=read_only, patience=patience)


def __getattr__(name: str) -> Any:
    if name == "Storage":
        from gpo_dspy.storage.storage import Storage

        return Storage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

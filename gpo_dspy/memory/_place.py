"""Where the file of a memory's index lies."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def index_file(url: str, embedder: str) -> Path | None:
    """Return the place for the index over the vectors of one embedder; None if there is none.

    Beside an SQLite database, so that both are moved and deleted together; in the user's cache
    folder for a database on a server. What is no file needs none.

    Args:
        url: The storage's URL; a hidden password does no harm.
        embedder: The embedder's name.
    """
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _cache_folder() / "gpo_dspy" / f"memory-{_hash(f'{url} {embedder}')}.faiss"
    database = Path(parsed.database or "").expanduser().absolute()
    if not database.is_file():
        return None
    return database.with_name(f"{database.name}-memory-{_hash(embedder)}.faiss")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cache_folder() -> Path:
    """Return the folder for what can be made again, as each system has it."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

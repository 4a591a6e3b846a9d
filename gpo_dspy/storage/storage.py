"""The storage as the rest of the package sees it: one transaction a call."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from gpo_dspy.storage import (
    claims,
    deletion,
    evaluations,
    memory,
    migrations,
    reading,
    runs,
    saving,
    vectors,
)
from gpo_dspy.storage.database import Database
from gpo_dspy.storage.location import parse
from gpo_dspy.storage.rows import (
    Acquired,
    Batch,
    EvaluationRow,
    Journal,
    LMCall,
    NewRun,
    Owner,
    PromptRow,
    Remembered,
    RunRow,
    RunStatus,
)

LEASE = 60.0
"""Seconds without a heartbeat, by the database's clock, after which an owner counts as dead."""

PATIENCE = 30.0
"""Seconds after which a lock or a lost connection is given up."""


class Storage:
    """Runs, their journals, and the evaluations they share, in SQLite or PostgreSQL.

    Every method is one transaction, and may be called from any thread. Locks, lost connections
    and deadlocks are tried again on a fresh connection for a while; all else that the database
    refuses, and what does not pass, is a :class:`~gpo_dspy.errors.StorageError`, after which
    nothing of the call is stored.

    Args:
        url: Such as "sqlite:///runs.db" or "postgresql://user:password@host/database".
        read_only: Never write; the database must exist.
        patience: Seconds after which what passes is given up, about.
        lease: Seconds without a heartbeat after which an owner counts as dead. One on this
            machine whose process has ended is dead at once.

    Attributes:
        url: The URL without the password.

    Raises:
        StorageError: The URL is not understood, or the database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        patience: float = PATIENCE,
        lease: float = LEASE,
    ) -> None:
        location = parse(url)
        self.url = location.shown
        self._lease = lease
        self._known: dict[int, dict[str, int]] = {}  # by run: ids of hashes it has stored
        self._database = Database(location, read_only=read_only, patience=patience)
        try:
            migrations.bring_up(self._database)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, after the call that is under way; later calls are refused."""
        self._database.close()

    def __enter__(self) -> Storage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- runs ---------------------------------------------------------------------------------

    def create_run(self, new: NewRun, owner: Owner) -> int:
        """Begin a run that an owner works on, and return its id."""
        again = False

        def create(connection: Connection) -> int:
            nonlocal again
            # The connection may have been lost after the first try was committed.
            made = runs.made_by(connection, new, owner) if again else None
            again = True
            return runs.create(connection, new, owner) if made is None else made

        return self._database.write(create)

    def latest_run(self, *, study: str | None = None, identity: str | None = None) -> RunRow | None:
        """Return the newest run that has all that is given."""
        return self._database.read(lambda c: runs.latest(c, study, identity, self._lease))

    def take_run(self, run: int, owner: Owner) -> None:
        """Make an owner the one that works on a run; its status becomes RUNNING.

        Raises:
            RunBusy: Another owner works on it, and is alive.
        """
        self._database.write(lambda c: runs.take(c, run, owner, self._lease))

    def leave_run(self, run: int, owner: Owner, status: RunStatus, result: str | None) -> None:
        """End an owner's work on a run, and its claims.

        A run that another owner has taken over stays as it is.

        Args:
            run: The run's id.
            owner: Who worked on it.
            status: The run's status from now on.
            result: The result as JSON text; None leaves what is there.
        """
        self._database.write(lambda c: runs.leave(c, run, owner, status, result))

    def beat(self, owner: Owner) -> None:
        """Note that an owner is alive.

        Raises:
            RunBusy: Its run was taken over.
        """
        self._database.write(lambda c: runs.beat(c, owner))

    def run(self, run: int) -> RunRow | None:
        """Return a run."""
        return self._database.read(lambda c: runs.get(c, run, self._lease))

    def runs(self) -> list[RunRow]:
        """Return all runs, the oldest first."""
        return self._database.read(lambda c: runs.every(c, self._lease))

    def delete_run(self, run: int) -> bool:
        """Delete a run and what no other run uses; return whether there was one.

        Raises:
            RunBusy: A live owner works on it.
        """
        found = False

        def delete(connection: Connection) -> None:
            nonlocal found
            found = deletion.delete_run(connection, run, self._lease) or found

        self._database.write(delete)
        self._known.pop(run, None)
        return found

    # --- the journal --------------------------------------------------------------------------

    def journal(self, run: int) -> Journal:
        """Return all that a run learned from outside."""
        return self._database.read(lambda c: reading.journal(c, run))

    def save(self, run: int, owner: Owner, batch: Batch) -> None:
        """Write a batch, all of it or nothing, and end the claims on its evaluations.

        The same batch may be written again; what is there already stays as it is.

        Raises:
            RunBusy: The run is not this owner's any more.
        """
        known = self._known.setdefault(run, {})
        known.update(self._database.write(lambda c: saving.save(c, run, owner, batch, known)))

    def acquire(self, owner: Owner, keys: Sequence[str]) -> Acquired:
        """Return the results other runs share, and claim the rest of the keys.

        Raises:
            RunBusy: The owner's run was taken over.
        """
        return self._database.write(lambda c: claims.acquire(c, owner, keys, self._lease))

    def release(self, owner: Owner, keys: Sequence[str]) -> None:
        """End an owner's claims on keys it did not evaluate."""
        self._database.write(lambda c: claims.release(c, owner, keys))

    def vectors(self, embedder: str, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors [d] of those texts that have one, by text."""
        return self._database.read(lambda c: vectors.of_texts(c, embedder, texts))

    # --- for people and the memory ------------------------------------------------------------

    def steps(self, run: int) -> list[str]:
        """Return the JSON text of a run's steps, in order."""
        return self._database.read(lambda c: reading.steps(c, run))

    def prompts(self, run: int) -> list[PromptRow]:
        """Return the prompts of a run, in the order they were stored."""
        return self._database.read(lambda c: reading.prompts_of(c, run))

    def evaluations(self, run: int) -> list[EvaluationRow]:
        """Return the results a run used, with program states and examples, as they were stored."""
        return self._database.read(lambda c: evaluations.for_export(c, run))

    def lm_calls(self, run: int) -> list[LMCall]:
        """Return what each LM call of a run used, in the order they were answered."""
        return self._database.read(lambda c: reading.lm_calls_of(c, run))

    def memory_vectors(
        self, embedder: str, after: int = 0, limit: int = 10_000
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return prompts whose memory text has a vector of this embedder.

        Returns:
            The prompts' ids above ``after``, ascending, at most ``limit`` [n]; vectors [n, d].
        """
        return self._database.read(lambda c: vectors.of_prompts(c, embedder, after, limit))

    def memory_ids(
        self,
        *,
        embedder: str,
        kind: str | None = None,
        model: str | None = None,
        not_run: int | None = None,
    ) -> NDArray[np.int64]:
        """Return the ids of prompts that have a vector and pass every filter, ascending [n]."""
        return self._database.read(lambda c: memory.ids(c, embedder, kind, model, not_run))

    def remembered(self, ids: Sequence[int]) -> dict[int, Remembered]:
        """Return prompts with what they were written for, by id."""
        return self._database.read(lambda c: memory.remembered(c, ids))

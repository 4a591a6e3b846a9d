"""Writes what a run learns, one batch a transaction.

The order is the same in every process (run, texts, evaluations, ...), and so is that of the rows
within a table: writers that meet wait for each other, but never in a circle.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, bindparam, func, text, update

from gpo_dspy.storage.columns import insert_into, insert_missing, now, text_hash
from gpo_dspy.storage.evaluations import save_evaluations, usage_values
from gpo_dspy.storage.rows import Answer, Batch, LMCall, Owner, PromptRow
from gpo_dspy.storage.runs import lost
from gpo_dspy.storage.schema import answers, lm_calls, prompts, readings, runs, steps
from gpo_dspy.storage.vectors import save_vectors

_PROMPTS_LOCK = 5_190_403  # any number of our own

_PROGRESS = (
    update(runs)
    .where(runs.c.id == bindparam("run_"), runs.c.owner == bindparam("owner_"))
    .values(
        updated=now(),
        seconds=func.coalesce(bindparam("wall", type_=runs.c.seconds.type), runs.c.seconds),
        best_score=func.coalesce(bindparam("best", type_=runs.c.seconds.type), runs.c.best_score),
    )
)


def save(
    connection: Connection, run: int, owner: Owner, batch: Batch, known: dict[str, int]
) -> dict[str, int]:
    """Write a batch, and end the owner's claims on its evaluations.

    Args:
        connection: Inside a transaction.
        run: The run's id.
        owner: Who works on it.
        batch: What to write; what is there already stays as it is.
        known: Ids of hashes that this run has stored before.

    Returns:
        Ids of hashes that are new, for the next ``known``.

    Raises:
        RunBusy: The run is not this owner's any more.
    """
    if batch.prompts and connection.dialect.name == "postgresql":
        # Ids must become visible in ascending order: who has read up to 7 does not look for 6.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _PROMPTS_LOCK})
    progress = {"wall": batch.seconds, "best": batch.best_score}
    noted = connection.execute(_PROGRESS, {"run_": run, "owner_": owner.id, **progress})
    if not noted.rowcount:
        raise lost(owner, run)
    new = save_evaluations(connection, run, owner, batch, known)
    insert_missing(connection, answers, [_answer(run, answer) for answer in batch.answers])
    values = [{"run": run, "name": name, "value": value} for name, value in batch.readings]
    insert_missing(connection, readings, values)
    insert_missing(connection, lm_calls, _calls(run, batch.lm_calls))
    if batch.steps:
        _save_steps(connection, run, batch.steps)
    if batch.prompts:
        _save_prompts(connection, run, batch.prompts)
    if batch.vectors:
        save_vectors(connection, run, batch.vectors)
    return new


def _answer(run: int, answer: Answer) -> dict[str, Any]:
    return {
        "run": run,
        "request": answer.request,
        "occurrence": answer.occurrence,
        "text": answer.text,
        "fate": answer.fate,
        **usage_values(answer.usage),
    }


def _calls(run: int, calls: Iterable[LMCall]) -> list[dict[str, Any]]:
    seen: Counter[LMCall] = Counter()
    rows = []
    for call in calls:
        rows.append({"run": run, "digest": _digest(call, seen[call])} | _values(call))
        seen[call] += 1
    return rows


def _values(call: LMCall) -> dict[str, Any]:
    return {
        "role": call.role,
        "model": call.model,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cost": call.cost,
        "at": call.at,
    }


def _digest(call: LMCall, number: int) -> int:
    """Return a number in 64 bits for the ``number``-th of equal calls of one batch."""
    digest = hashlib.blake2b(repr((call, number)).encode(errors="replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "big", signed=True)


def _save_steps(connection: Connection, run: int, records: Iterable[tuple[int, str]]) -> None:
    statement = insert_into(connection.dialect.name, steps)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["run", "number"], set_={"record": statement.excluded.record}
        ),
        [{"run": run, "number": number, "record": record} for number, record in records],
    )


def _save_prompts(connection: Connection, run: int, rows: Iterable[PromptRow]) -> None:
    statement = insert_into(connection.dialect.name, prompts).values(created=now())
    given = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["run", "predictor", "text_hash"],
            set_={"score": given.score, "evaluations": given.evaluations},
        ),
        [
            {
                "run": run,
                "predictor": row.predictor,
                "text_hash": text_hash(row.text),
                "text": row.text,
                "score": row.score,
                "evaluations": row.evaluations,
                "step": row.step,
                "memory_hash": text_hash(row.memory_text),
                "memory_text": row.memory_text,
            }
            for row in rows
        ],
    )

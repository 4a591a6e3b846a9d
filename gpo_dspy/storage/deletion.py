"""Deletes a run, with all that no other run uses."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Table, delete, select, text, update

from gpo_dspy.storage import schema
from gpo_dspy.storage.columns import chunks
from gpo_dspy.storage.runs import refuse_if_busy
from gpo_dspy.storage.schema import (
    embedders,
    evaluations,
    links,
    prompts,
    run_texts,
    texts,
    vectors,
)

# What belongs to one run alone; what refers to something before what is referred to.
_OWN = (
    schema.links,
    schema.run_texts,
    schema.answers,
    schema.readings,
    schema.steps,
    schema.prompts,
    schema.lm_calls,
    schema.predictors,
    schema.details,
    schema.owners,
)

# In the order in which writers come by; nobody may begin to use what is about to go.
_LOCK = text(
    "LOCK TABLE gpo_texts, gpo_run_texts, gpo_evaluations, gpo_links, gpo_prompts, gpo_vectors "
    "IN SHARE ROW EXCLUSIVE MODE"
)


def delete_run(connection: Connection, run: int, lease: float) -> bool:
    """Delete a run; return whether there was one.

    Raises:
        RunBusy: A live owner works on it.
    """
    if not refuse_if_busy(connection, run, None, lease):
        return False
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)
    unused = _only_of(connection, run, links.c.evaluation)
    unread = _only_of(connection, run, run_texts.c.text)
    _delete_vectors(connection, run)
    for table in _OWN:
        connection.execute(delete(table).where(table.c.run == run))
    _delete_ids(connection, evaluations, unused)
    _delete_ids(connection, texts, unread)
    connection.execute(delete(schema.runs).where(schema.runs.c.id == run))
    return True


def _only_of(connection: Connection, run: int, column: Column[int]) -> list[int]:
    """Return what only this run refers to by a column of a table of links."""
    other = column.table.alias()
    shared = select(other.c.run).where(other.c[column.name] == column, other.c.run != run)
    query = select(column).where(column.table.c.run == run, ~shared.exists())
    return list(connection.execute(query).scalars())


def _delete_ids(connection: Connection, table: Table, ids: list[int]) -> None:
    for part in chunks(ids):
        connection.execute(delete(table).where(table.c.id.in_(part)))


def _delete_vectors(connection: Connection, run: int) -> None:
    """Delete the vectors a run has stored; those other runs' prompts have pass to one of them."""
    stored = connection.execute(select(vectors.c.text_hash).where(vectors.c.run == run)).scalars()
    for part in chunks(set(stored)):
        mine = (vectors.c.run == run) & vectors.c.text_hash.in_(part)
        heirs: dict[str, int] = {}
        for column in (prompts.c.text_hash, prompts.c.memory_hash):
            query = select(column, prompts.c.run).where(column.in_(part), prompts.c.run != run)
            heirs.update((key, other) for key, other in connection.execute(query))
        for key, other in heirs.items():
            moved = update(vectors).where(vectors.c.run == run, vectors.c.text_hash == key)
            connection.execute(moved.values(run=other))
        connection.execute(delete(vectors).where(mine))
    used = select(vectors.c.embedder)
    connection.execute(delete(embedders).where(embedders.c.id.not_in(used)))

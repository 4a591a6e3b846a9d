"""Results of metric calls: stored once, linked to every run that uses them."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Select, bindparam, delete, select

from gpo_dspy.storage.columns import chunks, insert_into, insert_missing
from gpo_dspy.storage.rows import Batch, EvaluationRow, Owner, StoredEvaluation, Usage
from gpo_dspy.storage.schema import SHARED, claims, evaluations, links, run_texts, texts

_OF_KEY = select(
    bindparam("run", type_=BigInteger),
    evaluations.c.id,
    bindparam("paid", type_=Boolean),
).where(evaluations.c.key == bindparam("key_"), evaluations.c.scope == bindparam("scope_"))

_TEXT_IDS = select(texts.c.hash, texts.c.id).where(
    texts.c.hash.in_(bindparam("hashes", expanding=True))
)

_END_CLAIM = delete(claims).where(
    claims.c.key == bindparam("key_"), claims.c.owner == bindparam("owner_")
)


def save_evaluations(
    connection: Connection, run: int, owner: Owner, batch: Batch, known: dict[str, int]
) -> dict[str, int]:
    """Write evaluations with the texts they name, link them to a run and end their claims.

    Two runs may have evaluated the same key, if one was taken for dead. What is stored for all
    stays; a run whose own result differs keeps it for itself, since it has acted on it.

    Returns:
        Ids of hashes that were not ``known``.
    """
    pairs = sorted(batch.evaluations, key=lambda pair: pair[0].key)
    new = _save_texts(connection, run, batch, known)
    if not pairs:
        return new
    ids = ChainMap(new, known)
    rows = [_row(e, SHARED if e.shared else run, ids) for e, _ in pairs]
    if insert_missing(connection, evaluations, rows) < len(rows):
        there = _there(connection, rows)
        own = {(row["key"], row["scope"]) for row in rows if _differs(row, there)}
        for row in rows:
            if (row["key"], row["scope"]) in own:
                row["scope"] = run
        insert_missing(connection, evaluations, [row for row in rows if row["scope"] != SHARED])
    of_run = [
        {"run": run, "paid": paid, "key_": row["key"], "scope_": row["scope"]}
        for row, (_, paid) in zip(rows, pairs, strict=True)
    ]
    connection.execute(_linking(connection.dialect.name), of_run)
    connection.execute(_END_CLAIM, [{"key_": e.key, "owner_": owner.id} for e, _ in pairs])
    return new


@cache
def _linking(dialect: str) -> Any:
    linking = insert_into(dialect, links).from_select(["run", "evaluation", "paid"], _OF_KEY)
    return linking.on_conflict_do_nothing()


def _save_texts(
    connection: Connection, run: int, batch: Batch, known: dict[str, int]
) -> dict[str, int]:
    """Write hashes and texts that the run has not stored before, and return their ids."""
    wanted: dict[str, str | None] = {
        name: None for e, _ in batch.evaluations for name in (e.state, e.example, e.metric)
    }
    wanted = {name: None for name in wanted if name not in known}
    wanted |= dict(batch.states) | dict(batch.examples)
    if not wanted:
        return {}
    rows = [{"hash": name, "text": wanted[name]} for name in sorted(wanted)]
    connection.execute(_writing_texts(connection.dialect.name), rows)
    ids: dict[str, int] = {}
    for part in chunks(wanted):
        found = connection.execute(_TEXT_IDS, {"hashes": part})
        ids.update((name, number) for name, number in found)
    insert_missing(connection, run_texts, [{"run": run, "text": i} for i in sorted(ids.values())])
    return ids


@cache
def _writing_texts(dialect: str) -> Any:
    """Return the statement that adds hashes, and the text to those that had none."""
    statement = insert_into(dialect, texts)
    given = statement.excluded.text
    return statement.on_conflict_do_update(
        index_elements=["hash"],
        set_={"text": given},
        where=texts.c.text.is_(None) & given.is_not(None),
    )


def _row(evaluation: StoredEvaluation, scope: int, ids: Mapping[str, int]) -> dict[str, Any]:
    usage = evaluation.usage
    return {
        "key": evaluation.key,
        "scope": scope,
        "state": ids[evaluation.state],
        "example": ids[evaluation.example],
        "metric": ids[evaluation.metric],
        "score": evaluation.score,
        "outcome": evaluation.outcome,
        "feedback": evaluation.feedback,
        "detail": evaluation.detail,
        **usage_values(usage),
    }


def usage_values(usage: Usage) -> dict[str, Any]:
    """Return the values of the columns for what LM calls cost."""
    return {
        "lm_calls": usage.lm_calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost": usage.cost,
        "unpriced_calls": usage.unpriced_calls,
    }


def usage_of(row: Any) -> Usage:
    """Return what LM calls cost, of a row with its columns."""
    return Usage(row.lm_calls, row.input_tokens, row.output_tokens, row.cost, row.unpriced_calls)


def _there(
    connection: Connection, rows: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what is stored under the keys of some rows."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for part in chunks(row["key"] for row in rows):
        for row in connection.execute(select(evaluations).where(evaluations.c.key.in_(part))):
            found[row.key, row.scope] = dict(row._mapping)
    return found


def _differs(row: Mapping[str, Any], there: Mapping[tuple[str, int], Mapping[str, Any]]) -> bool:
    stored = there[row["key"], row["scope"]]
    return any(stored[name] != value for name, value in row.items())


_STATES, _EXAMPLES, _METRICS = (texts.alias(name) for name in ("states", "examples", "metrics"))

_STORED = (
    select(
        *(c for c in evaluations.c if c.name not in ("id", "state", "example", "metric")),
        _STATES.c.hash.label("state"),
        _EXAMPLES.c.hash.label("example"),
        _METRICS.c.hash.label("metric"),
    )
    .join(_STATES, _STATES.c.id == evaluations.c.state)
    .join(_EXAMPLES, _EXAMPLES.c.id == evaluations.c.example)
    .join(_METRICS, _METRICS.c.id == evaluations.c.metric)
)


_UNDER = _STORED.where(
    evaluations.c.key.in_(bindparam("keys", expanding=True)),
    (evaluations.c.scope == SHARED) | (evaluations.c.scope == bindparam("run_")),
).order_by(evaluations.c.scope)


def stored_under(
    connection: Connection, keys: Iterable[str], run: int
) -> dict[str, StoredEvaluation]:
    """Return the results that a run may use, by key: its own before those of all."""
    found: dict[str, StoredEvaluation] = {}
    for part in chunks(keys):
        for row in connection.execute(_UNDER, {"keys": part, "run_": run}):
            found[row.key] = _stored(row)
    return found


def of_run(connection: Connection, run: int) -> dict[str, tuple[StoredEvaluation, bool]]:
    """Return what a run evaluated or took from others, by key, and whether it paid for it."""
    query = _linked(run, links.c.paid).order_by(evaluations.c.scope)
    return {row.key: (_stored(row), row.paid) for row in connection.execute(query)}


def for_export(connection: Connection, run: int) -> list[EvaluationRow]:
    """Return a run's results with program states and examples, in the order they were stored."""
    columns = (links.c.paid, _STATES.c.text.label("program"), _EXAMPLES.c.text.label("item"))
    query = _linked(run, *columns).order_by(evaluations.c.id)
    return [
        EvaluationRow(_stored(row), row.paid, row.program, row.item)
        for row in connection.execute(query)
    ]


def _linked(run: int, *columns: Any) -> Select[Any]:
    linked = _STORED.join(links, links.c.evaluation == evaluations.c.id)
    return linked.add_columns(*columns).where(links.c.run == run)


def _stored(row: Any) -> StoredEvaluation:
    return StoredEvaluation(
        key=row.key,
        state=row.state,
        example=row.example,
        metric=row.metric,
        score=row.score,
        outcome=row.outcome,
        feedback=row.feedback,
        detail=row.detail,
        usage=usage_of(row),
        shared=row.scope == SHARED,
    )

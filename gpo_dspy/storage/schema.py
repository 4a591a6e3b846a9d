"""The tables. A change here needs a new version and a step in :mod:`~.migrations`.

Evaluations belong to no run: ``links`` says which runs use which. Hashes and long texts that
many rows share are stored once in ``texts``, and ``run_texts`` says which run needs which.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, MetaData, Table
from sqlalchemy import UniqueConstraint as Unique

from gpo_dspy.storage.columns import AnyText, BigId, Json, Vector

SHARED = 0
"""``scope`` of an evaluation that every run may use; else it is the id of its only run."""

metadata = MetaData()

# Narrow tables whose key is most of the row; SQLite then keeps no second copy of it.
_KEYED: dict[str, Any] = {"sqlite_with_rowid": False}


def _needed(name: str, kind: Any, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, *more, nullable=False, **options)


def _part(name: str, kind: Any, *more: Any) -> Column[Any]:
    """Return a column of a primary key."""
    return Column(name, kind, *more, primary_key=True, autoincrement=False)


def _run() -> Column[int]:
    return _part("run", BigId, ForeignKey("gpo_runs.id"))


def _usage() -> list[Column[Any]]:
    """Return the columns of :class:`~gpo_dspy.ledger.Usage`."""
    return [
        _needed("lm_calls", Integer),
        _needed("input_tokens", BigId),
        _needed("output_tokens", BigId),
        _needed("cost", Double),
        _needed("unpriced_calls", Integer),
    ]


version = Table("gpo_version", metadata, _needed("version", Integer))

# What changes with every batch, apart from what is long and does not.
runs = Table(
    "gpo_runs",
    metadata,
    Column("id", BigId, primary_key=True),
    _needed("identity", AnyText, index=True),
    Column("study", AnyText, index=True),
    _needed("status", AnyText),
    Column("owner", AnyText),  # the only one that may write; it may be dead
    _needed("created", Double),
    _needed("updated", Double),
    _needed("seconds", Double),
    Column("best_score", Double),
    sqlite_autoincrement=True,
)

details = Table(
    "gpo_run_details",
    metadata,
    _run(),
    _needed("fingerprints", Json),
    _needed("settings", Json),
    _needed("program", AnyText),
    _needed("prompt_model", AnyText),
    _needed("plan", Json),
    _needed("version", AnyText),
    Column("result", AnyText),
)

predictors = Table(
    "gpo_predictors",
    metadata,
    _run(),
    _part("name", AnyText),
    _needed("position", Integer),
    _needed("kind", AnyText),
    _needed("task", AnyText),
    _needed("model", AnyText),
)

owners = Table(
    "gpo_owners",
    metadata,
    _part("id", AnyText),
    _needed("run", BigId, ForeignKey("gpo_runs.id"), index=True),
    _needed("host", AnyText),
    _needed("pid", BigId),
    _needed("began", Double),
    _needed("beat", Double),
)

claims = Table(
    "gpo_claims",
    metadata,
    _part("key", AnyText),
    _needed("owner", AnyText, ForeignKey("gpo_owners.id", ondelete="CASCADE"), index=True),
    **_KEYED,
)

texts = Table(
    "gpo_texts",
    metadata,
    Column("id", BigId, primary_key=True),
    _needed("hash", AnyText, unique=True),
    Column("text", AnyText),  # NULL where only the hash is known
)

run_texts = Table(
    "gpo_run_texts",
    metadata,
    _run(),
    _part("text", BigId, ForeignKey("gpo_texts.id")),
    Index("gpo_run_texts_text", "text"),
    **_KEYED,
)

# No foreign keys to texts: they would need three more indexes, and run_texts guards the texts.
evaluations = Table(
    "gpo_evaluations",
    metadata,
    Column("id", BigId, primary_key=True),
    _needed("key", AnyText),
    _needed("scope", BigId),
    _needed("state", BigId),
    _needed("example", BigId),
    _needed("metric", BigId),
    _needed("score", Double),
    _needed("outcome", AnyText),
    _needed("feedback", AnyText),
    _needed("detail", AnyText),
    *_usage(),
    Unique("key", "scope"),
)

links = Table(
    "gpo_links",
    metadata,
    _run(),
    _part("evaluation", BigId, ForeignKey("gpo_evaluations.id")),
    _needed("paid", Boolean),
    Index("gpo_links_evaluation", "evaluation"),
    **_KEYED,
)

answers = Table(
    "gpo_answers",
    metadata,
    _run(),
    _part("request", AnyText),
    _part("occurrence", Integer),
    _needed("text", AnyText),
    Column("fate", AnyText),
    *_usage(),
)

readings = Table(
    "gpo_readings",
    metadata,
    _run(),
    _part("name", AnyText),
    _needed("value", Double),
    **_KEYED,
)

steps = Table("gpo_steps", metadata, _run(), _part("number", Integer), _needed("record", AnyText))

prompts = Table(
    "gpo_prompts",
    metadata,
    Column("id", BigId, primary_key=True),
    _needed("run", BigId, ForeignKey("gpo_runs.id")),
    _needed("predictor", AnyText),
    _needed("text_hash", AnyText),
    _needed("text", AnyText),
    _needed("score", Double),
    _needed("evaluations", Integer),
    _needed("step", Integer),
    _needed("memory_hash", AnyText, index=True),
    _needed("memory_text", AnyText),
    _needed("created", Double),
    Unique("run", "predictor", "text_hash"),
    sqlite_autoincrement=True,  # ids are never used again
)

# A call has no name of its own: ``digest`` is one made of all that is known of it.
lm_calls = Table(
    "gpo_lm_calls",
    metadata,
    _run(),
    _part("digest", BigId),
    _needed("role", AnyText),
    _needed("model", AnyText),
    _needed("input_tokens", BigId),
    _needed("output_tokens", BigId),
    Column("cost", Double),
    _needed("at", Double),
    **_KEYED,
)

embedders = Table(
    "gpo_embedders",
    metadata,
    Column("id", BigId, primary_key=True),
    _needed("name", AnyText, unique=True),
    _needed("dimension", Integer),
)

vectors = Table(
    "gpo_vectors",
    metadata,
    _part("embedder", BigId, ForeignKey("gpo_embedders.id")),
    _part("text_hash", AnyText),
    _needed("run", BigId, index=True),  # the one that stored it
    _needed("vector", Vector),
)

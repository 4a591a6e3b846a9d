"""Prompts of all runs, as the memory looks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select, tuple_

from gpo_dspy.storage.columns import chunks
from gpo_dspy.storage.rows import Remembered
from gpo_dspy.storage.schema import details, embedders, predictors, prompts, runs, vectors


def ids(
    connection: Connection, embedder: str, kind: str | None, model: str | None, not_run: int | None
) -> NDArray[np.int64]:
    """Return the ids of prompts that have a vector and pass every filter given, ascending."""
    # `+ ""` keeps SQLite from walking the vectors first: they are many, and the runs that pass few.
    query = (
        select(prompts.c.id)
        .join(vectors, vectors.c.text_hash == prompts.c.memory_hash + "")
        .join(embedders, embedders.c.id == vectors.c.embedder)
        .where(embedders.c.name == embedder)
        .order_by(prompts.c.id)
    )
    if kind is not None or model is not None:
        passing = select(predictors.c.run, predictors.c.name)
        if kind is not None:
            passing = passing.where(predictors.c.kind == kind)
        if model is not None:
            passing = passing.where(predictors.c.model == model)
        query = query.where(tuple_(prompts.c.run, prompts.c.predictor).in_(passing))
    if not_run is not None:
        query = query.where(prompts.c.run != not_run)
    return np.array(connection.execute(query).scalars().all(), dtype=np.int64)


def remembered(connection: Connection, wanted: Sequence[int]) -> dict[int, Remembered]:
    """Return prompts with what they were written for, by id."""
    found: dict[int, Remembered] = {}
    for part in chunks(int(number) for number in wanted):
        for row in connection.execute(_REMEMBERED.where(prompts.c.id.in_(part))):
            found[row.id] = Remembered(**row._mapping)
    return found


_ITS_PREDICTOR: Any = (predictors.c.run == prompts.c.run) & (
    predictors.c.name == prompts.c.predictor
)

_REMEMBERED = (
    select(
        prompts.c.id,
        prompts.c.run,
        runs.c.study,
        details.c.program,
        prompts.c.predictor,
        predictors.c.kind,
        predictors.c.task,
        predictors.c.model,
        prompts.c.text,
        prompts.c.score,
        prompts.c.evaluations,
        prompts.c.created,
    )
    .join(runs, runs.c.id == prompts.c.run)
    .join(details, details.c.run == prompts.c.run)
    .join(predictors, _ITS_PREDICTOR)
)

"""Embeddings of texts: computed once by each embedder, stored once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from gpo_dspy.storage.columns import chunks, insert_missing, text_hash
from gpo_dspy.storage.schema import embedders, prompts, vectors


def save_vectors(
    connection: Connection, run: int, rows: Iterable[tuple[str, str, NDArray[np.float32]]]
) -> None:
    """Write vectors (embedder, text, vector [d]) that are not there yet.

    Raises:
        ValueError: A vector is not one row of finite numbers, or not as long as the embedder's
            others.
    """
    by_embedder: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, text, vector in rows:
        by_embedder.setdefault(name, {})[text_hash(text)] = _checked(vector)
    for name in sorted(by_embedder):
        of_hash = by_embedder[name]
        first = next(iter(of_hash.values()))
        insert_missing(connection, embedders, [{"name": name, "dimension": len(first)}])
        query = select(embedders.c.id, embedders.c.dimension).where(embedders.c.name == name)
        embedder, dimension = connection.execute(query).one()
        for vector in of_hash.values():
            if len(vector) != dimension:
                raise ValueError(
                    f"vectors of the embedder {name!r} have {dimension} dimensions in this "
                    f"storage, found {len(vector)}; give an embedder that changed another name."
                )
        values = [
            {"embedder": embedder, "text_hash": key, "run": run, "vector": of_hash[key]}
            for key in sorted(of_hash)
        ]
        insert_missing(connection, vectors, values)


def _checked(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    array = np.asarray(vector, dtype=np.float32)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(
            f"vectors must be rows [d] of finite numbers, found the shape {list(array.shape)}."
        )
    return array


def of_texts(
    connection: Connection, embedder: str, texts: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the vectors [d] of those texts that have one, by text."""
    of_hash: dict[str, NDArray[np.float32]] = {}
    hashes = {text: text_hash(text) for text in texts}
    for part in chunks(dict.fromkeys(hashes.values())):
        query = (
            select(vectors.c.text_hash, vectors.c.vector)
            .join(embedders, embedders.c.id == vectors.c.embedder)
            .where(embedders.c.name == embedder, vectors.c.text_hash.in_(part))
        )
        of_hash.update((key, vector) for key, vector in connection.execute(query))
    return {text: of_hash[key] for text, key in hashes.items() if key in of_hash}


def of_prompts(
    connection: Connection, embedder: str, after: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return ids of prompts whose memory text has a vector, and the vectors.

    Args:
        connection: Where to look.
        embedder: The vectors' embedder.
        after: Only ids above this.
        limit: Most ids to return.

    Returns:
        The ids in ascending order [n], and the vectors [n, d].
    """
    number = connection.execute(select(embedders.c.id).where(embedders.c.name == embedder)).scalar()
    # Looked up for each prompt, so that prompts are read in order: a join sorts all vectors first.
    mine = (vectors.c.embedder == number) & (vectors.c.text_hash == prompts.c.memory_hash)
    found = connection.execute(
        select(prompts.c.id, select(vectors.c.vector).where(mine).scalar_subquery().label("vector"))
        # int: an id from an array is a NumPy number, which SQLite takes for bytes.
        .where(prompts.c.id > int(after), select(vectors.c.text_hash).where(mine).exists())
        .order_by(prompts.c.id)
        .limit(limit)
    ).all()
    ids = np.array([row.id for row in found], dtype=np.int64)
    rows = [row.vector for row in found]
    return ids, np.array(rows, dtype=np.float32) if rows else np.empty((0, 0), np.float32)

"""Vectors under the numbers that their prompts have in the storage."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.vector_index import VectorIndex

Ids: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = NDArray[np.float32]


class Layer:
    """A vector index whose vectors are named by the ids of their prompts.

    Attributes:
        ids: The prompts' ids in the order in which they were added [n].
        index: Their vectors.
    """

    def __init__(self, index: VectorIndex, ids: Ids | None = None) -> None:
        self.index = index
        self.ids: Ids = np.empty(0, np.int64) if ids is None else ids

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def newest(self) -> int:
        """The highest id, 0 if there is none."""
        return int(self.ids.max(initial=0))

    def add(self, ids: Ids, rows: Rows) -> None:
        """Append the vectors [n, d] of some prompts."""
        if len(ids):
            self.index.add(rows)
            self.ids = np.concatenate([self.ids, ids])

    def at(self, positions: NDArray[np.int64]) -> tuple[Ids, Rows]:
        """Return ids and vectors by position."""
        return self.ids[positions], self.index.rows(positions)

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which of some ids are here."""
        lowest = ids.min() if len(ids) else 0
        return np.isin(ids, self.ids[self.ids >= lowest])  # most are lower, and isin sorts

    def search(
        self, vector: Rows, k: int, among: Ids | None = None
    ) -> tuple[Ids, NDArray[np.float64]]:
        """Return the ids and similarities of the ``k`` nearest, of those in ``among`` if given."""
        if not len(self):
            return self.ids, np.empty(0)
        mask = None if among is None else np.isin(self.ids, among)
        positions, similarities = self.index.search(vector, k, among=mask, births=self.ids)
        return self.ids[positions], similarities

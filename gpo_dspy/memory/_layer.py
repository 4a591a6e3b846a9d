"""Vectors under the numbers that their prompts have in the storage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.vector_index import VectorIndex

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]


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

    def part(self, first: int, count: int) -> tuple[Ids, Rows]:
        """Return the ids and vectors at up to ``count`` positions from ``first`` on."""
        return self.ids[first : first + count], self.index.rows(first, count)

    def search(
        self, vector: Rows, k: int, among: Ids | None = None
    ) -> tuple[Ids, NDArray[np.float64]]:
        """Return the ids and similarities of the ``k`` nearest, of those in ``among`` if given."""
        if not len(self):
            return self.ids, np.empty(0)
        mask = None if among is None else np.isin(self.ids, among)
        positions, similarities = self.index.search(vector, k, among=mask)
        return self.ids[positions], similarities

"""The prompts of all runs in a storage, searched by meaning."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.embedding import CachedEmbedder
from gpo_dspy.memory._layer import Ids, Layer, Rows
from gpo_dspy.memory._layers import Layers, same, sample
from gpo_dspy.memory._place import index_file

if TYPE_CHECKING:
    from gpo_dspy.storage.rows import PromptRow, Remembered

_PAGE = 10_000  # vectors read from the storage at a time
_OVERLAP = 256  # ids read again: a server gives ids before it shows the rows, so some come late
_WIDEST = 500  # prompts looked at one by one, before the storage is asked which pass a filter
_SAME = 64  # prompts with the same text that are looked through for one of a certain run


class Source(Protocol):
    """What the memory needs of a :class:`~gpo_dspy.storage.Storage`."""

    @property
    def url(self) -> str:
        """Where it is, the password hidden."""
        ...

    def memory_vectors(
        self, embedder: str, after: int = 0, limit: int = 10_000
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids, ascending, and vectors [n, d] of prompts that have one."""
        ...

    def memory_ids(
        self,
        *,
        embedder: str,
        kind: str | None = None,
        model: str | None = None,
        not_run: int | None = None,
    ) -> NDArray[np.int64]:
        """Return the ids that pass a filter."""
        ...

    def remembered(self, ids: Sequence[int]) -> Mapping[int, Remembered]:
        """Return the prompts that are there."""
        ...

    def prompts(self, run: int) -> Sequence[PromptRow]:
        """Return the prompts of one run."""
        ...

    def vectors(self, embedder: str, texts: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Return the vectors of the texts that have one."""
        ...


class Memory:
    """Every prompt of every run in a storage, as far as this embedder's vectors of it are there.

    A search is exact among fewer than ``exact_below`` prompts; among more, a graph (HNSW) finds
    the nearest with a recall near 1. The index is kept in a file, from which the next process has
    it at once. A file that is broken, or belongs to another database, is made anew; one that
    cannot be written is done without.

    A vector that is stored long after its prompt is found by the next process, unless that has
    the prompt from the file.

    Args:
        storage: Where the prompts are.
        embedder: Turns texts into vectors. Only vectors stored under its name are compared; of
            one whose name says nothing about tomorrow ("function:...") there are none.
        index_path: The file for the index. The default is beside an SQLite database, and in the
            user's cache folder for a database on a server.
        exact_below: Number of prompts from which on a search may be approximate.
        file_from: Number of prompts from which on reading a file is faster than building.
    """

    def __init__(
        self,
        storage: Source,
        embedder: CachedEmbedder,
        *,
        index_path: Path | str | None = None,
        exact_below: int = 100_000,
        file_from: int = 20_000,
    ) -> None:
        self.storage = storage
        self._embedder = embedder
        self._index_path = None if index_path is None else Path(index_path)
        self._exact_below, self._file_from = exact_below, file_from
        self._layers: Layers | None = None
        self._lock = threading.Lock()

    def search(
        self,
        text: str,
        k: int,
        *,
        kind: str | None = None,
        model: str | None = None,
        not_run: int | None = None,
    ) -> list[tuple[Remembered, float]]:
        """Return the prompts nearest to a text, among all that are stored by now.

        Args:
            text: What to compare with; see :func:`~gpo_dspy.memory.memory_text`.
            k: How many to return, at least 1; all that pass if they are fewer.
            kind: Only prompts of predictors of this class, such as "ChainOfThought".
            model: Only prompts for this LM.
            not_run: No prompts of this run.

        Returns:
            Prompts with their cosine similarity in [-1, 1], the most similar first, the older
            first where they are equally similar.

        Raises:
            ValueError: ``k`` is below 1, or the embedder makes vectors of another length than
                those that are stored under its name.
            StorageError: The storage cannot be read.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k!r}.")
        layers = self._refreshed()
        if layers is None or not len(layers):
            return []  # before the text is embedded, which may cost money
        vector = self._embedder([text])[0]
        if len(vector) != layers.dimension:
            raise ValueError(
                f"embedder {self._embedder.name!r} makes vectors of length {len(vector)}, and "
                f"those stored under its name have length {layers.dimension}; give it another name."
            )
        return self._nearest(layers, vector, k, _Filter(kind, model, not_run))

    def find(self, run: int, row: PromptRow) -> Remembered | None:
        """Return one prompt of a run, with its number; None if it has no vector or is gone.

        Raises:
            StorageError: The storage cannot be read.
        """
        layers = self._refreshed()
        stored = self.storage.vectors(self._embedder.name, [row.memory_text])
        if layers is None or row.memory_text not in stored:
            return None
        vector = stored[row.memory_text]
        # Its own vector finds it; runs of the same task have the same texts.
        for found, _ in self._nearest(layers, vector, _SAME, _Filter()):
            if (found.run, found.predictor, found.text) == (run, row.predictor, row.text):
                return found
        return None

    def wait(self) -> None:
        """Wait until the index that is being built is in its file."""
        if self._layers:
            self._layers.wait()

    def close(self) -> None:
        """End the building of the index; what there is goes into its file. Searches still work."""
        if self._layers:
            self._layers.close()

    # --- keeping up ---------------------------------------------------------------------------

    def _refreshed(self) -> Layers | None:
        """Return the index with all that is stored by now."""
        name = self._embedder.name
        if name.startswith("function:"):
            return None
        with self._lock:
            if self._layers is None:
                self._layers = self._opened(name)
            after = max(self._layers.newest - _OVERLAP, 0)
            while True:
                ids, rows = self.storage.memory_vectors(name, after=after, limit=_PAGE)
                self._layers.add(ids, rows)
                if len(ids) < _PAGE:
                    break
                after = int(ids[-1])
            self._layers.merge_if_due()
            return self._layers

    def _opened(self, name: str) -> Layers:
        path = self._index_path or index_file(self.storage.url, name)
        layers = Layers(path, name, exact_below=self._exact_below, file_from=self._file_from)
        if len(layers) and not self._belongs(layers.lower, name):
            layers.forget()
        return layers

    def _belongs(self, layer: Layer, name: str) -> bool:
        """Tell whether a layer is of this storage: some vectors of it are there, and the same."""
        found = 0
        for id_, mine in zip(*sample(layer), strict=True):
            ids, rows = self.storage.memory_vectors(name, after=int(id_) - 1, limit=1)
            if len(ids) and ids[0] == id_:  # else it was deleted since
                if not same(rows, mine[None]):
                    return False
                found += 1
        return found > 0

    # --- searching ----------------------------------------------------------------------------

    def _nearest(
        self, layers: Layers, vector: Rows, k: int, wanted: _Filter
    ) -> list[tuple[Remembered, float]]:
        """Return the ``k`` nearest prompts that are wanted and not deleted.

        Most filters let many pass, and are applied to a few more than ``k`` of the nearest. Only
        if that does not do, the storage says which prompts pass: few, if it comes to that.
        """
        known: dict[int, Remembered] = {}
        width = k if wanted == _Filter() else 4 * k
        while True:
            ids, similarities = layers.search(vector, width)
            known |= self.storage.remembered([i for i in ids.tolist() if i not in known])
            found = [
                (known[i], similarity)
                for i, similarity in zip(ids.tolist(), similarities.tolist(), strict=True)
                if i in known and wanted.passes(known[i])
            ]
            if len(found) >= k or width >= len(layers):
                return found[:k]
            if width >= _WIDEST:
                return self._nearest_among(layers, vector, k, self._allowed(wanted))
            width *= 4

    def _allowed(self, wanted: _Filter) -> Ids:
        return self.storage.memory_ids(
            embedder=self._embedder.name,
            kind=wanted.kind,
            model=wanted.model,
            not_run=wanted.not_run,
        )

    def _nearest_among(
        self, layers: Layers, vector: Rows, k: int, allowed: Ids
    ) -> list[tuple[Remembered, float]]:
        while True:
            ids, similarities = layers.search(vector, k, allowed)
            known = self.storage.remembered(ids.tolist())
            gone = [i for i in ids.tolist() if i not in known]  # deleted just now
            if not gone:
                return [
                    (known[i], s) for i, s in zip(ids.tolist(), similarities.tolist(), strict=True)
                ]
            allowed = allowed[~np.isin(allowed, gone)]


@dataclass(frozen=True, slots=True)
class _Filter:
    kind: str | None = None
    model: str | None = None
    not_run: int | None = None

    def passes(self, prompt: Remembered) -> bool:
        return (
            self.kind in (None, prompt.kind)
            and self.model in (None, prompt.model)
            and self.not_run != prompt.run
        )

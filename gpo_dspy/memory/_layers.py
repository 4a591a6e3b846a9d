"""The index in two layers: a large one, mostly from a file, and what came since."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.memory import _file
from gpo_dspy.memory._layer import Ids, Layer, Rows
from gpo_dspy.vector_index import VectorIndex

logger = logging.getLogger(__name__)

_CHUNK = 5_000  # vectors added to a graph at a time: less than a second, after which it may stop
_SHARE = 20  # the upper layer is merged into the lower when it has one vector for so many


class Layers:
    """A lower layer that is only searched, and an upper one that grows and is always exact.

    When the upper layer has become large enough, a thread makes a new lower layer of both, puts it
    into the file and replaces the old one; searches go on meanwhile. So it takes minutes to build
    the graph of a million prompts, and nobody waits for it. The thread ends soon after the main
    thread, and what it has by then is in the file for the next process.

    May be used from several threads at once.

    Args:
        path: The file; None for none.
        embedder: Name of the embedder whose vectors these are.
        exact_below: Number of vectors from which on the lower layer is a graph.
        file_from: Number of vectors that are worth a file.
    """

    def __init__(
        self, path: Path | None, embedder: str, *, exact_below: int, file_from: int
    ) -> None:
        self._path, self._embedder = path, embedder
        self._exact_below, self._file_from = exact_below, file_from
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._merging: threading.Thread | None = None
        self._upper = self._empty()
        self._lower = self._from_file(mapped=True) or self._empty()

    def __len__(self) -> int:
        return len(self._lower) + len(self._upper)

    @property
    def lower(self) -> Layer:
        """The lower layer."""
        return self._lower

    @property
    def newest(self) -> int:
        """The highest id, 0 if there is none."""
        return max(self._lower.newest, self._upper.newest)

    @property
    def dimension(self) -> int | None:
        """Length of the vectors; None while there are none."""
        return self._lower.index.dimension or self._upper.index.dimension

    def forget(self) -> None:
        """Drop all vectors."""
        with self._lock:
            self._lower, self._upper = self._empty(), self._empty()

    def add(self, ids: Ids, rows: Rows) -> None:
        """Append the vectors [n, d] of the prompts that are not there yet."""
        if len(ids):
            with self._lock:
                fresh = ~(_held(self._lower, ids) | _held(self._upper, ids))
                self._upper.add(ids[fresh], rows[fresh])

    def search(
        self, vector: Rows, k: int, among: Ids | None = None
    ) -> tuple[Ids, NDArray[np.float64]]:
        """Return ids and similarities of the ``k`` nearest, the older first on ties.

        Args:
            vector: What to look for, of length 1 or 0 [d].
            k: How many.
            among: Ids that may be found; None for all.
        """
        with self._lock:
            found = [layer.search(vector, k, among) for layer in (self._lower, self._upper)]
        ids = np.concatenate([ids for ids, _ in found])
        similarities = np.concatenate([similarities for _, similarities in found])
        order = np.lexsort((ids, -similarities))[:k]
        return ids[order], similarities[order]

    # --- merging ------------------------------------------------------------------------------

    def merge_if_due(self) -> None:
        """Start to merge the layers, if it is worth it and not under way."""
        large = len(self._upper) >= max(self._file_from, len(self._lower) // _SHARE)
        # Without a file there is nothing to gain but the graph, and that once.
        useful = self._path or (len(self) >= self._exact_below and not len(self._lower))
        if not (large and useful) or self._merging or self._stopping:
            return
        self._merging = threading.Thread(target=self._merge, name="gpo-memory")
        self._merging.start()

    def wait(self) -> None:
        """Wait until no merging is under way."""
        merging = self._merging  # the thread itself sets it to None
        if merging:
            merging.join()

    def close(self) -> None:
        """End a merging that is under way, and let no other begin."""
        self._closing.set()
        self.wait()

    @property
    def _stopping(self) -> bool:
        return self._closing.is_set() or not threading.main_thread().is_alive()

    def _merge(self) -> None:
        try:
            self._replace_lower()
        except (MemoryError, RuntimeError) as error:  # FAISS's own
            logger.info("The memory's index is not built, and searches are slower: %s", error)
            self._closing.set()
        finally:
            self._merging = None

    def _replace_lower(self) -> None:
        graph = len(self) >= self._exact_below
        # An empty lower layer means that there is no file, or none to be trusted.
        old = (self._from_file(mapped=False) if len(self._lower) else None) or self._lower
        if old is not self._lower and (old.index.is_graph or not graph):
            merged = old
        else:
            index = VectorIndex(exact_below=self._exact_below, graph=graph, half=True)
            merged = Layer(index)
            if self._copy(old, merged) < len(old):
                return
        copied = self._copy(self._upper, merged)
        if self._stopping and copied < self._file_from:
            return
        merged = self._kept(merged)
        with self._lock:
            rest = self._empty()
            rest.add(*self._upper.part(copied, len(self._upper)))
            self._lower, self._upper = merged, rest

    def _copy(self, source: Layer, target: Layer) -> int:
        """Add to ``target`` what ``source`` has more; return how far in it this came."""
        copied = 0
        while not self._stopping:
            with self._lock:
                ids, rows = source.part(copied, _CHUNK)
            if not len(ids):
                break
            fresh = ~_held(target, ids)
            target.add(ids[fresh], rows[fresh])
            copied += len(ids)
        return copied

    # --- the file -----------------------------------------------------------------------------

    def _kept(self, layer: Layer) -> Layer:
        """Write a layer to the file, and return it as it is there, which takes less memory."""
        if self._path is None:
            return layer
        try:
            _file.write(self._path, layer, self._embedder)
        except OSError as error:
            logger.info("The memory's index cannot be kept, and is built each time: %s", error)
            self._path = None
            return layer
        written = self._from_file(mapped=True)
        return written if written and len(written) == len(layer) else layer

    def _from_file(self, *, mapped: bool) -> Layer | None:
        if self._path is None:
            return None
        return _file.read(self._path, self._embedder, self._exact_below, mapped=mapped)

    def _empty(self) -> Layer:
        return Layer(VectorIndex(exact_below=sys.maxsize))


def _held(layer: Layer, ids: Ids) -> NDArray[np.bool_]:
    """Tell which of some ids a layer has."""
    return np.isin(ids, layer.ids[layer.ids >= ids.min()])

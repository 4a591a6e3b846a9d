"""The index in two layers: a large one, mostly from a file, and what came since."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.memory import _file
from gpo_dspy.memory._layer import Ids, Layer, Rows
from gpo_dspy.vector_index import VectorIndex, threads

logger = logging.getLogger(__name__)

_CHUNK = 5_000  # vectors added at a time: about a second, after which the thread may end
_SHARE = 20  # the layers are merged when the upper has one vector for so many of the lower
_CORES = max((os.cpu_count() or 1) // 2, 1)  # used to merge; the rest is left to the user
_SAMPLE = 16  # vectors compared to tell whether a file belongs here


class Layers:
    """A lower layer that is only searched, and an upper one that grows and is always exact.

    When the upper layer has become large, a thread makes a new lower layer of both, puts it into
    the file and replaces the old one; searches go on meanwhile. The graph of a million prompts
    takes minutes, and nobody waits for it. The thread ends soon after the main thread; what it
    has of a graph by then goes into a file of its own, from where the next process carries on.

    A graph is always made anew, in random order: prompts of one run are much alike, and a graph
    to which they are added run by run loses the way to some of them.

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
        self._upper = _exact()
        self._lower = (path and self._read(path)) or _exact()

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
            self._lower, self._upper = _exact(), _exact()

    def add(self, ids: Ids, rows: Rows) -> None:
        """Append the vectors [n, d] of the prompts that are not there yet."""
        with self._lock:
            fresh = ~(self._lower.holds(ids) | self._upper.holds(ids))
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
            with threads(_CORES):
                self._replace_lower()
        except (MemoryError, RuntimeError) as error:  # FAISS's own
            logger.info("The memory's index is not built, and searches are slower: %s", error)
            self._closing.set()
        finally:
            self._merging = None

    def _replace_lower(self) -> None:
        with self._lock:  # the upper layer may grow meanwhile: what comes later stays in it
            lower, upper = self._lower, self._upper
            known = np.concatenate([lower.ids, upper.ids])
        graph = len(known) >= self._exact_below
        merged = (graph and self._unfinished(known)) or _exact()
        if graph and not len(merged):
            merged = Layer(VectorIndex(exact_below=self._exact_below, graph=True, half=True))
        missing = np.flatnonzero(~np.isin(known, merged.ids))
        if graph:
            np.random.default_rng(0).shuffle(missing)
        for first in range(0, len(missing), _CHUNK):
            if self._stopping:
                if self._path and graph and first >= self._file_from:
                    self._write(_unfinished(self._path), merged)
                return
            merged.add(*self._at(missing[first : first + _CHUNK], lower, upper))
        merged = self._kept(merged)
        with self._lock:
            rest = _exact()
            rest.add(*upper.at(np.flatnonzero(~np.isin(upper.ids, known))))
            self._lower, self._upper = merged, rest

    def _at(self, positions: NDArray[np.int64], lower: Layer, upper: Layer) -> tuple[Ids, Rows]:
        """Return ids and vectors by position in both layers together."""
        below = positions < len(lower)
        places = ((lower, positions[below]), (upper, positions[~below] - len(lower)))
        with self._lock:
            parts = [layer.at(place) for layer, place in places if len(place)]
        return np.concatenate([ids for ids, _ in parts]), np.concatenate(
            [rows for _, rows in parts]
        )

    # --- files --------------------------------------------------------------------------------

    def _kept(self, layer: Layer) -> Layer:
        """Write a layer to the file, and return it as it is there, which takes less memory."""
        if self._path is None or not self._write(self._path, layer):
            return layer
        _unfinished(self._path).unlink(missing_ok=True)
        written = self._read(self._path)
        return written if written and len(written) == len(layer) else layer

    def _unfinished(self, known: Ids) -> Layer | None:
        """Return what an earlier process has built, if it is of what is known here."""
        layer = self._read(_unfinished(self._path), mapped=False) if self._path else None
        if layer is None or not np.isin(layer.ids, known).all():
            return None
        ids, rows = sample(layer)
        order = np.argsort(known)
        places = order[np.searchsorted(known, ids, sorter=order)]
        mine = [self._at(places[i : i + 1], self._lower, self._upper)[1] for i in range(len(ids))]
        return layer if same(rows, np.concatenate(mine)) else None

    def _write(self, path: Path, layer: Layer) -> bool:
        try:
            _file.write(path, layer, self._embedder)
        except OSError as error:
            logger.info("The memory's index cannot be kept, and is built each time: %s", error)
            self._path = None
            return False
        return True

    def _read(self, path: Path, *, mapped: bool = True) -> Layer | None:
        return _file.read(path, self._embedder, self._exact_below, mapped=mapped)


def sample(layer: Layer) -> tuple[Ids, Rows]:
    """Return some ids of a layer, which must not be empty, with their vectors."""
    return layer.at(np.unique(np.linspace(0, len(layer) - 1, _SAMPLE).astype(np.int64)))


def same(ours: Rows, theirs: Rows) -> bool:
    """Tell whether vectors are the same, half precision aside."""
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max(initial=0.0) < 1e-3)


def _exact() -> Layer:
    return Layer(VectorIndex(exact_below=sys.maxsize))


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.unfinished")

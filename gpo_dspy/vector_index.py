"""Nearest vectors by inner product: exact while there are few, a graph once there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask: TypeAlias = NDArray[np.bool_]

FaissIndex: TypeAlias = Any
"""An index of FAISS, whose type stubs lack most of what is used here."""

Look: TypeAlias = Callable[[int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""How many to find -> similarities and ids [1, count], the most similar first."""

# Measured on vectors of 384 dimensions, in clusters of near and exact duplicates, as runs leave
# them: recall@10 above 0.99 where the clusters come mixed, below 0.9 where one comes after another.
_LINKS = 32  # M: neighbours kept per vector and layer
_EFFORT_BUILD = 150  # efConstruction: candidates looked at to place a vector
_EFFORT_SEARCH = 256  # efSearch: candidates looked at to answer a query
_CLOSE = 1e-5  # float32 similarities nearer than this may be in the wrong order
_SLOW = 16  # a scan is faster than the graph where one in so many is asked for
_MOST_TIES = 1024  # vectors looked at in the graph to settle ties; the exact index looks at all


class VectorIndex:
    """Append-only vectors [n, d] of unit or zero length, found again by similarity.

    Among fewer than ``exact_below`` vectors every search is exact (FAISS ``IndexFlatIP``). When
    there are that many, an HNSW graph is built once; from then on vectors are added to the graph
    one by one. The graph finds the nearest vectors with a recall near 1; among more than about a
    thousand equally similar ones it may miss some of the oldest.

    Args:
        dimension: Length d of the vectors, if it is known before the first are added.
        exact_below: Number of vectors from which on the graph answers.
        graph: Build the graph from the first vector on: for many that come bit by bit.
        half: Keep the graph's vectors in half precision. It takes 60 % of the memory, and moves
            the similarities of vectors of 384 dimensions by up to 1e-4.

    Attributes:
        dimension: Length d of the vectors; None until the first are added, unless given.
        exact_below: Number of vectors from which on the graph answers.
    """

    def __init__(
        self,
        dimension: int | None = None,
        exact_below: int = 100_000,
        *,
        graph: bool = False,
        half: bool = False,
    ) -> None:
        if dimension is not None and dimension < 1:
            raise ValueError(f"dimension must be at least 1, found {dimension!r}.")
        if exact_below < 1:
            raise ValueError(f"exact_below must be at least 1, found {exact_below!r}.")
        self.dimension = dimension
        self.exact_below = exact_below
        self._starts_as_graph, self._half = graph, half
        self._mapped = False
        self._index: FaissIndex | None = None

    @classmethod
    def read(cls, path: Path, exact_below: int = 100_000, *, mapped: bool = False) -> VectorIndex:
        """Return the index that :meth:`write` wrote to ``path``.

        The file must be one of ours, whole: FAISS checks little of what it reads.

        Args:
            path: The file; what follows the index in it is left alone.
            exact_below: Number of vectors from which on the graph answers.
            mapped: Leave the vectors in the file and read what a search needs. Then nothing can
                be added, and the file must not be written to.

        Raises:
            RuntimeError: FAISS cannot read the file.
        """
        # The flag came with FAISS 1.11; before, everything is read.
        flags = getattr(_faiss(), "IO_FLAG_MMAP_IFC", 0) if mapped else 0
        found = cls(exact_below=exact_below)
        found._index = _faiss().read_index(str(path), flags)
        found._mapped = mapped
        found.dimension = int(found._index.d)
        return found

    def write(self, path: Path) -> None:
        """Write the index, which must not be empty, to a file.

        Raises:
            RuntimeError: FAISS cannot write the file.
        """
        _faiss().write_index(self._index, str(path))

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    @property
    def is_exact(self) -> bool:
        """Whether every search is exact."""
        return len(self) < self.exact_below

    @property
    def is_graph(self) -> bool:
        """Whether there is a graph of the vectors."""
        return _is_graph(self._index)

    def add(self, vectors: ArrayLike) -> range:
        """Appends vectors and returns their ids, which count up from 0.

        Args:
            vectors: Rows of unit or zero length [n, d].

        Raises:
            ValueError: If the shape does not fit, a value is not finite, or the vectors are
                mapped.
        """
        if self._mapped:
            raise ValueError("nothing can be added to an index that was read with mapped=True.")
        rows = self._checked(vectors, ndim=2)
        first = len(self)
        if self._index is None:
            self.dimension = rows.shape[1]
            self._index = self._graph() if self._starts_as_graph else _flat(self.dimension)
        self._index.add(rows)
        if not self.is_exact and not self.is_graph:
            exact, self._index = self._index, self._graph()
            self._index.add(exact.reconstruct_n(0, exact.ntotal))
        return range(first, len(self))

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of some ids [n, d]."""
        if self._index is None or not len(ids):
            return np.empty((0, self.dimension or 0), np.float32)
        return np.asarray(self._index.reconstruct_batch(ids), np.float32)

    def search(
        self,
        vector: ArrayLike,
        k: int,
        *,
        among: Mask | None = None,
        births: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the ``k`` most similar vectors, the older first where they are equally similar.

        Args:
            vector: What to look for, of unit or zero length [d].
            k: How many to return, at least 1; all of them if there are fewer.
            among: Which vectors may be found [n]; None for all. Where they are fewer than
                ``exact_below``, the search is exact, however many others there are.
            births: A number for each vector [n], the lower the older; None if they were added
                in this order.

        Returns:
            The ids and the inner products [min(k, n)], most similar first.

        Raises:
            ValueError: If ``k`` is below 1, a shape does not fit, or a value is not finite.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k!r}.")
        query = self._checked(vector, ndim=1)
        if among is not None and among.shape != (len(self),):
            raise ValueError(f"among must be [{len(self)}], found {list(among.shape)}.")
        total = len(self) if among is None else int(among.sum())
        if self._index is None or not total or not query.any():
            # Zeros are equally similar to everything, so age decides alone.
            allowed = np.arange(len(self)) if among is None else np.flatnonzero(among)
            return _ranked(allowed, np.zeros(total), births, k)
        exact = total < self.exact_below or k * _SLOW > total
        if exact:
            look, limit = _scan(self._index, query, among), total
        else:
            look = _walk(self._index, query, among, effort=_EFFORT_SEARCH * len(self) // total)
            limit = min(max(k, _MOST_TIES), total)
        # A search takes milliseconds. Two threads halve that on an idle machine, and take ten times
        # as long on a busy one, where each waits for the other to get a core.
        with threads(1):
            ids = _candidates(look, k, limit)
        # In double precision, and along each row alone, so that equal rows get equal similarities.
        similarities = (self.rows(ids).astype(np.float64) * query).sum(axis=1)
        return _ranked(ids, similarities, births, k)

    def _graph(self) -> FaissIndex:
        faiss, inner = _faiss(), _faiss().METRIC_INNER_PRODUCT
        if self._half:
            half = faiss.ScalarQuantizer.QT_fp16
            graph = faiss.IndexHNSWSQ(self.dimension, half, _LINKS, inner)
        else:
            graph = faiss.IndexHNSWFlat(self.dimension, _LINKS, inner)
        graph.hnsw.efConstruction = _EFFORT_BUILD
        return graph

    def _checked(self, values: ArrayLike, ndim: int) -> NDArray[np.float32]:
        array = np.ascontiguousarray(values, dtype=np.float32)
        wanted = "d" if self.dimension is None else str(self.dimension)
        shape = f"[n, {wanted}]" if ndim == 2 else f"[{wanted}]"
        fits = array.ndim == ndim and array.shape[-1] == (self.dimension or array.shape[-1])
        if not fits or array.shape[-1] == 0:
            raise ValueError(f"vectors must have the shape {shape}, found {list(array.shape)}.")
        if not np.isfinite(array).all():
            raise ValueError("vectors must be finite numbers, found NaN or infinity.")
        return array


def _faiss() -> Any:
    import faiss  # not before it is needed: it takes a tenth of a second

    return faiss


@contextmanager
def threads(most: int) -> Iterator[None]:
    """Let FAISS share what this thread asks of it among at most so many threads."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(before, most))  # OpenMP keeps one number for each thread
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _flat(dimension: int) -> FaissIndex:
    return _faiss().IndexFlatIP(dimension)


def _is_graph(index: FaissIndex | None) -> bool:
    return hasattr(index, "hnsw")


def _scan(index: FaissIndex, query: NDArray[np.float32], among: Mask | None) -> Look:
    """Return a search that compares with every vector."""
    vectors = index.storage if _is_graph(index) else index
    parameters = None if among is None else _faiss().SearchParameters(sel=_selector(among))
    return lambda count: vectors.search(query[None], count, params=parameters)


def _walk(index: FaissIndex, query: NDArray[np.float32], among: Mask | None, effort: int) -> Look:
    """Return a search along the graph, which also walks over vectors that are not allowed."""
    selector = None if among is None else _selector(among)
    parameters = _faiss().SearchParametersHNSW(efSearch=effort, sel=selector)
    return lambda count: index.search(query[None], count, params=parameters)


def _selector(among: Mask) -> Any:
    return _faiss().IDSelectorBitmap(np.packbits(among, bitorder="little"))


def _candidates(look: Look, k: int, limit: int) -> NDArray[np.int64]:
    """Return the ids of at least the ``k`` nearest, and of what is as near as the last of them.

    Args:
        look: The search.
        k: How many are wanted.
        limit: Most ids to look at.
    """
    count = min(k + 1, limit)
    while True:
        similarities, ids = look(count)
        found = ids[0][ids[0] >= 0]  # the graph fills up with -1 when it finds too few
        complete = count == limit or len(found) < count
        if complete or similarities[0, -1] < similarities[0, k - 1] - _CLOSE:
            return np.asarray(found, dtype=np.int64)
        count = min(4 * count, limit)


def _ranked(
    ids: NDArray[np.int64],
    similarities: NDArray[np.float64],
    births: NDArray[np.int64] | None,
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the ``k`` most similar of the candidates, the older first on ties."""
    order = np.lexsort((ids if births is None else births[ids], -similarities))[:k]
    return ids[order], similarities[order]

"""The index agrees with an exact twin, and the graph nearly does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpo_dspy.vector_index import VectorIndex

Rows = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Rows:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def twin(rows: Rows, query: Rows, k: int) -> list[int]:
    """Every similarity, sorted: the most similar first, the older first on ties."""
    similarities = [float(np.sum(row.astype(np.float64) * query)) for row in rows]
    return sorted(range(len(rows)), key=lambda i: (-similarities[i], i))[:k]


def clustered(n: int, seed: int, dimension: int = 64) -> Rows:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((50, dimension))
    noise = 0.5 * generator.standard_normal((n, dimension))
    return unit(centres[generator.integers(50, size=n)] + noise)


FAMILIES: dict[str, Callable[[np.random.Generator], Rows]] = {
    "random": lambda g: unit(g.standard_normal((60, 7))),
    "duplicates": lambda g: unit(g.standard_normal((6, 7)))[g.integers(6, size=60)],
    "all the same": lambda g: np.tile(unit(g.standard_normal((1, 7))), (60, 1)),
    "some zeros": lambda g: unit(g.standard_normal((60, 7)) * g.integers(2, size=(60, 1))),
    "all zeros": lambda g: np.zeros((60, 7), np.float32),
    "equal similarities": lambda g: unit(np.eye(7)[g.integers(7, size=60)]),
    "nearly equal": lambda g: unit(np.ones((60, 7)) + 1e-7 * g.standard_normal((60, 7))),
    "opposites": lambda g: (
        np.repeat(unit(g.standard_normal((1, 7))), 60, 0)
        * np.where(np.arange(60) % 2, 1, -1)[:, None].astype(np.float32)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("k", [1, 3, 7, 59, 60, 61, 500])
def test_agrees_with_the_twin(family: str, k: int) -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        rows = FAMILIES[family](generator)
        index = VectorIndex()
        index.add(rows)
        for query in (rows[17], unit(generator.standard_normal((1, 7)))[0]):
            ids, similarities = index.search(query, k)
            assert ids.tolist() == twin(rows, query, k)
            np.testing.assert_allclose(similarities, rows[ids] @ query, atol=1e-6)
            assert (np.diff(similarities) <= 0).all()


@given(
    rows=st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=3, max_size=3),
        min_size=1,
        max_size=30,
    ),
    k=st.integers(1, 40),
    exact_below=st.sampled_from([1, 5, 100]),
)
@settings(deadline=None)
def test_small_indexes_agree_with_the_twin_exact_or_not(
    rows: list[list[float]], k: int, exact_below: int
) -> None:
    vectors = unit(np.array(rows))
    index = VectorIndex(exact_below=exact_below)
    for vector in vectors:
        index.add(vector[None])
    ids, _ = index.search(vectors[0], k)
    if index.is_exact:
        assert ids.tolist() == twin(vectors, vectors[0], k)
    else:
        assert len(set(ids.tolist())) == len(ids) <= min(k, len(rows))


def test_ties_that_straddle_k_go_to_the_oldest() -> None:
    same, other = unit(np.array([[1.0, 0.0], [0.6, 0.8]]))
    index = VectorIndex()
    index.add(np.stack([other, *[same] * 50, other]))
    assert index.search(same, 4)[0].tolist() == [1, 2, 3, 4]
    assert index.search(other, 4)[0].tolist() == [0, 51, 1, 2]


def test_a_zero_query_finds_the_oldest() -> None:
    index = VectorIndex(exact_below=10)
    for _ in range(2):  # exact, then as a graph
        index.add(clustered(9, seed=1))
        ids, similarities = index.search(np.zeros(64), 3)
        assert (ids.tolist(), similarities.tolist()) == ([0, 1, 2], [0, 0, 0])


def test_an_empty_index_finds_nothing() -> None:
    ids, similarities = VectorIndex().search(np.ones(3), 5)
    assert (len(ids), len(similarities), len(VectorIndex())) == (0, 0, 0)
    assert VectorIndex(dimension=3).search(np.ones(3), 5)[0].tolist() == []


def test_ids_count_up() -> None:
    index = VectorIndex()
    assert index.add(clustered(3, seed=1)) == range(3)
    assert index.add(np.empty((0, 64))) == range(3, 3)
    assert index.add(clustered(2, seed=2)) == range(3, 5)
    assert len(index) == 5


class TestGraph:
    """From ``exact_below`` vectors on."""

    def test_takes_over_exactly_at_the_boundary(self) -> None:
        index = VectorIndex(exact_below=100)
        index.add(clustered(99, seed=1))
        before = index.is_exact
        index.add(clustered(1, seed=2))
        assert (before, index.is_exact, len(index)) == (True, False, 100)

    def test_recall_at_3_is_high_after_building_and_after_growing(self) -> None:
        rows, queries = clustered(6_000, seed=1), clustered(200, seed=2)
        index = VectorIndex(exact_below=3_000)
        index.add(rows[:4_000])
        for row in rows[4_000:]:
            index.add(row[None])
        found = [
            len({*index.search(query, 3)[0].tolist()} & {*np.argsort(-(rows @ query))[:3].tolist()})
            for query in queries
        ]
        assert sum(found) / (3 * len(queries)) > 0.99

    def test_equal_vectors_come_oldest_first(self) -> None:
        rows = clustered(2_000, seed=1)
        rows[[5, 700, 1_500, 1_999]] = rows[300]
        index = VectorIndex(exact_below=1_000)
        index.add(rows)
        ids, similarities = index.search(rows[300], 3)
        assert ids.tolist() == [5, 300, 700]
        assert len(set(similarities.tolist())) == 1

    def test_more_than_there_are_gives_all(self) -> None:
        index = VectorIndex(exact_below=50)
        index.add(clustered(60, seed=1))
        assert sorted(index.search(clustered(1, seed=2)[0], 100)[0].tolist()) == list(range(60))


class TestAmong:
    """A search among some of the vectors."""

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("k", [1, 3, 25, 60])
    def test_agrees_with_the_twin(self, family: str, k: int) -> None:
        for seed in range(5):
            generator = np.random.default_rng(seed)
            rows = FAMILIES[family](generator)
            among = generator.random(60) < 0.4
            index = VectorIndex()
            index.add(rows)
            allowed = np.flatnonzero(among)
            exact = allowed[twin(rows[allowed], rows[17], k)]
            assert index.search(rows[17], k, among=among)[0].tolist() == exact.tolist()

    def test_is_exact_where_few_of_a_graph_are_allowed(self) -> None:
        rows = clustered(3_000, seed=1)
        index = VectorIndex(exact_below=1_000)
        index.add(rows)
        among = np.random.default_rng(0).random(3_000) < 0.1
        for query in clustered(20, seed=2):
            ids, similarities = index.search(query, 5, among=among)
            best = np.sort(rows[among] @ query)[::-1][:5]
            assert among[ids].all()
            np.testing.assert_allclose(similarities, best, atol=1e-6)

    @pytest.mark.parametrize("share", [0.4, 0.9])
    def test_recall_is_high_where_many_of_a_graph_are_allowed(self, share: float) -> None:
        rows, queries = clustered(4_000, seed=1), clustered(100, seed=2)
        index = VectorIndex(exact_below=1_000)
        index.add(rows)
        among = np.random.default_rng(0).random(4_000) < share
        hits = 0
        for query in queries:
            ids, similarities = index.search(query, 10, among=among)
            assert among[ids].all()
            hits += (similarities >= np.sort(rows[among] @ query)[-10] - 1e-6).sum()
        assert hits / 1_000 > 0.95

    def test_none_allowed_finds_none(self) -> None:
        for exact_below in (10, 1_000):
            index = VectorIndex(exact_below=exact_below)
            index.add(clustered(50, seed=1))
            ids, similarities = index.search(np.ones(64), 3, among=np.zeros(50, bool))
            assert (len(ids), len(similarities)) == (0, 0)

    def test_a_zero_query_finds_the_oldest_allowed(self) -> None:
        index = VectorIndex()
        index.add(clustered(9, seed=1))
        assert index.search(np.zeros(64), 2, among=np.arange(9) > 3)[0].tolist() == [4, 5]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("exact_below", [100, 10_000])
def test_what_was_written_is_read(tmp_path: Path, mapped: bool, exact_below: int) -> None:
    rows = clustered(1_000, seed=1)
    index = VectorIndex(exact_below=exact_below)
    index.add(rows)
    path = tmp_path / "index"
    index.write(path)
    with path.open("ab") as file:
        file.write(b"what follows is left alone")
    again = VectorIndex.read(path, exact_below, mapped=mapped)
    assert (len(again), again.dimension, again.is_graph) == (1_000, 64, exact_below == 100)
    some = np.arange(100, 150)
    np.testing.assert_array_equal(again.rows(some), index.rows(some))
    for query in clustered(10, seed=2):
        for ours, theirs in zip(again.search(query, 5), index.search(query, 5), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    if mapped:
        with pytest.raises(ValueError, match="mapped=True"):
            again.add(rows)
    else:
        assert again.add(rows) == range(1_000, 2_000)


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_text("no index")
    with pytest.raises(RuntimeError):
        VectorIndex.read(path)


def test_rows_come_back_as_they_were() -> None:
    rows = clustered(20, seed=1)
    index = VectorIndex()
    assert index.rows(np.arange(0)).shape == (0, 0)
    index.add(rows)
    some = np.array([5, 3, 19])
    np.testing.assert_array_equal(index.rows(some), rows[some])
    assert index.rows(np.arange(0)).shape == (0, 64)


@pytest.mark.parametrize("exact_below", [10, 1_000])
def test_births_say_which_is_older(exact_below: int) -> None:
    index = VectorIndex(exact_below=exact_below)
    index.add(np.tile(unit(np.ones((1, 4))), (50, 1)))
    births = np.arange(50)[::-1].copy()
    for query in (np.ones(4) / 2, np.zeros(4)):
        assert index.search(query, 3, births=births)[0].tolist() == [49, 48, 47]
        among = np.arange(50) < 40
        assert index.search(query, 2, births=births, among=among)[0].tolist() == [39, 38]


@pytest.mark.parametrize(("half", "accuracy"), [(False, 1e-6), (True, 2e-4)])
def test_a_graph_from_the_first_vector_on_is_exact_while_it_is_small(
    half: bool, accuracy: float
) -> None:
    rows = clustered(300, seed=1)
    index = VectorIndex(graph=True, half=half)
    index.add(rows[:100])
    index.add(rows[100:])
    assert index.is_graph
    for query in clustered(10, seed=2):
        similarities = index.search(query, 5)[1]
        np.testing.assert_allclose(similarities, np.sort(rows @ query)[::-1][:5], atol=accuracy)


def test_a_graph_in_half_precision_takes_less(tmp_path: Path) -> None:
    sizes = []
    for half in (False, True):
        index = VectorIndex(exact_below=100, half=half)
        index.add(clustered(1_000, seed=1, dimension=384))
        index.write(tmp_path / "index")
        sizes.append((tmp_path / "index").stat().st_size)
    assert sizes[1] < 0.65 * sizes[0]


def test_a_search_leaves_the_number_of_threads_as_it_was() -> None:
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        index = VectorIndex()
        index.add(clustered(10, seed=1))
        index.search(np.ones(64), 3)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda index: index.add(np.ones(3)), r"shape \[n, 3\], found \[3\]"),
        (lambda index: index.add(np.ones((1, 4))), r"shape \[n, 3\], found \[1, 4\]"),
        (lambda index: index.add([[1.0, np.nan, 0.0]]), "finite numbers"),
        (lambda index: index.search(np.ones((1, 3)), 1), r"shape \[3\], found \[1, 3\]"),
        (lambda index: index.search([np.inf, 0, 0], 1), "finite numbers"),
        (lambda index: index.search(np.ones(3), 0), "k must be at least 1, found 0"),
        (lambda index: index.search(np.ones(3), 1, among=np.ones(2, bool)), r"\[0\], found \[2\]"),
        (lambda index: VectorIndex(dimension=0), "dimension must be at least 1, found 0"),
        (lambda index: VectorIndex(exact_below=0), "exact_below must be at least 1, found 0"),
    ],
)
def test_bad_arguments_are_refused(act: Callable[[VectorIndex], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act(VectorIndex(dimension=3))

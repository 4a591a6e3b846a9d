"""The memory finds what an exact twin finds, whatever became of its file, and chooses well."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpo_dspy.embedding import CachedEmbedder, HashedNgrams, resolve_embedder
from gpo_dspy.memory import Memory, memory_text
from gpo_dspy.memory import _file as file_of_memory
from gpo_dspy.memory import _layers as layers_of_memory
from gpo_dspy.memory._layer import Layer
from gpo_dspy.memory._layers import Layers
from gpo_dspy.memory._place import index_file
from gpo_dspy.memory.seeds import seeds
from gpo_dspy.storage import Storage, new_owner, open_storage
from gpo_dspy.storage.rows import Batch, NewRun, PredictorRow, PromptRow, Remembered, RunStatus
from gpo_dspy.vector_index import VectorIndex

Rows = NDArray[np.float32]

KINDS, MODELS = ("Predict", "ChainOfThought", "ReAct"), ("small", "large")


class FakeStorage:
    """Prompts in a list, vectors in a dictionary; notes which vectors were read."""

    url = "sqlite://"

    def __init__(self) -> None:
        self.rows: dict[int, tuple[Remembered, PromptRow]] = {}
        self.stored: dict[str, dict[str, Rows]] = {}
        self.read: list[int] = []

    def add(
        self,
        text: str,
        *,
        run: int = 1,
        predictor: str = "answer",
        kind: str = "Predict",
        model: str = "small",
        task: str = "",
        score: float = 0.5,
        evaluations: int = 24,
        step: int = 1,
        id_: int | None = None,
    ) -> int:
        id_ = max(self.rows, default=0) + 1 if id_ is None else id_
        row = PromptRow(predictor, text, score, evaluations, step, memory_text(task, text))
        remembered = Remembered(
            id_, run, None, "Program", predictor, kind, task, model, text, score, evaluations, 0.0
        )
        self.rows[id_] = (remembered, row)
        return id_

    def store_vectors(self, embedder: CachedEmbedder) -> None:
        texts = [row.memory_text for _, row in self.rows.values()]
        known = self.stored.setdefault(embedder.name, {})
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, embedder(new), strict=True))

    def memory_vectors(
        self, embedder: str, after: int = 0, limit: int = 10_000
    ) -> tuple[NDArray[np.int64], Rows]:
        ids = [id_ for id_ in self._with_vector(embedder) if id_ > after][:limit]
        self.read += ids
        rows = [self.stored[embedder][self.rows[id_][1].memory_text] for id_ in ids]
        return np.array(ids, np.int64), np.array(rows or np.empty((0, 0)), np.float32)

    def memory_ids(
        self,
        *,
        embedder: str,
        kind: str | None = None,
        model: str | None = None,
        not_run: int | None = None,
    ) -> NDArray[np.int64]:
        return np.array(
            [
                id_
                for id_ in self._with_vector(embedder)
                if kind in (None, self.rows[id_][0].kind)
                and model in (None, self.rows[id_][0].model)
                and not_run != self.rows[id_][0].run
            ],
            np.int64,
        )

    def remembered(self, ids: Sequence[int]) -> dict[int, Remembered]:
        return {id_: self.rows[id_][0] for id_ in ids if id_ in self.rows}

    def prompts(self, run: int) -> list[PromptRow]:
        return [row for prompt, row in self.rows.values() if prompt.run == run]

    def vectors(self, embedder: str, texts: Sequence[str]) -> dict[str, Rows]:
        known = self.stored.get(embedder, {})
        return {text: known[text] for text in texts if text in known}

    def _with_vector(self, embedder: str) -> list[int]:
        known = self.stored.get(embedder, {})
        return sorted(id_ for id_, (_, row) in self.rows.items() if row.memory_text in known)


class TableEmbedder:
    """Knows the vectors of some texts by heart; counts what it is asked for."""

    def __init__(self, name: str = "table") -> None:
        self.name = name
        self.table: dict[str, Rows] = {}
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Rows:
        self.asked += texts
        return np.stack([self.table[text] for text in texts])


class World:
    """A fake storage of vectors as runs leave them, its embedder, and the exact twin of a search.

    Twenty vectors in a row walk away from a start near one of 60 centres. Prompts take turns in
    kind, model and run; one in ten is the same as an earlier one.
    """

    def __init__(self, n: int, dimension: int = 16, seed: int = 0) -> None:
        self.storage, self.inner = FakeStorage(), TableEmbedder()
        self.embedder = CachedEmbedder(self.inner)
        self.dimension = dimension
        self.generator = np.random.default_rng(seed)
        self.centres = np.random.default_rng(99).standard_normal((60, dimension))
        self.grow(n)

    def grow(self, n: int, *, ids: Sequence[int] | None = None) -> None:
        table = self.inner.table
        for position, row in enumerate(self.points(n)):
            number = len(self.storage.rows)
            text = f"prompt {number} {position}"
            earlier = list(table.values())
            copied = len(earlier) > 10 and number % 10 == 0
            table[memory_text("", text)] = earlier[number // 2] if copied else row
            self.storage.add(
                text,
                run=number % 7,
                kind=KINDS[number % 3],
                model=MODELS[number % 2],
                id_=None if ids is None else ids[position],
            )
        self.storage.store_vectors(self.embedder)

    def points(self, n: int) -> Rows:
        normal, walks = self.generator.standard_normal, -(-n // 20)
        starts = self.centres[self.generator.integers(60, size=walks)]
        starts = starts + 0.4 * normal((walks, self.dimension))
        steps = np.cumsum(0.03 * normal((walks, 20, self.dimension)), axis=1)
        rows = (starts[:, None] + steps).reshape(-1, self.dimension)[:n]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def queries(self, n: int) -> list[str]:
        texts = [f"query {len(self.inner.table)} {i}" for i in range(n)]
        self.inner.table.update(zip(texts, self.points(20 * n)[::20], strict=True))
        return texts

    def memory(self, path: Path | None = None, **arguments: int) -> Memory:
        # An embedder of its own, as another process has.
        return Memory(self.storage, CachedEmbedder(self.inner), index_path=path, **arguments)

    def twin(self, text: str, k: int, **filters: object) -> list[tuple[int, float]]:
        """Every similarity, sorted: the most similar first, the older first on ties."""
        query = self.embedder([text])[0]
        known = self.storage.stored["table"]
        similarities = {
            int(id_): float(
                (known[self.storage.rows[id_][1].memory_text].astype(float) * query).sum()
            )
            for id_ in self.storage.memory_ids(embedder="table", **filters)  # type: ignore[arg-type]
        }
        return sorted(similarities.items(), key=lambda pair: (-pair[1], pair[0]))[:k]

    def check(self, memory: Memory, k: int = 10, n: int = 5) -> None:
        """Compare some searches with the twin."""
        for text in self.queries(n):
            assert found_ids(memory.search(text, k)) == [id_ for id_, _ in self.twin(text, k)]

    def recall(self, memory: Memory, k: int = 10, n: int = 50, **filters: object) -> float:
        """Return how much of what the twin finds a memory finds, half precision aside."""
        hits = 0
        for text in self.queries(n):
            exact = self.twin(text, k, **filters)
            found = memory.search(text, k, **filters)  # type: ignore[arg-type]
            assert len(found) == len(exact)
            hits += sum(similarity >= exact[-1][1] - 5e-4 for _, similarity in found)
        return hits / (n * k)


def found_ids(found: list[tuple[Remembered, float]]) -> list[int]:
    return [prompt.id for prompt, _ in found]


FILTERS: list[dict[str, object]] = [
    {},
    {"kind": "Predict"},
    {"model": "large"},
    {"not_run": 3},
    {"kind": "ReAct", "model": "small", "not_run": 0},
    {"kind": "none of this kind"},
]


class TestExact:
    """Below the switch."""

    @pytest.mark.parametrize("filters", FILTERS)
    @pytest.mark.parametrize("k", [1, 10, 64, 400, 10_000])
    def test_agrees_with_the_twin(self, filters: dict[str, object], k: int) -> None:
        world = World(600)
        memory = world.memory()
        for text in world.queries(3):
            found = memory.search(text, k, **filters)  # type: ignore[arg-type]
            twin = world.twin(text, k, **filters)
            assert found_ids(found) == [id_ for id_, _ in twin]
            np.testing.assert_allclose([s for _, s in found], [s for _, s in twin], atol=1e-6)
            assert all(prompt == world.storage.rows[prompt.id][0] for prompt, _ in found)

    def test_a_filter_that_few_pass_is_answered_in_full(self) -> None:
        world = World(3_000)
        rare = [5, 1_500, 2_990]
        for id_ in rare:
            prompt, row = world.storage.rows[id_]
            world.storage.rows[id_] = (replace(prompt, kind="Rare"), row)
        (text,) = world.queries(1)
        found = world.memory().search(text, 5, kind="Rare")
        assert found_ids(found) == [id_ for id_, _ in world.twin(text, 5, kind="Rare")]
        assert sorted(found_ids(found)) == rare

    def test_finds_what_was_stored_since(self) -> None:
        world = World(50)
        memory = world.memory()
        world.check(memory)
        world.grow(30)
        world.check(memory, k=80)

    def test_finds_what_was_stored_late_under_an_earlier_id(self) -> None:
        world = World(40)
        world.grow(3, ids=[42, 45, 50])
        memory = world.memory()
        world.check(memory)
        world.grow(2, ids=[41, 44])  # begun before 45 and 50, committed after them
        world.check(memory, k=50)

    @pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
    def test_deleted_prompts_are_passed_over(self, share: float) -> None:
        world = World(3_000)
        memory = world.memory()
        world.check(memory)
        for id_ in list(world.storage.rows)[: int(share * 3_000)]:
            del world.storage.rows[id_]
        world.check(memory, k=20)

    def test_an_empty_storage_has_nothing_and_nothing_is_embedded(self) -> None:
        world = World(0)
        assert world.memory().search("anything", 3) == []
        assert world.inner.asked == []

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_below_1_is_refused(self, k: int) -> None:
        with pytest.raises(ValueError, match=f"k must be at least 1, found {k}"):
            World(3).memory().search("anything", k)

    def test_a_text_without_a_vector_finds_the_oldest(self) -> None:
        world = World(30)
        world.inner.table["nothing"] = np.zeros(16, np.float32)
        found = world.memory().search("nothing", 3)
        assert [(prompt.id, similarity) for prompt, similarity in found] == [(1, 0), (2, 0), (3, 0)]


class TestEmbedders:
    def test_names_never_mix(self) -> None:
        storage = FakeStorage()
        one, other = TableEmbedder("one"), TableEmbedder("other")
        first = storage.add("first")
        one.table = {memory_text("", "first"): np.array([1.0, 0.0], np.float32)}
        storage.store_vectors(CachedEmbedder(one))
        second = storage.add("second")
        other.table = {
            memory_text("", "first"): np.array([0.0, 1.0, 0.0], np.float32),
            memory_text("", "second"): np.array([1.0, 0.0, 0.0], np.float32),
        }
        storage.store_vectors(CachedEmbedder(other))
        assert found_ids(
            Memory(storage, CachedEmbedder(one)).search(memory_text("", "first"), 5)
        ) == [first]
        assert found_ids(
            Memory(storage, CachedEmbedder(other)).search(memory_text("", "second"), 5)
        ) == [second, first]

    def test_a_function_without_a_name_of_its_own_remembers_nothing(self) -> None:
        world = World(20)
        embedder = resolve_embedder(lambda texts: np.ones((len(texts), 16)))
        memory = Memory(world.storage, embedder)
        assert embedder.name.startswith("function:")
        assert memory.search("anything", 3) == []
        assert world.storage.read == []

    def test_vectors_of_another_length_under_the_same_name_are_refused(self) -> None:
        world = World(20)
        changed = TableEmbedder("table")
        changed.table["text"] = np.ones(8, np.float32)
        memory = Memory(world.storage, CachedEmbedder(changed))
        with pytest.raises(ValueError, match=r"'table' makes vectors of length 8.*have length 16"):
            memory.search("text", 3)


@pytest.fixture(scope="module")
def large_world() -> World:
    return World(5_000)


@pytest.fixture(scope="module")
def large(large_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A memory over a graph in a file, and some prompts that came since."""
    path = tmp_path_factory.mktemp("memory") / "index.faiss"
    memory = large_world.memory(path, exact_below=1_000, file_from=500)
    memory.search(large_world.queries(1)[0], 1)
    memory.wait()
    large_world.grow(100)
    yield memory
    memory.close()


class TestGraph:
    """From the switch on, here lowered."""

    @pytest.mark.parametrize("filters", FILTERS[:-1])
    def test_recall_at_10_is_high(
        self, large_world: World, large: Memory, filters: dict[str, object]
    ) -> None:
        assert large_world.recall(large, **filters) >= 0.95

    def test_recall_is_high_among_very_few(self, large_world: World, large: Memory) -> None:
        for id_ in range(7, 5_000, 250):
            prompt, row = large_world.storage.rows[id_]
            large_world.storage.rows[id_] = (replace(prompt, model="rare"), row)
        assert large_world.recall(large, model="rare") == 1.0

    def test_it_is_a_graph_and_comes_from_the_file(self, large_world: World, large: Memory) -> None:
        again = large_world.memory(large._index_path, exact_below=1_000, file_from=500)
        assert large_world.recall(again) >= 0.95
        assert again._layers is not None
        assert again._layers.lower.index.is_graph
        assert len(again._layers.lower) == 5_000

    def test_equal_ones_come_oldest_first(self, large_world: World, large: Memory) -> None:
        table = large_world.inner.table
        same = [
            memory_text("", large_world.storage.rows[i][1].text) for i in range(100, 5_000, 100)
        ]
        table["equal"] = large_world.points(1)[0]
        for text in same:
            large_world.storage.stored["table"][text] = table["equal"]
        path = large._index_path
        assert path is not None
        memory = large_world.memory(path.with_name("equal"), exact_below=1_000, file_from=500)
        memory.search("equal", 1)
        memory.wait()
        assert found_ids(memory.search("equal", 4)) == [100, 200, 300, 400]

    def test_more_than_there_are_gives_all(self, large_world: World, large: Memory) -> None:
        found = large.search(large_world.queries(1)[0], 6_000)
        assert sorted(found_ids(found)) == sorted(large_world.storage.rows)

    def test_without_a_file_there_is_a_graph_too(self) -> None:
        world = World(2_000)
        memory = world.memory(exact_below=1_000, file_from=500)
        memory.search(world.queries(1)[0], 1)
        memory.wait()
        assert memory._layers is not None
        assert memory._layers.lower.index.is_graph
        assert world.recall(memory) >= 0.95


class TestFile:
    """The file is only ever a speed-up."""

    @pytest.fixture
    def world(self) -> World:
        return World(1_200)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "index.faiss"

    def built(self, world: World, path: Path, **arguments: int) -> Memory:
        memory = world.memory(path, **{"file_from": 500} | arguments)
        world.check(memory)
        memory.wait()
        return memory

    def read_by(self, world: World, path: Path, **arguments: int) -> set[int]:
        """Return the ids whose vectors a new memory reads from the storage; check what it finds."""
        world.storage.read.clear()
        memory = self.built(world, path, **arguments)
        memory.close()
        return set(world.storage.read)

    def test_spares_the_next_process_the_reading(self, world: World, path: Path) -> None:
        self.built(world, path)
        world.grow(10)
        read = self.read_by(world, path)
        assert set(range(1_201, 1_211)) <= read
        assert len(read) < 400

    def test_few_prompts_need_none(self, world: World, path: Path) -> None:
        self.built(world, path, file_from=1_201)
        assert not path.exists()

    def test_grows_when_much_was_added(self, world: World, path: Path) -> None:
        self.built(world, path)
        world.grow(600)
        assert len(self.read_by(world, path)) > 600
        assert len(self.read_by(world, path)) < 400

    def test_becomes_a_graph_at_the_switch(self, world: World, path: Path) -> None:
        before = self.built(world, path, exact_below=2_000)
        world.grow(1_000)
        after = world.memory(path, exact_below=2_000, file_from=500)
        after.search(world.queries(1)[0], 1)
        after.wait()
        assert before._layers is not None
        assert after._layers is not None
        assert not before._layers.lower.index.is_graph
        assert after._layers.lower.index.is_graph
        assert len(after._layers.lower) == 2_200
        assert world.recall(after) >= 0.95

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"not an index",
            lambda data: data[: len(data) // 2],
            lambda data: data[:-1],
            lambda data: data + b"more",
            lambda data: data[:1_000] + bytes([data[1_000] ^ 1]) + data[1_001:],
            lambda data: bytes(len(data) - 24) + data[-24:],
            lambda data: data.replace(b'"embedder": "table"', b'"embedder": "tabel"'),
            lambda data: data.replace(b'"format": 1', b'"format": 9'),
            lambda data: data.replace(b'"count": 1200', b'"count": null'),
            lambda data: data.replace(b'"count": 1200', b'"count": -200'),
        ],
    )
    def test_a_broken_one_is_made_anew(self, world: World, path: Path, damage: object) -> None:
        self.built(world, path)
        whole = path.read_bytes()
        path.write_bytes(damage(whole))  # type: ignore[operator]
        assert path.read_bytes() != whole
        assert len(self.read_by(world, path)) == 1_200
        assert len(self.read_by(world, path)) < 400

    def test_one_of_another_database_is_made_anew(self, world: World, path: Path) -> None:
        self.built(world, path)
        other = World(1_300, seed=5)  # the same ids, other prompts
        assert len(self.read_by(other, path)) == 1_300
        assert len(self.read_by(other, path)) < 400

    def test_one_of_a_database_that_was_emptied_is_made_anew(
        self, world: World, path: Path
    ) -> None:
        self.built(world, path)
        world.storage.rows.clear()
        assert self.read_by(world, path) == set()

    def test_deleted_prompts_in_it_are_passed_over(self, world: World, path: Path) -> None:
        self.built(world, path)
        for id_ in range(1, 1_000):
            del world.storage.rows[id_]
        assert len(self.read_by(world, path)) < 400

    def test_a_place_that_cannot_be_written_is_done_without(
        self, world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        with caplog.at_level(logging.INFO, "gpo_dspy"):
            memory = self.built(world, tmp_path / "file" / "index.faiss")
        world.grow(700)
        world.check(memory)
        memory.wait()
        assert caplog.text.count("cannot be kept") == 1

    def test_a_write_that_fails_leaves_the_old_one(
        self, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.built(world, path)
        whole = path.read_bytes()
        world.grow(1_000)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        self.built(world, path)
        assert path.read_bytes() == whole
        assert list(path.parent.iterdir()) == [path]

    def test_what_a_killed_process_left_is_cleared(self, world: World, path: Path) -> None:
        old, new, foreign = (path.with_name(f"{path.name}.{i}.part") for i in range(3))
        foreign = path.with_name("other.faiss.1.part")
        for left in (old, new, foreign):
            left.write_text("half")
        for left in (old, foreign):
            os.utime(left, (time.time() - 7_200,) * 2)
        self.built(world, path)
        assert (old.exists(), new.exists(), foreign.exists()) == (False, True, True)

    def test_is_not_written_while_it_is_mapped(self, world: World, path: Path) -> None:
        one = self.built(world, path)
        other = self.built(world, path)
        world.grow(1_000)
        self.built(world, path)  # replaces the file
        world.check(one)
        world.check(other)


class TestMerging:
    def test_searches_go_on_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(layers_of_memory, "_CHUNK", 20)
        world = World(1_000)
        memory = world.memory(tmp_path / "index.faiss", exact_below=100_000, file_from=100)
        texts = world.queries(40)
        exact = {text: [id_ for id_, _ in world.twin(text, 10)] for text in texts}
        wrong = []

        def search(mine: list[str]) -> None:
            wrong.extend(text for text in mine if found_ids(memory.search(text, 10)) != exact[text])

        threads = [threading.Thread(target=search, args=(texts[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        memory.wait()
        assert wrong == []

    def test_one_that_is_ended_keeps_what_it_has(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(layers_of_memory, "_CHUNK", 100)
        world = World(3_000)
        path = tmp_path / "index.faiss"
        memory = world.memory(path, exact_below=1_000, file_from=200)
        at, chunks, some = Layers._at, [0], threading.Event()

        def slowly(layers: Layers, *arguments: Any) -> Any:
            chunks[0] += 1
            time.sleep(0.01)
            if chunks[0] > 5:
                some.set()
            return at(layers, *arguments)

        monkeypatch.setattr(Layers, "_at", slowly)
        memory.search(world.queries(1)[0], 1)
        assert some.wait(10)
        memory.close()
        monkeypatch.setattr(Layers, "_at", at)
        unfinished = path.with_name(f"{path.name}.unfinished")
        kept = file_of_memory.read(unfinished, "table", 1_000, mapped=True)
        assert kept is not None
        assert 200 <= len(kept) < 3_000
        assert not path.exists()
        assert world.recall(memory) == 1.0  # all of it is in the upper layer
        again = world.memory(path, exact_below=1_000, file_from=200)
        added = []
        add = VectorIndex.add
        monkeypatch.setattr(VectorIndex, "add", lambda i, r: (added.append((i, len(r))), add(i, r)))
        again.search(world.queries(1)[0], 1)
        again.wait()
        assert again._layers is not None
        assert len(again._layers.lower) == 3_000
        assert sum(n for index, n in added if index.is_graph) == 3_000 - len(kept)
        assert world.recall(again) >= 0.95
        assert list(tmp_path.iterdir()) == [path]

    def test_one_that_was_ended_in_another_database_is_not_carried_on(self, tmp_path: Path) -> None:
        other, world = World(500, seed=5), World(3_000)
        path = tmp_path / "index.faiss"
        foreign = Layer(VectorIndex(graph=True, half=True))
        foreign.add(*other.storage.memory_vectors("table"))
        file_of_memory.write(path.with_name(f"{path.name}.unfinished"), foreign, "table")
        memory = world.memory(path, exact_below=1_000, file_from=200)
        memory.search(world.queries(1)[0], 1)
        memory.wait()
        assert world.recall(memory) >= 0.95

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("FAISS says no")])
    def test_one_that_fails_is_done_without(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(file_of_memory, "write", fail)
        world = World(1_000)
        memory = world.memory(tmp_path / "index.faiss", file_from=100)
        with caplog.at_level(logging.INFO, "gpo_dspy"):
            for _ in range(3):
                world.check(memory)
                memory.wait()
        assert caplog.text.count("is not built") == 1

    def test_a_process_that_ends_is_not_held_up(self, tmp_path: Path) -> None:
        path = tmp_path / "index.faiss"
        script = f"""
            import sys, time
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            from gpo_dspy.memory import _layers
            from test_memory import World
            world = World(5_000, dimension=4)
            memory = world.memory(Path({str(path)!r}), exact_below=500, file_from=100)
            at, chunks = _layers.Layers._at, []
            def slowly(*arguments):
                chunks.append(1)
                time.sleep(0.1)
                return at(*arguments)
            _layers._CHUNK, _layers.Layers._at = 100, slowly
            memory.search(world.queries(1)[0], 3)
            while len(chunks) < 5:
                time.sleep(0.01)
            print(time.time())
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )
        ended = time.time()
        assert (done.returncode, done.stderr) == (0, "")
        assert ended - float(done.stdout) < 3  # the rest would take more than four
        unfinished = path.with_name(f"{path.name}.unfinished")
        kept = file_of_memory.read(unfinished, "table", 500, mapped=True)
        assert kept is not None
        assert 100 <= len(kept) < 5_000


def test_runs_of_prompts_much_alike_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph to which they are added in the order of their ids finds nine in ten of these."""
    monkeypatch.setattr(layers_of_memory, "_CHUNK", 100)
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((60, 16))
    projection = generator.standard_normal((16, 64))

    def starts(n: int) -> Rows:
        inner = centres[generator.integers(60, size=n)] + 0.4 * generator.standard_normal((n, 16))
        return np.asarray(inner @ projection + 0.5 * generator.standard_normal((n, 64)), np.float32)

    walks = np.cumsum(0.1 * generator.standard_normal((100, 50, 64)), axis=1)
    rows = (starts(100)[:, None] + walks).reshape(-1, 64).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    layers = Layers(None, "table", exact_below=1_000, file_from=1_000)
    layers.add(np.arange(5_000), rows)
    layers.merge_if_due()
    layers.wait()
    assert layers.lower.index.is_graph
    found = 0
    for start in starts(100):
        query = start / np.linalg.norm(start)
        found += (layers.search(query, 10)[1] >= np.sort(rows @ query)[-10] - 5e-4).sum()
    assert found / 1_000 > 0.97


class TestPlace:
    def test_is_beside_an_sqlite_database(self, tmp_path: Path) -> None:
        database = tmp_path / "gpo.db"
        database.write_text("")
        one, other = (index_file(f"sqlite:///{database}", name) for name in ("one", "other"))
        assert one is not None
        assert one.parent == tmp_path
        assert one.name.startswith("gpo.db-memory-")
        assert one.suffix == ".faiss"
        assert one != other

    def test_is_in_the_cache_folder_for_a_server(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(sys, "platform", "linux")
        places = {
            index_file(f"postgresql+psycopg://me:***@{host}/gpo", name)
            for host in ("one", "other")
            for name in ("one", "other")
        }
        assert len(places) == 4
        assert {place and place.parent for place in places} == {tmp_path / "gpo_dspy"}

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:////no/such.db"])
    def test_is_nowhere_for_what_is_no_file(self, url: str) -> None:
        assert index_file(url, "one") is None


# --- with a real storage --------------------------------------------------------------------------


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with open_storage(f"sqlite:///{tmp_path / 'gpo.db'}") as storage:
        yield storage


def remember(
    storage: Storage,
    embedder: CachedEmbedder,
    prompts: Sequence[tuple[str, float, int, int]],
    *,
    task: str = "`words` -> `sorted`",
    kind: str = "Predict",
    model: str = "small",
) -> int:
    """Store a run with prompts (text, score, evaluations, step) and return its id."""
    predictor = PredictorRow("answer", kind, task, model)
    new = NewRun("identity", None, {}, {}, "Program", "writer", (predictor,), {}, "0")
    owner = new_owner()
    run = storage.create_run(new, owner)
    rows = tuple(PromptRow("answer", *prompt, memory_text(task, prompt[0])) for prompt in prompts)
    texts = [row.memory_text for row in rows]
    vectors = tuple(zip([embedder.name] * len(texts), texts, embedder(texts), strict=True))
    storage.save(run, owner, Batch(prompts=rows, vectors=vectors))
    storage.leave_run(run, owner, RunStatus.FINISHED, None)
    return run


class TestRealStorage:
    def test_finds_filters_keeps_up_and_forgets(self, storage: Storage) -> None:
        embedder = resolve_embedder("hashed-ngrams")
        memory = Memory(storage, embedder, file_from=2)
        text = memory_text("`words` -> `sorted`", "Sort the words.")
        assert memory.search(text, 3) == []
        first = remember(storage, embedder, [("Sort the words.", 0.5, 20, 0)])
        second = remember(storage, embedder, [("Sort all the words.", 0.6, 20, 0)], kind="ReAct")
        found = memory.search(text, 3)
        assert [(prompt.run, prompt.text) for prompt, _ in found] == [
            (first, "Sort the words."),
            (second, "Sort all the words."),
        ]
        assert found[0][1] == pytest.approx(1.0)
        assert [p.run for p, _ in memory.search(text, 3, kind="ReAct")] == [second]
        assert [p.run for p, _ in memory.search(text, 3, not_run=second)] == [first]
        assert memory.search(text, 3, model="large") == []
        memory.wait()
        storage.delete_run(first)
        assert [p.run for p, _ in memory.search(text, 3)] == [second]
        third = remember(storage, embedder, [("Sort the words.", 0.7, 20, 0)])
        again = Memory(storage, embedder, file_from=2)
        assert [p.run for p, _ in again.search(text, 3)] == [third, second]
        again.wait()

    def test_the_file_is_beside_the_database(self, storage: Storage, tmp_path: Path) -> None:
        embedder = resolve_embedder("hashed-ngrams")
        remember(storage, embedder, [(f"prompt {i}", 0.5, 20, i) for i in range(50)])
        memory = Memory(storage, embedder, file_from=10)
        before = memory.search("prompt 7", 5)
        memory.wait()
        assert len(list(tmp_path.glob("gpo.db-memory-*.faiss"))) == 1
        assert Memory(storage, embedder, file_from=10).search("prompt 7", 5) == before

    def test_seeds_of_a_stored_run(self, storage: Storage) -> None:
        embedder = resolve_embedder("hashed-ngrams")
        run = remember(
            storage,
            embedder,
            [
                ("Sort the words.", 0.4, 36, 0),
                ("Sort the words letter by letter and ignore the case of them.", 0.8, 36, 1),
                ("Please sort.", 0.2, 36, 1),
            ],
        )
        memory = Memory(storage, embedder)
        found = seeds(memory, "`words` -> `sorted`", "Order the words.", kind=None, model=None)
        assert [(p.run, p.score) for p in found] == [(run, 0.8)]
        assert found == list(storage.remembered([found[0].id]).values())


# --- what a new run starts from -------------------------------------------------------------------

SORTING, REPLYING = "gets `words`, gives `sorted`", "gets a customer's `email`, gives a `reply`"

LETTERS = "Compare the words letter by letter, the shorter one first if it begins the longer."
CASE = "Ignore upper and lower case, keep duplicates, and count at the end that none is lost."
FORMAT = "Write nothing but the list itself, with a single space between any two neighbours."
CHECK = "Read your answer once more from the end and move whatever stands in the wrong place."


class Past:
    """Earlier runs in a fake storage, compared by spelling."""

    def __init__(self) -> None:
        self.storage = FakeStorage()
        self.embedder = CachedEmbedder(HashedNgrams())

    def run(
        self,
        number: int,
        start: tuple[str, float],
        *rewrites: tuple[str, float] | tuple[str, float, int],
        task: str = SORTING,
        **columns: str,
    ) -> None:
        for step, (text, score, *rest) in enumerate([start, *rewrites]):
            self.storage.add(
                text,
                run=number,
                task=task,
                score=score,
                evaluations=rest[0] if rest else 24,  # type: ignore[arg-type]
                step=step,
                **columns,  # type: ignore[arg-type]
            )

    def seeds(self, instruction: str = "Sort the words.", **arguments: object) -> list[str]:
        self.storage.store_vectors(self.embedder)
        memory = Memory(self.storage, self.embedder)
        filters: dict[str, object] = {"kind": None, "model": None}
        found = seeds(memory, SORTING, instruction, **filters | arguments)  # type: ignore[arg-type]
        assert all(prompt == self.storage.rows[prompt.id][0] for prompt in found)
        return [prompt.text for prompt in found]


class TestSeeds:
    def test_are_the_best_of_a_similar_run_though_they_are_not_the_nearest(self) -> None:
        past = Past()
        near = [(f"Sort the words. {i}", 0.4) for i in range(300)]
        past.run(1, ("Sort the words.", 0.5), *near, (LETTERS, 0.9), (CASE, 0.7))
        assert past.seeds() == [LETTERS, CASE]

    def test_beat_the_run_s_own_start(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), (LETTERS, 0.5), (CASE, 0.4))
        assert past.seeds() == []

    def test_beat_the_prompt_that_asks_if_the_run_tried_it(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), (LETTERS, 0.7), (CASE, 0.9), (FORMAT, 0.95))
        assert past.seeds(instruction=CASE) == [FORMAT]

    def test_rest_on_enough_evaluations(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), (LETTERS, 1.0, 4), (CASE, 0.7, 12))
        assert past.seeds() == [CASE]

    def test_of_a_run_with_few_examples_rest_on_all_of_them(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5, 6), (LETTERS, 0.8, 6), (CASE, 1.0, 3))
        past.storage.rows[1] = tuple(replace(row, evaluations=6) for row in past.storage.rows[1])  # type: ignore[type-var, assignment]
        assert past.seeds() == [LETTERS]

    def test_a_score_that_rests_on_more_counts_for_more(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), (LETTERS, 0.95, 12), (CASE, 0.9, 60))
        assert past.seeds() == [CASE, LETTERS]

    def test_runs_take_turns_the_nearest_first(self) -> None:
        past = Past()
        past.run(1, ("Sort these words, please.", 0.1), (LETTERS, 0.9), (CASE, 0.8))
        past.run(2, ("Sort the words.", 0.7), (FORMAT, 0.75), (CHECK, 0.8))
        assert past.seeds() == [CHECK, LETTERS, FORMAT, CASE]
        assert past.seeds(limit=3) == [CHECK, LETTERS, FORMAT]
        assert past.seeds(limit=1) == [CHECK]

    def test_nearly_equal_texts_are_one(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), (LETTERS, 0.9), (f"{LETTERS} Please!", 0.85))
        past.run(2, ("Sort the words!", 0.5), (LETTERS.lower(), 0.7), (CASE, 0.6))
        found = past.seeds()
        assert found == [LETTERS, CASE]

    def test_many_runs_are_seen_past_one_with_many_near_prompts(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), *((f"Sort the words. {i}", 0.6) for i in range(100)))
        past.run(2, ("Sort all of the words now.", 0.5), (LETTERS, 0.9))
        assert LETTERS in past.seeds()

    def test_leave_out_what_is_about_something_else(self) -> None:
        past = Past()
        past.run(1, ("Answer the mail in a friendly tone.", 0.5), (CASE, 0.9), task=REPLYING)
        assert past.seeds() == []
        past.run(2, ("Sort the words.", 0.5), (LETTERS, 0.9))
        assert past.seeds() == [LETTERS]

    def test_leave_out_runs_much_farther_away_than_the_nearest(self) -> None:
        past = Past()
        far = "Given some words, put each of them in its place in the alphabet, and mind the case"
        past.run(1, (far, 0.5), (CASE, 0.9))
        assert past.seeds() == [CASE]
        past.run(2, ("Sort the words.", 0.5), (LETTERS, 0.9))
        assert past.seeds() == [LETTERS]

    def test_predictors_of_one_run_are_apart(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.8), (LETTERS, 0.7), predictor="one")
        past.run(1, ("Sort the words.", 0.2), (CASE, 0.3), predictor="other")
        assert past.seeds() == [CASE]

    def test_keep_to_the_filters(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), (LETTERS, 0.9), kind="ReAct", model="small")
        past.run(2, ("Sort the words.", 0.5), (CASE, 0.9), kind="Predict", model="large")
        assert past.seeds(kind="ReAct") == [LETTERS]
        assert past.seeds(model="large") == [CASE]
        assert past.seeds(not_run=1) == [CASE]
        assert past.seeds(kind="ReAct", model="large") == []

    def test_of_a_run_that_never_scored_its_start_there_are_none(self) -> None:
        past = Past()
        past.run(1, ("Sort the words.", 0.5), (LETTERS, 0.9))
        del past.storage.rows[1]
        assert past.seeds() == []

    def test_of_an_empty_storage_there_are_none(self) -> None:
        assert Past().seeds() == []

    def test_limit_below_1_is_refused(self) -> None:
        with pytest.raises(ValueError, match="limit must be at least 1, found 0"):
            Past().seeds(limit=0)


def test_the_text_compared_is_the_task_and_the_instruction() -> None:
    # Written out: stored vectors are found by it, so it must not change.
    assert memory_text("gets `words`", "Sort.") == "gets `words`\n\nSort."

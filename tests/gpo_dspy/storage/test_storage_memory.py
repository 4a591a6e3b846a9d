"""Vectors are stored once; prompts of all runs are found by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import QA, RANK, count_rows, full_batch, new_run, prompt, vector

from gpo_dspy.storage import new_owner
from gpo_dspy.storage.columns import Vector
from gpo_dspy.storage.rows import Batch, Remembered
from gpo_dspy.storage.storage import Storage


def begin(storage: Storage, *texts: str, predictor: str = "answer", study: str = "s") -> int:
    """Store a run with prompts whose memory text has a vector of "ngrams"."""
    owner = new_owner()
    run = storage.create_run(new_run(study=study), owner)
    rows = tuple(prompt(text, predictor=predictor) for text in texts)
    vectors = tuple(("ngrams", row.memory_text, vector(len(row.text), 1, 0)) for row in rows)
    storage.save(run, owner, Batch(prompts=rows, vectors=vectors))
    return run


def test_vectors_come_back_by_text(storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    tiny = np.float32(1e-42)  # denormal
    rows = (("a", "one", vector(1, -0.0, tiny)), ("a", "two", vector(0, 0, 0)))
    storage.save(run, owner, Batch(vectors=(*rows, ("b", "one", vector(5)))))
    found = storage.vectors("a", ["two", "none", "one", "two"])
    assert found.keys() == {"one", "two"}
    assert found["one"].tobytes() == vector(1, -0.0, tiny).tobytes()
    assert found["one"].dtype == np.float32
    assert storage.vectors("b", ["one", "two"]).keys() == {"one"}
    assert storage.vectors("c", ["one"]) == storage.vectors("a", []) == {}


@given(
    length=st.sampled_from([1, 2, 3, 64, 1024]),
    values=st.dictionaries(
        st.integers(0, 1023), st.floats(allow_nan=False, allow_infinity=False, width=32)
    ),
)
def test_vectors_of_many_zeros_come_back_to_the_last_bit(
    length: int, values: dict[int, float]
) -> None:
    counts = np.zeros(length, np.float32)
    for place, value in values.items():
        counts[place % length] = value
    stored = Vector().encode(counts)
    found = Vector().decode(stored)
    assert len(stored) <= 4 * length + 1
    assert found.dtype == np.float32
    assert found.tobytes() == counts.tobytes()


def test_counts_of_n_grams_take_little_space() -> None:
    counts = np.random.default_rng(0).poisson(0.3, 1024).astype(np.float32)
    counts /= np.linalg.norm(counts)
    assert len(Vector().encode(counts)) < 0.3 * counts.nbytes


def test_a_vector_is_stored_once_for_all_runs(storage: Storage) -> None:
    begin(storage, "Think.")
    begin(storage, "Think.", study="other")
    assert count_rows(storage)["gpo_vectors"] == count_rows(storage)["gpo_embedders"] == 1
    assert len(storage.memory_ids(embedder="ngrams")) == 2


@pytest.mark.parametrize("bad", [vector(), vector(np.nan), vector(np.inf), vector(1, 2)])
def test_bad_vectors_are_refused(storage: Storage, bad: np.ndarray) -> None:  # type: ignore[type-arg]
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.save(run, owner, Batch(vectors=(("ngrams", "text", vector(1)),)))
    with pytest.raises(ValueError, match="vectors"):
        storage.save(run, owner, Batch(vectors=(("ngrams", "other text", bad),)))
    assert count_rows(storage)["gpo_vectors"] == 1


def test_prompts_are_read_in_pages_with_their_vectors(storage: Storage) -> None:
    begin(storage, *(f"Think {'x' * i}" for i in range(7)))
    begin(storage, "Rank.", predictor="rank")
    ids, rows = storage.memory_vectors("ngrams")
    assert (ids.dtype, rows.dtype, rows.shape) == (np.int64, np.float32, (8, 3))
    assert list(ids) == sorted(ids)
    assert list(rows[:, 0]) == [6, 7, 8, 9, 10, 11, 12, 5]
    after, pages = 0, []
    while len(page := storage.memory_vectors("ngrams", after, limit=3)[0]):
        pages.append(page)
        after = page[-1]
    assert [len(page) for page in pages] == [3, 3, 2]
    assert list(np.concatenate(pages)) == list(ids)
    empty, none = storage.memory_vectors("other")
    assert (len(empty), len(none)) == (0, 0)


def test_prompts_without_a_vector_are_not_remembered(storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.save(run, owner, Batch(prompts=(prompt(),)))
    assert not len(storage.memory_ids(embedder="ngrams"))
    storage.save(run, owner, Batch(vectors=(("ngrams", prompt().memory_text, vector(1)),)))
    assert len(storage.memory_ids(embedder="ngrams")) == 1


def test_filters(storage: Storage) -> None:
    first = begin(storage, "A.", "B.")
    begin(storage, "C.", predictor="rank")
    a, b, c = storage.memory_ids(embedder="ngrams")
    for wanted, filters in (
        ([a, b, c], {}),
        ([a, b], {"kind": QA.kind}),
        ([c], {"kind": RANK.kind}),
        ([c], {"model": RANK.model}),
        ([], {"model": RANK.model, "kind": QA.kind}),
        ([c], {"not_run": first}),
        ([], {"not_run": first, "kind": QA.kind}),
        ([], {"kind": "Other"}),
    ):
        assert list(storage.memory_ids(embedder="ngrams", **filters)) == wanted  # type: ignore[arg-type]
    assert not len(storage.memory_ids(embedder="other"))


def test_what_is_remembered_says_where_it_is_from(storage: Storage) -> None:
    run = begin(storage, "Think.", study="mine")
    (number,) = storage.memory_ids(embedder="ngrams")
    found = storage.remembered([int(number), 99])
    created = found[number].created
    assert found == {
        number: Remembered(
            id=number,
            run=run,
            study="mine",
            program="Answers",
            predictor="answer",
            kind=QA.kind,
            task=QA.task,
            model=QA.model,
            text="Think.",
            score=0.5,
            evaluations=4,
            created=created,
        )
    }
    assert created == pytest.approx(storage.run(run).updated, abs=5)  # type: ignore[union-attr]
    assert storage.remembered(storage.memory_ids(embedder="ngrams")).keys() == found.keys()
    assert storage.remembered([]) == {}


def test_a_better_known_prompt_keeps_its_id(storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.save(run, owner, full_batch(1))
    (number,) = storage.memory_ids(embedder="ngrams")
    storage.save(run, owner, Batch(prompts=(prompt("Think 1.", score=0.8, evaluations=30),)))
    assert list(storage.memory_ids(embedder="ngrams")) == [number]
    assert (storage.remembered([number])[number].score, storage.prompts(run)[0].step) == (0.8, 1)


def test_ids_ascend_and_are_not_used_again(storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.save(run, owner, full_batch(1))
    last = storage.memory_ids(embedder="ngrams")[-1]
    storage.leave_run(run, owner, storage.runs()[0].status, None)
    storage.delete_run(run)
    begin(storage, "New.")
    assert storage.memory_ids(embedder="ngrams")[0] > last

"""A deleted run takes with it all that no other run uses, and nothing else."""

from __future__ import annotations

import threading
from dataclasses import replace

from samples import Open, count_rows, evaluation, full_batch, new_run, prompt, vector

from gpo_dspy.errors import StorageError
from gpo_dspy.storage import new_owner
from gpo_dspy.storage.rows import Batch, RunStatus
from gpo_dspy.storage.storage import Storage


def stored(storage: Storage, *batches: Batch) -> int:
    """Store a run that nobody works on any more."""
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    for batch in batches:
        storage.save(run, owner, batch)
    storage.leave_run(run, owner, RunStatus.FINISHED, "{}")
    return run


def test_the_only_run_leaves_nothing(storage: Storage) -> None:
    before = count_rows(storage)
    run = stored(storage, *(full_batch(i) for i in range(4)))
    private = Batch(evaluations=((evaluation(9, shared=False), True),))
    assert storage.delete_run(stored(storage, private, full_batch(2)))
    assert storage.delete_run(run)
    assert count_rows(storage) == before
    assert not storage.delete_run(run)
    assert storage.run(run) is None


def test_another_run_keeps_all_it_uses(storage: Storage) -> None:
    first = stored(storage, *(full_batch(i) for i in range(4)))
    found = Batch(
        evaluations=((evaluation(1), False),),
        prompts=full_batch(2).prompts,
        states=full_batch(1).states,
        examples=full_batch(1).examples,
    )
    second = stored(storage, found)
    expected = storage.journal(second), storage.evaluations(second), storage.prompts(second)
    assert storage.delete_run(first)
    assert (
        storage.journal(second),
        storage.evaluations(second),
        storage.prompts(second),
    ) == expected
    assert storage.evaluations(second)[0].example == '{"example": 1}'
    assert len(storage.memory_ids(embedder="ngrams")) == 1
    counts = count_rows(storage)
    assert (counts["gpo_evaluations"], counts["gpo_texts"], counts["gpo_vectors"]) == (1, 3, 1)
    owner = new_owner()
    storage.create_run(new_run(), owner)
    assert storage.acquire(owner, ["key 001", "key 002"]).found.keys() == {"key 001"}


def test_vectors_that_passed_to_another_run_go_with_it(storage: Storage) -> None:
    first, second = stored(storage, full_batch(1)), stored(storage, full_batch(1))
    storage.delete_run(first)
    assert count_rows(storage)["gpo_vectors"] == 1
    storage.delete_run(second)
    assert count_rows(storage)["gpo_vectors"] == count_rows(storage)["gpo_embedders"] == 0


def test_a_vector_of_the_prompt_itself_is_kept_too(storage: Storage) -> None:
    text = Batch(vectors=(("ngrams", prompt().text, vector(1)),))
    first, _ = stored(storage, text), stored(storage, Batch(prompts=(prompt(),)))
    storage.delete_run(first)
    assert storage.vectors("ngrams", [prompt().text])


def test_a_run_stored_again_after_a_deletion_is_whole(storage: Storage) -> None:
    """The storage remembers which texts it wrote; those of a deleted run are gone."""
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.save(run, owner, full_batch(1))
    storage.leave_run(run, owner, RunStatus.STOPPED, None)
    storage.delete_run(run)
    again = stored(storage, full_batch(1))
    assert storage.evaluations(again)[0].example == '{"example": 1}'


def test_a_deletion_takes_nothing_that_another_run_begins_to_use(
    storage: Storage, open_at: Open
) -> None:
    runs = [stored(storage, full_batch(number)) for number in range(30)]
    other, owner, errors = open_at(), new_owner(), []
    user = other.create_run(new_run(), owner)

    def use() -> None:
        try:
            for number in range(30):
                batch = replace(full_batch(number), evaluations=((evaluation(number), False),))
                other.save(user, owner, batch)
        except StorageError as error:
            errors.append(error)

    using = threading.Thread(target=use)
    using.start()
    for run in runs:
        storage.delete_run(run)
    using.join()
    assert not errors
    assert [row.id for row in storage.runs()] == [user]
    exported = {row.stored.key: row for row in storage.evaluations(user)}
    for number in range(30):
        row = exported[evaluation(number).key]
        assert row.example == f'{{"example": {number}}}'
        assert row.state is not None
    counts = count_rows(storage)
    assert counts["gpo_evaluations"] == counts["gpo_links"] == 30


def test_the_claims_of_a_deleted_run_are_void(storage: Storage) -> None:
    far = new_owner()
    run = storage.create_run(new_run(), far)
    storage.acquire(far, ["key"])
    storage.leave_run(run, far, RunStatus.STOPPED, None)
    storage.delete_run(run)
    assert count_rows(storage)["gpo_owners"] == count_rows(storage)["gpo_claims"] == 0

"""No two live owners evaluate one key; nobody waits for a dead one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from samples import count_rows, elsewhere, evaluation, new_run, silent

from gpo_dspy.storage import new_owner
from gpo_dspy.storage.rows import Acquired, Batch, Owner, RunStatus
from gpo_dspy.storage.storage import Storage

KEYS = [evaluation(i).key for i in range(6)]


def begin(storage: Storage, owner: Owner | None = None) -> tuple[int, Owner]:
    """Begin a run of a new owner, or of the one given."""
    owner = owner or new_owner()
    return storage.create_run(new_run(), owner), owner


def acquired(
    found: Sequence[int] = (), granted: Sequence[int] = (), held: Sequence[int] = ()
) -> Acquired:
    return Acquired(
        {KEYS[i]: evaluation(i) for i in found},
        frozenset(KEYS[i] for i in granted),
        frozenset(KEYS[i] for i in held),
    )


def test_each_key_is_granted_to_one_owner(storage: Storage) -> None:
    (_, mine), (_, other) = begin(storage), begin(storage)
    assert storage.acquire(mine, KEYS[:3]) == acquired(granted=[0, 1, 2])
    assert storage.acquire(other, KEYS[:5]) == acquired(granted=[3, 4], held=[0, 1, 2])
    assert storage.acquire(mine, KEYS) == acquired(granted=[0, 1, 2, 5], held=[3, 4])


def test_no_keys_are_no_work(storage: Storage) -> None:
    _, owner = begin(storage)
    assert storage.acquire(owner, []) == acquired()
    storage.release(owner, [])


def test_a_key_asked_for_twice_is_one_key(storage: Storage) -> None:
    _, owner = begin(storage)
    assert storage.acquire(owner, [KEYS[0], KEYS[0]]) == acquired(granted=[0])


def test_a_result_is_found_by_all_and_ends_the_claim(storage: Storage) -> None:
    (run, mine), (_, other) = begin(storage), begin(storage)
    storage.acquire(mine, KEYS[:2])
    storage.save(run, mine, Batch(evaluations=((evaluation(0), True),)))
    assert storage.acquire(other, KEYS[:3]) == acquired(found=[0], granted=[2], held=[1])
    assert count_rows(storage)["gpo_claims"] == 2


def test_a_released_key_goes_to_the_next(storage: Storage) -> None:
    (_, mine), (_, other) = begin(storage), begin(storage)
    storage.acquire(mine, KEYS[:3])
    storage.release(other, KEYS[:3])  # not its own
    assert storage.acquire(other, KEYS[:3]) == acquired(held=[0, 1, 2])
    storage.release(mine, KEYS[1:2])
    assert storage.acquire(other, KEYS[:3]) == acquired(granted=[1], held=[0, 2])


def test_what_is_not_shared_is_found_by_its_own_run_alone(storage: Storage) -> None:
    (run, mine), (_, other) = begin(storage), begin(storage)
    private = evaluation(0, shared=False)
    storage.save(run, mine, Batch(evaluations=((private, True),)))
    assert storage.acquire(mine, KEYS[:1]).found == {KEYS[0]: private}
    assert storage.acquire(other, KEYS[:1]) == acquired(granted=[0])


def test_leaving_a_run_ends_its_claims(storage: Storage) -> None:
    (run, mine), (_, other) = begin(storage), begin(storage)
    storage.acquire(mine, KEYS)
    storage.leave_run(run, mine, RunStatus.STOPPED, None)
    assert storage.acquire(other, KEYS) == acquired(granted=[0, 1, 2, 3, 4, 5])


def test_claims_of_a_process_that_is_gone_are_void(storage: Storage) -> None:
    gone = replace(new_owner(), began=1.0)
    begin(storage, gone)
    (_, mine), (_, other) = begin(storage), begin(storage)
    storage.acquire(other, KEYS[4:5])
    assert storage.acquire(gone, KEYS[:3]).granted
    assert storage.acquire(mine, KEYS[1:5]) == acquired(granted=[1, 2, 3], held=[4])
    assert storage.acquire(other, KEYS[:3]) == acquired(granted=[0], held=[1, 2])


def test_claims_of_an_owner_without_a_heartbeat_are_void(storage: Storage) -> None:
    far = elsewhere()
    begin(storage, far)
    _, mine = begin(storage)
    storage.acquire(far, KEYS[:2])
    silent(storage, far, 55)
    assert storage.acquire(mine, KEYS[:2]) == acquired(held=[0, 1])
    silent(storage, far, 61)
    assert storage.acquire(mine, KEYS[:2]) == acquired(granted=[0, 1])
    storage.beat(far)  # it was only slow, and goes on with what is still its own
    assert storage.acquire(far, KEYS[:3]) == acquired(granted=[2], held=[0, 1])


def test_taking_a_run_ends_the_claims_of_its_dead_owner(storage: Storage) -> None:
    gone = replace(new_owner(), began=1.0)
    run, _ = begin(storage, gone)
    storage.acquire(gone, KEYS)
    heir = new_owner()
    storage.take_run(run, heir)
    assert count_rows(storage)["gpo_claims"] == 0
    assert storage.acquire(heir, KEYS[:1]) == acquired(granted=[0])


@pytest.mark.parametrize("count", [499, 500, 501, 1203])
def test_more_keys_than_one_statement_takes(storage: Storage, count: int) -> None:
    (run, mine), (_, other) = begin(storage), begin(storage)
    keys = [f"{i:05}" for i in range(count)]
    assert storage.acquire(mine, keys).granted == frozenset(keys)
    done = tuple((evaluation(i, key=key), True) for i, key in enumerate(keys[::2]))
    storage.save(run, mine, Batch(evaluations=done))
    result = storage.acquire(other, keys[::-1])
    assert result.found.keys() == set(keys[::2])
    assert result.held == set(keys[1::2])

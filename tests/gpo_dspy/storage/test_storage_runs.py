"""Runs are begun, found again, taken and left, the same in both databases."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from samples import QA, elsewhere, evaluation, full_batch, new_run, silent

from gpo_dspy.errors import RunBusy, StorageError
from gpo_dspy.storage import new_owner
from gpo_dspy.storage.rows import Batch, RunStatus
from gpo_dspy.storage.storage import Storage


def test_a_new_run_comes_back_as_it_was(storage: Storage) -> None:
    new, began = new_run(study="mine"), time.time()
    row = storage.run(storage.create_run(new, new_owner()))
    assert row is not None
    for name in type(new).__slots__:
        assert getattr(row, name) == getattr(new, name)
    assert (row.status, row.seconds, row.metric_calls, row.steps) == (RunStatus.RUNNING, 0, 0, 0)
    assert row.best_score is row.result is None
    assert began - 1 <= row.created <= row.updated <= time.time() + 1


def test_progress_is_counted(storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.save(run, owner, full_batch(1))
    storage.save(run, owner, full_batch(2))
    storage.save(run, owner, Batch(evaluations=((evaluation(9), False),)))
    row = storage.run(run)
    assert row is not None
    assert (row.metric_calls, row.steps, row.seconds, row.best_score) == (2, 2, 2.0, 0.2)
    assert row.updated > row.created


def test_the_newest_run_that_matches_is_found(storage: Storage) -> None:
    assert storage.latest_run() is None
    first = storage.create_run(new_run("a", study="mine"), new_owner())
    second = storage.create_run(new_run("a"), new_owner())
    third = storage.create_run(new_run("b", study="mine"), new_owner())
    found = [
        storage.latest_run(identity="a"),
        storage.latest_run(study="mine"),
        storage.latest_run(study="mine", identity="a"),
        storage.latest_run(),
    ]
    assert [row and row.id for row in found] == [second, third, first, third]
    assert storage.latest_run(study="other") is None
    assert [row.id for row in storage.runs()] == [first, second, third]
    assert storage.run(third + 1) is None


def test_ids_are_not_used_again(storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.leave_run(run, owner, RunStatus.STOPPED, None)
    assert storage.delete_run(run)
    assert storage.create_run(new_run(), owner) > run


def test_a_run_is_left_with_its_result_and_taken_again(storage: Storage) -> None:
    owner, other = new_owner(), new_owner()
    run = storage.create_run(new_run(), owner)
    storage.leave_run(run, owner, RunStatus.FINISHED, '{"best": 1}')
    row = storage.run(run)
    assert row is not None
    assert (row.status, row.result) == (RunStatus.FINISHED, '{"best": 1}')
    storage.take_run(run, other)
    assert storage.run(run).status is RunStatus.RUNNING  # type: ignore[union-attr]
    storage.leave_run(run, other, RunStatus.STOPPED, None)
    row = storage.run(run)
    assert row is not None
    assert (row.status, row.result) == (RunStatus.STOPPED, '{"best": 1}')


def test_a_live_owner_keeps_its_run(storage: Storage) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    storage.take_run(run, owner)  # its own, again
    for stranger in (new_owner(), elsewhere()):
        with pytest.raises(RunBusy, match=rf"Process {owner.pid} on .* works on run {run}"):
            storage.take_run(run, stranger)
    with pytest.raises(RunBusy):
        storage.delete_run(run)
    storage.save(run, owner, full_batch())


@pytest.mark.parametrize("change", [{"began": 1.0}, {"pid": 2**22 + 1}])
def test_an_owner_whose_process_is_gone_is_dead_at_once(
    storage: Storage, change: dict[str, float]
) -> None:
    gone = replace(new_owner(), **change)  # pids end at 2**22 on Linux
    run = storage.create_run(new_run(), gone)
    assert storage.run(run).status is RunStatus.STOPPED  # type: ignore[union-attr]
    assert storage.runs()[0].status is RunStatus.STOPPED
    heir = new_owner()
    storage.take_run(run, heir)
    storage.save(run, heir, full_batch())


def test_an_owner_elsewhere_is_dead_a_minute_after_its_last_heartbeat(storage: Storage) -> None:
    far, heir = elsewhere(), new_owner()
    run = storage.create_run(new_run(), far)
    silent(storage, far, 50)
    with pytest.raises(RunBusy, match=r"last sign of life 5\d seconds ago"):
        storage.take_run(run, heir)
    silent(storage, far, 61)
    storage.beat(far)
    with pytest.raises(RunBusy):
        storage.take_run(run, heir)
    silent(storage, far, 61)
    assert storage.run(run).status is RunStatus.STOPPED  # type: ignore[union-attr]
    storage.take_run(run, heir)
    assert storage.run(run).status is RunStatus.RUNNING  # type: ignore[union-attr]


def test_who_lost_a_run_cannot_write_to_it(storage: Storage) -> None:
    far, heir = elsewhere(), new_owner()
    run = storage.create_run(new_run(), far)
    silent(storage, far, 61)
    storage.take_run(run, heir)
    for forbidden in (
        lambda: storage.save(run, far, full_batch()),
        lambda: storage.beat(far),
        lambda: storage.acquire(far, ["key"]),
    ):
        with pytest.raises(RunBusy, match="does not belong to this process"):
            forbidden()
    storage.leave_run(run, far, RunStatus.FINISHED, "wrong")
    row = storage.run(run)
    assert row is not None
    assert row.result is None
    assert row.metric_calls == 0
    storage.beat(heir)
    storage.save(run, heir, full_batch())


def test_runs_that_are_not_there_are_refused(storage: Storage) -> None:
    with pytest.raises(StorageError, match="has no run 7"):
        storage.take_run(7, new_owner())
    with pytest.raises(RunBusy, match="Run 7"):
        storage.save(7, new_owner(), full_batch())
    assert not storage.delete_run(7)


def test_many_runs_come_back_with_their_predictors(storage: Storage) -> None:
    owner = new_owner()
    runs = [storage.create_run(new_run(str(i), predictors=(QA,)), owner) for i in range(520)]
    rows = storage.runs()
    assert [row.id for row in rows] == runs
    assert {row.predictors for row in rows} == {(QA,)}

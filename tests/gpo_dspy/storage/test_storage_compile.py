"""Compile calls with a storage on PostgreSQL, whose server comes and goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster import Cluster
from test_resume import Shop, Stopping, comparable
from test_storage_failing import quickly, without_problem

from gpo_dspy.storage import open_storage
from gpo_dspy.storage.rows import RunStatus


@pytest.fixture
def shop(tmp_path: Path, postgresql_url: str) -> Shop:
    shop = Shop(tmp_path)
    shop.url = postgresql_url
    return shop


def test_a_run_is_carried_on(shop: Shop) -> None:
    undisturbed = comparable(shop.run(storage=None))
    shop.run(callbacks=[Stopping(1)])
    assert comparable(shop.run()) == undisturbed
    before = shop.requests
    assert comparable(shop.run()) == undisturbed
    assert shop.requests == before


def test_a_server_that_is_restarted_loses_nothing(
    shop: Shop, postgresql_server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = comparable(shop.run(storage=None, metric=shop.metric))
    monkeypatch.setattr("gpo_dspy.journal.stored.TRY_AGAIN", 0.0)
    result = quickly(shop, postgresql_server.restart)
    assert result.storage_problem is None
    assert comparable(result) == undisturbed
    with open_storage(shop.url, read_only=True) as storage:
        (row,) = storage.runs()
        assert row.status is RunStatus.FINISHED
        assert row.metric_calls == result.metric_calls


def test_a_server_that_stays_away_costs_the_storage_and_not_the_run(
    shop: Shop, postgresql_server: Cluster
) -> None:
    undisturbed = comparable(shop.run(storage=None, metric=shop.metric))
    try:
        result = quickly(shop, postgresql_server.stop)
    finally:
        postgresql_server.start()
    assert result.storage_problem is not None
    assert without_problem(result) == undisturbed
    assert comparable(quickly(shop)) == undisturbed


def test_a_memory_of_another_run(shop: Shop) -> None:
    shop.run(study="first")
    second = shop.run(study="second", seed=1)
    first_step = second.records[0].candidates
    assert all("comes from another task (run 1," in c.rewrite.origin for c in first_step)

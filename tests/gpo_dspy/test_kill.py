"""Killed with SIGKILL at any moment, the same call ends where it would have; many share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
KILLS = 50

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
]


def drive(what: str, folder: Path, number: int, threads: int = 4) -> Any:
    command = [sys.executable, "run_driver.py", what, folder, str(number), str(threads)]
    driver = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, timeout=110, check=False
    )
    assert driver.returncode == 0, driver.stderr[-3_000:]
    return json.loads(driver.stdout)


@pytest.fixture(scope="module", params=[1, 4], ids=["1 thread", "4 threads"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return drive("kill", tmp_path_factory.mktemp("kills"), KILLS // 2, request.param)


def test_it_was_killed_often_enough_and_at_all_stages(seen: Any) -> None:
    assert sum(run["killed"] for run in seen["runs"]) == KILLS // 2


def test_the_program_and_the_trajectory_are_those_of_an_undisturbed_run(seen: Any) -> None:
    expected = seen["reference"]["outcome"]
    assert len(expected["records"]) >= 3
    for run in seen["runs"]:
        assert run["outcome"] == expected


def test_what_is_stored_is_never_paid_again(seen: Any) -> None:
    for run in seen["runs"]:
        assert run["paid_again"] == []


def test_only_calls_under_way_are_made_again(seen: Any) -> None:
    once = Counter(seen["reference"]["calls"])
    for run in seen["runs"]:
        extra = Counter(run["calls"]) - once
        assert set(run["calls"]) == set(once)
        assert extra.total() <= run["killed"] * seen["threads"]


def test_runs_at_the_same_time_hardly_ever_pay_for_the_same(tmp_path: Path) -> None:
    seen = drive("crowd", tmp_path, 4)
    once = Counter(seen["calls"])
    again = once.total() - len(once)
    assert again <= 0.01 * once.total()
    assert once.total() == sum(seen["paid"])
    assert sum(seen["used"]) > 1.05 * sum(seen["paid"])  # they did want the same

"""A storage that fails in the middle of a run: the run's result is returned all the same."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from fakes import toy_examples, toy_gpo, toy_metric
from test_resume import Shop, comparable

from gpo_dspy import Callback, GPOResult, RunState
from gpo_dspy.storage import open_storage
from gpo_dspy.storage.rows import RunStatus

HERE = Path(__file__).parent


class After(Callback):
    """Does something once, after the first step."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action, self.done = action, False

    def on_step(self, state: RunState) -> None:
        if not self.done:
            self.done = True
            self.action()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def quickly(shop: Shop, action: Callable[[], Any] | None = None, **arguments: Any) -> GPOResult:
    """Run with a storage that is given up after a moment."""
    optimizer = toy_gpo(
        toy_metric,
        storage=shop.url,
        prompt_model=shop.rewriter,
        max_metric_calls=300,
        callbacks=[After(action)] if action else [],
        **arguments,
    )
    optimizer.storage_patience = 0.3
    with dspy.context(lm=shop.solver):
        compiled = optimizer.compile(
            dspy.Predict("question -> answer"),
            trainset=toy_examples(40),
            valset=toy_examples(60, start=100),
        )
    result: GPOResult = compiled.detailed_results
    return result


def without_problem(result: GPOResult) -> dict[str, Any]:
    return comparable(result) | {"storage_problem": None}


def test_a_file_locked_to_the_end_costs_the_storage_and_not_the_run(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="gpo_dspy")
    undisturbed = comparable(shop.run(storage=None, metric=toy_metric))
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    result = quickly(shop, lambda: other.execute("BEGIN IMMEDIATE"))
    assert result.storage_problem is not None
    assert "locked" in result.storage_problem
    assert without_problem(result) == undisturbed
    assert "The run goes on" in caplog.text
    other.rollback()
    other.close()
    assert comparable(quickly(shop)) == undisturbed  # it can be carried on from what was stored


def test_a_file_locked_for_a_while_is_written_in_the_end(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpo_dspy.journal.stored.TRY_AGAIN", 0.0)
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)

    def lock() -> None:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(1.0, other.rollback).start()

    result = quickly(shop, lock)
    assert result.storage_problem is None
    with open_storage(shop.url, read_only=True) as storage:
        (row,) = storage.runs()
        assert row.status is RunStatus.FINISHED
        assert row.metric_calls == result.metric_calls
        assert row.steps == len(result.records)
    other.close()


def test_a_file_that_is_damaged_in_the_middle(shop: Shop, tmp_path: Path) -> None:
    def damage() -> None:
        for path in tmp_path.glob("runs.db*"):
            with path.open("r+b") as file:
                file.seek(0)
                file.write(b"\xff" * path.stat().st_size)

    result = quickly(shop, damage)
    assert result.storage_problem is not None
    assert without_problem(result) == comparable(shop.run(storage=None, metric=toy_metric))


def test_a_run_that_is_deleted_under_its_feet(shop: Shop, tmp_path: Path) -> None:
    def delete() -> None:
        database = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
        database.execute("UPDATE gpo_runs SET owner = 'another'")
        database.close()

    result = quickly(shop, delete)
    assert "does not belong to this process" in str(result.storage_problem)
    assert without_problem(result) == comparable(shop.run(storage=None, metric=toy_metric))


FULL_DISK = """
import json, resource, signal, sys, threading
sys.path.insert(0, {here!r})
from fakes import rewriter_lm, scripted_lm, toy_examples, toy_gpo, toy_metric
from fakes import toy_rewriter, toy_solver
import dspy
from gpo_dspy import Callback

class Fill(Callback):
    def on_step(self, state):
        if state.step == 1 and {full}:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

optimizer = toy_gpo(toy_metric, storage="sqlite:///runs.db", max_metric_calls=300,
                    prompt_model=rewriter_lm(toy_rewriter), callbacks=[Fill()])
with dspy.context(lm=scripted_lm(toy_solver)):
    compiled = optimizer.compile(dspy.Predict("question -> answer"), trainset=toy_examples(40),
                                 valset=toy_examples(60, start=100))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(compiled.detailed_results.to_dict()))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prlimit") is None and sys.platform == "win32", reason="POSIX")
def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path) -> None:
    def run(*, full: bool) -> dict[str, Any]:
        script = FULL_DISK.format(here=str(HERE), full=full)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True,
            timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2_000:]
        result: dict[str, Any] = json.loads(done.stdout)
        del result["seconds"]
        return result

    broken = run(full=True)
    assert "disk" in broken.pop("storage_problem")
    with open_storage(f"sqlite:///{tmp_path}/runs.db", read_only=True) as storage:
        (row,) = storage.runs()
        assert 0 < row.metric_calls < broken["metric_calls"]  # whole results, up to the end of room
    mended = run(full=False)  # room was made: the same call carries on
    assert mended.pop("storage_problem") is None
    assert mended == broken

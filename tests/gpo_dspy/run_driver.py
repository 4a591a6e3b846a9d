"""Makes compile calls in forked processes: kills them with SIGKILL, or lets several run at once.

A process of its own, since forking needs one without threads; importing DSPy once saves minutes.
Writes what it saw as JSON to standard output; ``test_kill.py`` asserts on it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import dspy
from fakes import (
    rewriter_lm,
    scripted_lm,
    story,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)

from gpo_dspy import GPOResult
from gpo_dspy.errors import StorageError
from gpo_dspy.program_state import ProgramState
from gpo_dspy.storage import open_storage
from gpo_dspy.storage.rows import EvaluationRow

TRAIN, VALIDATION = toy_examples(40), toy_examples(60, start=100)
LATENCY = 0.004


class LoggedMetric:
    """The toy metric; writes each call into a file, which a kill cannot take back."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, example: dspy.Example, prediction: Any, trace: object = None) -> bool:
        time.sleep(LATENCY)
        state = prediction.instruction
        os.write(self.file, f"{json.dumps([state, example.question])}\n".encode())
        return toy_metric(example, prediction)


class Student(dspy.Module):
    """Tells its instruction with each answer: the metric writes down what it is paid for."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        answer = self.ask(question=question).answer
        return dspy.Prediction(answer=answer, instruction=self.ask.signature.instructions)


def compile_once(folder: Path, *, storage: bool = True, **arguments: Any) -> GPOResult:
    """Make the compile call of the test."""
    metric = LoggedMetric(folder / "calls.jsonl")
    url = f"sqlite:///{folder}/runs.db" if storage else None
    optimizer = toy_gpo(
        metric,
        prompt_model=REWRITER,
        storage=url,
        num_threads=THREADS,
        max_metric_calls=300,
        steps_at_once=THREADS,
        **arguments,
    )
    with dspy.context(lm=SOLVER):
        compiled = optimizer.compile(Student(), trainset=TRAIN, valset=VALIDATION)
    return compiled.detailed_results


def calls(folder: Path) -> list[str]:
    """Return the metric calls made so far."""
    path = folder / "calls.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def stored(folder: Path) -> set[str]:
    """Return the metric calls whose result is in the storage, in the metric's notation."""
    try:
        with open_storage(f"sqlite:///{folder}/runs.db", read_only=True) as storage:
            rows = [row for run in storage.runs() for row in storage.evaluations(run.id)]
    except StorageError:  # killed before there were tables
        return set()
    return {_call(row) for row in rows}


def _call(row: EvaluationRow) -> str:
    instruction = ProgramState.from_json(str(row.state)).instruction("ask")
    return json.dumps([instruction, json.loads(row.example or "{}")["inputs"]["question"]])


def forked(folder: Path, **arguments: Any) -> int:
    """Compile in a child process, which leaves its result in a file; return its pid."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        result = compile_once(folder, **arguments)
        (folder / "result.json").write_text(json.dumps(story(result)))
        status = 0
    except BaseException:  # noqa: BLE001 - a forked process must not go on with its parent's work
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def run_killed(folder: Path, kills: random.Random, most: int) -> dict[str, Any]:
    """Run until the call comes to its end by itself, killing it up to ``most`` times."""
    killed, again = 0, []
    while True:
        kept, before = stored(folder), len(calls(folder))
        child = forked(folder)
        patience = kills.uniform(0.0, 0.7) if killed < most else 600.0
        ended = _wait(child, patience)
        again += [call for call in calls(folder)[before:] if call in kept]
        if ended:
            raise RuntimeError(f"the run failed in {folder}")
        if ended is not None:
            return {
                "killed": killed,
                "paid_again": again,
                "calls": calls(folder),
                "outcome": json.loads((folder / "result.json").read_text()),
            }
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1


def _wait(child: int, seconds: float) -> int | None:
    """Return a child's exit status, or None if it is still there after some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.001)
    return None


def kill(folder: Path, kills: int) -> dict[str, Any]:
    """Kill runs until so many kills were made; return what was seen."""
    rng, seen = random.Random(0), []
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    assert _wait(forked(undisturbed, storage=False), 60.0) == 0
    reference = {
        "outcome": json.loads((undisturbed / "result.json").read_text()),
        "calls": calls(undisturbed),
    }
    while sum(run["killed"] for run in seen) < kills:
        place = folder / f"run {len(seen)}"
        place.mkdir()
        seen.append(run_killed(place, rng, kills - sum(run["killed"] for run in seen)))
    return {"reference": reference, "runs": seen, "threads": THREADS}


def crowd(folder: Path, size: int) -> dict[str, Any]:
    """Let several runs of the same program, with seeds of their own, share a storage at once."""
    children = [forked(folder, seed=seed, memory=False) for seed in range(size)]
    assert [_wait(child, 90.0) for child in children] == [0] * size
    with open_storage(f"sqlite:///{folder}/runs.db", read_only=True) as storage:
        rows = storage.runs()
        paid, used = (
            [sum(row.paid or not only_paid for row in storage.evaluations(run.id)) for run in rows]
            for only_paid in (True, False)
        )
    return {"calls": calls(folder), "paid": paid, "used": used}


THREADS = int(sys.argv[4]) if len(sys.argv) > 4 else 4
SOLVER, REWRITER = scripted_lm(toy_solver), rewriter_lm(toy_rewriter)

if __name__ == "__main__":
    work = {"kill": kill, "crowd": crowd}[sys.argv[1]]
    print(json.dumps(work(Path(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201

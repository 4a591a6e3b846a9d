"""The solver on real Big-Bench Hard items: it knows them, and fails in the same ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpo_dspy.sandbox.tasks import TASKS, recognise

REAL = {
    "word_sorting": "word_sorting",
    "object_counting": "object_counting",
    "boolean_expressions": "boolean_expressions",
    "multistep_arithmetic_two": "multistep_arithmetic",
    "dyck_languages": "bracket_completion",
}


def items(folder: Path) -> list[tuple[str, str]]:
    lines = [line for f in sorted(folder.glob("*.jsonl")) for line in f.read_text().splitlines()]
    loaded = [json.loads(line) for line in lines]
    return [(item["input"], item["target"]) for item in loaded]


@pytest.mark.parametrize(("real", "task"), REAL.items())
def test_real_items_are_solved(real: str, task: str, shared_data: Path) -> None:
    for question, target in items(shared_data / "bbh" / real):
        item = recognise(question)
        assert item is not None, question
        assert (item.task, item.answer) == (task, target)


@pytest.mark.parametrize("task", ["word_sorting", "object_counting", "boolean_expressions"])
def test_a_good_instruction_helps_on_real_items(
    task: str, shared_data: Path, answer_of: Callable[..., str]
) -> None:
    def accuracy(instruction: str) -> float:
        right = [answer_of(q, instruction) == a for q, a in items(shared_data / "bbh" / task)]
        return sum(right) / len(right)

    assert accuracy(TASKS[task].ideal) >= 0.9
    assert accuracy("Answer the question.") < 0.75

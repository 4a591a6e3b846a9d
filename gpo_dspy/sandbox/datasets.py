"""Seeded data sets of the simulated tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .dice import Dice
from .tasks import TASKS

if TYPE_CHECKING:
    import dspy


def make_dataset(task: str, n: int, seed: int = 0) -> list[dspy.Example]:
    """Make items of a simulated task.

    Args:
        task: One of `gpo_dspy.sandbox.TASK_NAMES`.
        n: Number of items, all different; at least 1.
        seed: Another seed gives other items.

    Returns:
        Examples with ``question`` (the input) and ``answer``.

    Raises:
        ValueError: ``task`` is unknown or ``n`` is below 1.
    """
    import dspy

    if task not in TASKS:
        raise ValueError(f"task is {task!r}; allowed are {', '.join(TASKS)}")
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    dice = Dice("dataset", task, seed)
    texts: dict[str, None] = {}
    while len(texts) < n:
        texts[TASKS[task].generate(dice)] = None
    items = [TASKS[task].parse(text) for text in texts]
    return [
        dspy.Example(question=text, answer=item.answer).with_inputs("question")
        for text, item in zip(texts, items, strict=True)
        if item is not None
    ]

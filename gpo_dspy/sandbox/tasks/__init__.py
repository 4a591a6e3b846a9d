"""The simulated tasks: items that are really parsed and solved, and mechanical mistakes."""

from __future__ import annotations

from functools import lru_cache

from .base import Item, Mode, Task
from .boolean_expressions import BooleanExpressions
from .bracket_completion import BracketCompletion
from .date_arithmetic import DateArithmetic
from .multistep_arithmetic import MultistepArithmetic
from .navigation import Navigation
from .object_counting import ObjectCounting
from .plan_then_answer import PlanTask
from .word_sorting import WordSorting

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        WordSorting(),
        ObjectCounting(),
        DateArithmetic(),
        BracketCompletion(),
        Navigation(),
        BooleanExpressions(),
        MultistepArithmetic(),
        PlanTask(),
    )
}

__all__ = ["TASKS", "Item", "Mode", "Task", "recognise"]


@lru_cache(maxsize=8192)
def recognise(text: str) -> Item | None:
    """Find an item of any task in ``text``; None if there is none.

    Args:
        text: What the input fields say.
    """
    for task in TASKS.values():
        item = task.parse(text)
        if item is not None:
            return item
    return None

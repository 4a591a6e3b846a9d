"""How often each mistake happens, given the instruction and the worked examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpo_dspy.sandbox.dice import share
from gpo_dspy.sandbox.tasks.base import Item, Mode

_CURE = 0.95
_WORSE = 0.5
_RESISTS = 0.7  # how much of a temptation good advice takes away
_STEP_BY_STEP = 0.88
_REASONING = 0.9


@dataclass(frozen=True, slots=True)
class Habits:
    """What bears on the rate of mistakes.

    Attributes:
        stances: Concept -> how strongly the instruction expresses it, from -1 to 1.
        demos: Number of worked examples whose answer is right.
        reasons: Whether a field for reasoning comes before the answer.
        skill: 1 for the solver; smaller makes fewer mistakes.
    """

    stances: Mapping[str, float]
    demos: int = 0
    reasons: bool = False
    skill: float = 1.0


def rate(mode: Mode, habits: Habits) -> float:
    """Return the share of the items on which ``mode`` happens.

    Args:
        mode: The mistake.
        habits: What bears on it.
    """
    value = mode.rate * habits.skill
    cure = max((habits.stances.get(concept, 0.0) for concept in mode.cures), default=0.0)
    heeded = 1 - _RESISTS * max(0.0, cure)
    for concept in mode.cures:
        stance = habits.stances.get(concept, 0.0)
        value = value * (1 - _CURE * stance) if stance >= 0 else value - _WORSE * stance
    if not mode.form and habits.stances.get("step_by_step", 0.0) > 0:
        value *= _STEP_BY_STEP
    if not mode.form and habits.reasons:
        value *= _REASONING
    if habits.demos:
        value *= 0.25 if mode.form else 0.8 if habits.demos == 1 else 0.65
    for concept, more in mode.triggers.items():
        value += more * heeded * max(0.0, habits.stances.get(concept, 0.0))
    return value


def first_mistake(item: Item, modes: Iterable[Mode], habits: Habits) -> str | None:
    """Return the answer that the first mistake leads to; None if all goes well.

    Whether a mistake happens on an item is a threshold on a number that belongs to the item and
    the mistake, so better advice never breaks an item that was right.

    Args:
        item: The item.
        modes: Its task's mistakes, in order.
        habits: What bears on their rates.
    """
    for mode in modes:
        if share(mode.name, item.text) < rate(mode, habits):
            wrong = mode.wrong(item)
            if wrong is not None:
                return wrong
    return None

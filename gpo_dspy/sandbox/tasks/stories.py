"""Little stories about counting: written, understood, planned and worked out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpo_dspy.sandbox.dice import Dice

_NAMES = ("Mia", "Tom", "Ada", "Leo", "Nora", "Ivan", "Lucy", "Omar", "Rosa", "Emil")
_THINGS = ("shells", "marbles", "stamps", "coins", "stickers", "buttons", "cards", "pebbles")
_STORY = re.compile(
    r"\b[A-Z]\w+ starts with \d+ \w+\..*?How many \w+ does \w+ have now\?", re.DOTALL
)
_SENTENCES = (
    ("start", re.compile(r"starts with (\d+) \w+")),
    ("bags", re.compile(r"(?:buys|finds) (\d+) bags with (\d+) \w+ each")),
    ("add", re.compile(r"(?:finds|gets|buys) (\d+) more")),
    ("subtract", re.compile(r"(?:gives away|loses|sells) (\d+)")),
    ("double", re.compile(r"doubles? (?:what|the number)")),
    ("aside", re.compile(r"is (\d+) years old|costs (\d+) dollars|lies (\d+) miles")),
)
_PLAN = (
    ("start", re.compile(r"start with (\d+)")),
    ("bags", re.compile(r"add (\d+) times (\d+)")),
    ("add", re.compile(r"add (\d+)")),
    ("subtract", re.compile(r"subtract (\d+)")),
    ("double", re.compile(r"double")),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One operation.

    Attributes:
        kind: ``start``, ``add``, ``subtract``, ``bags``, ``double`` or ``aside`` (irrelevant).
        numbers: Its numbers.
    """

    kind: str
    numbers: tuple[int, ...] = ()


def tell(dice: Dice) -> str:
    """Write a story of three to five operations, sometimes with an irrelevant fact.

    Args:
        dice: Source of chance.
    """
    name, things = dice.choice(_NAMES), dice.choice(_THINGS)
    told = [f"{name} starts with {dice.integer(20, 60)} {things}."]
    for _ in range(dice.integer(3, 5)):
        kind = dice.choice(["add", "subtract", "bags", "double"])
        number, other = dice.integer(2, 9), dice.integer(2, 6)
        verb = dice.choice(["finds", "gets", "buys"])
        loses = dice.choice(["gives away", "loses", "sells"])
        told.append({
            "add": f"Then {name} {verb} {number} more.",
            "subtract": f"Then {name} {loses} {number} of them.",
            "bags": f"Then {name} buys {number} bags with {other} {things} each.",
            "double": f"Then {name} doubles what there is.",
        }[kind])  # fmt: skip
    if dice.chance(0.5):
        aside = dice.choice([
            f"A friend of {name} is {dice.integer(7, 15)} years old.",
            f"A box for them costs {dice.integer(2, 9)} dollars.",
            f"The next shop lies {dice.integer(2, 9)} miles away.",
        ])  # fmt: skip
        told.insert(dice.integer(1, len(told) - 1), aside)
    return f"{' '.join(told)} How many {things} does {name} have now?"


def understand(text: str) -> tuple[str, list[Step]] | None:
    """Find a story in ``text`` and read its steps.

    Args:
        text: Anything.

    Returns:
        The story's text and its steps, or None.
    """
    found = _STORY.search(text)
    if not found:
        return None
    steps = [step for line in re.split(r"(?<=[.?])\s+", found[0])
             if (step := _first(line, _SENTENCES))]  # fmt: skip
    return found[0], steps


def read_plan(plan: str) -> list[Step]:
    """Read the steps of a plan; lines that name no number say nothing.

    Args:
        plan: The planner's text, one step a line.
    """
    return [step for line in plan.lower().splitlines() if (step := _first(line, _PLAN))]


def write_plan(steps: Sequence[Step], *, blank: bool = False) -> str:
    """Write a plan, one step a line.

    Args:
        steps: The operations.
        blank: Leave out the quantities (a mistake).
    """
    forms = {
        "start": "Start with {0}.",
        "add": "Add {0}.",
        "subtract": "Subtract {0}.",
        "bags": "Add {0} times {1}.",
        "double": "Double the result.",
    }
    lines = []
    for number, step in enumerate(steps, 1):
        hidden = blank and step.kind in ("subtract", "bags", "add")
        given = ("what changes", "the amount") if hidden else step.numbers
        lines.append(f"Step {number}: {forms[step.kind].format(*given)}")
    return "\n".join(lines)


def execute(steps: Sequence[Step]) -> int:
    """Work out the steps in their order.

    Args:
        steps: The operations.
    """
    total = 0
    for step in steps:
        if step.kind == "double":
            total *= 2
        elif step.kind == "bags":
            total += step.numbers[0] * step.numbers[1]
        elif step.kind == "subtract":
            total -= step.numbers[0]
        else:
            total += step.numbers[0]
    return total


def _first(line: str, patterns: Sequence[tuple[str, re.Pattern[str]]]) -> Step | None:
    for kind, pattern in patterns:
        found = pattern.search(line)
        if found:
            return Step(kind, tuple(int(n) for n in found.groups() if n is not None))
    return None

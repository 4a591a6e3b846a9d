"""What a task is: items that are really solved, and the ways in which a weak model fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpo_dspy.sandbox.dice import Dice


@dataclass(frozen=True, slots=True)
class Item:
    """One parsed item.

    Attributes:
        task: Name of the task.
        text: The item as found in the prompt.
        answer: Its right answer.
        data: What the task parsed out of the text.
    """

    task: str
    text: str
    answer: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class Mode:
    """One mechanical way to fail.

    Attributes:
        name: What goes wrong.
        rate: Share of the items (of those where it can happen) on which it does, with a
            neutral instruction. Which items is a property of the items.
        wrong: The answer it leads to; None where it cannot happen.
        cures: Concepts that switch it off when the instruction expresses them.
        triggers: Concepts that make it more frequent, and by how much.
        hint: How an attentive metric would describe the mistake.
        form: Whether only the form of the answer is at fault.
    """

    name: str
    rate: float
    wrong: Callable[[Item], str | None]
    cures: tuple[str, ...] = ()
    triggers: Mapping[str, float] = field(default_factory=dict)
    hint: str = ""
    form: bool = False


class Task(Protocol):
    """A kind of item."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Its mistakes, in the order in which they are looked for."""

    @property
    def ideal(self) -> str:
        """An instruction that prevents all of them."""

    def generate(self, dice: Dice) -> str:
        """Write the text of a new item."""

    def parse(self, text: str) -> Item | None:
        """Find an item of this kind in ``text`` and solve it; None if there is none."""


def as_form(write: Callable[[str], str]) -> Callable[[Item], str | None]:
    """Make the ``wrong`` of a form mode from a function of the right answer.

    Args:
        write: The right answer -> the same answer in a wrong form.
    """

    def wrong(item: Item) -> str | None:
        written = write(item.answer)
        return written if written != item.answer else None

    return wrong

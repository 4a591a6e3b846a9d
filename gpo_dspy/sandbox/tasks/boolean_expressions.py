"""Evaluate expressions of True, False, not, and, or (BBH ``boolean_expressions``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from gpo_dspy.sandbox.dice import Dice

from .base import Item, Mode, as_form
from .expressions import Grammar, attempt, first_half, mistake, without_parentheses

_PATTERN = re.compile(r"((?:[()]|\b(?:not|and|or|True|False)\b|[ \t])+)\bis\b")
_TOKEN = re.compile(r"[()]|not|and|or|True|False")
_GRAMMAR = Grammar(
    binary={"or": (1, lambda a, b: a | b), "and": (2, lambda a, b: a & b)},
    prefix={"not": lambda a: 1 - a},
    value=lambda token: ("False", "True").index(token),
    show=lambda value: str(bool(value)),
)


def _without_second_nots(tokens: Sequence[str]) -> list[str]:
    pairs = zip(tokens, ["", *tokens], strict=False)
    return [word for word, before in pairs if not word == before == "not"]


_left_to_right = mistake(_GRAMMAR, list, left_to_right=True)
_no_parentheses = mistake(_GRAMMAR, without_parentheses)
_half = mistake(_GRAMMAR, partial(first_half, grammar=_GRAMMAR))
_single_not = mistake(_GRAMMAR, _without_second_nots)


class BooleanExpressions:
    """True or False."""

    name = "boolean_expressions"
    ideal = (
        "Operator precedence matters: not before and, and before or, never simply left to right. "
        "Two nots in a row cancel each other out. Work out the parentheses first. Evaluate the "
        "whole expression to the end. Answer only with True or False."
    )
    modes = (
        Mode("left to right", 0.62, _left_to_right, ("precedence",), {"left_to_right": 0.4},
             "The order in which the operators bind was not respected."),
        Mode("single not", 0.6, _single_not, ("double_negation",), {"simplify": 0.3},
             "Repeated negations were treated as one."),
        Mode("no parentheses", 0.55, _no_parentheses, ("parentheses",), {"simplify": 0.15},
             "The parentheses were ignored."),
        Mode("half", 0.4, _half, ("complete",), {"concise": 0.2},
             "Only a part of the expression was evaluated."),
        Mode("yes or no", 0.14, as_form(lambda a: "Yes" if a == "True" else "No"),
             ("true_false",), {"brief": 0.1}, "The answer has another notation.", True),
        Mode("sentence", 0.1, as_form(lambda a: f"The expression is {a}."), ("bare",),
             {"step_by_step": 0.14, "explain": 0.4, "creative": 0.3},
             "There is text around the truth value.", True),
    )  # fmt: skip

    def generate(self, dice: Dice) -> str:
        """Write a new item on which at least one mistake would show."""
        while True:
            text = f"{self._expression(dice, 0)} is"
            item = self.parse(text)
            if item and 6 <= len(item.data) <= 22 and self._revealing(item, dice):
                return text

    def _revealing(self, item: Item, dice: Dice) -> bool:
        shows = sum(mode.wrong(item) is not None for mode in self.modes[:4])
        return shows >= 2 or (shows == 1 and dice.chance(0.3))

    def _expression(self, dice: Dice, depth: int) -> str:
        parts = []
        for index in range(dice.integer(2, 3)):
            nots = "not " * dice.choice([0, 0, 0, 1, 2, 2])
            if depth < 2 and dice.chance(0.35):
                atom = f"( {self._expression(dice, depth + 1)} )"
            else:
                atom = dice.choice(["True", "False"])
            parts.append((dice.choice(["and ", "or "]) if index else "") + nots + atom)
        return " ".join(parts)

    def parse(self, text: str) -> Item | None:
        """Find the expression and evaluate it."""
        found = _PATTERN.search(text)
        if not found:
            return None
        tokens = _TOKEN.findall(found[1])
        value = attempt(tokens, _GRAMMAR)
        if value is None or len(tokens) < 2:
            return None
        return Item(self.name, found[0].strip(), str(bool(value)), tokens)

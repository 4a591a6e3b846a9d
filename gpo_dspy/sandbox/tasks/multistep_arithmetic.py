"""Evaluate arithmetic expressions (BBH ``multistep_arithmetic_two``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from gpo_dspy.sandbox.dice import Dice

from .base import Item, Mode, as_form
from .expressions import Grammar, attempt, first_half, mistake, without_parentheses

_PATTERN = re.compile(r"((?:[-+*() \t]|\d)*\d(?:[-+*() \t]|\d)*)=")
_TOKEN = re.compile(r"(?<![\d)\s])-\d+|(?<=[-+*(]\s)-\d+|\d+|[-+*()]")
_GRAMMAR = Grammar(
    binary={
        "+": (1, lambda a, b: a + b),
        "-": (1, lambda a, b: a - b),
        "*": (2, lambda a, b: a * b),
    },
    prefix={"-": lambda a: -a},
    value=int,
    show=str,
)


def _without_signs(tokens: Sequence[str]) -> list[str]:
    unsigned = [token for i, token in enumerate(tokens) if not _is_sign(tokens, i)]
    return [token.lstrip("-") if len(token) > 1 and i and unsigned[i - 1] == "-" else token
            for i, token in enumerate(unsigned)]  # fmt: skip


def _is_sign(tokens: Sequence[str], index: int) -> bool:
    return tokens[index] == "-" and index > 0 and tokens[index - 1] in ("-", "+", "*")


_left_to_right = mistake(_GRAMMAR, list, left_to_right=True)
_no_parentheses = mistake(_GRAMMAR, without_parentheses)
_half = mistake(_GRAMMAR, partial(first_half, grammar=_GRAMMAR))
_lost_signs = mistake(_GRAMMAR, _without_signs)


class MultistepArithmetic:
    """Sums and products of small whole numbers, some negative."""

    name = "multistep_arithmetic"
    ideal = (
        "Multiply before you add or subtract, never simply left to right. Watch the signs: "
        "subtracting a negative number adds it. Evaluate each parenthesis on its own first. "
        "Evaluate the whole expression to the end. Work step by step. Give only the final number "
        "as a plain integer."
    )
    modes = (
        Mode("left to right", 0.3, _left_to_right, ("precedence",), {"left_to_right": 0.4},
             "Multiplication was not done before addition."),
        Mode("lost signs", 0.3, _lost_signs, ("signs",), {"simplify": 0.15},
             "The sign of a negative number was lost."),
        Mode("no parentheses", 0.2, _no_parentheses, ("parentheses",), {"simplify": 0.1},
             "The parentheses were ignored."),
        Mode("half", 0.18, _half, ("complete",), {"concise": 0.2, "brief": 0.2},
             "Only a part of the expression was evaluated."),
        Mode("rounded", 0.0, as_form(lambda a: str(round(int(a), -1))), (),
             {"estimate": 0.6}, "The result was rounded."),
        Mode("decimals", 0.1, as_form(lambda a: f"{a}.0"), ("digits",), {},
             "The number has decimals.", True),
        Mode("sentence", 0.1, as_form(lambda a: f"The result is {a}."), ("bare",),
             {"step_by_step": 0.03, "explain": 0.4, "creative": 0.3},
             "There is text around the number.", True),
    )  # fmt: skip

    def generate(self, dice: Dice) -> str:
        """Write a new item: two groups of four numbers."""
        groups = [self._group(dice) for _ in range(2)]
        return f"({groups[0]} {dice.choice('+-*')} {groups[1]}) ="

    def _group(self, dice: Dice) -> str:
        numbers = [str(dice.integer(-9, 9)) for _ in range(4)]
        tail = "".join(f" {dice.choice('+-*')} {number}" for number in numbers[1:])
        return f"({numbers[0]}{tail})"

    def parse(self, text: str) -> Item | None:
        """Find the expression and evaluate it."""
        found = _PATTERN.search(text)
        if not found:
            return None
        tokens = _TOKEN.findall(found[1])
        value = attempt(tokens, _GRAMMAR)
        if value is None or len(tokens) < 3:
            return None
        return Item(self.name, found[0].strip(), str(value), tokens)

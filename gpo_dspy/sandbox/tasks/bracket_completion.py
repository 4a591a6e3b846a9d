"""Close the open brackets of a sequence (BBH ``dyck_languages``)."""

from __future__ import annotations

import re

from gpo_dspy.sandbox.dice import Dice

from .base import Item, Mode, as_form

_PATTERN = re.compile(
    r"Complete the rest of the sequence, making sure that the parentheses are closed properly\."
    r"\s*Input:\s*([\[\](){}<>][\[\](){}<> \t]*)"
)
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


def _open(tokens: list[str]) -> list[str] | None:
    stack: list[str] = []
    for token in tokens:
        if token in _PAIRS:
            stack.append(token)
        elif not stack or _PAIRS[stack.pop()] != token:
            return None
    return stack


def _differs(item: Item, tokens: list[str]) -> str | None:
    text = " ".join(tokens)
    return text if text != item.answer else None


def _opening_order(item: Item) -> str | None:
    return _differs(item, item.answer.split()[::-1])


def _stops_short(item: Item) -> str | None:
    closing = item.answer.split()
    return _differs(item, closing[:-1]) if len(closing) > 1 else None


def _one_type(item: Item) -> str | None:
    closing = item.answer.split()
    return _differs(item, [closing[0]] * len(closing))


def _all_brackets(item: Item) -> str | None:
    opened = [token for token in item.data if token in _PAIRS]
    return _differs(item, [_PAIRS[token] for token in reversed(opened)])


def _one_more(item: Item) -> str | None:
    closing = item.answer.split()
    return _differs(item, [*closing, closing[-1]])


class BracketCompletion:
    """The closing brackets that are missing, in the right order."""

    name = "bracket_completion"
    ideal = (
        "Close the most recently opened bracket first, so in reverse order. Skip brackets that are "
        "closed already. Each closing bracket must be of the same type as its opening one. "
        "Continue until every bracket is closed. Write only the missing brackets, do not repeat "
        "the input. Separate them by spaces."
    )
    modes = (
        Mode("opening order", 0.4, _opening_order, ("reverse",), {"left_to_right": 0.2},
             "The brackets are right but their order is not."),
        Mode("already closed", 0.3, _all_brackets, ("skip_closed",), {},
             "Brackets were closed that were closed already."),
        Mode("one type", 0.25, _one_type, ("matching",), {"simplify": 0.3},
             "The closing brackets have the wrong type."),
        Mode("stops short", 0.18, _stops_short, ("complete",), {"concise": 0.2, "brief": 0.4},
             "Brackets are missing at the end."),
        Mode("one more", 0.0, _one_more, (), {"verify": 0.12}, "There is one bracket too many."),
        Mode("no spaces", 0.14, as_form(lambda a: a.replace(" ", "")), ("spaces",), {},
             "The separators are not as expected.", True),
        Mode("repeats input", 0.12, lambda item: f"{' '.join(item.data)} {item.answer}",
             ("only_rest", "bare"), {"explain": 0.2, "step_by_step": 0.03},
             "The given sequence was repeated.", True),
    )  # fmt: skip

    def generate(self, dice: Dice) -> str:
        """Write a new item with 2 to 5 open brackets."""
        tokens: list[str] = []
        stack: list[str] = []
        target, length = dice.integer(2, 5), dice.integer(6, 20)
        while len(tokens) < length or len(stack) != target:
            grow = len(stack) < target and (len(tokens) >= length or dice.chance(0.55))
            if stack and not grow and len(tokens) < length + 6:
                tokens.append(_PAIRS[stack.pop()])
            else:
                stack.append(dice.choice("([{<"))
                tokens.append(stack[-1])
        return (
            "Complete the rest of the sequence, making sure that the parentheses are closed "
            f"properly. Input: {' '.join(tokens)}"
        )

    def parse(self, text: str) -> Item | None:
        """Find the sequence and close it."""
        found = _PATTERN.search(text)
        if not found:
            return None
        tokens = found[1].split()
        stack = _open(tokens)
        if not stack:
            return None
        answer = " ".join(_PAIRS[token] for token in reversed(stack))
        return Item(self.name, found[0].strip(), answer, tokens)

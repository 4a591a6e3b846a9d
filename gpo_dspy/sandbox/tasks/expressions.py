"""A small parser of infix expressions that can be told to make mistakes.

Shared by the boolean and the arithmetic task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .base import Item


@dataclass(frozen=True, slots=True)
class Grammar:
    """The operators of a language of expressions.

    Attributes:
        binary: Operator -> (binding strength, function).
        prefix: Operator -> function of one value.
        value: Token -> value; raises ValueError if it is none.
        show: Value -> answer.
    """

    binary: Mapping[str, tuple[int, Callable[[int, int], int]]]
    prefix: Mapping[str, Callable[[int], int]]
    value: Callable[[str], int]
    show: Callable[[int], str]


def evaluate(tokens: Sequence[str], grammar: Grammar, *, left_to_right: bool = False) -> int:
    """Evaluate an expression by precedence climbing.

    Args:
        tokens: Its tokens, parentheses included.
        grammar: The operators.
        left_to_right: Give all binary operators the same strength (a mistake).

    Raises:
        ValueError: ``tokens`` are no expression.
    """
    value, rest = _binary(tuple(tokens), grammar, 0, left_to_right)
    if rest:
        raise ValueError(f"unexpected {rest[0]!r} in the expression")
    return value


def _binary(
    tokens: tuple[str, ...], grammar: Grammar, least: int, flat: bool
) -> tuple[int, tuple[str, ...]]:
    value, tokens = _unary(tokens, grammar, flat)
    while tokens and tokens[0] in grammar.binary:
        strength, apply = grammar.binary[tokens[0]]
        strength = 1 if flat else strength
        if strength < least:
            break
        other, tokens = _binary(tokens[1:], grammar, strength + 1, flat)
        value = apply(value, other)
    return value, tokens


def _unary(tokens: tuple[str, ...], grammar: Grammar, flat: bool) -> tuple[int, tuple[str, ...]]:
    if not tokens:
        raise ValueError("the expression ends too early")
    if tokens[0] in grammar.prefix:
        value, rest = _unary(tokens[1:], grammar, flat)
        return grammar.prefix[tokens[0]](value), rest
    if tokens[0] == "(":
        value, rest = _binary(tokens[1:], grammar, 0, flat)
        if not rest or rest[0] != ")":
            raise ValueError("a closing parenthesis is missing")
        return value, rest[1:]
    return grammar.value(tokens[0]), tokens[1:]


def attempt(tokens: Sequence[str], grammar: Grammar, *, left_to_right: bool = False) -> int | None:
    """Evaluate like `evaluate`, with None where ``tokens`` are no expression."""
    try:
        return evaluate(tokens, grammar, left_to_right=left_to_right)
    except ValueError:
        return None


def mistake(
    grammar: Grammar,
    misread: Callable[[Sequence[str]], Sequence[str]],
    *,
    left_to_right: bool = False,
) -> Callable[[Item], str | None]:
    """Return a failure mode: the answer got by misreading an item's expression.

    Args:
        grammar: The operators.
        misread: What the item's tokens are taken for.
        left_to_right: Give all binary operators the same strength.

    Returns:
        Item -> wrong answer, or None where the mistake does not show.
    """

    def wrong(item: Item) -> str | None:
        value = attempt(misread(item.data), grammar, left_to_right=left_to_right)
        answer = None if value is None else grammar.show(value)
        return answer if answer != item.answer else None

    return wrong


def without_parentheses(tokens: Sequence[str]) -> list[str]:
    """Return the tokens that are no parentheses."""
    return [t for t in tokens if t not in "()"]


def first_half(tokens: Sequence[str], grammar: Grammar) -> list[str]:
    """Return the longest proper prefix that ends before a binary operator outside parentheses."""
    depth, cut = 0, 0
    inner = list(tokens)
    while len(inner) > 2 and inner[0] == "(" and _closes_at_end(inner):
        inner = inner[1:-1]
    for index, token in enumerate(inner):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0 and index and token in grammar.binary:
            cut = index
    return inner[:cut]


def _closes_at_end(tokens: Sequence[str]) -> bool:
    depth = 0
    for index, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0:
            return index == len(tokens) - 1
    return False

"""The update direction: what shows the prompt model where "up" is.

What a gradient and its momentum are to numbers, the trajectory is to prompts. A direction chooses
earlier prompts, which are shown in ascending order of score: :class:`Relevance`, the best one of
the paper (arXiv 2402.17564), :class:`Recency` and :class:`Importance`. Or it is put into words by
the prompt model, with a request of its own: :class:`Summary` is a running text in place of the
list, :class:`Reflection` says what is wrong with the current prompt::

    >>> as_direction("reflection")
    Reflection(momentum=NoDirection(), failures=6, words=200)
    >>> Reflection(Relevance(k=3)).kinds
    ('reflection',)

A function ``trajectory, current -> prompts`` is a direction; an object that also has ``kinds`` and
``questions`` is a :class:`WrittenDirection`.
"""

from __future__ import annotations

from collections.abc import Callable

from gpo_dspy.direction.base import Direction, View, WrittenDirection, is_carried_on, kinds_of
from gpo_dspy.direction.reflection import Reflection
from gpo_dspy.direction.retrieval import (
    DEFAULT_K,
    Importance,
    NoDirection,
    Recency,
    Relevance,
    RelevanceAndScore,
)
from gpo_dspy.direction.summary import Summary
from gpo_dspy.user_functions import check_takes

__all__ = [
    "DEFAULT_K",
    "Direction",
    "Importance",
    "NoDirection",
    "Recency",
    "Reflection",
    "Relevance",
    "RelevanceAndScore",
    "Summary",
    "View",
    "WrittenDirection",
    "as_direction",
    "is_carried_on",
    "kinds_of",
]

KINDS = frozenset({"summary", "reflection"})
"""Texts that a request for a rewrite has a place for."""

_NAMED: dict[str, Callable[[], Direction]] = {
    "relevance": Relevance,
    "recency": Recency,
    "importance": Importance,
    "relevance_and_score": RelevanceAndScore,
    "summary": Summary,
    "reflection": Reflection,
    "none": NoDirection,
}


def as_direction(value: str | Direction) -> Direction:
    """Return the direction of that name with its default k, or the given one.

    Args:
        value: ``"relevance"``, ``"recency"``, ``"importance"``, ``"relevance_and_score"``,
            ``"summary"``, ``"reflection"``, ``"none"``, a direction, or a function
            ``trajectory, current -> prompts``.

    Raises:
        ValueError: If there is no direction of that name.
        TypeError: If ``value`` is neither a name nor callable, or is to be put into words of a kind
            that no request would show.
    """
    allowed = f"one of {', '.join(map(repr, _NAMED))}, or a Direction such as Relevance(k=5)"
    if isinstance(value, str):
        if value not in _NAMED:
            raise ValueError(f"direction must be {allowed}; found {value!r}.")
        return _NAMED[value]()
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"direction must be {allowed}; found {value!r}.")
    check_takes("direction", value, "trajectory", "current")
    if hasattr(value, "questions") or hasattr(value, "kinds"):
        kinds = kinds_of(value)
        if not isinstance(value, WrittenDirection) or not kinds or not KINDS.issuperset(kinds):
            raise TypeError(
                "a direction in words must have questions, and as kinds one or both of "
                f"{', '.join(map(repr, sorted(KINDS)))}; found {kinds!r} in {value!r}."
            )
    return value

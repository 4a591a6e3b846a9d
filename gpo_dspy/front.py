"""The Pareto front of a run with several objectives: no member is beaten in all of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import dspy

from gpo_dspy.evaluation.metric import NamedScores
from gpo_dspy.program import with_state
from gpo_dspy.program_state import ProgramState

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class FrontMember:
    """One program of the front.

    Attributes:
        state: Its instructions and demos.
        scores: Its mean scores in [0, 1] by name, as
            :func:`~gpo_dspy.evaluation.adjusted.adjusted_means` estimates them.
        evaluations: Number of examples behind them.
    """

    state: ProgramState = field(repr=False)
    scores: NamedScores
    evaluations: int

    def program(self, student: dspy.Module) -> dspy.Module:
        """Return a copy of a program in this state.

        Args:
            student: What was given to ``compile``, or what it returned; it is not modified.
        """
        return with_state(student, self.state)


def non_dominated(scores: Mapping[Key, Sequence[float]]) -> list[Key]:
    """Return those that no other one dominates, in their order.

    Args:
        scores: Of each, as many as there are objectives, higher ones better.
    """
    return [
        key
        for key, own in scores.items()
        if not any(dominates(other, own) for other in scores.values())
    ]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether one is nowhere worse and somewhere better; equal ones do not dominate."""
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

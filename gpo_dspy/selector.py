"""Which predictors a step rewrites.

Each candidate of a step rewrites all predictors that are chosen, from the same failures: who is to
blame for a wrong answer is often not to be seen, and a candidate that has several modules mended
has several chances. It costs no more metric calls than one that has one, only more requests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gpo_dspy.errors import ArgumentFailed
from gpo_dspy.state import RunState
from gpo_dspy.user_functions import check_takes

MOST_TOGETHER = 3
"""Predictors that :class:`Effect` rewrites together at most; each costs a request."""

PRIOR = 4
"""Candidates that did better and candidates that did not, each, that a predictor begins with.

A predictor is left out only once something speaks against it."""

WORTHWHILE = 0.4
"""Share of the best predictor's expected effect that another must have to be rewritten too."""


class Selector(Protocol):
    """Chooses the predictors to rewrite."""

    def __call__(self, state: RunState, failing: Mapping[str, float]) -> Sequence[str]:
        """Return names of predictors, at least one.

        Args:
            state: Where the run stands; ``state.next_step`` is the number of the step, from 1.
            failing: Every predictor's share of the current failures: of those that went through
                any predictor, how many went through it.
        """
        ...


@dataclass(frozen=True)
class RoundRobin:
    """Each predictor in turn."""

    def __call__(self, state: RunState, failing: Mapping[str, float]) -> tuple[str, ...]:
        """Return one predictor."""
        turn = len(state.parents)
        return (list(failing)[turn % len(failing)],)


@dataclass(frozen=True)
class All:
    """All predictors together."""

    def __call__(self, state: RunState, failing: Mapping[str, float]) -> tuple[str, ...]:  # noqa: ARG002
        """Return all predictors."""
        return tuple(failing)


@dataclass(frozen=True)
class Effect:
    """The predictors whose rewriting is likely to bring most, by what it brought so far.

    Thompson sampling: the chance that a candidate with a new instruction for a predictor beats its
    parent has a Beta distribution, wide at first, that counts how often one did. One draw from
    it, times the share of the failures that go through the predictor, is the effect to expect;
    those that come near to the best are rewritten together.

    Attributes:
        seed: Decides the draws, together with the step.
    """

    seed: int = 0

    def __call__(self, state: RunState, failing: Mapping[str, float]) -> tuple[str, ...]:
        """Return up to ``MOST_TOGETHER`` predictors, in the program's order."""
        rng = random.Random(f"{self.seed}/{state.next_step}/selector")
        expected = {}
        for name, share in failing.items():
            won, tried = record_of(state, name)
            expected[name] = share * rng.betavariate(PRIOR + won, PRIOR + tried - won)
        least = WORTHWHILE * max(expected.values())
        best = sorted(expected, key=lambda name: -expected[name])[:MOST_TOGETHER]
        return tuple(name for name in failing if name in best and expected[name] >= least)


def most_rewritten(selector: Selector, predictors: int) -> int:
    """Return how many of so many predictors a step rewrites at most.

    Args:
        selector: Chooses them; of one that is the user's own nothing is known.
        predictors: All that there are.
    """
    if isinstance(selector, RoundRobin):
        return 1
    return min(predictors, MOST_TOGETHER) if isinstance(selector, Effect) else predictors


def record_of(state: RunState, predictor: str) -> tuple[int, int]:
    """Return how many candidates with a new instruction for a predictor beat their parent.

    Args:
        state: Where the run stands.
        predictor: Its name; whatever else has its signature does not count.

    Returns:
        Those that did better on the examples they were scored on, and all.
    """
    gains = [
        candidate.gain
        for record in state.records
        for candidate in record.candidates
        if candidate.gain is not None
        and any(r.predictor == predictor and r.fate.usable for r in candidate.rewrites)
    ]
    return sum(gain > 0 for gain in gains), len(gains)


_NAMED: dict[str, Callable[[int], Selector]] = {
    "effect": Effect,
    "round_robin": lambda seed: RoundRobin(),  # noqa: ARG005 - nothing in it is random
    "all": lambda seed: All(),  # noqa: ARG005 - likewise
}


def as_selector(value: str | Callable[..., Any], seed: int) -> Selector:
    """Return the selector of that name, or the given one.

    Args:
        value: ``"effect"``, ``"round_robin"``, ``"all"``, or a function ``state, failing ->
            names`` (see :class:`Selector`).
        seed: Seed of what is random in it.

    Raises:
        ValueError: There is no selector of that name.
        TypeError: ``value`` is neither a name nor callable.
    """
    allowed = f"one of {', '.join(map(repr, _NAMED))}, or a function state, failing -> names"
    if isinstance(value, str):
        if value not in _NAMED:
            raise ValueError(f"selector must be {allowed}; found {value!r}.")
        return _NAMED[value](seed)
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"selector must be {allowed}; found {value!r}.")
    check_takes("selector", value, "state", "failing")
    return value


def chosen(selector: Selector, state: RunState, failing: Mapping[str, float]) -> tuple[str, ...]:
    """Ask a selector, and check what it says.

    Raises:
        ArgumentFailed: It named no predictor, or one that there is not.
    """
    named = selector(state, failing)
    names = (named,) if isinstance(named, str) else tuple(dict.fromkeys(named))
    if not names or not set(names) <= set(failing):
        raise ArgumentFailed(
            f"selector returned {named!r}; it must name at least one of the predictors "
            f"{', '.join(map(repr, failing))}."
        )
    return names

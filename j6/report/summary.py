"""What a run's history says about the roles of w and h, in numbers and in sentences."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from j6.tuner.history import History, StepRecord, comparable

DECISIVE = 0.6
"""Share of an objective's gradient from which one group is said to drive it."""
CONFLICT = 0.1
"""Mean cosine from which two objectives are said to pull together, or apart below its negative."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Means over a third of a run.

    Attributes:
        name: ``"first third"``, ``"second third"`` or ``"last third"``.
        first_step: First step in it.
        last_step: Last step in it.
        losses: Each objective, K values.
        shares: Share of each group in each objective's squared gradient norm, ``[K][P]``.
        agreement: Cosine of the first two objectives in each group, P values; over the steps at
            which both gradients were computed, where there are any.
        conflicting: Share of those steps with a negative cosine in each group, P values.
        weights: Weights of the J6 components; empty for other updates.
    """

    name: str
    first_step: int
    last_step: int
    losses: list[float]
    shares: list[list[float]]
    agreement: list[float]
    conflicting: list[float]
    weights: list[float]


def phases(history: History) -> list[Phase]:
    """Cut a run into thirds and average each.

    Args:
        history: The run.

    Returns:
        The thirds; fewer for runs of fewer than three steps.

    Raises:
        ValueError: If the run took no step.
    """
    count = len(history.steps)
    if count == 0:
        msg = "the history has no steps: there is nothing to explain"
        raise ValueError(msg)
    cuts = [0, -(-count // 3), -(-2 * count // 3), count]
    names = ("first third", "second third", "last third")
    parts = [history.steps[a:b] for a, b in itertools.pairwise(cuts)]
    return [_phase(name, part) for name, part in zip(names, parts, strict=True) if part]


def findings(history: History) -> list[str]:
    """The run in sentences: who drives what, and where the objectives conflict.

    Args:
        history: The run.

    Returns:
        One sentence per objective and, for two objectives or more, one per group.

    Raises:
        ValueError: If the run took no step.
    """
    whole = _phase("whole run", history.steps) if history.steps else phases(history)[0]
    sentences = []
    for objective, shares in zip(history.objectives, whole.shares, strict=True):
        if not any(shares):
            sentences.append(f"{objective} had no gradient: it was constant.")
            continue
        group, share = max(zip(history.groups, shares, strict=True), key=lambda pair: pair[1])
        verb = "drives" if share >= DECISIVE else "contributes most to"
        sentences.append(f"{group} {verb} {objective}: {share:.0%} of its squared gradient.")
    if len(history.objectives) < 2:
        return sentences
    first, second = history.objectives[:2]
    for group, cosine, share in zip(
        history.groups, whole.agreement, whole.conflicting, strict=True
    ):
        verb = "neither help nor fight each other"
        if abs(cosine) >= CONFLICT:
            verb = "pull together" if cosine > 0 else "conflict"
        sentences.append(
            f"In {group}, {first} and {second} {verb}: mean cosine {cosine:+.2f}, negative on "
            f"{share:.0%} of the steps."
        )
    return sentences


def _phase(name: str, steps: Sequence[StepRecord]) -> Phase:
    several = len(steps[0].shares) > 1
    agreement = [step.agreement for step in comparable(steps)] if several else [[]]
    return Phase(
        name=name,
        first_step=steps[0].step,
        last_step=steps[-1].step,
        losses=_mean([step.losses for step in steps]),
        shares=[_mean(rows) for rows in zip(*(step.shares for step in steps), strict=True)],
        agreement=_mean(agreement),
        conflicting=_mean([[float(c < 0) for c in row] for row in agreement]),
        weights=_mean([step.weights for step in steps]),
    )


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]

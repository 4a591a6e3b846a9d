"""What a run will do at most, known before its first call."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from gpo_dspy.data import Data
from gpo_dspy.evaluation.race import FIRST_BLOCK, SHARED_BLOCK

EvaluationMode = Literal["race", "full"]
Auto = Literal["light", "medium", "heavy"]

AUTO_METRIC_CALLS: dict[str, int] = {"light": 400, "medium": 1_000, "heavy": 3_000}
"""Metric calls for a program with one predictor; each further one adds half as many."""

HOLDOUT_BUDGET = 0.2
"""Share of the metric calls that the final claim may use."""

LARGEST_HOLDOUT = 100
"""Examples kept from the search at most: 100 pairs give an interval of about +-10 points."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The run in numbers.

    Attributes:
        max_metric_calls: Hard limit on metric calls, the final claim included.
        steps: Steps expected; the schedule is laid out over them.
        max_steps: Steps at most, or None if only the metric calls limit them.
        candidates: Rewrites a step.
        train: Training examples.
        validation: Validation examples that the search may use.
        holdout: Examples kept for the final claim.
        first_round: Metric calls that a step's first round may take.
        expected_cost: US dollars, roughly; None if a price is not known.
        direction_requests: Requests a step that put the update direction into words.
    """

    max_metric_calls: int
    steps: int
    max_steps: int | None
    candidates: int
    train: int
    validation: int
    holdout: int
    first_round: int
    expected_cost: float | None = None
    direction_requests: int = 0

    @property
    def reserve(self) -> int:
        """Metric calls kept for the final claim: the student's own and the best program."""
        return 2 * self.holdout

    def __str__(self) -> str:
        cost = "" if self.expected_cost is None else f"; roughly ${self.expected_cost:.2g}"
        more = self.direction_requests
        asked = f" and {more} request{'s' * (more > 1)} for the direction" if more else ""
        return (
            f"up to {self.max_metric_calls:,} metric calls; about {self.steps} steps of "
            f"{self.candidates} candidates{asked}; "
            f"{self.train} training and {self.validation} validation "
            f"examples searched, {self.holdout} kept for the final claim ({self.reserve} calls)"
            f"{cost}"
        )


def auto_metric_calls(auto: Auto, predictors: int) -> int:
    """Return the metric calls of an ``auto`` setting."""
    return AUTO_METRIC_CALLS[auto] * (1 + predictors) // 2


def make_plan(
    data: Data,
    *,
    max_metric_calls: int,
    max_steps: int | None,
    candidates: int,
    evaluation: EvaluationMode,
    trial: int,
) -> Plan:
    """Lay out a run.

    Args:
        data: The examples and their roles.
        max_metric_calls: Hard limit on metric calls.
        max_steps: Steps at most, or None.
        candidates: Rewrites a step.
        evaluation: How candidates are scored.
        trial: Failures that a candidate is tried on first; 0 if it begins on shared examples.

    Raises:
        ValueError: The metric calls do not pay for one step and the final claim.
    """
    if evaluation == "race":
        pool = len(data.train) + len(data.validation)
        first = min(trial or FIRST_BLOCK, pool)
        start_cost = min(SHARED_BLOCK, pool)
        step_cost = candidates * first + start_cost // 2  # every other step ends with the trials
    else:
        first = start_cost = len(data.validation)
        step_cost = candidates * first
    reserve = 2 * len(data.holdout)
    least = start_cost + candidates * first + reserve
    if max_metric_calls < least:
        # More calls may keep more examples for the claim.
        enough = max(least, ceil((least - reserve) / (1 - HOLDOUT_BUDGET))) if reserve else least
        raise ValueError(
            f"max_metric_calls={max_metric_calls} does not pay for one step: {start_cost} examples "
            f"for the start prompt, {first} for each of {candidates} candidates, and {reserve} "
            f"calls for the final claim, {least} in all. Raise it to {enough}, or lower "
            "candidates_per_step."
        )
    steps = max((max_metric_calls - reserve - start_cost) // step_cost, 1)
    return Plan(
        max_metric_calls=max_metric_calls,
        steps=steps if max_steps is None else min(steps, max_steps),
        max_steps=max_steps,
        candidates=candidates,
        train=len(data.train),
        validation=len(data.validation),
        holdout=len(data.holdout),
        first_round=candidates * first,
    )


def holdout_size(max_metric_calls: int) -> int:
    """Return how many examples to keep for the final claim, each costing two metric calls."""
    return min(int(max_metric_calls * HOLDOUT_BUDGET) // 2, LARGEST_HOLDOUT)

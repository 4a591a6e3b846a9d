"""What a run will do at most, known before its first call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from gpo_dspy.data import Data
from gpo_dspy.evaluation.race import FIRST_BLOCK, NEW_EXAMPLES, SHARED_BLOCK, survivors

EvaluationMode = Literal["race", "full"]
Auto = Literal["light", "medium", "heavy"]

AUTO_METRIC_CALLS: dict[str, int] = {"light": 400, "medium": 1_000, "heavy": 3_000}
"""Metric calls for a program with one predictor; each further one adds half as many."""

HOLDOUT_BUDGET = 0.2
"""Share of the metric calls that the final claim may use."""

FEWEST_CANDIDATES, MOST_CANDIDATES = 8, 16
"""Rewrites a step, by default, of a small and of a large run."""

CALLS_PER_CANDIDATE = 250
"""Metric calls of a run for each rewrite that its steps are wider than the fewest.

A small run needs its steps one after another: each learns from the one before. A large one comes
to steps that mend little, and takes fewer rounds, hence less time, if they are wide.
"""

COSTLY_CANDIDATES = 4
"""Rewrites a step, by default, where each costs a request or the whole validation set."""

MOST_STEPS_AT_ONCE = 12
"""Steps under way at the same time, by default, at most."""

CALLS_ONE_AT_A_TIME, CALLS_PER_STEP_AT_ONCE = 700, 100
"""Metric calls of a run whose steps follow one another, and how many more allow one more at once.

In a small run every success counts, and what steps beside it find is lost.
"""

MOST_TRIAL_FAILURES = 3
"""Failures in a trial at most: the first of those that the candidate's author was shown."""

CALLS_PER_TRIAL_FAILURE = 200
"""Metric calls of a run for each failure in its trials: where money is short, trials are."""

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
        expected_cost: US dollars, roughly; None if a price is not known.
        limits: What else ends the run, as text.
        trial: Failures that a candidate is tried on before it meets shared examples; 0 if it
            begins on those.
        first_round: Metric calls of a candidate's first round.
        last_round: Metric calls that one candidate then takes to the end of the step.
        direction_requests: Requests a step that put the update direction into words, for each
            predictor that it rewrites.
        rewrite_requests: Requests a step for its rewrites, likewise, as far as none is over the
            word budget.
        rewritten: Predictors that a step rewrites at most.
        steps_at_once: Steps under way at the same time at most.
    """

    max_metric_calls: int
    steps: int
    max_steps: int | None
    candidates: int
    train: int
    validation: int
    holdout: int
    expected_cost: float | None = None
    limits: str = ""
    trial: int = 0
    first_round: int = 0
    last_round: int = 0
    direction_requests: int = 0
    rewrite_requests: int = 0
    rewritten: int = 1
    steps_at_once: int = 1

    @property
    def reserve(self) -> int:
        """Metric calls kept for the final claim: the student's own and the best program."""
        return 2 * self.holdout

    @property
    def trial_of_recalled(self) -> int:
        """Failures that a prompt of an earlier run is tried on: it did well, and comes once."""
        return MOST_TRIAL_FAILURES if self.trial else 0

    @property
    def requests(self) -> int:
        """Requests a step to the prompt model."""
        return self.rewritten * (self.rewrite_requests + self.direction_requests)

    @property
    def least_step(self) -> int:
        """Metric calls of the narrowest step that can bring a new prompt."""
        return self.width(0) * self.first_round + self.last_round

    def full_step(self, failures: int) -> int:
        """Return metric calls that suffice for a step, whatever comes of it.

        Args:
            failures: Those known of its parent; with fewer than a trial takes, trials are shorter.
        """
        if not self.last_round:
            return (self.candidates + 1) * self.first_round
        first = min(self.first_round, failures) or self.first_round
        raced = survivors(self.candidates) + 1  # and the parent, where it is not known
        return self.candidates * first + raced * SHARED_BLOCK + NEW_EXAMPLES

    def width(self, metric_calls_left: int, trial: int | None = None) -> int:
        """Return how many candidates a step may have: in a race the last steps are narrower.

        Args:
            metric_calls_left: Metric calls that the search may still make.
            trial: Failures that each is tried on, if not as many as in other steps.
        """
        if not self.last_round:
            return self.candidates
        affordable = (metric_calls_left - self.last_round) // (trial or self.first_round)
        return min(max(affordable, 1), self.candidates)

    def __str__(self) -> str:
        cost = "" if self.expected_cost is None else f"; roughly ${self.expected_cost:.2g}"
        steps = counted(self.steps, "step")
        width = self.width(self.max_metric_calls - self.reserve - self.last_round)
        up_to = "up to " if self.rewritten > 1 else ""
        at_once = f", up to {self.steps_at_once} at once" if self.steps_at_once > 1 else ""
        asked = f" and {up_to}{counted(self.requests, 'request')} to the prompt model"
        return (
            f"up to {self.max_metric_calls:,} metric calls; about {steps} of "
            f"{counted(width, 'candidate')}{asked if self.requests else ''}{at_once}; "
            f"{self.train} training and {self.validation} validation "
            f"examples searched, {self.holdout} kept for the final claim ({self.reserve} calls)"
            f"{cost}{f'; ends at {self.limits}, if that comes first' if self.limits else ''}"
        )


def auto_metric_calls(auto: Auto, predictors: int) -> int:
    """Return the metric calls of an ``auto`` setting."""
    return AUTO_METRIC_CALLS[auto] * (1 + predictors) // 2


def candidates_per_step(max_metric_calls: int, predictors: int) -> int:
    """Return how many rewrites the steps of a run have by default.

    Args:
        max_metric_calls: Metric calls of the run.
        predictors: Predictors of the program; each after the first counts half, as in ``auto``.
    """
    more = _calls_for_one(max_metric_calls, predictors) // CALLS_PER_CANDIDATE
    return min(FEWEST_CANDIDATES + more, MOST_CANDIDATES)


def steps_at_once(max_metric_calls: int, predictors: int) -> int:
    """Return how many steps of a run may be under way at the same time by default.

    Args:
        max_metric_calls: Metric calls of the run.
        predictors: Predictors of the program; each after the first counts half, as in ``auto``.
    """
    beyond = _calls_for_one(max_metric_calls, predictors) - CALLS_ONE_AT_A_TIME
    return min(1 + max(beyond, 0) // CALLS_PER_STEP_AT_ONCE, MOST_STEPS_AT_ONCE)


def trial_failures(max_metric_calls: int, predictors: int) -> int:
    """Return how many failures the candidates of a run are tried on.

    Args:
        max_metric_calls: Metric calls of the run.
        predictors: Predictors of the program; each after the first counts half, as in ``auto``.
    """
    paid = _calls_for_one(max_metric_calls, predictors) // CALLS_PER_TRIAL_FAILURE
    return min(max(paid, 1), MOST_TRIAL_FAILURES)


def _calls_for_one(max_metric_calls: int, predictors: int) -> int:
    """Return the metric calls that a program with one predictor would have in proportion."""
    return 2 * max_metric_calls // (1 + predictors)


def make_plan(
    data: Data,
    *,
    max_metric_calls: int,
    max_steps: int | None,
    candidates: int,
    evaluation: EvaluationMode,
    trial: int,
    claim: bool = True,
    steps_at_once: int = 1,
) -> Plan:
    """Lay out a run.

    Args:
        data: The examples and their roles.
        max_metric_calls: Hard limit on metric calls.
        max_steps: Steps at most, or None.
        candidates: Rewrites a step.
        evaluation: How candidates are scored.
        trial: As in :class:`Plan`.
        claim: Whether examples are kept for the final claim, more with more calls.
        steps_at_once: Steps under way at the same time at most.

    Raises:
        ValueError: The metric calls do not pay for one step and the final claim.
    """
    if evaluation == "race":
        pool = len(data.train) + len(data.validation)
        first = min(trial or FIRST_BLOCK, pool)
        start_cost = min(SHARED_BLOCK, pool)
        # A trial's failures are drawn anew for the block, as far as others are known.
        last = SHARED_BLOCK if trial and pool > SHARED_BLOCK else max(start_cost - first, 1)
        step_cost = candidates * first + last // 2  # every other step ends with the trials
    else:
        first = start_cost = len(data.validation)
        step_cost, last = candidates * first, 0
    plan = Plan(
        max_metric_calls=max_metric_calls,
        steps=1,
        max_steps=max_steps,
        candidates=candidates,
        train=len(data.train),
        validation=len(data.validation),
        holdout=len(data.holdout),
        trial=trial,
        first_round=first,
        last_round=last,
        steps_at_once=steps_at_once,
    )
    reserve = plan.reserve
    least = start_cost + plan.least_step + reserve
    if max_metric_calls < least:
        # More calls may keep more examples for the claim.
        enough = max(least, ceil((least - reserve) / (1 - HOLDOUT_BUDGET))) if claim else least
        advice = "" if last else ", or lower candidates_per_step"
        raise ValueError(
            f"max_metric_calls={max_metric_calls} does not pay for one step: {start_cost} examples "
            f"for the start prompt, {plan.least_step} calls for the smallest step, and {reserve} "
            f"for the final claim, {least} in all. Raise it to {enough}{advice}."
        )
    steps = max((max_metric_calls - reserve - start_cost) // step_cost, 1)
    return replace(plan, steps=steps if max_steps is None else min(steps, max_steps))


def holdout_size(max_metric_calls: int) -> int:
    """Return how many examples to keep for the final claim, each costing two metric calls."""
    return min(int(max_metric_calls * HOLDOUT_BUDGET) // 2, LARGEST_HOLDOUT)


def counted(number: int, noun: str) -> str:
    """Return a number with a noun that takes an s in the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

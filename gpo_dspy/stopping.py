"""When a run has no further step to make."""

from __future__ import annotations

from itertools import takewhile

from gpo_dspy.plan import Plan
from gpo_dspy.state import RunState, StopReason

STALLED_AFTER = 5
"""Steps in a row without a new candidate after which a run gives up."""


def stop_reason(
    state: RunState,
    plan: Plan,
    *,
    metric_calls_left: int,
    perfect: bool,
    stop_after: int | None = None,
) -> StopReason | None:
    """Return why no further step can or need be made, or None.

    Args:
        state: Where the run stands.
        plan: What was planned.
        metric_calls_left: Metric calls that the search may still make.
        perfect: Whether the current program has full score on all of the search's examples.
        stop_after: Steps in a row without progress that end the run, if any number does.
    """
    if plan.max_steps is not None and state.step >= plan.max_steps:
        return StopReason.EPOCHS
    if perfect:
        return StopReason.PERFECT
    if stalled(state):
        return StopReason.STALLED
    if stop_after is not None and fruitless(state) >= stop_after:
        return StopReason.NO_PROGRESS
    if metric_calls_left < plan.least_step:
        return StopReason.METRIC_CALLS
    return None


def stalled(state: RunState) -> bool:
    """Tell whether the last steps brought no candidate that could be scored."""
    recent = state.records[-STALLED_AFTER:]
    return len(recent) == STALLED_AFTER and not any(
        candidate.score is not None for record in recent for candidate in record.candidates
    )


def fruitless(state: RunState) -> int:
    """Return how many of the last steps, in a row, brought no candidate that beat its parent."""
    return sum(1 for _ in takewhile(lambda r: r.accepted is None, reversed(state.records)))

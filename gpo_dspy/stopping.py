"""When a run has no further step to make."""

from __future__ import annotations

from collections.abc import Callable

from gpo_dspy.plan import Plan
from gpo_dspy.state import RunState, StepRecord, StopReason

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
    if stop_after is not None and fruitless(state, stop_after):
        return StopReason.NO_PROGRESS
    if metric_calls_left < plan.least_step:
        return StopReason.METRIC_CALLS
    return None


def stalled(state: RunState) -> bool:
    """Tell whether the last steps brought no candidate that could be scored."""
    return _none_of_the_last(
        STALLED_AFTER, state, lambda step: any(c.score is not None for c in step.candidates)
    )


def fruitless(state: RunState, steps: int) -> bool:
    """Tell whether so many of the last steps brought no candidate that beat its parent."""
    return _none_of_the_last(steps, state, lambda step: step.accepted is not None)


def _none_of_the_last(count: int, state: RunState, did: Callable[[StepRecord], bool]) -> bool:
    recent = state.records[-count:]
    return len(recent) == count and not any(map(did, recent))

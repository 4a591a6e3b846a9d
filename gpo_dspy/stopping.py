"""When a run has no further step to make."""

from __future__ import annotations

from gpo_dspy.plan import Plan
from gpo_dspy.state import RunState, StopReason

STALLED_AFTER = 5
"""Steps in a row without a new candidate after which a run gives up."""


def stop_reason(
    state: RunState,
    plan: Plan,
    *,
    under_way: int = 0,
    metric_calls_left: int,
    perfect: bool,
    stop_after: int | None = None,
) -> StopReason | None:
    """Return why no further step can or need be begun, or None.

    Args:
        state: Where the run stands.
        plan: What was planned.
        under_way: Steps that were begun and are not done.
        metric_calls_left: Metric calls that the search may still make.
        perfect: Whether the current program has full score on all of the search's examples.
        stop_after: Steps in a row without progress that end the run, if any number does.
    """
    if plan.max_steps is not None and state.step + under_way >= plan.max_steps:
        return StopReason.EPOCHS
    if perfect:
        return StopReason.PERFECT
    if stalled(state):
        return StopReason.STALLED
    if stop_after is not None and fruitless_steps(state) + under_way >= stop_after:
        return StopReason.NO_PROGRESS
    if metric_calls_left < plan.least_step:
        return StopReason.METRIC_CALLS
    return None


def stalled(state: RunState) -> bool:
    """Tell whether the last steps brought no candidate that could be scored."""
    recent = state.records[-STALLED_AFTER:]
    scored = any(c.score is not None for step in recent for c in step.candidates)
    return len(recent) == STALLED_AFTER and not scored


def fruitless_steps(state: RunState) -> int:
    """Return how many of the last steps in a row brought no candidate that beat its parent."""
    newest_first = enumerate(reversed(state.records))
    return next((i for i, step in newest_first if step.accepted is not None), state.step)

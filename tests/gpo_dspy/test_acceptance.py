"""Which candidate becomes current, and when no further step is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.acceptance import STEP_PENALTY, choose, next_parent
from gpo_dspy.evaluation.race import Standing
from gpo_dspy.plan import Plan
from gpo_dspy.program_state import ProgramState
from gpo_dspy.state import Candidate, Fate, Rewrite, RunState, StepRecord, StopReason
from gpo_dspy.stopping import STALLED_AFTER, stop_reason


def _program(text: str) -> ProgramState:
    return ProgramState((("self", text),))


START = _program("start")


def _standings(*found: tuple[float, float, bool]) -> dict[ProgramState, Standing]:
    return {
        _program(f"candidate {i}"): Standing(difference, score, 12, 1, complete)
        for i, (difference, score, complete) in enumerate(found)
    }


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([], None),
        ([(0.1, 0.6, True), (0.3, 0.8, False)], 0),
        ([(0.0, 0.5, True)], None),
        ([(-0.1, 0.4, True)], None),
        ([(0.5, 0.9, False)], None),
    ],
)
def test_an_improvement_is_one_after_a_whole_race(
    found: list[tuple[float, float, bool]], chosen: int | None
) -> None:
    standings = _standings(*found)
    expected = None if chosen is None else list(standings)[chosen]
    assert choose("improvement", standings) == expected


def test_the_papers_rule_takes_the_best_even_if_it_is_worse() -> None:
    standings = _standings((-0.3, 0.2, True), (-0.1, 0.4, True), (-0.1, 0.4, True))
    assert choose("best_new", standings) == list(standings)[1]
    assert choose("best_new", {}) is None


# --- stopping ------------------------------------------------------------------------------------

PLAN = Plan(400, 10, 20, 4, 20, 20, 10, first_round=4, last_round=12)


def _record(step: int, *scores: float | None) -> StepRecord:
    candidates = tuple(Candidate((Rewrite("x", Fate.KEPT, 5),), score=score) for score in scores)
    return StepRecord(step, START, ("self",), 5, (), candidates, None, 0.5, 10)


def _state(*steps: tuple[float | None, ...]) -> RunState:
    records = tuple(_record(number, *scores) for number, scores in enumerate(steps, start=1))
    return RunState(START, START, 0.5, (START,), records=records)


@pytest.mark.parametrize(
    ("steps", "options", "reason"),
    [
        (0, {}, None),
        (0, {"metric_calls_left": 16}, None),
        (0, {"metric_calls_left": 15}, StopReason.METRIC_CALLS),
        (0, {"perfect": True}, StopReason.PERFECT),
        (0, {"perfect": True, "metric_calls_left": 0}, StopReason.PERFECT),
        (19, {}, None),
        (20, {}, StopReason.EPOCHS),
        (20, {"perfect": True}, StopReason.EPOCHS),
    ],
)
def test_a_run_stops_for_a_reason(
    steps: int, options: dict[str, Any], reason: StopReason | None
) -> None:
    state = _state(*[(0.5, None)] * steps)
    arguments = {"metric_calls_left": 100, "perfect": False} | options
    assert stop_reason(state, PLAN, **arguments) is reason
    if reason is StopReason.EPOCHS:
        unlimited = replace(PLAN, max_steps=None)
        assert stop_reason(state, unlimited, **arguments) is not StopReason.EPOCHS


def test_steps_without_anything_new_stall_a_run_only_in_a_row() -> None:
    dry, fresh = (None, None), (None, 0.4)

    def reason(*steps: tuple[float | None, ...]) -> StopReason | None:
        return stop_reason(_state(*steps), PLAN, metric_calls_left=100, perfect=False)

    assert reason(*[dry] * (STALLED_AFTER - 1)) is None
    assert reason(*[dry] * STALLED_AFTER) is StopReason.STALLED
    assert reason(fresh, *[dry] * STALLED_AFTER) is StopReason.STALLED
    assert reason(*[dry] * 2, fresh, *[dry] * (STALLED_AFTER - 1)) is None


@given(
    beaten=st.lists(st.booleans(), max_size=12),
    stop_after=st.none() | st.integers(1, 6),
)
def test_steps_that_beat_nothing_end_a_run_if_so_many_are_enough(
    beaten: list[bool], stop_after: int | None
) -> None:
    state = _state(*[(0.5, None)] * len(beaten))
    each = zip(state.records, beaten, strict=True)
    records = [replace(record, accepted=0 if won else None) for record, won in each]
    found = stop_reason(
        replace(state, records=tuple(records)),
        PLAN,
        metric_calls_left=100,
        perfect=False,
        stop_after=stop_after,
    )
    ends = stop_after is not None and len(beaten) >= stop_after and not any(beaten[-stop_after:])
    assert (found is StopReason.NO_PROGRESS) is ends


# --- the next parent -----------------------------------------------------------------------------


def test_the_best_program_is_the_parent_until_it_looks_exhausted() -> None:
    good, weak = _program("good"), _program("weak")
    scores = {weak: 0.4, good: 0.6}
    patience = round((0.6 - 0.4) / STEP_PENALTY)
    for steps in range(patience):
        assert next_parent(scores, [good] * steps) == good
    assert next_parent(scores, [good] * (patience + 1)) == weak
    assert next_parent(scores, [good] * (patience + 1) + [weak] * 2) == good


def test_every_program_comes_back_in_the_end() -> None:
    scores: dict[ProgramState, float] = {_program(str(i)): i / 10 for i in range(5)}
    taken: list[ProgramState] = []
    for _ in range(100):
        taken.append(next_parent(scores, taken))
    assert set(taken) == set(scores)
    assert taken[0] == _program("4")

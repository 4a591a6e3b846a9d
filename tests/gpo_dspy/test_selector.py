"""Which predictors are rewritten: by what it brought, in turn, all, or as the user says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dspy
import pytest
from fakes import Prompted, rewriter_lm, scripted_lm, toy_examples, toy_gpo, toy_rewriter
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy import GPOResult
from gpo_dspy.program_state import ProgramState
from gpo_dspy.selector import (
    MOST_TOGETHER,
    All,
    Effect,
    RoundRobin,
    as_selector,
    chosen,
    most_rewritten,
    record_of,
)
from gpo_dspy.state import Candidate, Fate, Rewrite, RunState, StepRecord

NAMES = ("plan", "draft", "check", "answer")
START = ProgramState(tuple((name, "start") for name in NAMES))
ALIKE = dict.fromkeys(NAMES, 1.0)


def _state(*steps: Mapping[str, list[float | None]]) -> RunState:
    """Make a run whose steps rewrote predictors one by one, with these gains."""
    records = []
    for number, step in enumerate(steps, start=1):
        candidates = tuple(
            Candidate((Rewrite("new", Fate.KEPT, 5, predictor=name),), gain=gain)
            for name, gains in step.items()
            for gain in gains
        )
        records.append(
            StepRecord(number, START, tuple(step), 5, (), candidates, None, 0.5, 10 * number)
        )
    return RunState(START, START, 0.5, (START,), records=tuple(records))


def _later(state: RunState, steps: int) -> RunState:
    """Add steps in which nothing was scored."""
    empty = StepRecord(0, START, (), 0, (), (), None, 0.5, 0)
    return replace(state, records=(*state.records, *[empty] * steps))


def test_in_turn_means_each_equally_often_whatever_other_steps_there_are() -> None:
    state, seen = _state(), []
    for step in range(12):
        if step % 3 == 0:
            state = _later(state, 1)
        (name,) = RoundRobin()(state, ALIKE)
        seen.append(name)
        record = StepRecord(step, START, (name,), 5, (), (), None, 0.5, 0)
        state = replace(state, records=(*state.records, record))
    assert seen == list(NAMES) * 3


def test_all_are_all() -> None:
    assert All()(_state(), ALIKE) == NAMES


@given(
    shares=st.lists(st.floats(0.1, 1), min_size=1, max_size=6),
    seed=st.integers(0, 9),
    step=st.integers(0, 9),
)
def test_effect_names_some_in_the_programs_order_and_can_be_replayed(
    shares: list[float], seed: int, step: int
) -> None:
    failing = {f"module {i}": share for i, share in enumerate(shares)}
    state = _later(_state(), step)
    names = Effect(seed)(state, failing)
    assert 1 <= len(names) <= min(MOST_TOGETHER, len(failing))
    assert list(names) == [name for name in failing if name in names]
    assert names == Effect(seed)(state, failing)


def _often(state: RunState, failing: Mapping[str, float]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for step in range(200):
        counts.update(Effect(0)(_later(state, step), failing))
    return counts


def test_what_brought_something_is_rewritten_more_often_and_nothing_is_given_up() -> None:
    worth = {"plan": [0.1, 0.2, -0.1, 0.1], "draft": [-0.1, 0.0, -0.2, 0.0]}
    counts = _often(_state(*[worth] * 3), {"plan": 1.0, "draft": 1.0})
    assert counts["plan"] > 190
    assert counts["draft"] < 60
    counts = _often(_state(worth), {"plan": 1.0, "draft": 1.0})
    assert counts["draft"] > 20, "little evidence does not condemn it"


def test_where_no_failure_goes_through_nothing_is_rewritten() -> None:
    counts = _often(_state(), {"plan": 1.0, "draft": 0.0, "check": 0.1})
    assert not counts["draft"]
    assert counts["check"] < counts["plan"] / 2


def test_predictors_of_equal_worth_are_rewritten_together() -> None:
    even = {"plan": [0.1, -0.1] * 10, "answer": [0.1, -0.1] * 10}
    counts = _often(_state(even), {"plan": 1.0, "answer": 1.0})
    assert min(counts.values()) > 190


def test_credit_goes_by_name_to_what_was_rewritten_and_scored() -> None:
    state = _state({"plan": [0.2, None, -0.1, 0.0], "draft": [0.3]}, {"plan": [0.1]})
    assert record_of(state, "plan") == (2, 4)
    assert record_of(state, "draft") == (1, 1)
    assert record_of(state, "check") == (0, 0)
    refused = Candidate(
        (
            Rewrite("new", Fate.KEPT, 5, predictor="plan"),
            Rewrite("", Fate.EMPTY, 5, predictor="draft"),
        ),
        gain=0.4,
    )
    record = replace(state.records[0], candidates=(refused,))
    state = replace(state, records=(record,))
    assert record_of(state, "plan") == (1, 1)
    assert record_of(state, "draft") == (0, 0), "its rewrite was not tried"


def test_a_selector_is_a_name_or_a_function() -> None:
    assert as_selector("effect", 3) == Effect(3)
    with pytest.raises(ValueError, match=r"selector must be one of 'effect'.*found 'best'"):
        as_selector("best", 0)
    for wrong in (3, Effect):
        with pytest.raises(TypeError, match="selector must be"):
            as_selector(wrong, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("named", [(), "nobody", ("plan", "nobody")])
def test_what_a_function_names_must_be_there(named: Any) -> None:
    with pytest.raises(ValueError, match="must name at least one of the predictors 'plan'"):
        chosen(lambda state, failing: named, _state(), ALIKE)


def test_a_function_may_name_one_or_several() -> None:
    assert chosen(lambda state, failing: "draft", _state(), ALIKE) == ("draft",)  # type: ignore[arg-type]
    assert chosen(lambda state, failing: ["draft", "draft"], _state(), ALIKE) == ("draft",)


# --- in a run ------------------------------------------------------------------------------------


class Twins(dspy.Module):
    """Two predictors with equal signatures and instructions; both need the question's word."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.second(question=f"{question} {self.first(question=question).answer}")


def _twins_solver(prompted: Prompted) -> dict[str, str]:
    _, number, need, *rest = prompted.fields["question"].split()
    knows = need in prompted.instruction.split()
    if not rest:
        return {"answer": "ready" if knows else "lost"}
    return {"answer": f"right {number}" if knows and rest == ["ready"] else "wrong"}


def _run(selector: Any, **arguments: Any) -> GPOResult:
    with dspy.context(lm=scripted_lm(_twins_solver)):
        optimizer = toy_gpo(selector=selector, max_metric_calls=250, **arguments)
        compiled = optimizer.compile(
            Twins(), trainset=toy_examples(20), valset=toy_examples(30, start=100)
        )
    result: GPOResult = compiled.detailed_results
    return result


def test_only_a_joint_rewrite_mends_what_two_modules_have_to_know() -> None:
    alone = _run("round_robin")
    assert {len(record.predictors) for record in alone.records} == {1}
    assert alone.best_score == 0
    together = _run("all")
    assert together.best_score > 0.5
    assert {record.predictors for record in together.records} == {("first", "second")}
    record = next(record for record in together.records if record.accepted is not None)
    winner = record.candidates[record.accepted or 0]
    assert [rewrite.predictor for rewrite in winner.rewrites] == ["first", "second"]
    assert winner.rewrites[0].failures_shown == winner.rewrites[1].failures_shown
    assert winner.gain is not None
    assert winner.gain > 0
    for name, text in together.best:
        assert text in {prompt.text for prompt in together.trajectories[name]}
    by_effect = _run("effect")
    assert by_effect.best_score > 0.5


def test_of_a_joint_rewrite_the_usable_part_is_tried() -> None:
    def rewriter(prompted: Prompted) -> dict[str, str]:
        if "module `first`" in prompted.user:
            return {"improved_prompt": ""}
        return toy_rewriter(prompted)

    result = _run("all", prompt_model=rewriter_lm(rewriter))
    assert result.fates["EMPTY"] == 4 * len(result.records)
    tried = [candidate for candidate in result.records[0].candidates if candidate.usable]
    assert tried, "the others say the same"
    for candidate in tried:
        assert candidate.score is not None
        state = candidate.of(result.records[0].parent)
        assert state.instruction("first") == dict(result.start)["first"]
        assert state.instruction("second") == candidate.rewrites[1].text


def test_a_function_decides_by_what_it_sees() -> None:
    seen: list[Mapping[str, float]] = []

    def second(state: RunState, failing: Mapping[str, float]) -> str:
        seen.append(failing)
        return "second"

    result = _run(second)
    assert {record.predictors for record in result.records} == {("second",)}
    assert len(seen) == len(result.records)
    assert all(failing == {"first": 1.0, "second": 1.0} for failing in seen)


def test_how_many_are_rewritten_at_most_is_known() -> None:
    assert most_rewritten(RoundRobin(), 5) == 1
    assert most_rewritten(All(), 5) == 5
    assert [most_rewritten(Effect(0), n) for n in (1, 3, 5)] == [1, 3, MOST_TOGETHER]

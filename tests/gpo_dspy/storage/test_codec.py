"""What is written of evaluations, steps and results is shown and read as it was."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from typing import Any

import dspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.evaluation.runner import Evaluation, Outcome, PredictorCall
from gpo_dspy.evaluation.statistics import Estimate
from gpo_dspy.ledger import Usage
from gpo_dspy.plan import Plan
from gpo_dspy.result import Claim, GPOResult
from gpo_dspy.showing import show_failure
from gpo_dspy.state import Candidate, Fate, Rewrite, ScoredPrompt, StepRecord, StopReason
from gpo_dspy.storage.codec import (
    Shown,
    evaluation_detail,
    evaluation_from,
    result_from,
    result_text,
    step_from,
    step_text,
)
from tests.gpo_dspy.fakes import toy_examples, toy_gpo

EXAMPLE = dspy.Example(question="2 + 2", answer="4").with_inputs("question")


def _again(evaluation: Evaluation) -> Evaluation:
    detail = evaluation_detail(evaluation)
    detail.encode("ascii")
    assert "\0" not in detail
    outcome = evaluation.outcome.name
    return evaluation_from(evaluation.score, outcome, evaluation.feedback, detail)


def _evaluation(**values: Any) -> Evaluation:
    call = PredictorCall("answer", values, values)
    return Evaluation(0.5, Outcome.SCORED, "feedback", dspy.Prediction(values), (call,))


class Colour(enum.Enum):
    RED = 1


class Word(str):
    """A text of a type of its own."""

    __slots__ = ()


class Thing:
    def __str__(self) -> str:
        return "the text of a thing"


class Broken:
    def __str__(self) -> str:
        raise KeyError("no text")


@dataclasses.dataclass
class Point:
    x: float


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
odd = st.recursive(
    plain
    | st.sampled_from([Colour.RED, Word("w"), Thing(), Point(1.5), np.float64(0.5), np.arange(3)])
    | st.binary()
    | st.complex_numbers()
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=5), odd, max_size=4), st.text(st.characters()))
def test_a_restored_evaluation_shows_the_same(values: dict[str, Any], feedback: str) -> None:
    original = dataclasses.replace(_evaluation(**values), feedback=feedback)
    restored = _again(original)
    for predictor in ("answer", "no such predictor"):
        shown = [show_failure(EXAMPLE, e, predictor) for e in (original, restored)]
        assert shown[0] == shown[1]
    twice = _again(restored)
    assert show_failure(EXAMPLE, twice, "answer") == show_failure(EXAMPLE, original, "answer")


@given(plain)
def test_values_that_json_knows_come_back_as_they_were(value: Any) -> None:
    restored = _again(_evaluation(x=value)).trace[0].inputs["x"]
    assert type(restored) is type(value)
    assert repr(restored) == repr(value), "equal, and equal in their types too; NaN is not itself"


@pytest.mark.parametrize(
    "value",
    [
        "\0", "\ud800", "\udc00\ud800", "\ud83d\ude00", "\U0001f600", "", math.nan, -math.inf, -0.0,
        10**4299, -(10**4299), 2**64, {"$text": "x"}, {"$": 1}, {"$dict": {"$float": "nan"}},
        {"a": 1, "$text": 2}, {"\0": "\0"}, [[[]]], {},
    ],
    ids=repr,
)  # fmt: skip
def test_values_at_the_edges_come_back(value: Any) -> None:
    restored = _again(_evaluation(x=value))
    assert repr(restored.trace[0].outputs["x"]) == repr(value)
    assert repr(restored.prediction["x"]) == repr(value)


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1, 2}, {1: 2}, {"\ud83d\ude00": 1}, b"x", Colour.RED, Word("w"), Thing(), [Thing()],
     dspy.Image("http://a/1.png"), dspy.Prediction(x=Thing()), dspy.Example(a=1), np.arange(3)],
    ids=repr,
)  # fmt: skip
def test_of_other_values_the_text_comes_back(value: Any) -> None:
    restored = _again(_evaluation(x=value)).trace[0].inputs["x"]
    assert restored == Shown(str(value))
    assert str(restored) == str(value)


def test_a_value_that_holds_itself_and_one_without_a_text_are_written_too() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert str(_again(_evaluation(x=loop)).trace[0].inputs["x"]) == str(loop)
    assert "KeyError" in str(_again(_evaluation(x=Broken())).trace[0].inputs["x"])


def test_predictions_come_back_as_predictions() -> None:
    prediction = dspy.Prediction({"answer": "4", "base": {"kept": True}, "thing": Thing()})
    restored = _again(Evaluation(1.0, Outcome.SCORED, "", prediction)).prediction
    assert isinstance(restored, dspy.Prediction)
    assert restored.answer == "4"
    assert restored["base"] == {"kept": True}
    assert list(restored.keys()) == ["answer", "base", "thing"]
    assert _again(Evaluation(0.0, Outcome.REFUSED, "no")).prediction is None
    assert _again(Evaluation(0.0, Outcome.SCORED, "", ["a"])).prediction == ["a"]


@pytest.mark.parametrize("outcome", Outcome)
def test_outcomes_come_back_and_usage_is_left_to_its_columns(outcome: Outcome) -> None:
    original = Evaluation(0.25, outcome, "why", usage=Usage(1, 2, 3, 0.5))
    assert _again(original) == dataclasses.replace(original, usage=Usage())


INSTRUCTIONS = (("plan", "Plan.\0"), ("answer", "Answer \ud800."))
PROMPT = ScoredPrompt("Answer.", 0.1 + 0.2, 7, 3)
RECORD = StepRecord(
    step=1,
    parent=INSTRUCTIONS,
    predictor="answer",
    words_allowed=50,
    retrieved=(PROMPT,),
    candidates=tuple(
        Candidate(Rewrite("Say.", fate, 50, 3, 2, (1, 5)), score, 4)
        for fate, score in zip(Fate, [None, 0.5] * len(Fate), strict=False)
    ),
    accepted=None,
    score=1 / 3,
    metric_calls=99,
)


def test_steps_come_back_equal() -> None:
    text = step_text(RECORD)
    text.encode("ascii")
    assert step_from(text) == RECORD
    assert step_from(step_text(dataclasses.replace(RECORD, accepted=1))).accepted == 1


@pytest.mark.parametrize("reason", StopReason)
def test_results_come_back_equal(reason: StopReason) -> None:
    plan = Plan(400, 5, None, 4, 10, 20, 30, 16)
    estimate = Estimate(0.5, 0.25, 0.75, 30)
    result = GPOResult(
        start=INSTRUCTIONS,
        best=INSTRUCTIONS,
        returned=INSTRUCTIONS,
        start_score=0.1,
        best_score=0.2,
        claim=Claim(estimate, estimate, estimate) if reason is StopReason.PERFECT else None,
        stop_reason=reason,
        plan=plan,
        metric_calls=10,
        reused=3,
        outcomes={"SCORED": 10},
        fates={"KEPT": 2},
        task_usage=Usage(1, 2, 3, 0.1 + 0.2, 4),
        prompt_usage=Usage(),
        seconds=1.5,
        records=(RECORD,),
        trajectories={"answer": (PROMPT,)},
    )
    assert result_from(result_text(result)) == result


def test_the_result_of_a_run_comes_back_equal() -> None:
    with dspy.context(lm=None):
        from tests.gpo_dspy.fakes import scripted_lm, toy_solver

        with dspy.context(lm=scripted_lm(toy_solver)):
            program = dspy.ChainOfThought("question -> answer")
            result = toy_gpo().compile(program, trainset=toy_examples(40)).detailed_results
    assert result.records
    assert result_from(result_text(result)) == result
    assert str(result_from(result_text(result))) == str(result)


def test_text_of_an_older_version_is_read() -> None:
    older = json.loads(step_text(RECORD))
    for prompt in older["retrieved"]:
        del prompt["origin"]
    older["a field of a newer version"] = 1
    assert step_from(json.dumps(older)) == RECORD

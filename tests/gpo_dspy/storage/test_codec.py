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
from hypothesis import given, settings
from hypothesis import strategies as st

from gpo_dspy.errors import StorageError
from gpo_dspy.evaluation.runner import Evaluation, Outcome, PredictorCall
from gpo_dspy.ledger import Usage
from gpo_dspy.program_state import ProgramState
from gpo_dspy.result import GPOResult
from gpo_dspy.showing import show_failure
from gpo_dspy.state import Candidate, Fate, Rewrite, ScoredPrompt, StepRecord
from gpo_dspy.storage.codec import (
    Shown,
    evaluation_detail,
    evaluation_from,
    result_from,
    result_text,
    step_from,
    step_text,
)
from tests.gpo_dspy.fakes import scripted_lm, toy_examples, toy_gpo, toy_solver

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
        "\0", "\ud800", "\udc00\ud800", "\U0001f600", "", math.nan, -math.inf, -0.0,
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
    assert isinstance(restored, Shown)
    assert str(restored) == str(value)


def test_two_halves_of_a_surrogate_pair_stay_two() -> None:
    halves = "\ud83d" + "\ude00"
    assert _again(_evaluation(x=halves)).trace[0].inputs == {"x": halves}
    assert len(_again(_evaluation(x=[halves])).prediction.x[0]) == 2


def test_adapters_write_a_restored_value_as_they_write_the_original() -> None:
    signature = dspy.Signature("point, tags -> answer")
    values = {"point": Point(1.5), "tags": ("a", "b"), "answer": Colour.RED}

    def prompt(fields: dict[str, Any]) -> Any:
        return dspy.ChatAdapter().format(signature, [dspy.Example(fields)], {"point": 1, "tags": 2})

    restored = _again(_evaluation(**values)).trace[0].inputs
    assert prompt(restored) == prompt(values)


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
    original = Evaluation(
        0.25, outcome, "why", usage=Usage(1, 2, 3, 0.5), predictor_feedback=(("answer", "so"),)
    )
    assert _again(original) == dataclasses.replace(original, usage=Usage())


def _record(text: str) -> StepRecord:
    state = ProgramState((("answer", text),))
    prompt = ScoredPrompt(text, 0.1 + 0.2, 7, 3)
    rewrite = Rewrite(text, Fate.CLIPPED, 50, 3, 2, (1, 5), predictor="answer")
    candidate = Candidate((rewrite,), score=1 / 3, evaluations=4)
    return StepRecord(1, state, ("answer",), 50, (prompt,), (candidate,), 0, 0.5, 99)


# Hypothesis makes the records by their type hints, as the codec reads them: new fields come along.


@given(st.from_type(StepRecord))
@settings(max_examples=30)
def test_steps_come_back_equal(record: StepRecord) -> None:
    text = step_text(record)
    text.encode("ascii")
    assert _all_of(step_from(text)) == _all_of(record)


@given(st.builds(GPOResult, records=st.just((_record("Answer."),))))
@settings(max_examples=30)
def test_results_come_back_equal(result: GPOResult) -> None:
    assert _all_of(result_from(result_text(result))) == _all_of(result)


def _all_of(value: Any) -> str:
    """Write a dataclass with its types and fields; unlike NaN itself, this equals itself."""
    if dataclasses.is_dataclass(value):
        named = ((f.name, _all_of(getattr(value, f.name))) for f in dataclasses.fields(value))
        return f"{type(value).__name__}({dict(named)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_all_of, value))})"
    if isinstance(value, dict):
        return f"{ {key: _all_of(item) for key, item in value.items()} }"
    return repr(value)


def test_texts_that_databases_refuse_come_back() -> None:
    record = _record("\0\ud800")
    text = step_text(record)
    text.encode("ascii")
    assert "\0" not in text
    assert step_from(text) == record


def test_the_result_of_a_run_comes_back_equal() -> None:
    program = dspy.ChainOfThought("question -> answer")
    with dspy.context(lm=scripted_lm(toy_solver)):
        result = toy_gpo().compile(program, trainset=toy_examples(40)).detailed_results
    assert result.records
    assert result_from(result_text(result)) == result
    assert str(result_from(result_text(result))) == str(result)


def test_text_of_another_version_is_read_if_only_fields_with_defaults_differ() -> None:
    record = _record("Answer.")
    older = json.loads(step_text(record))
    del older["retrieved"][0]["origin"]
    older["a field of a newer version"] = 1
    assert step_from(json.dumps(older)) == record
    for wrong in (older | {"step": None}, {"step": 1}, [], older | {"parent": "x"}):
        with pytest.raises(StorageError, match="A stored StepRecord cannot be read"):
            step_from(json.dumps(wrong))

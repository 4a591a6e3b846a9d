"""What a metric may look like, and what it may return."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import dspy
import numpy as np
import pytest

from gpo_dspy.errors import MetricError
from gpo_dspy.evaluation.metric import Judgement, Metric, judgement

EXAMPLE = dspy.Example(question="q", answer="a").with_inputs("question")
PREDICTION = dspy.Prediction(answer="a")


class _Callable:
    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        return 0.25


def _gepa(gold: Any, pred: Any, trace: Any, pred_name: Any, pred_trace: Any) -> Any:
    assert (trace, pred_name, pred_trace) == (None, None, None)
    return dspy.Prediction(score=0.5, feedback="half")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, Judgement(1.0)),
        (False, Judgement(0.0)),
        (0, Judgement(0.0)),
        (0.3, Judgement(0.3)),
        (np.float32(0.5), Judgement(0.5)),
        (np.bool_(True), Judgement(1.0)),
        (dspy.Prediction(score=0.5, feedback="half"), Judgement(0.5, "half")),
        (dspy.Prediction(score=True), Judgement(1.0)),
        (dspy.Prediction(score=1, feedback=None), Judgement(1.0)),
        ({"b": True, "a": 0.5}, Judgement(0.75, "", (("a", 0.5), ("b", 1.0)))),
        ({"only": np.float32(0.5)}, Judgement(0.5, "", (("only", 0.5),))),
        (
            dspy.Prediction(scores={"a": 0.5, "b": 1}, feedback="half"),
            Judgement(0.75, "half", (("a", 0.5), ("b", 1.0))),
        ),
        (
            dspy.Prediction(score=0.25, scores={"a": 0.5}),
            Judgement(0.25, "", (("a", 0.5),)),
        ),
    ],
)
def test_accepted_values(value: Any, expected: Judgement) -> None:
    assert judgement(value) == expected


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "Is a `return` missing"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-0.1, "-0.1"),
        (2.0, "divide it by 100"),
        (101.0, "101"),
        ("0.5", "'0.5' \\(str\\)"),
        ([1], "list"),
        (dspy.Prediction(feedback="no score"), "without `score`"),
        (dspy.Prediction(score=None), "None"),
        (dspy.Prediction(score="high"), "high"),
        ({}, "no names with numbers"),
        ({1: 0.5}, "no names with numbers"),
        ({"a": 0.5, "b": None}, "score 'b', returned None"),
        ({"a": 0.5, "b": 50}, "score 'b', returned 50.*divide it by 100"),
        (dspy.Prediction(scores=[0.5]), "no names with numbers"),
        (dspy.Prediction(scores=None), "no names with numbers"),
        (dspy.Prediction(score=2.0, scores={"a": 0.5}), "returned 2.0"),
    ],
)
def test_refused_values_are_named_with_the_contract(value: Any, said: str) -> None:
    with pytest.raises(MetricError, match=said) as raised:
        judgement(value, "my_metric")
    assert "my_metric" in str(raised.value)
    assert "number in [0, 1]" in str(raised.value)


@pytest.mark.parametrize(
    ("function", "score"),
    [
        (lambda example, prediction: 0.25, 0.25),
        (lambda example, prediction, trace=None: 0.25, 0.25),
        (lambda example, prediction, trace: 0.25, 0.25),
        (lambda *arguments: 0.25, 0.25),
        (lambda example, prediction, *, strict=False: 0.25, 0.25),
        (lambda e, p, trace=None, pred_name=None, pred_trace=None: 0.25, 0.25),
        (_gepa, 0.5),
        (_Callable(), 0.25),
        (functools.partial(lambda scale, e, p, trace=None: scale, 0.25), 0.25),
    ],
)
def test_metrics_of_every_form_are_called(function: Callable[..., Any], score: float) -> None:
    assert Metric(function)(EXAMPLE, PREDICTION).score == score


def test_the_trace_is_none_so_that_metrics_give_their_plain_score() -> None:
    seen: list[Any] = []

    def metric(example: Any, prediction: Any, trace: Any = "default") -> bool:
        seen.append(trace)
        return True

    Metric(metric)(EXAMPLE, PREDICTION)
    assert seen == [None]


async def _judged_later(example: Any, prediction: Any, trace: Any = None) -> bool:
    return True


class _JudgedLater:
    async def __call__(self, example: Any, prediction: Any, trace: Any = None) -> bool:
        return True


@pytest.mark.parametrize(
    "function",
    [
        "accuracy",
        None,
        lambda: 1,
        lambda example: 1,
        lambda example, **rest: 1,
        lambda example, prediction, *, threshold: 1,
        dspy.evaluate.SemanticF1,
        _judged_later,
        _JudgedLater(),
    ],
)
def test_what_cannot_be_called_is_refused_at_once(function: Any) -> None:
    with pytest.raises(ValueError, match="metric"):
        Metric(function)


def test_what_the_metric_raises_is_not_hidden() -> None:
    def metric(example: Any, prediction: Any) -> bool:
        raise ZeroDivisionError("oh")

    with pytest.raises(ZeroDivisionError, match="oh"):
        Metric(metric)(EXAMPLE, PREDICTION)


# --- feedback on one predictor -------------------------------------------------------------------


def _with_feedback(value: Any) -> Callable[..., Any]:
    def metric(gold: Any, pred: Any, trace: Any, pred_name: Any, pred_trace: Any) -> Any:
        return value

    return metric


@pytest.mark.parametrize(
    ("function", "wants"),
    [
        (lambda e, p, t=None, pred_name=None, pred_trace=None: 1, True),
        (lambda gold, pred, trace, name, calls: 1, True),
        (lambda e, p, t=None, pred_name=None, pred_trace=None, program_trace=None: 1, True),
        (functools.partial(_gepa, "gold"), False),
        (functools.partial(lambda k, e, p, t, pred_name, pred_trace: 1, 3), True),
        (lambda e, p, t=None: 1, False),
        (lambda e, p, t=None, strict=False, lower=True: 1, False),
        (lambda e, p, t=None, pred_name=None: 1, False),
        (lambda *arguments: 1, False),
        (_Callable(), False),
    ],
)
def test_gepas_form_is_known_from_options_of_the_metrics_own(
    function: Callable[..., Any], wants: bool
) -> None:
    assert Metric(function).wants_predictor is wants


@pytest.mark.parametrize(
    ("value", "feedback"),
    [
        (dspy.Prediction(score=0.5, feedback="say more"), "say more"),
        (dspy.Prediction(score=0.5, feedback=None), ""),
        (dspy.Prediction(score=0.5), ""),
        (0.5, ""),
        (False, ""),
        ({"a": 0.25, "b": 0.75}, ""),
        (dspy.Prediction(scores={"a": 0.25, "b": 0.75}, feedback="say more"), "say more"),
    ],
)
def test_feedback_is_taken_where_there_is_some(value: Any, feedback: str) -> None:
    metric = Metric(_with_feedback(value))
    assert metric.feedback(EXAMPLE, PREDICTION, 0.5, [], "plan", []) == feedback


def test_another_score_with_the_feedback_is_told_once_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metric = Metric(_with_feedback(dspy.Prediction(score=0.75, feedback="near")))
    for _ in range(3):
        assert metric.feedback(EXAMPLE, PREDICTION, 0.5, [], "plan", []) == "near"
    (record,) = caplog.records
    assert "0.5 for the program and 0.75" in record.getMessage()
    assert "only the score of the program counts" in record.getMessage()


def test_an_equal_score_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    for value in (dspy.Prediction(score=False, feedback="no"), 0, 0.0, {"a": 0, "b": 0.0}):
        Metric(_with_feedback(value)).feedback(EXAMPLE, PREDICTION, 0.0, [], "plan", [])
    assert not caplog.records

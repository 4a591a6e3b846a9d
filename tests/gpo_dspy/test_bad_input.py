"""What bad input gets: a clear error before any call, or a counted and reported outcome."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import (
    CountingMetric,
    Prompted,
    rewriter_lm,
    scripted_lm,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)

from gpo_dspy import BackendUnavailable, GPOResult, MetricError, ProgramError, StopReason
from gpo_dspy.program import instructions_of

QA = "question -> answer"
TRAIN, VAL = toy_examples(20), toy_examples(20, start=100)


def _frozen() -> dspy.Module:
    program = dspy.Module()
    program.inner = dspy.ChainOfThought(QA)
    program.inner._compiled = True
    return program


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"trainset": []}, ValueError, "trainset is empty"),
        ({"valset": []}, ValueError, "valset is empty"),
        ({"trainset": toy_examples(1), "valset": None}, ValueError, "at least 2 examples"),
        ({"trainset": [{"question": "q"}]}, ValueError, r"trainset\[0\] is a dict"),
        ({"trainset": [dspy.Example(question="q")]}, ValueError, "with_inputs"),
        ({"student": dspy.Module()}, ProgramError, "no predictor to optimise"),
        ({"student": _frozen()}, ProgramError, r"frozen submodules \(self\.inner\)"),
        ({"student": "question -> answer"}, ValueError, "must be a dspy.Module, got str"),
        ({"student": dspy.ChainOfThought}, ValueError, "must be a dspy.Module"),
        ({"max_metric_calls": 3}, ValueError, "max_metric_calls=3 does not pay"),
        ({"testset": toy_examples(200, 500)}, ValueError, "400 for the final claim"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_any_call(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    lm, prompt_model, metric = scripted_lm(toy_solver), rewriter_lm(toy_rewriter), CountingMetric()
    budget = {"max_metric_calls": arguments.pop("max_metric_calls", 150)}
    sets = {"student": dspy.Predict(QA), "trainset": TRAIN, "valset": VAL} | arguments
    student = sets.pop("student")
    with dspy.context(lm=lm), pytest.raises(error, match=said):
        toy_gpo(metric, prompt_model=prompt_model, **budget).compile(student, **sets)
    assert not lm.engine.prompts
    assert not prompt_model.engine.prompts
    assert not metric.calls


def test_without_an_lm_it_says_which_predictors_lack_one() -> None:
    prompt_model = rewriter_lm(toy_rewriter)
    with pytest.raises(ValueError, match=r"No LM is configured for self: call dspy\.configure"):
        toy_gpo(prompt_model=prompt_model).compile(dspy.Predict(QA), trainset=TRAIN)
    assert not prompt_model.engine.prompts


def test_an_lm_of_each_predictors_own_is_enough() -> None:
    student = dspy.Predict(QA)
    student.set_lm(scripted_lm(toy_solver))
    compiled = toy_gpo().compile(student, trainset=TRAIN, valset=VAL)
    assert compiled.detailed_results.metric_calls > 0


# --- metrics that break their contract -----------------------------------------------------------


def _raising(*_: Any, **__: Any) -> Any:
    raise KeyError("gold")


@pytest.mark.parametrize(
    ("metric", "said", "most_calls"),
    [
        (lambda e, p, t=None: None, "returned None.*Is a `return` missing", 1),
        (lambda e, p, t=None: math.nan, "returned nan", 1),
        (lambda e, p, t=None: "yes", r"returned 'yes' \(str\)", 1),
        (lambda e, p, t=None: 2.0, r"returned 2\.0.*divide it by 100", 1),
        (lambda e, p, t=None: -1, "returned -1", 1),
        (lambda e, p, t=None: dspy.Prediction(feedback="good"), "without `score`", 1),
        (_raising, "failed on all of .*KeyError: 'gold'", 20),
    ],
)
def test_a_broken_metric_is_told_after_few_calls(
    metric: Callable[..., Any], said: str, most_calls: int
) -> None:
    lm, prompt_model = scripted_lm(toy_solver), rewriter_lm(toy_rewriter)
    with dspy.context(lm=lm), pytest.raises(MetricError, match=said):
        toy_gpo(metric, prompt_model=prompt_model).compile(
            dspy.Predict(QA), trainset=TRAIN, valset=VAL
        )
    assert len(lm.engine.prompts) <= most_calls
    assert not prompt_model.engine.prompts


@pytest.mark.parametrize(
    ("bad", "outcome", "reported"),
    [
        (lambda: None, "METRIC_INVALID", "metric gave no score"),
        (lambda: math.nan, "METRIC_INVALID", "metric gave no score"),
        (lambda: "1", "METRIC_INVALID", "metric gave no score"),
        (lambda: 1.5, "METRIC_INVALID", "metric gave no score"),
        (_raising, "METRIC_ERROR", "metric raised"),
    ],
)
def test_a_metric_that_fails_later_is_counted_and_reported(
    bad: Callable[[], Any], outcome: str, reported: str
) -> None:
    calls = 0

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> Any:
        nonlocal calls
        calls += 1
        return bad() if calls in (50, 60) else toy_metric(example, prediction)

    with dspy.context(lm=scripted_lm(toy_solver)):
        result: GPOResult = (
            toy_gpo(metric).compile(dspy.Predict(QA), trainset=TRAIN, valset=VAL).detailed_results
        )
    assert result.outcomes[outcome] == 2
    assert f"2 {reported}" in str(result)


def test_a_program_that_always_raises_is_told_after_few_calls() -> None:
    class Broken(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict(QA)

        def forward(self, question: str) -> dspy.Prediction:
            raise TypeError("forward() is broken")

    metric = CountingMetric()
    with (
        dspy.context(lm=scripted_lm(toy_solver)),
        pytest.raises(ProgramError, match=r"student: it failed on all of .*forward\(\) is broken"),
    ):
        toy_gpo(metric).compile(Broken(), trainset=TRAIN, valset=VAL)
    assert not metric.calls


# --- rewrites that are no prompts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewrite", "fate"),
    [
        ("", "EMPTY"),
        ("???", "EMPTY"),
        ("CURRENT", "REPEATED"),
        ("Answer. " * 6_250, "TOO_LONG"),  # 50,000 characters
        ("CURRENT Then write [[ ## answer ## ]].", "MARKER"),
        ("No placeholder here.", "NAME_LOST"),
    ],
)
@pytest.mark.parametrize("on_excess", ["clip", "drop", "accept"])
def test_useless_rewrites_are_counted_never_tried_and_end_the_run(
    rewrite: str, fate: str, on_excess: str
) -> None:
    def rewriter(prompted: Prompted) -> dict[str, str]:
        return {"improved_prompt": rewrite.replace("CURRENT", prompted.fields["current_prompt"])}

    lm = scripted_lm(toy_solver)
    student = dspy.Predict(dspy.Signature(QA, "Answer {style}."))
    with dspy.context(lm=lm):
        compiled = toy_gpo(prompt_model=rewriter_lm(rewriter), on_excess=on_excess).compile(
            student, trainset=TRAIN, valset=VAL
        )
    result: GPOResult = compiled.detailed_results
    assert set(result.fates) == {fate}
    assert result.fates[fate] == 4 * len(result.records)
    assert result.stop_reason is StopReason.STALLED
    assert "rewrites not tried" in str(result)
    assert instructions_of(compiled) == instructions_of(student)
    assert {p.instruction for p in lm.engine.prompts} == {"Answer {style}."}


def test_a_prompt_model_that_cannot_be_parsed_ends_the_run_too() -> None:
    with dspy.context(lm=scripted_lm(toy_solver)):
        compiled = toy_gpo(prompt_model=scripted_lm(lambda _: "I refuse.")).compile(
            dspy.Predict(QA), trainset=TRAIN, valset=VAL
        )
    result: GPOResult = compiled.detailed_results
    assert set(result.fates) == {"UNPARSABLE"}
    assert result.stop_reason is StopReason.STALLED


@pytest.mark.parametrize("error", [lm15.ContextLengthError, lm15.InvalidRequestError])
def test_a_prompt_model_that_refuses_everything_ends_the_run_at_once(
    error: type[lm15.LM15Error],
) -> None:
    def refuse(_: Prompted) -> str:
        raise error("8192 tokens at most")

    writer = scripted_lm(refuse)
    with (
        dspy.context(lm=scripted_lm(toy_solver)),
        pytest.raises(BackendUnavailable, match="refused every request of the first") as stopped,
    ):
        toy_gpo(prompt_model=writer).compile(dspy.Predict(QA), trainset=TRAIN, valset=VAL)
    assert len(writer.engine.prompts) == 1 + 4  # all at once, then each by itself
    assert stopped.value.result is not None


def test_one_useless_rewrite_does_not_spoil_the_step() -> None:
    def rewriter(prompted: Prompted) -> dict[str, str]:
        if "variation 1 of" in prompted.fields["variation"]:
            return {"improved_prompt": "x" * 50_000}
        return toy_rewriter(prompted)

    with dspy.context(lm=scripted_lm(toy_solver)):
        compiled = toy_gpo(prompt_model=rewriter_lm(rewriter), max_metric_calls=300).compile(
            dspy.Predict(QA), trainset=TRAIN, valset=VAL
        )
    result: GPOResult = compiled.detailed_results
    assert result.fates["TOO_LONG"] == len(result.records)
    assert result.claim is not None
    assert result.claim.final.value > 0


def test_an_embedder_that_breaks_is_named() -> None:
    for embedder in (lambda texts: [[math.nan] for _ in texts], lambda texts: [[1.0]] * 7):
        with dspy.context(lm=scripted_lm(toy_solver)), pytest.raises(ValueError, match="embedder"):
            toy_gpo(embedder=embedder).compile(dspy.Predict(QA), trainset=TRAIN, valset=VAL)


@pytest.mark.parametrize("words", [0, -3, 2.5, None])
def test_a_schedule_of_ones_own_that_gives_no_words_is_named(words: Any) -> None:
    with (
        dspy.context(lm=scripted_lm(toy_solver)),
        pytest.raises(ValueError, match="whole number of at least 1"),
    ):
        toy_gpo(schedule=lambda step, steps, scores: words).compile(
            dspy.Predict(QA), trainset=TRAIN, valset=VAL
        )


def test_a_student_that_is_perfect_already_costs_no_rewrite() -> None:
    prompt_model = rewriter_lm(toy_rewriter)
    student = dspy.Predict(dspy.Signature(QA, "alpha beta gamma delta"))
    with dspy.context(lm=scripted_lm(toy_solver)):
        compiled = toy_gpo(prompt_model=prompt_model).compile(student, trainset=TRAIN, valset=VAL)
    result: GPOResult = compiled.detailed_results
    assert result.stop_reason is StopReason.PERFECT
    assert not prompt_model.engine.prompts
    assert instructions_of(compiled) == instructions_of(student)
    assert result.claim is not None
    assert not result.claim.shown

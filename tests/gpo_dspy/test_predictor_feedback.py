"""Metrics written for GEPA are asked for feedback on each predictor, as GEPA asks them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import (
    NO_WAITING,
    Prompted,
    rewriter_lm,
    run_jobs,
    scripted_lm,
    toy_examples,
    toy_gpo,
    toy_rewriter,
)

from gpo_dspy.evaluation.metric import Metric
from gpo_dspy.evaluation.runner import Evaluation, Job, Outcome, Runner
from gpo_dspy.ledger import Ledger

EXAMPLES = toy_examples(6)


class PlanThenAnswer(dspy.Module):
    """Calls ``plan`` twice and ``answer`` once; ``spare`` never."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.answer = dspy.Predict("question, plan -> answer")
        self.spare = dspy.Predict("plan -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        plan = self.plan(question=f"first {question}").plan
        plan = self.plan(question=f"then {question}, {plan}").plan
        return self.answer(question=question, plan=plan)


def solver(prompted: Prompted) -> Any:
    return {"plan": f"plan of <{prompted.fields['question']}>", "answer": "wrong"}


class GEPAMetric:
    """Scores 0.25, with feedback on each predictor; notes how it was called."""

    def __init__(self, score: float = 0.25) -> None:
        self.score = score
        self.scored: list[str] = []
        self.asked: dict[tuple[str, str], Any] = {}

    def __call__(
        self,
        gold: dspy.Example,
        pred: dspy.Prediction,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> dspy.Prediction:
        if pred_name is None:
            self.scored.append(gold.question)
            return dspy.Prediction(score=self.score, feedback="on the program")
        self.asked[gold.question, pred_name] = (_plain(trace), _plain(pred_trace), pred.toDict())
        return dspy.Prediction(score=self.score, feedback=f"on {pred_name}")


def _plain(trace: Any) -> list[Any]:
    """Write a trace without the identities in it."""
    assert isinstance(trace, list)
    assert all(isinstance(call, tuple) for call in trace)
    return [
        (
            type(predictor),
            predictor.signature.instructions,
            dict(inputs),
            type(outputs),
            {**outputs},
        )
        for predictor, inputs, outputs in trace
    ]


def _run(
    metric: Callable[..., Any], *, reply: Callable[[Prompted], Any] = solver, threads: int = 1
) -> list[Evaluation]:
    program = PlanThenAnswer()
    runner = Runner(Metric(metric), threads, NO_WAITING)
    with dspy.context(lm=scripted_lm(reply)):
        found = dict(run_jobs(runner, [Job(program, example) for example in EXAMPLES]))
    return [found[position] for position in range(len(found))]


def test_a_metric_is_asked_as_gepa_asks_it(caplog: pytest.LogCaptureFixture) -> None:
    class OneCall(PlanThenAnswer):  # GEPA draws one of several calls
        def forward(self, question: str) -> dspy.Prediction:
            return self.answer(question=question, plan=self.plan(question=question).plan)

    theirs, ours = GEPAMetric(), GEPAMetric()
    logging.getLogger("dspy").setLevel(logging.ERROR)
    reflection = scripted_lm(lambda _: "```\nBetter.\n```")
    optimizer = dspy.GEPA(
        theirs, max_metric_calls=13, reflection_lm=reflection, num_threads=1,
        component_selector="all", reflection_minibatch_size=6, skip_perfect_score=False,
    )  # fmt: skip
    with dspy.context(lm=scripted_lm(solver)):
        optimizer.compile(OneCall(), trainset=EXAMPLES, valset=EXAMPLES)
        run_jobs(Runner(Metric(ours), 1), [Job(OneCall(), example) for example in EXAMPLES])
    assert len(theirs.asked) == 12
    assert ours.asked == theirs.asked


@pytest.mark.parametrize("threads", [1, 8])
def test_each_predictor_that_ran_gets_feedback_on_its_last_call(threads: int) -> None:
    metric = GEPAMetric()
    for evaluation in _run(metric, threads=threads):
        assert evaluation.score == 0.25
        assert evaluation.feedback == "on the program"
        assert evaluation.predictor_feedback == (("plan", "on plan"), ("answer", "on answer"))
    assert sorted(metric.scored) == sorted(e.question for e in EXAMPLES)
    trace, pred_trace, _ = metric.asked[EXAMPLES[0].question, "plan"]
    assert len(trace) == 3
    ((_, _, inputs, _, _),) = pred_trace
    assert inputs["question"].startswith("then item 0"), "the call that is shown"


def test_what_is_right_needs_no_feedback() -> None:
    metric = GEPAMetric(score=1.0)
    assert {e.predictor_feedback for e in _run(metric)} == {()}
    assert not metric.asked


def test_a_plain_metric_is_called_once_and_sees_no_trace() -> None:
    seen: list[Any] = []

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        seen.append(trace)
        return 0.0

    assert {e.predictor_feedback for e in _run(metric)} == {()}
    assert seen == [None] * 6


def test_a_program_that_failed_is_not_asked_about() -> None:
    metric = GEPAMetric()
    outcomes = {(e.outcome, e.predictor_feedback) for e in _run(metric, reply=lambda _: "no field")}
    assert outcomes == {(Outcome.UNPARSABLE, ())}
    assert not metric.asked


def test_feedback_that_raises_does_not_take_the_score_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def metric(e: Any, p: Any, t: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        if pred_name == "plan":
            raise KeyError("no such key")
        return dspy.Prediction(score=0.5, feedback=f"on {pred_name}")

    for evaluation in _run(metric):
        assert (evaluation.score, evaluation.outcome) == (0.5, Outcome.SCORED)
        assert evaluation.predictor_feedback == (("answer", "on answer"),)
    assert "KeyError: 'no such key'" in caplog.text


def test_a_judge_that_is_away_is_waited_for_and_nothing_is_paid_again() -> None:
    away = iter(range(2))

    def verdict(prompted: Prompted) -> Any:
        for _ in away:
            raise lm15.ServerError("busy", status=503)
        return {"verdict": f"on {prompted.fields['about']}"}

    judge, program = scripted_lm(verdict), scripted_lm(solver)
    ask = dspy.Predict("about -> verdict")

    def metric(e: Any, p: Any, t: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        if pred_name is None:
            return 0.0
        with dspy.context(lm=judge):
            return dspy.Prediction(score=0, feedback=ask(about=pred_name).verdict)

    ledger = Ledger()
    with dspy.context(lm=program):
        runner = Runner(Metric(metric), 1, NO_WAITING, ledger=ledger)
        found = run_jobs(runner, [Job(PlanThenAnswer(), example) for example in EXAMPLES[:3]])
    assert {e.predictor_feedback for _, e in found} == {
        (("plan", "on plan"), ("answer", "on answer"))
    }
    assert len(program.engine.prompts) == 9
    assert len(judge.engine.prompts) == 6 + 2
    assert ledger.usage.lm_calls == 9 + 6, "feedback is paid for, and counted"


def test_keys_are_taken_out_of_feedback_on_predictors_too() -> None:
    def metric(e: Any, p: Any, t: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        return dspy.Prediction(score=0.0, feedback=f"sk-123 failed on {pred_name}")

    runner = Runner(Metric(metric), 1, hide=lambda text: text.replace("sk-123", "***"))
    with dspy.context(lm=scripted_lm(solver)):
        ((_, evaluation),) = run_jobs(runner, [Job(PlanThenAnswer(), EXAMPLES[0])])
    assert evaluation.feedback == "*** failed on None"
    assert [text for _, text in evaluation.predictor_feedback] == [
        "*** failed on plan",
        "*** failed on answer",
    ]


def test_the_prompt_model_reads_feedback_on_the_predictor_it_rewrites() -> None:
    metric, prompt_model = GEPAMetric(), rewriter_lm(toy_rewriter)
    program = PlanThenAnswer()
    program.set_lm(scripted_lm(solver))
    optimizer = toy_gpo(metric, prompt_model=prompt_model, max_metric_calls=60)
    result = optimizer.compile(program, trainset=toy_examples(30)).detailed_results
    rewritten = [name for record in result.records for name in record.predictors]
    assert {"plan", "answer"} <= set(rewritten)
    shown = {
        name: [
            prompted.fields["failures"]
            for prompted in prompt_model.engine.prompts
            if f"the module `{name}` of" in prompted.fields["task_description"]
        ]
        for name in ("plan", "answer")
    }
    for name, texts in shown.items():
        assert texts
        assert all(f"Feedback: on {name}" in text for text in texts)
        assert not any("Feedback: on the program" in text for text in texts)
    assert len(metric.scored) == result.metric_calls, "feedback is no metric call"

"""``compile`` from outside: programs, budgets, promises, interruptions."""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import dspy
import pydantic
import pytest
from dspy import lm15
from dspy.teleprompt.teleprompt import Teleprompter
from fakes import (
    NEEDS,
    CountingMetric,
    Prompted,
    napping,
    rewriter_lm,
    scripted_lm,
    story,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpo_dspy import BackendUnavailable, Callback, GPOResult, StopReason
from gpo_dspy.budget import BudgetSpent
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.ledger import Usage
from gpo_dspy.plan import AUTO_METRIC_CALLS, Plan, auto_metric_calls
from gpo_dspy.program import instructions_of
from gpo_dspy.program_state import ProgramState
from gpo_dspy.state import Fate, RunState

QA = "question -> answer"
TRAIN, VAL = toy_examples(24), toy_examples(24, start=100)


def _compile(student: dspy.Module, lm: Any = None, **arguments: Any) -> dspy.Module:
    sets = {
        name: arguments.pop(name) for name in ("trainset", "valset", "testset") if name in arguments
    }
    metric = arguments.pop("metric", toy_metric)
    with dspy.context(lm=lm or scripted_lm(toy_solver)):
        return toy_gpo(metric, **arguments).compile(
            student, **({"trainset": TRAIN, "valset": VAL} | sets)
        )


# --- programs of every form ----------------------------------------------------------------------


class Chain(dspy.Module):
    """Two predictors with equal signatures: the second sees what the first says."""

    def __init__(self, first: str = "ONE", second: str = "TWO") -> None:
        super().__init__()
        self.draft = dspy.Predict(dspy.Signature(QA, first))
        self.final = dspy.Predict(dspy.Signature(QA, second))

    def forward(self, question: str) -> dspy.Prediction:
        draft = self.draft(question=question).answer
        return self.final(question=f"{question} // {draft}")


def _chain_solver(prompted: Prompted) -> dict[str, str]:
    """Right if the final instruction has the word of the question."""
    question, _, draft = prompted.fields["question"].partition(" // ")
    if not draft:
        return {"answer": "draft"}
    _, number, need = question.split()
    return {"answer": f"right {number}" if need in prompted.instruction.split() else "wrong"}


class Nested(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = dspy.Module()
        self.inner.asks = {"one": dspy.Predict(QA)}
        self.steps = [dspy.ChainOfThought(QA)]

    def forward(self, question: str) -> dspy.Prediction:
        self.inner.asks["one"](question=question)
        return self.steps[0](question=question)


class Shared(dspy.Module):
    """One predictor under two names, asked twice."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(QA)
        self.again = self.ask

    def forward(self, question: str) -> dspy.Prediction:
        self.ask(question=question)
        return self.again(question=question)


class Clinging(dspy.Module):
    """Holds a lock, which cannot be copied, and its predictor in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.steps = [dspy.Predict(QA)]

    def forward(self, question: str) -> dspy.Prediction:
        with self.lock:
            return self.steps[0](question=question)


def _with_own_lm(program: dspy.Module) -> dspy.Module:
    program.set_lm(scripted_lm(toy_solver))
    return program


def _with_demos(program: dspy.Predict) -> dspy.Predict:
    program.demos = [dspy.Example(question="item 7 delta", answer="right 7")]
    return program


PROGRAMS: dict[str, Callable[[], dspy.Module]] = {
    "Predict": lambda: dspy.Predict(QA),
    "ChainOfThought": lambda: dspy.ChainOfThought(QA),
    "ReAct": lambda: dspy.ReAct(QA, tools=[]),
    "nested": Nested,
    "shared": Shared,
    "clinging": Clinging,
    "own lm": lambda: _with_own_lm(dspy.Predict(QA)),
    "own lm, clinging": lambda: _with_own_lm(Clinging()),
    "own lm, nested": lambda: _with_own_lm(Nested()),
    "demos": lambda: _with_demos(dspy.Predict(QA)),
}


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_every_form_of_program_gets_better_and_the_student_stays(
    make: Callable[[], dspy.Module],
) -> None:
    student = make()
    before = copy.deepcopy(student.dump_state())
    predictors = student.predictors()
    compiled = _compile(student, max_metric_calls=160)
    result: GPOResult = compiled.detailed_results

    assert student.dump_state() == before
    assert all(now is then for now, then in zip(student.predictors(), predictors, strict=True))
    assert not hasattr(student, "detailed_results")
    assert compiled is not student
    assert result.claim is not None
    assert result.claim.final.value > result.claim.base.value == 0
    assert instructions_of(compiled) == result.returned != result.start == instructions_of(student)
    for ours, theirs in zip(compiled.predictors(), student.predictors(), strict=True):
        assert ours.lm is theirs.lm
        assert ours.demos == theirs.demos
        assert ours is not theirs


def test_an_agents_rewrite_without_its_tools_is_refused() -> None:
    def lookup(query: str) -> str:
        """Look something up."""
        return query

    def rewriter(prompted: Prompted) -> Any:
        forgetful = "variation 1 of" in prompted.fields.get("variation", "variation 1 of 1")
        return {"improved_prompt": "Alpha: answer."} if forgetful else toy_rewriter(prompted)

    student = dspy.ReAct(QA, tools=[lookup])
    compiled = _compile(
        student,
        prompt_model=rewriter_lm(rewriter),
        max_metric_calls=150,
        selector="round_robin",
    )
    result: GPOResult = compiled.detailed_results
    of_react = [record for record in result.records if record.predictors == ("react",)]
    assert of_react
    for record in of_react:
        assert record.candidates[0].rewrite.fate is Fate.NAME_LOST
        assert record.candidates[0].score is None
    for predictor, kept in (("react", True), ("extract.predict", False)):
        texts = {prompt.text for prompt in result.trajectories[predictor]}
        assert all("lookup" in text and "finish" in text for text in texts) == kept
    of_extract = [record for record in result.records if record.predictors == ("extract.predict",)]
    assert all(r.candidates[0].rewrite.fate is not Fate.NAME_LOST for r in of_extract)
    assert "lost a placeholder or a tool's name" in str(result)


class Mood(pydantic.BaseModel):
    word: str
    strength: int


@pytest.mark.parametrize(
    ("signature", "reply"),
    [
        ("question -> answer: int", "7"),
        (dspy.Signature(QA).with_updated_fields("answer", type_=Literal["7", "8"]), "7"),
        ("question -> answer: list[str]", '["7"]'),
        (
            dspy.Signature(QA).with_updated_fields("answer", type_=Mood),
            '{"word": "7", "strength": 7}',
        ),
    ],
    ids=["int", "Literal", "list", "pydantic"],
)
def test_typed_outputs(signature: Any, reply: str) -> None:
    def solver(prompted: Prompted) -> dict[str, str]:
        return {"answer": reply if "right" in prompted.instruction.split() else "unparsable {"}

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
        return "7" in str(prediction.answer)

    rewriter = rewriter_lm(
        lambda p: {
            "improved_prompt": p.fields["current_prompt"] + " right " + p.fields["variation"][18]
        }
    )
    compiled = _compile(
        dspy.Predict(signature), scripted_lm(solver), metric=metric, prompt_model=rewriter
    )
    result = compiled.detailed_results
    assert result.claim.base.value == 0
    assert result.claim.final.value == 1
    assert result.outcomes["UNPARSABLE"] > 0
    assert "not parsable" in str(result)
    asked = rewriter.engine.prompts[0].fields
    assert "could not be parsed" in asked["failures"]
    assert "`answer`" in asked["task_description"]


def test_predictors_with_equal_signatures_each_see_their_own_failures() -> None:
    rewriter = rewriter_lm(toy_rewriter)
    student = Chain("SAME", "SAME")
    compiled = _compile(
        student, scripted_lm(_chain_solver), prompt_model=rewriter, max_metric_calls=400
    )
    asked_draft = [p for p in rewriter.engine.prompts if "module `draft`" in p.user]
    asked_final = [p for p in rewriter.engine.prompts if "module `final`" in p.user]
    assert asked_draft
    assert asked_final
    for prompted in asked_draft:
        assert "// draft" not in prompted.fields["failures"], "inputs of the other predictor"
        assert "Output answer: draft" in prompted.fields["failures"]
    for prompted in asked_final:
        assert prompted.fields["failures"].count("// draft") >= 1
        assert "Output answer: wrong" in prompted.fields["failures"]
    final = dict(instructions_of(compiled))["final"]
    assert set(final.split()) & set(NEEDS)


def test_a_frozen_submodule_is_left_as_it_is() -> None:
    student = Nested()
    student.inner._compiled = True
    compiled = _compile(student)
    assert [name for name, _ in instructions_of(compiled)] == ["steps[0].predict"]
    frozen = compiled.inner.asks["one"].signature.instructions
    assert frozen == dspy.Signature(QA).instructions


def test_a_compiled_program_can_be_compiled_again() -> None:
    once = _compile(dspy.Predict(QA), max_metric_calls=80)
    before = copy.deepcopy(once.dump_state())
    twice = _compile(once, max_metric_calls=300)
    assert once.dump_state() == before
    assert twice.detailed_results.start == once.detailed_results.returned
    assert twice.detailed_results.claim.final.value >= once.detailed_results.claim.final.value


def test_the_compiled_program_can_be_saved_and_loaded(tmp_path: Path) -> None:
    compiled = _compile(Chain(), scripted_lm(_chain_solver))
    compiled.save(tmp_path / "program.json")
    loaded = Chain()
    loaded.load(tmp_path / "program.json")
    assert instructions_of(loaded) == instructions_of(compiled)


# --- the result ----------------------------------------------------------------------------------


def test_the_result_is_complete_json(tmp_path: Path) -> None:
    result = _compile(dspy.Predict(QA)).detailed_results
    path = result.save(tmp_path / "new" / "result.json")
    stored = json.loads(path.read_text("utf-8"))
    assert stored == result.to_dict()
    assert stored["stop_reason"] in StopReason.__members__
    assert len(stored["records"]) == len(result.records)
    assert stored["trajectories"]["self"][0]["text"] == result.start[0][1]
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_usage_of_both_models_is_counted_apart() -> None:
    lm, prompt_model = scripted_lm(toy_solver), rewriter_lm(toy_rewriter)
    result = _compile(
        dspy.Predict(QA), lm, prompt_model=prompt_model, num_threads=4
    ).detailed_results
    assert result.task_usage.lm_calls == len(lm.engine.prompts) == result.metric_calls
    assert result.prompt_usage.lm_calls == len(prompt_model.engine.prompts)
    assert result.cost == 0.0


def test_records_tell_the_run() -> None:
    result = _compile(dspy.Predict(QA), max_metric_calls=300).detailed_results
    for number, record in enumerate(result.records, start=1):
        assert record.step == number
        assert [p.score for p in record.retrieved] == sorted(p.score for p in record.retrieved)
        assert len(record.candidates) == 4
        for candidate in record.candidates:
            assert candidate.rewrite.words_allowed == record.words_allowed
            assert (candidate.score is not None) <= candidate.rewrite.fate.usable
            if candidate.rewrite.fate.usable:
                assert candidate.rewrite.words_changed <= record.words_allowed
    calls = [record.metric_calls for record in result.records]
    assert calls == sorted(calls)
    scored = {c.rewrite.text for r in result.records for c in r.candidates if c.score is not None}
    assert scored | {result.start[0][1]} == {p.text for p in result.trajectories["self"]}


def test_trajectory_scores_are_scores() -> None:
    result = _compile(Chain(), scripted_lm(_chain_solver), max_metric_calls=300).detailed_results
    for trajectory in result.trajectories.values():
        assert all(0 <= prompt.score <= 1 for prompt in trajectory)
        assert len({prompt.text for prompt in trajectory}) == len(trajectory)


# --- budgets -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    budget=st.integers(1, 260),
    train=st.integers(2, 30),
    val=st.none() | st.integers(1, 30),
    test=st.none() | st.integers(1, 8),
    candidates=st.integers(1, 6),
    threads=st.sampled_from([1, 8]),
    at_once=st.integers(1, 6),
    evaluation=st.sampled_from(["race", "full"]),
    failures=st.integers(0, 3),
    holdout=st.booleans(),
    demos=st.sampled_from([(0, 0), (2, 0), (0, 3), (3, 4)]),
)
def test_the_budget_is_never_exceeded_and_nothing_is_paid_twice(
    budget: int,
    train: int,
    val: int | None,
    test: int | None,
    candidates: int,
    threads: int,
    at_once: int,
    evaluation: str,
    failures: int,
    holdout: bool,
    demos: tuple[int, int],
) -> None:
    metric, lm = CountingMetric(), scripted_lm(toy_solver)
    try:
        compiled = _compile(
            dspy.Predict(QA),
            lm,
            metric=metric,
            trainset=toy_examples(train),
            valset=None if val is None else toy_examples(val, start=100),
            testset=None if test is None else toy_examples(test, start=200),
            max_metric_calls=budget,
            candidates_per_step=candidates,
            num_threads=threads,
            steps_at_once=at_once,
            evaluation=evaluation,
            failures=failures,
            holdout=holdout,
            max_bootstrapped_demos=demos[0],
            max_labeled_demos=demos[1],
        )
    except ValueError as error:
        assert "does not pay for one step" in str(error)  # noqa: PT017 - either way is right
        assert not metric.calls, "refused before the first call"
        return
    result = compiled.detailed_results
    assert sum(metric.calls.values()) == result.metric_calls <= budget
    paid = Counter((p.instruction, p.earlier, p.fields["question"]) for p in lm.engine.prompts)
    assert set(paid.values()) == {1}
    if test is not None:
        assert result.claim.difference.n == test, "the claim is always paid for"
    elif result.plan.holdout:
        assert result.claim.difference.n == result.plan.holdout
    else:
        assert result.claim is None
    if result.stop_reason is StopReason.METRIC_CALLS:
        assert result.records, "an accepted budget pays for a step"


@pytest.mark.parametrize("evaluation", ["race", "full"])
@pytest.mark.parametrize("candidates", [1, 4])
def test_the_least_budget_pays_for_a_step(evaluation: str, candidates: int) -> None:
    arguments = {"evaluation": evaluation, "candidates_per_step": candidates, "holdout": False}
    with pytest.raises(ValueError, match=r"\d+ in all") as raised:
        _compile(dspy.Predict(QA), max_metric_calls=1, **arguments)
    least = int(str(raised.value).split(" in all")[0].split()[-1])
    result = _compile(dspy.Predict(QA), max_metric_calls=least, **arguments).detailed_results
    assert len(result.records) >= 1
    assert any(candidate.score is not None for candidate in result.records[0].candidates)


@pytest.mark.parametrize(
    ("arguments", "candidates"),
    [
        ({"max_metric_calls": 1_000}, 12),
        ({"max_metric_calls": 1_000, "candidates_per_step": 3}, 3),
        ({"auto": "light", "testset": toy_examples(500, start=200)}, 10),  # the claim's calls
        ({"max_metric_calls": 1_000, "evaluation": "full"}, 4),
        ({"max_metric_calls": 1_000, "rewrites_per_request": 1}, 4),
        ({"max_metric_calls": 1_000, "max_seconds": 3_600.0}, 9),  # may end at any time
        ({"max_metric_calls": 200, "max_seconds": 3_600.0}, 8),
        ({"max_metric_calls": 1_000, "epochs": 1}, 9),
        ({"epochs": 1}, 9),
    ],
)
def test_steps_are_as_wide_as_the_run_is_known_to_be_large(
    arguments: dict[str, Any], candidates: int
) -> None:
    result = _compile(
        dspy.Predict(QA), **({"candidates_per_step": None} | arguments)
    ).detailed_results
    assert result.plan.candidates == candidates
    first = next(record for record in result.records if record.predictors)
    assert len(first.candidates) == candidates


def test_what_failed_a_short_trial_is_tried_again_if_it_is_written_again() -> None:
    lm = rewriter_lm(lambda _: {"improved_prompt": "The same words again and again."})
    result = _compile(dspy.Predict(QA), prompt_model=lm, candidates_per_step=1).detailed_results
    tried = [c.score is not None for record in result.records for c in record.candidates]
    assert result.plan.trial == 1
    assert tried[0]
    assert sum(tried) == 3, "as often as a long trial has failures"
    assert result.fates["REPEATED"] == len(tried) - 3


def test_the_last_calls_pay_for_narrower_steps() -> None:
    numbers = itertools.count()
    lm = rewriter_lm(lambda _: {"improved_prompt": f"Useless words, try {next(numbers)}."})
    result = _compile(
        dspy.Predict(QA),
        prompt_model=lm,
        candidates_per_step=12,
        max_metric_calls=100,
        holdout=False,
    ).detailed_results
    widths = [len(record.candidates) for record in result.records]
    assert widths[0] == 12
    assert result.stop_reason is StopReason.METRIC_CALLS
    assert widths[-1] < 12
    assert result.plan.max_metric_calls - result.metric_calls < result.plan.least_step


def test_a_limit_met_after_a_race_does_not_lose_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    explored = []

    def explore(pool: Pool, program: ProgramState) -> None:
        explored.append(program)
        raise BudgetSpent(StopReason.TOKENS)

    monkeypatch.setattr(Pool, "explore", explore)
    result = _compile(dspy.Predict(QA), max_metric_calls=400, holdout=False).detailed_results
    accepted = [r for r in result.records if r.accepted is not None]
    assert len(explored) == len(accepted) >= 1
    assert result.best in [program.instructions for program in explored]


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_run_that_gets_nowhere_ends_if_told_when(at_once: int) -> None:
    def useless(prompted: Prompted) -> dict[str, str]:
        number = crc32(repr(prompted.fields).encode())
        return {"improved_prompt": f"{prompted.fields['current_prompt']} Hm {number}"}

    result = _compile(
        dspy.Predict(QA),
        prompt_model=rewriter_lm(useless),
        max_metric_calls=400,
        stop_after=3,
        steps_at_once=at_once,
    ).detailed_results
    assert result.stop_reason is StopReason.NO_PROGRESS
    assert len(result.records) == 3
    assert result.metric_calls < 200
    assert result.claim is not None
    assert "raise stop_after" in str(result)
    assert str(result).startswith("nothing better was found than your program, which has ")
    assert "price unknown" in str(result)


def test_why_metric_calls_failed_is_said() -> None:
    def metric(example: dspy.Example, prediction: Any, trace: Any = None) -> float:
        if "item 1" in example.question:
            raise ValueError("cannot judge\nthis kind")
        return toy_metric(example, prediction)

    result = _compile(dspy.Predict(QA), metric=metric, max_metric_calls=150).detailed_results
    assert set(result.reasons) == {"METRIC_ERROR"}
    assert "metric raised, failure score, most often: " in str(result)
    assert "cannot judge this kind" in str(result)


def test_one_more_step_costs_what_the_others_did() -> None:
    result = _compile(dspy.Predict(QA), max_metric_calls=400).detailed_results
    spent = [record.metric_calls for record in result.records]
    assert len(spent) > 2
    assert result.step_price[0] == pytest.approx((spent[-1] - spent[0]) / (len(spent) - 1))
    only = replace(result, records=result.records[:1])
    assert only.step_price[0] == result.plan.least_step


def test_the_plan_says_what_else_ends_the_run() -> None:
    result = _compile(dspy.Predict(QA), max_seconds=3_600.0, max_tokens=10**9).detailed_results
    assert "; ends at 1,000,000,000 tokens or 3,600 s, if that comes first" in str(result.plan)


def test_the_budget_that_an_error_asks_for_is_enough() -> None:
    with pytest.raises(ValueError, match="does not pay") as raised:
        _compile(dspy.Predict(QA), max_metric_calls=5)
    enough = int(re.findall(r"Raise it to (\d+)", str(raised.value))[0])
    assert _compile(dspy.Predict(QA), max_metric_calls=enough).detailed_results.records


def test_a_backend_lost_after_a_race_does_not_lose_the_winner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explored = []

    def explore(pool: Pool, program: ProgramState) -> None:
        explored.append(program)
        raise BackendUnavailable("gone")

    monkeypatch.setattr(Pool, "explore", explore)
    with pytest.raises(BackendUnavailable, match="gone") as raised:
        _compile(dspy.Predict(QA), max_metric_calls=400, holdout=False)
    assert len(explored) == 1, "no further call is made"
    result = raised.value.result
    assert result is not None
    assert result.stop_reason is StopReason.BACKEND
    assert result.records[-1].accepted is not None
    assert result.best == explored[0].instructions


def test_ctrl_c_after_a_race_does_not_lose_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    def explore(pool: Pool, program: ProgramState) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "explore", explore)
    compiled = _compile(dspy.Predict(QA), max_metric_calls=400, holdout=False)
    result = compiled.detailed_results
    assert result.stop_reason is StopReason.INTERRUPTED
    assert result.records[-1].accepted is not None
    assert result.best != result.start


def test_a_backend_lost_when_all_is_done_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def explore(pool: Pool, program: ProgramState) -> None:
        raise BackendUnavailable("gone")

    monkeypatch.setattr(Pool, "explore", explore)
    compiled = _compile(dspy.Predict(QA), epochs=1, batch_size=100, holdout=False)
    result = compiled.detailed_results
    assert result.stop_reason is StopReason.EPOCHS
    assert result.best != result.start


def test_the_trajectory_keeps_pace_with_what_is_known() -> None:
    states = []

    class Listener(Callback):
        def on_step(self, state: RunState) -> None:
            states.append(state)

    compiled = _compile(
        dspy.Predict(QA), trainset=toy_examples(60), max_metric_calls=400, callbacks=[Listener()]
    )
    prompts = {p.text: p for p in compiled.detailed_results.trajectories["self"]}
    scores = [prompts[program.instruction("self")].score for program in states[-1].accepted]
    assert len(scores) > 2
    assert scores == sorted(scores), "in the toy task each accepted prompt is a better one"
    assert prompts[states[-1].best.instruction("self")].score == max(scores)


def test_without_a_budget_it_is_light() -> None:
    plans = []

    class Listener(Callback):
        def on_start(self, plan: Plan) -> None:
            plans.append(plan)

        def on_metric_call(self, metric_calls: int, usage: Usage) -> None:
            raise KeyboardInterrupt  # the plan is all that is asked for

    for student, lm in ((dspy.Predict(QA), toy_solver), (Chain(), _chain_solver)):
        _compile(student, scripted_lm(lm), max_metric_calls=None, callbacks=[Listener()])
    assert [plan.max_metric_calls for plan in plans] == [
        auto_metric_calls("light", 1),
        auto_metric_calls("light", 2),
    ]
    assert plans[0].holdout > 0
    assert plans[0].max_metric_calls == AUTO_METRIC_CALLS["light"]


def test_epochs_end_a_run() -> None:
    result = _compile(dspy.Predict(QA), epochs=2, batch_size=10).detailed_results
    assert len(result.records) <= 2 * 3
    assert result.stop_reason in (StopReason.EPOCHS, StopReason.PERFECT, StopReason.STALLED)


def test_epochs_keep_examples_for_the_claim_and_pay_for_every_step() -> None:
    rewriter = rewriter_lm(
        lambda p: {"improved_prompt": p.fields["current_prompt"] + " v" + p.fields["variation"][18]}
    )
    result = _compile(dspy.Predict(QA), epochs=2, prompt_model=rewriter).detailed_results
    assert result.plan.holdout == len(VAL) // 2
    assert result.claim.difference.n == result.plan.holdout
    assert len(result.records) == 2 * 3
    assert result.stop_reason is StopReason.EPOCHS


@pytest.mark.parametrize("threads", [1, 8])
def test_equal_examples_in_train_and_validation_are_paid_once(threads: int) -> None:
    lm, twice = scripted_lm(toy_solver), [*toy_examples(6), *toy_examples(6)]
    result = _compile(
        dspy.Predict(QA),
        lm,
        trainset=twice,
        valset=toy_examples(12),
        holdout=False,
        num_threads=threads,
    ).detailed_results
    paid = Counter((p.instruction, p.fields["question"]) for p in lm.engine.prompts)
    assert set(paid.values()) == {1}
    assert result.metric_calls == len(paid)
    assert len({question for _, question in paid}) == 12
    start = next(iter(result.trajectories["self"]))
    assert start.evaluations <= 12, "each counts once in a score"


def test_calls_before_the_first_step_are_known() -> None:
    states: list[RunState] = []
    before_the_first: list[int] = []

    class Listener(Callback):
        def on_step(self, state: RunState) -> None:
            states.append(state)

    lm = scripted_lm(toy_solver)

    def rewriter(prompted: Prompted) -> Any:
        before_the_first.append(len(lm.engine.prompts))
        return toy_rewriter(prompted)

    _compile(dspy.Predict(QA), lm, prompt_model=rewriter_lm(rewriter), callbacks=[Listener()])
    assert {state.calls_at_start for state in states} == {before_the_first[0]}
    assert 0 < before_the_first[0] < states[0].records[0].metric_calls


# --- determinism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("evaluation", ["race", "full"])
def test_the_same_seed_gives_the_same_run_at_any_number_of_threads(evaluation: str) -> None:
    stories = [
        story(
            _compile(
                dspy.Predict(QA),
                scripted_lm(napping(toy_solver, seed)),
                prompt_model=rewriter_lm(napping(toy_rewriter, seed)),
                num_threads=threads,
                max_metric_calls=250,
                evaluation=evaluation,
            ).detailed_results
        )
        for seed, threads in enumerate([1, 16, 16])
    ]
    assert stories[0] == stories[1] == stories[2]


def test_another_seed_gives_another_run() -> None:
    stories = [
        story(_compile(dspy.Predict(QA), seed=seed, max_metric_calls=120).detailed_results)
        for seed in range(3)
    ]
    assert len({json.dumps(story) for story in stories}) == 3


def test_the_global_random_state_has_no_part_in_it() -> None:
    stories = []
    for seed in (1, 2):
        random.seed(seed)
        stories.append(story(_compile(dspy.Predict(QA)).detailed_results))
    assert stories[0] == stories[1]


# --- what the prompt model may see ---------------------------------------------------------------


def test_examples_kept_for_the_claim_are_neither_shown_nor_scored_early() -> None:
    events: list[tuple[str, str]] = []
    lock = threading.Lock()

    def solver(prompted: Prompted) -> Any:
        with lock:
            events.append(("asked", prompted.fields["question"]))
        return toy_solver(prompted)

    def rewriter(prompted: Prompted) -> Any:
        with lock:
            events.append(("shown", prompted.user))
        return toy_rewriter(prompted)

    result = _compile(
        dspy.Predict(QA), scripted_lm(solver), prompt_model=rewriter_lm(rewriter)
    ).detailed_results
    size = result.plan.holdout
    questions = [question for kind, question in events if kind == "asked"]
    kept = set(questions[-2 * size :])
    assert len(kept) == size > 0
    assert kept <= {example.question for example in VAL}
    assert not kept & set(questions[: -2 * size]), "never scored before the end"
    shown = "\n".join(text for kind, text in events if kind == "shown")
    assert not any(f"{question}\n" in shown for question in kept)
    last_shown = max(i for i, (kind, _) in enumerate(events) if kind == "shown")
    assert last_shown < len(events) - 2 * size


def test_a_testset_is_used_for_the_claim_alone() -> None:
    lm, prompt_model = scripted_lm(toy_solver), rewriter_lm(toy_rewriter)
    testset = toy_examples(10, start=500)
    result = _compile(
        dspy.Predict(QA), lm, prompt_model=prompt_model, testset=testset
    ).detailed_results
    asked = [p.fields["question"] for p in lm.engine.prompts]
    tested = {example.question for example in testset}
    assert set(asked[-20:]) == tested
    assert not tested & set(asked[:-20])
    assert result.plan.validation == len(VAL)
    assert result.claim.difference.n == 10


def test_a_best_prompt_that_the_claim_speaks_against_is_not_returned() -> None:
    def solver(prompted: Prompted) -> dict[str, str]:
        number = int(prompted.fields["question"].split()[1])
        overfitted = "alpha" in prompted.instruction.split()
        return {"answer": f"right {number}" if (number < 500) == overfitted else "wrong"}

    student = dspy.Predict(QA)
    compiled = _compile(
        student,
        scripted_lm(solver),
        prompt_model=rewriter_lm(
            lambda p: {
                "improved_prompt": p.fields["current_prompt"]
                + " alpha "
                + p.fields["variation"][18]
            }
        ),
        testset=toy_examples(10, start=500),
    )
    result = compiled.detailed_results
    assert result.best_score > result.start_score
    assert result.claim.difference.high < 0
    assert instructions_of(compiled) == instructions_of(student) == result.returned
    assert "no gain could be shown" in str(result)
    assert "the student's own instructions" in str(result)


# --- being told ----------------------------------------------------------------------------------


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_start(self, plan: Plan) -> None:
        self.events.append(("start", plan))

    def on_metric_call(self, metric_calls: int, usage: Usage) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.events.append(("call", metric_calls))

    def on_step(self, state: RunState) -> None:
        self.events.append(("step", state.step))

    def on_end(self, result: GPOResult) -> None:
        self.events.append(("end", result))

    def on_error(self, error: BaseException) -> None:
        self.events.append(("error", error))

    def values(self, kind: str) -> list[Any]:
        return [value for found, value in self.events if found == kind]


def test_callbacks_hear_of_everything_in_order() -> None:
    recorder = Recorder()
    result = _compile(dspy.Predict(QA), callbacks=[recorder], num_threads=4).detailed_results
    kinds = [kind for kind, _ in recorder.events]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert kinds.count("start") == kinds.count("end") == 1
    assert recorder.values("call") == list(range(1, result.metric_calls + 1))
    assert recorder.values("step") == list(range(1, len(result.records) + 1))
    assert recorder.values("start") == [result.plan]
    assert recorder.values("end") == [result]


def test_a_callback_that_raises_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Callback):
        def on_step(self, state: RunState) -> None:
            raise ZeroDivisionError("in a callback")

    recorder = Recorder()
    undisturbed = story(_compile(dspy.Predict(QA)).detailed_results)
    disturbed = _compile(dspy.Predict(QA), callbacks=[Broken(), recorder]).detailed_results
    assert story(disturbed) == undisturbed
    assert len(recorder.values("step")) == len(disturbed.records)
    assert "Broken.on_step failed" in caplog.text


def test_verbose_output_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    result = _compile(dspy.Predict(QA), verbose=True).detailed_results
    out, err = capsys.readouterr()
    assert out == ""
    assert f"GPO plan: {result.plan}" in err
    assert len([line for line in err.splitlines() if line.startswith("step ")]) == len(
        result.records
    )
    assert str(result) in err


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    _compile(dspy.Predict(QA))
    assert capsys.readouterr() == ("", "")


# --- the unforeseen ------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("after", [1, 5, 60, 110])
def test_ctrl_c_keeps_what_is_done(threads: int, after: int) -> None:
    class Impatient(Recorder):
        def on_metric_call(self, metric_calls: int, usage: Usage) -> None:
            super().on_metric_call(metric_calls, usage)
            if metric_calls == after:
                raise KeyboardInterrupt

    recorder = Impatient()
    student = dspy.Predict(QA)
    compiled = _compile(student, callbacks=[recorder], num_threads=threads, max_metric_calls=300)
    result = compiled.detailed_results
    assert result.stop_reason is StopReason.INTERRUPTED
    assert result.claim is None
    assert after <= result.metric_calls < after + threads, "and what came in the same moment"
    assert instructions_of(compiled) == result.best == result.returned
    assert result.best_score >= result.start_score
    assert recorder.values("end") == [result]


@pytest.mark.parametrize("who", ["task", "prompt model"])
def test_a_backend_that_goes_away_leaves_what_is_done(who: str) -> None:
    answered = Counter[str]()

    def failing(
        name: str, reply: Callable[[Prompted], Any], after: int
    ) -> Callable[[Prompted], Any]:
        def answer(prompted: Prompted) -> Any:
            if name == who and answered[name] >= after:
                raise lm15.ServerError("gone", status=503)
            answered[name] += 1
            return reply(prompted)

        return answer

    recorder = Recorder()
    with pytest.raises(BackendUnavailable, match="did not answer") as raised:
        _compile(
            dspy.Predict(QA),
            scripted_lm(failing("task", toy_solver, 70)),
            prompt_model=rewriter_lm(failing("prompt model", toy_rewriter, 9)),
            callbacks=[recorder],
            max_metric_calls=300,
        )
    error = raised.value
    assert error.result is not None
    assert error.program is not None
    assert error.result.stop_reason is StopReason.BACKEND
    assert error.result.metric_calls == answered["task"] > 0
    assert set(error.result.outcomes) == {"SCORED"}, "nothing was scored for the outage"
    assert instructions_of(error.program) == error.result.best
    assert len(error.result.records) == len(recorder.values("step"))
    assert recorder.values("end") == [error.result]


@pytest.mark.parametrize("threads", [1, 8])
def test_a_judge_that_goes_away_leaves_what_is_done(threads: int) -> None:
    lock, answered = threading.Lock(), 0

    def verdict(prompted: Prompted) -> Any:
        nonlocal answered
        with lock:
            if answered >= 20:
                raise lm15.ServerError("gone", status=503)
            answered += 1
        return {"verdict": "0"}

    lm, judge = scripted_lm(toy_solver), scripted_lm(verdict)
    ask = dspy.Predict("answer -> verdict: int")

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> int:
        with dspy.context(lm=judge):
            return int(ask(answer=prediction.answer).verdict)

    with pytest.raises(BackendUnavailable, match="did not answer") as raised:
        _compile(dspy.Predict(QA), lm, metric=metric, num_threads=threads, max_metric_calls=300)
    result = raised.value.result
    assert result is not None
    assert result.metric_calls == answered == 20
    assert set(result.outcomes) == {"SCORED"}
    assert len(lm.engine.prompts) <= 20 + threads, "the program was not asked again meanwhile"
    paid = Counter((p.instruction, p.fields["question"]) for p in lm.engine.prompts)
    assert set(paid.values()) == {1}


def test_a_content_filter_on_one_example_is_counted_and_reported() -> None:
    def solver(prompted: Prompted) -> Any:
        if prompted.fields["question"] == TRAIN[3].question:
            raise lm15.InvalidRequestError("content filter", status=400)
        return toy_solver(prompted)

    result = _compile(
        dspy.Predict(QA), scripted_lm(solver), holdout=False, max_metric_calls=400
    ).detailed_results
    assert set(result.outcomes) == {"SCORED", "REFUSED"}
    assert 0 < result.outcomes["REFUSED"] < result.outcomes["SCORED"]
    assert f"{result.outcomes['REFUSED']} request refused" in str(result)
    assert result.best_score > result.start_score


@pytest.mark.parametrize(
    ("error", "most_calls", "said"),
    [
        (lm15.InvalidRequestError("temperature must be 1", status=400), 12, "temperature must be"),
        (lm15.UnsupportedModelError("no such model", status=404), 1, "no such model"),
    ],
)
def test_a_backend_that_refuses_everything_ends_the_run_early(
    error: Exception, most_calls: int, said: str
) -> None:
    def solver(prompted: Prompted) -> Any:
        raise error

    lm, prompt_model, student = scripted_lm(solver), rewriter_lm(toy_rewriter), dspy.Predict(QA)
    with pytest.raises(BackendUnavailable, match=said) as raised:
        _compile(student, lm, prompt_model=prompt_model)
    assert len(lm.engine.prompts) == most_calls
    assert not prompt_model.engine.prompts
    assert raised.value.result is not None
    assert raised.value.program is not None
    assert raised.value.result.stop_reason is StopReason.BACKEND
    assert instructions_of(raised.value.program) == instructions_of(student)


def test_an_error_without_a_result_is_told_too() -> None:
    recorder = Recorder()

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        return 50.0

    with pytest.raises(Exception, match="divide it by 100") as raised:
        _compile(dspy.Predict(QA), metric=metric, callbacks=[recorder], verbose=True)
    assert recorder.values("error") == [raised.value]
    assert not recorder.values("end")


# --- as a part of DSPy ---------------------------------------------------------------------------


def test_it_is_a_teleprompter() -> None:
    optimizer = toy_gpo()
    assert isinstance(optimizer, Teleprompter)
    with pytest.raises(TypeError, match="max_calls"):
        optimizer.compile(dspy.Predict(QA), trainset=TRAIN, max_calls=3)


def test_a_teacher_is_not_needed(caplog: pytest.LogCaptureFixture) -> None:
    with dspy.context(lm=scripted_lm(toy_solver)):
        toy_gpo().compile(dspy.Predict(QA), trainset=TRAIN, valset=VAL, teacher=dspy.Predict(QA))
    assert "teacher is not used" in caplog.text


def test_better_together_takes_it_as_a_strategy() -> None:
    student = dspy.Predict(QA)
    student.set_lm(scripted_lm(toy_solver))
    optimizer = dspy.BetterTogether(metric=toy_metric, gpo=toy_gpo(max_metric_calls=300))
    compiled = optimizer.compile(student, trainset=TRAIN, valset=VAL, strategy="gpo")
    assert not compiled.flag_compilation_error_occurred
    assert set(compiled.signature.instructions.split()) & set(NEEDS)
    assert [entry["strategy"] for entry in compiled.candidate_programs] == ["gpo", ""]


def test_one_optimizer_compiles_again_and_again_alike() -> None:
    optimizer = toy_gpo()
    stories = []
    for _ in range(2):
        with dspy.context(lm=scripted_lm(toy_solver)):
            compiled = optimizer.compile(dspy.Predict(QA), trainset=TRAIN, valset=VAL)
        stories.append(story(compiled.detailed_results))
    assert stories[0] == stories[1]


def test_the_configured_lm_writes_where_no_prompt_model_is_given() -> None:
    def both(prompted: Prompted) -> Any:
        return (
            toy_rewriter(prompted) if "current_prompt" in prompted.fields else toy_solver(prompted)
        )

    compiled = _compile(dspy.Predict(QA), scripted_lm(both), prompt_model=None)
    assert compiled.detailed_results.prompt_usage.lm_calls > 0
    assert compiled.detailed_results.claim.difference.value > 0

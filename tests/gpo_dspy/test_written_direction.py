"""A direction in words: what is asked, what is shown of the answer, what happens without one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import (
    NO_WAITING,
    Prompted,
    rewriter_lm,
    scripted_lm,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)
from test_resume import Shop, Stopping, comparable
from test_trajectory import Compass, prompt

from gpo_dspy import GPO, BackendUnavailable, GPOResult
from gpo_dspy.direction import (
    Recency,
    Reflection,
    Relevance,
    Summary,
    View,
    WrittenDirection,
)
from gpo_dspy.journal.stored import StoredJournal
from gpo_dspy.prices import expected_cost
from gpo_dspy.prompt_model import PromptModel, Question
from gpo_dspy.report import show_result
from gpo_dspy.state import DirectionText, Fate, ScoredPrompt
from gpo_dspy.storage.codec import result_from, result_text, step_from, step_text
from gpo_dspy.trajectory import Trajectory
from gpo_dspy.wording import answers, questions

TRAIN, VAL = toy_examples(24), toy_examples(24, start=100)


# --- what is asked --------------------------------------------------------------------------------


def made(*prompts: ScoredPrompt) -> Trajectory:
    return Trajectory(Compass(), prompts)


def view(trajectory: Trajectory, **values: Any) -> View:
    defaults: dict[str, Any] = {
        "step": 3,
        "task_description": "Sorts.",
        "current": prompt("0", 0.5),
        "former": {},
        "failures": lambda count: tuple("abcdefghij"[:count]),
    }
    return View(trajectory=trajectory, **(defaults | values))


def tried(text: str, score: float, step: int) -> ScoredPrompt:
    return replace(prompt(text, score), step=step)


FOUR = made(tried("0", 0.5, 0), tried("10", 0.6, 1), tried("20", 0.2, 2), tried("30", 0.4, 2))


def asked(direction: WrittenDirection, seen: View) -> dict[str, Mapping[str, str]]:
    return {question.kind: question.fields for question in direction.questions(seen)}


def shown_scores(fields: Mapping[str, str]) -> list[str]:
    return re.findall(r"score ([\d.]+) of 100", fields["scored_prompts"])


def test_the_first_summary_shows_everything_tried_but_the_current_prompt() -> None:
    fields = asked(Summary(), view(FOUR))["summary"]
    assert shown_scores(fields) == ["20.0", "40.0", "60.0"]
    assert fields["current_prompt"] == "0"
    assert fields["current_score"] == "50.0 of 100"
    assert not fields["former_summary"]


def test_a_summary_goes_on_from_the_former_one_with_what_was_tried_since() -> None:
    former = DirectionText("summary", "self", 2, "Sorting helps.")
    fields = asked(Summary(), view(FOUR, former={"summary": former}))["summary"]
    assert fields["former_summary"] == "Sorting helps."
    assert shown_scores(fields) == ["20.0", "40.0"]
    later = replace(former, step=3)
    fields = asked(Summary(), view(FOUR, former={"summary": later}))["summary"]
    assert not fields["scored_prompts"], "nothing new, and still a request: scores may have changed"


def test_a_summary_shows_the_newest_of_many() -> None:
    fields = asked(Summary(newest=2), view(FOUR))["summary"]
    assert shown_scores(fields) == ["20.0", "40.0"]


def test_of_the_current_prompt_alone_there_is_nothing_to_summarize() -> None:
    assert Summary().questions(view(made(prompt("0", 0.5)))) == ()


def test_a_reflection_shows_as_many_failures_as_it_says() -> None:
    fields = asked(Reflection(failures=3), view(FOUR))["reflection"]
    assert re.findall(r"Failure (\d)\n(\w)", fields["failures"]) == [
        ("1", "a"),
        ("2", "b"),
        ("3", "c"),
    ]


def test_without_a_failure_there_is_nothing_to_reflect_on() -> None:
    none = view(FOUR, failures=lambda count: ())
    assert Reflection().questions(none) == ()
    assert [q.kind for q in Reflection(Summary()).questions(none)] == ["summary"]


def test_a_reflection_asks_what_its_momentum_asks() -> None:
    questions = Reflection(Summary()).questions(view(FOUR))
    assert [question.kind for question in questions] == ["summary", "reflection"]
    assert Reflection(Recency(2))(FOUR, prompt("0")) == Recency(2)(FOUR, prompt("0"))


@pytest.mark.parametrize("question", Reflection(Summary()).questions(view(FOUR)), ids=str)
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()])
def test_the_requests_fit_every_adapter(question: Question, adapter: dspy.Adapter) -> None:
    name = question.outputs[0]
    replies = {
        dspy.ChatAdapter: f"[[ ## {name} ## ]]\nSo it is.",
        dspy.JSONAdapter: f'{{"{name}": "So it is."}}',
        dspy.XMLAdapter: f"<{name}>So it is.</{name}>",
    }
    lm = scripted_lm(lambda prompted: replies[type(adapter)])
    with dspy.context(adapter=adapter):
        assert PromptModel(lm, patience=NO_WAITING).ask(question) == "So it is."
    for text in filter(None, question.fields.values()):
        assert text.splitlines()[0] in lm.engine.prompts[0].user


def test_keys_are_not_shown() -> None:
    def failures(count: int) -> tuple[str, ...]:
        return ("the key is sk-planted",)

    lm = scripted_lm(lambda prompted: {"reflection": "Yes."})
    model = PromptModel(lm, hide=lambda text: text.replace("sk-planted", "[secret]"))
    answers(questions(Reflection(), {"self": view(FOUR, failures=failures)}), 3, model)
    assert "sk-planted" not in lm.engine.prompts[0].user
    assert "[secret]" in lm.engine.prompts[0].user


# --- what becomes of the answer -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text", "problem"),
    [
        ({"reflection": " It says too little. "}, "It says too little.", None),
        ({"reflection": "word " * 400}, ("word " * 400).strip(), None),
        ({"reflection": "word " * 401}, "", Fate.TOO_LONG),
        ({"reflection": ""}, "", Fate.EMPTY),
        ({"reflection": "..."}, "", Fate.EMPTY),
        ("It says too little.", "", Fate.UNPARSABLE),
        (lm15.InvalidRequestError("flagged", status=400), "", Fate.UNANSWERED),
    ],
    ids=str,
)
def test_an_answer_is_used_or_named(answer: Any, text: str, problem: Fate | None) -> None:
    def reply(prompted: Prompted) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    model = PromptModel(scripted_lm(reply), patience=NO_WAITING)
    texts = answers(questions(Reflection(words=200), {"self": view(FOUR)}), 3, model)
    assert texts == [DirectionText("reflection", "self", 3, text, problem)]


@pytest.mark.parametrize("threads", [1, 4])
def test_each_predictor_gets_its_own(threads: int) -> None:
    lm = scripted_lm(lambda p: {"reflection": f"About {p.fields['current_prompt']}."})
    views = {name: view(FOUR, current=prompt(name)) for name in ("10", "20", "30")}
    texts = answers(questions(Reflection(), views), 3, PromptModel(lm, num_threads=threads))
    assert [(text.predictor, text.text) for text in texts] == [
        ("10", "About 10."),
        ("20", "About 20."),
        ("30", "About 30."),
    ]


def test_a_direction_without_words_asks_nothing() -> None:
    assert questions(Relevance(), {"self": view(FOUR)}) == []


# --- runs -----------------------------------------------------------------------------------------


class Writer:
    """The toy rewriter, who also writes numbered summaries and reflections."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def __call__(self, prompted: Prompted) -> Any:
        kind = kind_of(prompted)
        if kind == "rewrite":
            return toy_rewriter(prompted)
        self.count[kind] += 1
        return {kind: f"{kind} number {self.count[kind]}"}


def kind_of(prompted: Prompted) -> str:
    if "length" not in prompted.fields:
        return "rewrite"
    return "reflection" if "failures" in prompted.fields else "summary"


def run(
    direction: Any, reply: Any = None, student: Any = None, **arguments: Any
) -> tuple[Any, Any]:
    """Return the result of a run, and the requests to the prompt model."""
    lm = rewriter_lm(reply or Writer())
    with dspy.context(lm=scripted_lm(arguments.pop("solver", toy_solver))):
        compiled = toy_gpo(direction=direction, prompt_model=lm, **arguments).compile(
            student or dspy.Predict("question -> answer"), trainset=TRAIN, valset=VAL
        )
    return compiled.detailed_results, lm.engine.prompts


@pytest.fixture(scope="module", params=["summary", "reflection", Reflection(Summary())], ids=str)
def made_run(request: pytest.FixtureRequest) -> tuple[GPOResult, list[Prompted]]:
    found: tuple[GPOResult, list[Prompted]] = run(request.param)
    return found


def kinds_in(result: GPOResult, requests: list[Prompted]) -> list[str]:
    present = {kind_of(prompted) for prompted in requests} - {"rewrite"}
    return sorted(present, reverse=True)  # a summary before a reflection


def with_failures(result: GPOResult) -> list[int]:
    """Return the steps that began where something had failed: others have nothing to reflect on."""
    shown = {r.step: any(c.failures_shown for c in r.candidates) for r in result.records}
    assert sum(shown.values()) > 2
    return [step for step, failures in shown.items() if failures]


def test_one_request_a_step_and_kind(made_run: tuple[GPOResult, list[Prompted]]) -> None:
    result, requests = made_run
    steps = len(result.records)
    assert steps > 2
    count = Counter(map(kind_of, requests))
    assert count["rewrite"] >= steps
    for kind in kinds_in(result, requests):
        assert count[kind] == (steps - 1 if kind == "summary" else len(with_failures(result)))
    assert result.prompt_usage.lm_calls == len(requests)
    assert result.plan.direction_requests == len(kinds_in(result, requests))


def test_every_text_is_recorded_and_shown(made_run: tuple[GPOResult, list[Prompted]]) -> None:
    result, requests = made_run
    sections = {"summary": "trajectory_summary", "reflection": "reflection"}
    rewrites = [
        p.fields for p in requests if kind_of(p) == "rewrite" and "too_long" not in p.fields
    ]
    left = iter(rewrites)
    for record in result.records:
        texts = {text.kind: text.text for text in record.texts}
        assert {text.step for text in record.texts} <= {record.step}
        alone = sum(c.rewrite.asked_alone for c in record.candidates)
        for fields in islice(left, 1 + alone):
            for kind, section in sections.items():
                assert fields.get(section, "") == texts.get(kind, "")
            assert "scored_prompts" not in fields


def test_it_is_saved_and_reported(
    made_run: tuple[GPOResult, list[Prompted]], capsys: pytest.CaptureFixture[str]
) -> None:
    result, requests = made_run
    assert result_from(result_text(result)) == result
    show_result(result)
    shown = capsys.readouterr().out
    for kind in kinds_in(result, requests):
        last = len(result.records) if kind == "summary" else with_failures(result)[-1]
        assert f"last {kind}, from step {last}" in shown
        assert f"{kind} number" in shown
    assert "directions not put into words" not in str(result)


def test_a_summary_is_carried_on_from_step_to_step() -> None:
    result, requests = run("summary")
    asked_for = [p.fields for p in requests if kind_of(p) == "summary"]
    assert "former_summary" not in asked_for[0]
    for number, fields in enumerate(asked_for[1:], start=1):
        assert fields["former_summary"] == f"summary number {number}"
    scored = [
        c.score for record in result.records for c in record.candidates if c.score is not None
    ]
    shown = sum(fields.get("scored_prompts", "").count("<prompt>") for fields in asked_for)
    assert 0 < shown <= len(scored), "each prompt is told once"


def test_a_summary_that_failed_leaves_the_one_before_to_go_on_from() -> None:
    writer = Writer()

    def fails_twice(prompted: Prompted) -> Any:
        if kind_of(prompted) == "rewrite":  # nothing helps, so that there are many steps
            number = len(writer.count) + sum(writer.count.values())
            return {"improved_prompt": f"{number} {prompted.fields['variation'][18]}"}
        said = writer(prompted)
        failing = said["summary"] in ("summary number 2", "summary number 3")
        return {"summary": ""} if failing else said

    result, requests = run("summary", fails_twice, max_metric_calls=250)
    former = [p.fields.get("former_summary", "") for p in requests if kind_of(p) == "summary"]
    assert former[:5] == ["", *["summary number 1"] * 3, "summary number 4"]
    assert result.unwritten_directions == {Fate.EMPTY: 2}
    assert "directions not put into words: 2 empty" in str(result)
    assert [text.text for text in result.records[2].texts] == [""]
    assert result_from(result_text(result)) == result


@pytest.mark.parametrize("direction", ["summary", "reflection"])
@pytest.mark.parametrize(
    "failure", ["", "no field", lm15.ContextLengthError("8192 tokens")], ids=str
)
def test_a_run_without_any_usable_text_goes_on(direction: str, failure: Any) -> None:
    def reply(prompted: Prompted) -> Any:
        if kind_of(prompted) == "rewrite":
            assert not {"trajectory_summary", "reflection"} & set(prompted.fields)
            return toy_rewriter(prompted)
        if isinstance(failure, Exception):
            raise failure
        return failure or {direction: failure}

    result, _ = run(direction, reply)
    plain, _ = run("none", toy_rewriter)
    assert result.best == plain.best
    assert result.unwritten_directions.keys() <= {Fate.EMPTY, Fate.UNPARSABLE, Fate.UNANSWERED}
    assert sum(result.unwritten_directions.values()) >= len(result.records) - 1


def test_a_prompt_model_that_is_away_stops_the_run_with_the_best_so_far() -> None:
    writer = Writer()

    def away(prompted: Prompted) -> Any:
        if kind_of(prompted) == "reflection" and writer.count["reflection"] == 2:
            raise lm15.ServerError("down", status=503)
        return writer(prompted)

    with pytest.raises(BackendUnavailable, match="did not answer in 3 tries") as raised:
        run("reflection", away)
    assert raised.value.result is not None
    assert len(raised.value.result.records) == 2


def test_a_limit_on_tokens_counts_these_requests() -> None:
    result, requests = run("reflection", max_tokens=12_000)
    assert result.prompt_usage.lm_calls == len(requests)
    assert result.task_usage.input_tokens + result.prompt_usage.input_tokens <= 12_000


class Chain(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict(dspy.Signature("question -> answer", "ONE"))
        self.final = dspy.Predict(dspy.Signature("question, draft -> answer", "TWO"))

    def forward(self, question: str) -> dspy.Prediction:
        return self.final(question=question, draft=self.draft(question=question).answer)


def test_one_request_for_each_predictor_that_is_rewritten() -> None:
    result, requests = run("reflection", student=Chain(), selector="all", num_threads=4)
    steps = with_failures(result)
    assert Counter(map(kind_of, requests))["reflection"] == 2 * len(steps)
    for record in result.records:
        written = {"draft", "final"} if record.step in steps else set()
        assert {text.predictor for text in record.texts} == written


def test_the_summaries_of_two_predictors_do_not_mix() -> None:
    def reply(prompted: Prompted) -> Any:
        if kind_of(prompted) == "rewrite":
            return toy_rewriter(prompted)
        module = re.findall(r"module `(\w+)`", prompted.fields["task_description"])[0]
        return {"summary": f"{prompted.fields.get('former_summary', '')} {module}".strip()}

    result, _ = run("summary", reply, Chain(), selector="round_robin", max_metric_calls=400)
    last = [text for record in result.records[-2:] for text in record.texts]
    assert {text.predictor for text in last} == {"draft", "final"}
    for text in last:
        assert set(text.text.split()) == {text.predictor}
        assert len(text.text.split()) > 1


def test_the_published_setting_takes_them() -> None:
    writer = Writer()

    def improving(prompted: Prompted) -> Any:
        if kind_of(prompted) != "rewrite":
            return writer(prompted)
        current, number = prompted.fields["current_prompt"], prompted.fields["variation"][18]
        return {"improved_prompt": f"{current} {number}"}

    for direction, asked_for in ((Summary(), 8), (Reflection(Relevance(k=3)), 9)):
        lm = scripted_lm(improving)
        optimizer = GPO.paper(
            toy_metric,
            prompt_model=lm,
            direction=direction,
            embedder="hashed-ngrams",
            verbose=False,
        )
        with dspy.context(lm=scripted_lm(toy_solver)):
            compiled = optimizer.compile(
                dspy.Predict("question -> answer"), trainset=TRAIN, valset=VAL[:8]
            )
        assert len(compiled.detailed_results.records) == 9
        count = Counter(map(kind_of, lm.engine.prompts))
        assert count.total() - count["rewrite"] == asked_for
        assert count["rewrite"] == 8 * 9


def test_the_plan_counts_the_requests(capsys: pytest.CaptureFixture[str]) -> None:
    plans = {}
    for direction in ("relevance", "summary", Reflection(Summary())):
        result, _ = run(direction, verbose=True)
        plans[len(plans)] = result.plan
    said = capsys.readouterr().err
    assert "4 candidates and 1 request to the prompt model; " in said
    assert "4 candidates and 2 requests to the prompt model; " in said
    assert "4 candidates and 3 requests to the prompt model; " in said
    lm = dspy.LM("openai/gpt-4o-mini", api_key="none")
    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    costs = [expected_cost(program, TRAIN, lm, plan) for plan in plans.values()]
    assert costs == sorted(costs)  # type: ignore[type-var]
    assert len(set(costs)) == 3


# --- runs that are carried on ---------------------------------------------------------------------


class Interrupting(Writer):
    """Is interrupted when asked for a rewrite after so many texts of a direction."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def __call__(self, prompted: Prompted) -> Any:
        if kind_of(prompted) == "rewrite" and self.count.total() == self.after:
            self.after = -1
            raise KeyboardInterrupt
        return super().__call__(prompted)


@pytest.mark.parametrize("direction", ["summary", Reflection(Summary())], ids=str)
@pytest.mark.parametrize("way", ["after a step", "between a text and its rewrites"])
def test_no_request_is_paid_twice(shop: Shop, direction: Any, way: str) -> None:
    shop.rewriter = rewriter_lm(Writer())
    undisturbed = shop.run(storage=None, direction=direction)
    total = Counter(p.user for p in shop.rewriter.engine.prompts)
    between = way != "after a step"
    shop.rewriter = rewriter_lm(Interrupting(3) if between else Writer())
    first = shop.run(direction=direction, callbacks=[] if between else [Stopping(2)])
    assert 0 < len(first.records) < len(undisturbed.records)
    again = shop.run(direction=direction)
    assert comparable(again) == comparable(undisturbed)
    made = Counter(p.user for p in shop.rewriter.engine.prompts)
    assert (made - total).total() == between, "only that which was interrupted"
    assert made >= total
    assert shop.run(direction=direction) == again
    assert any(record.texts for record in again.records)


@pytest.fixture
def shop(tmp_path: Any) -> Shop:
    return Shop(tmp_path)


def test_what_the_memory_knows_needs_no_direction(shop: Shop) -> None:
    shop.run()
    shop.rewriter = rewriter_lm(Writer())
    result = shop.run(direction="reflection", seed=1)
    asked_for = Counter(map(kind_of, shop.rewriter.engine.prompts))
    assert asked_for["reflection"] == len(result.records) - 1
    first = result.records[0]
    assert first.candidates[0].rewrite.fate is Fate.RECALLED
    assert first.texts == ()


def test_no_more_is_recalled_than_the_money_pays_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(f"Answer the question, way {i}.", "comes from run 7") for i in range(8)]
    monkeypatch.setattr(StoredJournal, "recollect", lambda *_: found)
    settings = {"candidates_per_step": 8, "holdout": False}
    for calls in (33, 300):
        result = shop.run(**settings, max_metric_calls=calls)
        first = result.records[0].candidates
        left = calls - (result.records[0].metric_calls - sum(c.evaluations for c in first))
        assert {c.rewrite.fate for c in first} == {Fate.RECALLED}
        assert len(first) == result.plan.width(left, result.plan.trial_of_recalled)
        assert all(c.evaluations for c in first)


def test_a_step_stored_before_there_were_texts_is_read() -> None:
    result, _ = run("summary")
    record = result.records[-1]
    assert step_from(step_text(record)) == record
    older = step_text(replace(record, texts=())).replace(',"texts":[]', "")
    assert "texts" not in older
    assert step_from(older) == replace(record, texts=())
    stored = result_text(result).replace(',"direction_requests":1', "")
    assert result_from(stored).plan.direction_requests == 0


def test_another_direction_is_another_run(shop: Shop) -> None:
    shop.rewriter = rewriter_lm(Writer())
    shop.run(direction=Summary(), callbacks=[Stopping(1)])
    before = shop.requests
    shop.run(direction=Summary(newest=3), callbacks=[Stopping(1)], memory=False)
    assert shop.requests[2] > before[2]

"""Few-shot demos: where they come from, who is scored on what, and what the program keeps."""

from __future__ import annotations

import datetime
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest
from fakes import (
    Prompted,
    rewriter_lm,
    scripted_lm,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy import Callback, GPOResult
from gpo_dspy.data import Data
from gpo_dspy.demos import DemoSource, bootstrapped_demo, labelled_demo
from gpo_dspy.evaluation.runner import Evaluation, Outcome, PredictorCall
from gpo_dspy.state import RunState
from gpo_dspy.storage.codec import evaluation_detail, evaluation_from

QA = "question -> answer"
TRAIN, VAL = toy_examples(20), toy_examples(20, start=100)


class Chain(dspy.Module):
    """Two predictors with equal signatures, and a third field on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict("question -> answer")
        self.final = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        draft = self.draft(question=question).answer
        return self.final(question=f"{question} // {draft}")


# --- making demos --------------------------------------------------------------------------------


def _run(index: int, *calls: tuple[str, dict[str, Any], dict[str, Any]]) -> Evaluation:
    return Evaluation(1.0, Outcome.SCORED, trace=tuple(PredictorCall(*call) for call in calls))


def _source(student: dspy.Module, bootstrapped: int, labelled: int) -> DemoSource:
    data = Data((*TRAIN, *VAL), tuple(range(20)), tuple(range(20, 40)), ())
    return DemoSource(student, data, bootstrapped, labelled, seed=1)


@given(
    bootstrapped=st.integers(0, 4),
    labelled=st.integers(0, 4),
    succeeded=st.sets(st.integers(0, 19), max_size=6),
    failed=st.sets(st.integers(0, 19), max_size=6),
    count=st.integers(1, 5),
    step=st.integers(1, 9),
)
def test_sets_differ_and_keep_to_their_sizes_and_to_the_training_set(
    bootstrapped: int,
    labelled: int,
    succeeded: set[int],
    failed: set[int],
    count: int,
    step: int,
) -> None:
    source = _source(dspy.Predict(QA), bootstrapped, labelled)
    runs = {i: _run(i, ("self", {"question": "q"}, {"answer": f"own {i}"})) for i in succeeded}
    sets = source.propose(step, count, runs, sorted(failed))
    assert sets == source.propose(step, count, runs, sorted(failed))
    assert len(set(sets)) == len(sets) <= count
    assert bool(sets) == bool((bootstrapped and succeeded) or labelled)
    for demos in sets:
        (name, shown), *others = demos
        assert name == "self"
        assert not others
        assert len({demo.example for demo in shown}) == len(shown)
        own = [demo for demo in shown if demo.bootstrapped]
        assert len(own) <= bootstrapped
        assert len(shown) <= max(labelled, len(own))
        for demo in shown:
            index = demo.example
            assert index < 20, "a training example"
            answer = f"own {index}" if demo.bootstrapped else TRAIN[index].answer
            assert demo.values()["answer"] == answer
    if sets and bootstrapped:
        assert sum(d.bootstrapped for d in sets[0][0][1]) == min(bootstrapped, len(succeeded))


def test_every_other_set_shows_what_goes_wrong() -> None:
    source = _source(dspy.Predict(QA), 0, 2)
    plain, of_failures = source.propose(1, 2, {}, [3, 5])
    assert {demo.example for demo in of_failures[0][1]} == {3, 5}
    assert {demo.example for demo in plain[0][1]} != {3, 5}


def test_each_predictor_gets_its_own_part_of_a_run() -> None:
    run = _run(
        4,
        ("draft", {"question": "q", "config": 1}, {"answer": "half"}),
        ("final", {"question": "q // half"}, {"answer": "whole"}),
    )
    (demos,) = _source(Chain(), 1, 0).propose(1, 1, {4: run})
    told = {name: [demo.values() for demo in shown] for name, shown in demos}
    assert told == {
        "draft": [{"question": "q", "answer": "half"}],
        "final": [{"question": "q // half", "answer": "whole"}],
    }


def test_a_predictor_that_had_no_part_in_a_run_gets_no_demo_of_it() -> None:
    run = _run(0, ("other", {"question": "q"}, {"answer": "a"}))
    predictor = dspy.Predict(QA)
    assert bootstrapped_demo("self", predictor, 0, run, random.Random(0)) is None
    unparsable = _run(0, ("self", {"question": "q"}, {"(unparsable reply)": "a"}))
    assert bootstrapped_demo("self", predictor, 0, unparsable, random.Random(0)) is None


def test_of_several_calls_each_can_be_shown() -> None:
    run = _run(0, *[("self", {"question": f"q{i}"}, {"answer": "a"}) for i in range(3)])
    predictor = dspy.Predict(QA)
    made = [bootstrapped_demo("self", predictor, 0, run, random.Random(i)) for i in range(30)]
    assert {demo.values()["question"] for demo in made if demo} == {"q0", "q1", "q2"}


@pytest.mark.parametrize(
    ("signature", "fields"),
    [
        ("question -> answer", {"question", "answer"}),
        ("question -> reasoning, answer", {"question", "answer"}),
        ("question, plan -> answer", {"question", "answer"}),
        ("question -> plan", None),
        ("plan -> answer", None),
    ],
)
def test_labels_make_a_demo_if_they_have_both_sides(
    signature: str, fields: set[str] | None
) -> None:
    example = dspy.Example(question="q", answer="a", other=1).with_inputs("question")
    demo = labelled_demo(dspy.Predict(signature), 0, example)
    assert (demo and set(demo.values())) == fields


class Mood(pydantic.BaseModel):
    name: str
    strength: int


def test_typed_values_are_shown_to_the_lm_as_dspy_shows_them() -> None:
    student = dspy.Predict(
        dspy.Signature({"question": (str, dspy.InputField()), "mood": (Mood, dspy.OutputField())})
    )
    example = dspy.Example(question="q", mood=Mood(name="glad", strength=3)).with_inputs("question")
    demo = labelled_demo(student, 0, example)
    assert demo is not None
    adapter = dspy.ChatAdapter()
    signature = student.signature
    assert adapter.format_demos(signature, [demo.values()]) == adapter.format_demos(
        signature, [example.toDict()]
    )


@pytest.mark.parametrize(
    "value",
    [
        "text",
        3,
        [1, {"$a": 2}],
        Mood(name="glad", strength=3),
        [Mood(name="glad", strength=3)],
        datetime.date(2026, 5, 1),
        {"mood": Mood(name="calm", strength=1), "$text": "x"},
        float("inf"),
    ],
    ids=str,
)
def test_a_run_that_was_stored_makes_the_same_demo(value: Any) -> None:
    run = _run(0, ("self", {"question": value}, {"answer": value}))
    stored = evaluation_from(run.score, run.outcome.name, run.feedback, evaluation_detail(run))
    predictor = dspy.Predict(QA)
    demo = bootstrapped_demo("self", predictor, 0, run, random.Random(0))
    assert demo is not None
    assert bootstrapped_demo("self", predictor, 0, stored, random.Random(0)) == demo


# --- in a run ------------------------------------------------------------------------------------


def _learner(prompted: Prompted) -> dict[str, str]:
    """Answer right if the instruction, or the question of a demo, has the question's word."""
    _, number, need = prompted.fields["question"].split(" // ")[0].split()
    shown = [turn for turn in prompted.earlier if "[[ ## question ## ]]" in turn]
    told = " ".join([prompted.instruction, *shown]).split()
    return {"answer": f"right {number}" if need in told else "wrong"}


def _compile(
    student: dspy.Module, lm: Any = None, metric: Callable[..., Any] = toy_metric, **arguments: Any
) -> dspy.Module:
    sets = {name: arguments.pop(name) for name in ("trainset", "valset") if name in arguments}
    defaults: dict[str, Any] = {"max_labeled_demos": 4, "max_metric_calls": 200}
    with dspy.context(lm=lm or scripted_lm(_learner)):
        return toy_gpo(metric, **(defaults | arguments)).compile(
            student, **({"trainset": TRAIN, "valset": VAL} | sets)
        )


def _silent(prompted: Prompted) -> dict[str, str]:
    """Rewrite without any use."""
    return {"improved_prompt": f"{prompted.fields['current_prompt']} again"}


@pytest.mark.parametrize("evaluation", ["race", "full"])
def test_demos_that_help_are_found_and_stay_with_the_program(
    evaluation: str, tmp_path: Path
) -> None:
    student = dspy.Predict(QA)
    lm = scripted_lm(_learner)
    compiled = _compile(
        student, lm, prompt_model=scripted_lm(_silent), evaluation=evaluation, max_metric_calls=250
    )
    result: GPOResult = compiled.detailed_results
    assert result.claim is not None
    assert result.claim.difference.low > 0
    assert student.demos == []
    assert 0 < len(compiled.demos) <= 4
    assert dict(result.returned_demos) == dict(result.best_demos)
    shown = [demo.values() for demo in dict(result.returned_demos)["self"]]
    assert [dict(demo) for demo in compiled.demos] == shown
    assert f"demos: {len(shown)} for self" in str(result)
    assert result.to_dict()["best_demos"][0][1][0]["fields"] == json.dumps(shown[0])

    compiled.save(tmp_path / "program.json")
    loaded = dspy.Predict(QA)
    loaded.load(tmp_path / "program.json")
    question = "item 777 beta"
    with dspy.context(lm=lm):
        assert loaded(question=question).answer == compiled(question=question).answer
    assert lm.engine.prompts[-1] == lm.engine.prompts[-2]


def test_bootstrapped_demos_show_what_every_module_did() -> None:
    def solver(prompted: Prompted) -> dict[str, str]:
        question, _, draft = prompted.fields["question"].partition(" // ")
        if not draft:
            return {"answer": f"draft of {question}"}
        _, number, need = question.split()
        return {"answer": f"right {number}" if need == "alpha" or prompted.earlier else "wrong"}

    compiled = _compile(
        Chain(),
        scripted_lm(solver),
        prompt_model=scripted_lm(_silent),
        max_bootstrapped_demos=2,
        max_labeled_demos=0,
    )
    demos = {name: predictor.demos for name, predictor in compiled.named_predictors()}
    assert {name: len(shown) for name, shown in demos.items()} == {"draft": 2, "final": 2}
    for first, last in zip(demos["draft"], demos["final"], strict=True):
        assert first["augmented"]
        assert last["augmented"]
        assert first["answer"] == f"draft of {first['question']}"
        assert last["question"] == f"{first['question']} // {first['answer']}"
        assert last["answer"] == f"right {first['question'].split()[1]}"
    assert compiled.detailed_results.claim.difference.low > 0


@pytest.mark.parametrize("evaluation", ["race", "full"])
@pytest.mark.parametrize("valset", [VAL, TRAIN, None], ids=["apart", "the same", "none"])
def test_no_program_is_scored_on_its_demos_and_none_is_of_another_set(
    evaluation: str, valset: Any
) -> None:
    lm = scripted_lm(_learner)
    states: list[RunState] = []

    class Watcher(Callback):
        def on_step(self, state: RunState) -> None:
            states.append(state)

    result = _compile(
        dspy.Predict(QA), lm, max_bootstrapped_demos=3, valset=valset, evaluation=evaluation,
        callbacks=[Watcher()], max_metric_calls=400,
    ).detailed_results  # fmt: skip
    with_demos = [prompted for prompted in lm.engine.prompts if prompted.earlier]
    assert with_demos
    for prompted in with_demos:
        assert not any(f"{prompted.fields['question']}\n" in turn for turn in prompted.earlier)
    held = {p.fields["question"] for p in lm.engine.prompts[-2 * result.plan.holdout :]}
    assert len(held) == result.plan.holdout > 0
    train = {example.question for example in TRAIN}
    for _, demos in (pair for state in states for pair in state.best.demos):
        for demo in demos:
            assert demo.values()["question"] in train
            assert demo.values()["question"] not in held


@pytest.mark.parametrize("demos", [0, 3])
def test_own_demos_stay_unless_demos_are_searched(demos: int) -> None:
    student = dspy.Predict(QA)
    student.demos = [dspy.Example(question="item 999 none", answer="right 999")]
    lm = scripted_lm(_learner)
    compiled = _compile(student, lm, prompt_model=scripted_lm(_silent), max_labeled_demos=demos)
    own = [p for p in lm.engine.prompts if any("item 999" in turn for turn in p.earlier)]
    if demos:
        assert own, "the start is scored with them"
        assert "item 999 none" not in [demo["question"] for demo in compiled.demos]
    else:
        assert len(own) == len(lm.engine.prompts)
        assert compiled.demos == student.demos
        assert compiled.detailed_results.returned_demos == ()


def test_demos_that_do_not_help_are_not_taken() -> None:
    def distracted(prompted: Prompted) -> dict[str, str]:
        return {"answer": "wrong"} if prompted.earlier else toy_solver(prompted)

    compiled = _compile(dspy.Predict("question -> answer"), scripted_lm(distracted))
    assert compiled.demos == []
    assert compiled.detailed_results.claim.difference.value > 0, "rewrites go on"


def test_a_few_calls_seek_successes_where_too_few_are_known() -> None:
    """One in ten goes right, and a demo of one makes all go right."""

    def solver(prompted: Prompted) -> dict[str, str]:
        number = int(prompted.fields["question"].split()[1])
        return {"answer": f"right {number}" if number % 10 == 3 or prompted.earlier else "wrong"}

    found = []
    for seed in range(4):
        compiled = _compile(
            dspy.Predict(QA),
            scripted_lm(solver),
            prompt_model=scripted_lm(_silent),
            max_bootstrapped_demos=1,
            max_labeled_demos=0,
            seed=seed,
        )
        found += [demo["question"] for demo in compiled.demos]
    assert found
    assert set(found) <= {"item 3 delta", "item 13 beta"}


@pytest.mark.parametrize("threads", [1, 16])
def test_the_same_seed_draws_the_same_demos(threads: int) -> None:
    found = [
        _compile(
            Chain(), max_bootstrapped_demos=2, num_threads=n, max_metric_calls=300
        ).detailed_results.to_dict()
        for n in (1, threads)
    ]
    for result in found:
        del result["seconds"]
    assert found[0] == found[1]


def test_rewrites_go_on_under_the_best_demos_and_demos_are_drawn_again() -> None:
    result = _compile(
        dspy.Predict(QA), prompt_model=rewriter_lm(toy_rewriter), max_metric_calls=600,
        max_labeled_demos=1, trainset=toy_examples(40), valset=toy_examples(60, start=100),
    ).detailed_results  # fmt: skip
    kinds = [bool(record.predictors) for record in result.records]
    assert not kinds[0]
    assert kinds[1:3] == [True, True]
    for record in result.records:
        assert record.what in ("self", "demos")
        for candidate in record.candidates:
            assert bool(candidate.rewrites) == bool(record.predictors)
            assert bool(candidate.demos) != bool(record.predictors)


@pytest.mark.parametrize("calls", [20, 60, 100])
def test_a_run_with_demos_is_carried_on_where_it_was_stopped(tmp_path: Path, calls: int) -> None:
    made = itertools.count()

    def stopping(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
        if next(made) == calls:
            raise KeyboardInterrupt
        return toy_metric(example, prediction)

    arguments: dict[str, Any] = {
        "metric": stopping,
        "lm": scripted_lm(_learner),
        "prompt_model": rewriter_lm(toy_rewriter),
        "max_bootstrapped_demos": 2,
        "storage": f"sqlite:///{tmp_path}/runs.db",
    }
    stopped = _compile(Chain(), **arguments).detailed_results
    assert stopped.metric_calls == calls
    again = _compile(Chain(), **arguments).detailed_results.to_dict()
    undisturbed = _compile(Chain(), **(arguments | {"storage": None})).detailed_results.to_dict()
    for result in (again, undisturbed):
        del result["seconds"]
    assert again == undisturbed
    assert next(made) == again["metric_calls"] * 2 + 1, "nothing is paid twice"

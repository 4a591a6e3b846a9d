"""``GPO.paper`` is the published setting to the letter (arXiv 2402.17564)."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import dspy
import pytest
from fakes import NEEDS, NO_WAITING, Prompted, scripted_lm, toy_examples, toy_metric, toy_solver

from gpo_dspy import GPO, GPOResult, StopReason

START = "Answer."
TRAIN, VAL = toy_examples(20), toy_examples(8, start=100)
STEPS_AN_EPOCH = 3  # 20 examples in batches of 8, the last one smaller
STEPS = 3 * STEPS_AN_EPOCH


def _published_words(step: int) -> int:
    """A slow twin of the schedule: half a cosine wave from 50 to 10 words."""
    return round(10 + 40 * (1 + math.cos(math.pi * (step - 1) / (STEPS - 1))) / 2)


class Paper:
    """One run of the published setting, with all that went over the wire."""

    def __init__(self, rewrite: Any, **overrides: Any) -> None:
        self.task = scripted_lm(toy_solver)
        self.prompt_model = scripted_lm(lambda p: {"improved_prompt": rewrite(p)})
        optimizer = GPO.paper(
            toy_metric,
            prompt_model=self.prompt_model,
            **{"embedder": "hashed-ngrams", "num_threads": 1, "verbose": False} | overrides,
        )
        optimizer.patience = NO_WAITING
        student = dspy.Predict(dspy.Signature("question -> answer", START))
        with dspy.context(lm=self.task):
            self.program = optimizer.compile(student, trainset=TRAIN, valset=VAL)
        self.result: GPOResult = self.program.detailed_results
        self.requests: list[Prompted] = self.prompt_model.engine.prompts

    def requests_of(self, step: int) -> list[Prompted]:
        return self.requests[8 * (step - 1) : 8 * step]


def _improving(prompted: Prompted) -> str:
    """Write a prompt that no request got before; some have needed words in them."""
    number = int(re.findall(r"variation (\d)", prompted.fields["variation"])[0])
    current = prompted.fields["current_prompt"]
    word = NEEDS[number % len(NEEDS)] if number <= 2 else "filler"
    return f"{current} {word} v{number}"


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper(_improving)


def test_three_epochs_of_batches_of_eight(paper: Paper) -> None:
    assert len(paper.result.records) == STEPS
    assert paper.result.stop_reason is StopReason.EPOCHS


def test_the_last_smaller_batch_is_a_step_too() -> None:
    for size, steps in ((8, 3), (9, 6), (16, 6), (3, 3)):
        optimizer_steps = _steps_with(size)
        assert optimizer_steps == steps, size


def _steps_with(size: int) -> int:
    optimizer = GPO.paper(
        toy_metric,
        prompt_model=scripted_lm(lambda p: {"improved_prompt": _improving(p)}),
        embedder="hashed-ngrams",
        verbose=False,
    )
    with dspy.context(lm=scripted_lm(toy_solver)):
        program = optimizer.compile(
            dspy.Predict(dspy.Signature("question -> answer", START)),
            trainset=toy_examples(size),
            valset=VAL,
        )
    return len(program.detailed_results.records)


def test_eight_requests_a_step(paper: Paper) -> None:
    assert len(paper.requests) == 8 * STEPS
    for record in paper.result.records:
        assert len(record.candidates) == 8


def test_every_candidate_is_scored_on_the_whole_validation_set(paper: Paper) -> None:
    shown = [c for record in paper.result.records for c in record.candidates if c.score is not None]
    assert len(shown) == 8 * STEPS
    assert {candidate.evaluations for candidate in shown} == {len(VAL)}

    asked = Counter((p.instruction, p.fields["question"]) for p in paper.task.engine.prompts)
    questions = {example.question for example in VAL}
    assert {question for _, question in asked} == questions, "training examples are not scored"
    texts = {START, *(candidate.rewrite.text for candidate in shown)}
    assert set(asked) == {(text, question) for text in texts for question in questions}
    assert set(asked.values()) == {1}, "and none is paid twice"


def test_the_word_budget_falls_by_a_cosine_from_50_to_10(paper: Paper) -> None:
    for step in range(1, STEPS + 1):
        said = {
            int(re.findall(r"at most (\d+) words", request.fields["word_budget"])[0])
            for request in paper.requests_of(step)
        }
        assert said == {_published_words(step)}
    assert _published_words(1) == 50
    assert _published_words(STEPS) == 10


def test_the_three_most_relevant_earlier_prompts_are_shown_ascending(paper: Paper) -> None:
    tried = [START]
    for step, record in enumerate(paper.result.records, start=1):
        for request in paper.requests_of(step):
            shown = re.findall(
                r"<prompt>\n(.*?)\n</prompt>", request.fields.get("scored_prompts", "")
            )
            scores = [
                float(score)
                for score in re.findall(
                    r"score ([\d.]+) of", request.fields.get("scored_prompts", "")
                )
            ]
            current = request.fields["current_prompt"]
            assert len(shown) == min(3, len(set(tried) - {current}))
            assert scores == sorted(scores)
            assert set(shown) <= set(tried) - {current}
            assert set(shown) == _nearest(current, tried, 3)
        tried.extend(candidate.rewrite.text for candidate in record.candidates)


def _nearest(current: str, tried: list[str], k: int) -> set[str]:
    """A slow twin of the retrieval: cosine similarity, the older first on ties."""
    from gpo_dspy.embedding import resolve_embedder

    embed = resolve_embedder("hashed-ngrams")
    others = [text for text in dict.fromkeys(tried) if text != current]
    if not others:
        return set()
    similarity = embed(others).astype(float) @ embed([current])[0].astype(float)
    ranked = sorted(range(len(others)), key=lambda i: (-round(similarity[i], 9), i))
    return {others[i] for i in ranked[:k]}


def test_no_failures_are_shown_but_task_examples_of_the_batch(paper: Paper) -> None:
    training = {example.question for example in TRAIN}
    seen: set[str] = set()
    for request in paper.requests:
        assert "failures" not in request.fields
        questions = set(re.findall(r"Input question: (.*)", request.fields["task_examples"]))
        assert questions <= training
        seen |= questions
    assert len(seen) > 8


def test_the_best_new_candidate_becomes_current(paper: Paper) -> None:
    chosen = {START}
    current = START
    for step, record in enumerate(paper.result.records, start=1):
        assert {r.fields["current_prompt"] for r in paper.requests_of(step)} == {current}
        new = [c for c in record.candidates if c.score is not None and c.rewrite.text not in chosen]
        best = max(c.score for c in new if c.score is not None)
        assert record.accepted is not None
        accepted = record.candidates[record.accepted]
        assert accepted in new
        assert accepted.score == best
        current = accepted.rewrite.text
        chosen.add(current)
    assert len(chosen) == STEPS + 1


def test_it_moves_on_even_to_a_worse_prompt_and_returns_the_best() -> None:
    best = f"{START} alpha beta gamma"  # not delta: a perfect prompt would end the run

    def worsening(prompted: Prompted) -> str:
        words = prompted.fields["current_prompt"].split()
        number = re.findall(r"variation (\d)", prompted.fields["variation"])[0]
        if len(words) == 1:
            return best
        return f"{' '.join(words[:-2])} v{number}"

    found = Paper(worsening)
    scores = [
        record.candidates[record.accepted].score
        for record in found.result.records
        if record.accepted is not None
    ]
    assert scores[:3] == [0.75, 0.25, 0.0]
    assert found.result.best_score == 0.75
    assert found.program.signature.instructions == best


def test_an_earlier_choice_is_not_chosen_again() -> None:
    texts = [f"{START} alpha", f"{START} beta"]

    def alternating(prompted: Prompted) -> str:
        return texts[0] if prompted.fields["current_prompt"] != texts[0] else texts[1]

    found = Paper(alternating)
    accepted = [
        record.candidates[record.accepted].rewrite.text
        for record in found.result.records
        if record.accepted is not None
    ]
    assert accepted == texts


def test_the_budget_is_requested_not_enforced() -> None:
    found = Paper(lambda p: _improving(p) + " word" * 60)
    assert set(found.result.fates) == {"OVER_BUDGET"}
    assert len(found.requests) == 8 * len(found.result.records), "nothing is sent back"


def test_nothing_is_kept_so_nothing_is_claimed(paper: Paper) -> None:
    assert paper.result.claim is None
    assert "no gain is claimed" in str(paper.result)


@pytest.mark.parametrize("overrides", [{"epochs": 1}, {"candidates_per_step": 2}, {"failures": 2}])
def test_any_argument_can_be_overridden(overrides: dict[str, int]) -> None:
    params = GPO.paper(toy_metric, **overrides).get_params()
    assert {name: params[name] for name in overrides} == overrides
    assert params["acceptance"] == "best_new"

"""How many rewrites a request is for, and which failures each of them is tried on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import (
    Prompted,
    rewriter_lm,
    scripted_lm,
    several,
    story,
    toy_examples,
    toy_gpo,
    toy_rewriter,
    toy_solver,
)
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy import GPO
from gpo_dspy.asking import REPLY_WORDS, request_sizes, rewrites_per_request
from gpo_dspy.prompt_model import max_tokens_of
from gpo_dspy.result import GPOResult

TRAIN, VAL = toy_examples(40), toy_examples(40, start=100)


def run(prompt_model: dspy.LM, student: Any = None, **arguments: Any) -> GPOResult:
    with dspy.context(lm=scripted_lm(toy_solver)):
        compiled = toy_gpo(prompt_model=prompt_model, **arguments).compile(
            student or dspy.Predict("question -> answer"), trainset=TRAIN, valset=VAL
        )
    result: GPOResult = compiled.detailed_results
    return result


def wanted(prompts: Sequence[Prompted]) -> list[int]:
    """Return how many prompts each request asks for."""
    return [len(prompted.outputs) for prompted in prompts]


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_fewest_requests_share_evenly(candidates: int, most: int) -> None:
    sizes = request_sizes(candidates, most)
    assert sum(sizes) == candidates
    assert len(sizes) == -(-candidates // most)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("length", "max_tokens", "expected"),
    [
        (10, None, REPLY_WORDS // 60),
        (250, None, REPLY_WORDS // 300),
        (5_000, None, 1),
        (10, 600, 3),
        (10, 16_000, REPLY_WORDS // 60),
        (10, 1, 1),
    ],
)
def test_long_prompts_and_short_replies_take_more_requests(
    length: int, max_tokens: int | None, expected: int
) -> None:
    settings = GPO(lambda *_: True).settings
    prompts = ["Short.", "word " * length]
    assert rewrites_per_request(settings, prompts, 50, max_tokens) == expected


@pytest.mark.parametrize("limit", [60, 150, 400])
def test_replies_that_are_cut_off_are_stored_and_asked_for_again(
    limit: int, tmp_path: Path
) -> None:
    def story_of(**arguments: Any) -> Any:
        lm = scripted_lm(several(toy_rewriter), reply_limit=limit)
        return story(run(lm, max_metric_calls=200, embedder="hashed-ngrams", **arguments))

    assert story_of() == story_of(storage=f"sqlite:///{tmp_path}/runs.db", memory=False)


def test_one_request_a_step() -> None:
    lm = rewriter_lm(different)
    result = run(lm, max_metric_calls=300)
    assert wanted(lm.engine.prompts) == [len(record.candidates) for record in result.records]
    assert result.plan.requests == 1
    assert result.prompt_usage.lm_calls == len(result.records)


def test_the_limit_on_replies_is_the_prompt_models_own() -> None:
    lm = rewriter_lm(different)
    lm.kwargs["max_tokens"] = 400  # room for two
    result = run(lm, max_metric_calls=150)
    assert wanted(lm.engine.prompts)[:2] == [2, 2]
    assert result.plan.requests == 2


@pytest.mark.parametrize("limit", [600, 600.0])
def test_any_name_and_number_of_the_limit_counts(limit: float) -> None:
    lm = rewriter_lm(different)
    assert max_tokens_of(lm) is None
    lm.kwargs["max_completion_tokens"] = limit
    assert max_tokens_of(lm) == 600
    assert isinstance(max_tokens_of(lm), int)


def test_requests_of_a_step_differ_also_where_each_is_asked_for_alone() -> None:
    lm = scripted_lm(different)
    run(lm, failures=0, rewrites_per_request=2, max_metric_calls=150, num_threads=1)
    first = [p.fields["variation"].split(":")[0] for p in lm.engine.prompts[:4]]
    assert sorted(first) == [
        "These are variations 1 to 2 of 4",
        "These are variations 3 to 4 of 4",
        "This is variation 2 of 4",
        "This is variation 4 of 4",
    ]


def test_one_flagged_failure_does_not_end_the_run() -> None:
    def strict(prompted: Prompted) -> Any:
        if "item 3 " in prompted.fields.get("failures", ""):
            raise lm15.InvalidRequestError("flagged by the filter", status=400)
        return several(different)(prompted)

    result = run(scripted_lm(strict), max_metric_calls=300)
    assert result.fates["KEPT"] > result.fates.get("UNANSWERED", 0)


@pytest.mark.parametrize(("given", "expected"), [(1, [1] * 4), (2, [2, 2]), (3, [2, 2]), (9, [4])])
def test_the_user_may_say_how_many(given: int, expected: list[int]) -> None:
    lm = rewriter_lm(different)
    result = run(lm, rewrites_per_request=given, max_metric_calls=60, num_threads=1)
    assert wanted(lm.engine.prompts)[: len(expected)] == expected
    assert result.plan.requests == len(expected)
    said = f"{len(expected)} request{'s' * (len(expected) > 1)} to the prompt model"
    assert said in str(result.plan)


def test_each_module_takes_a_request() -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("question -> answer")
            self.second = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            self.first(question=question)
            return self.second(question=question)

    lm = rewriter_lm(different)
    result = run(lm, Two(), selector="all", max_metric_calls=100)
    assert wanted(lm.engine.prompts)[:2] == [4, 4]
    assert result.plan.requests == 2
    assert "up to 2 requests to the prompt model" in str(result.plan)


def test_who_writes_one_only_is_soon_asked_for_one_each() -> None:
    lm = scripted_lm(different)
    result = run(lm, max_metric_calls=400, candidates_per_step=None)
    asked = wanted(lm.engine.prompts)
    steps = [len(record.candidates) for record in result.records]
    assert len(steps) > 3
    assert steps[:3] == [9, 9, 4], "steps are narrower where each rewrite costs a request"
    expected = [[n, *[1] * (n - 1)] for n in steps[:2]] + [[1] * n for n in steps[2:]]
    assert asked == [n for step in expected for n in step]
    assert not any(r.asked_alone for c in result.records[2].candidates for r in c.rewrites)


def test_who_forgets_some_now_and_then_is_asked_for_all_again() -> None:
    def forgetful(prompted: Prompted) -> Any:
        answers = different_several(prompted)
        return dict(list(answers.items())[:3]) if len(prompted.outputs) == 4 else answers

    lm = scripted_lm(forgetful)
    result = run(lm, max_metric_calls=300)
    together = [n for n in wanted(lm.engine.prompts) if n > 1]
    assert len(together) == len(result.records) > 3


def test_each_rewrite_is_tried_on_failures_of_its_own() -> None:
    (record, *_) = run(rewriter_lm(different), max_metric_calls=800).records
    shown = [candidate.rewrite.failures_shown for candidate in record.candidates]
    assert len({frozenset(indices) for indices in shown}) == 1, "all saw the same"
    tried = Counter(index for indices in shown for index in indices[:3])
    assert set(tried) == set(shown[0]), "together they are tried on all"
    assert max(tried.values()) - min(tried.values()) <= 1


def different(prompted: Prompted) -> dict[str, str]:
    """Write something that nobody wrote before, and that helps if the variation lets it."""
    number = prompted.fields.get("variation", "This is variation 0").split()[3]
    step = len(prompted.fields["current_prompt"]) % 7
    text = toy_rewriter(prompted)["improved_prompt"]
    return {"improved_prompt": f"{text} v{number}{step}"}


def different_several(prompted: Prompted) -> dict[str, str]:
    answers = several(different)(prompted)
    assert isinstance(answers, dict)
    return answers

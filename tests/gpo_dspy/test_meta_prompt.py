"""What the prompt model is shown."""

from __future__ import annotations

from dataclasses import replace

import dspy
import pytest
from fakes import scripted_lm

from gpo_dspy.meta_prompt import (
    FOLLOW_REFLECTION,
    FOLLOW_SUMMARY,
    LONGEST_VALUE,
    SEVERAL,
    SEVERAL_AGAIN,
    EditPrompt,
    GeneratePrompt,
    MetaPrompt,
    percent,
    shorten,
)
from gpo_dspy.prompt_model import Question
from gpo_dspy.state import ScoredPrompt

REQUEST = MetaPrompt(
    task_description="Input fields: `question` (str)",
    retrieved=(ScoredPrompt("Weak.", 0.1, 8, 1), ScoredPrompt("Strong.", 0.6, 8, 2)),
    current=ScoredPrompt("Present.", 0.4, 8, 3),
    examples=("Input question: 1",),
    failures=("Input question: 2", "Input question: 3"),
    words=17,
    variation=(2, 4),
)


def test_every_part_is_shown_once() -> None:
    fields = REQUEST.fields()
    assert fields["task_description"] == REQUEST.task_description
    assert fields["current_prompt"] == "Present."
    assert fields["current_score"] == "40.0 of 100"
    assert "Change at most 17 words" in fields["word_budget"]
    assert fields["task_examples"] == "Example 1\nInput question: 1"
    assert "Failure 2\nInput question: 3" in fields["failures"]
    assert "variation 2 of 4" in fields["variation"]
    assert "placeholder" in fields["rules"]


def test_earlier_prompts_come_in_the_given_order_with_their_scores() -> None:
    shown = REQUEST.fields()["scored_prompts"]
    positions = [shown.index(part) for part in ("10.0 of 100", "Weak.", "60.0 of 100", "Strong.")]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"retrieved": ()}, "scored_prompts"),
        ({"examples": ()}, "task_examples"),
        ({"failures": ()}, "failures"),
        ({"variation": (1, 1)}, "variation"),
        ({}, "too_long"),
    ],
)
def test_what_is_empty_is_not_shown(change: dict[str, object], missing: str) -> None:
    request = replace(REQUEST, **change)  # type: ignore[arg-type]
    assert missing not in request.fields()
    assert (
        missing
        not in Question("generate", GeneratePrompt, request.fields()).shown_signature.input_fields
    )


def test_an_answer_sent_back_comes_with_its_count() -> None:
    fields = REQUEST.sent_back([("Much too long.", 20)]).fields()
    assert "changed 20 words, 3 too many" in fields["too_long"]
    assert "Much too long." in fields["too_long"]
    assert "too_long" not in REQUEST.fields()


def test_several_are_asked_for_in_fields_of_their_own() -> None:
    signature = replace(REQUEST, rewrites=3).instructing(EditPrompt)
    assert list(signature.output_fields) == [
        "improved_prompt", "improved_prompt_2", "improved_prompt_3"
    ]  # fmt: skip
    assert signature.instructions.endswith(SEVERAL.format(rewrites=3))
    assert REQUEST.instructing(EditPrompt) is EditPrompt
    request = replace(REQUEST, rewrites=2, variation=(3, 6), trials=((0,), (1,)))
    assert "variations 3 to 4 of 6" in request.fields()["variation"]
    alone = request.alone(1)
    assert alone.instructing(EditPrompt) is EditPrompt
    assert "variation 4 of 6" in alone.fields()["variation"]
    assert alone.failures == REQUEST.failures
    assert request.alone(1, fewer_failures=True).failures == REQUEST.failures[1:]
    again = request.sent_back([("A", 20), ("B", 30)])
    assert again.instructing(EditPrompt).instructions.endswith(SEVERAL_AGAIN.format(rewrites=2))
    assert "variation" not in again.fields()


def test_requests_of_one_step_differ() -> None:
    requests = [replace(REQUEST, variation=(n, 4)).fields() for n in range(1, 5)]
    assert len({str(request) for request in requests}) == 4


@pytest.mark.parametrize("style", [GeneratePrompt, EditPrompt])
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()])
def test_the_request_fits_every_adapter(style: type[dspy.Signature], adapter: dspy.Adapter) -> None:
    replies = {
        dspy.ChatAdapter: "[[ ## improved_prompt ## ]]\nBetter.",
        dspy.JSONAdapter: '{"improved_prompt": "Better."}',
        dspy.XMLAdapter: "<improved_prompt>Better.</improved_prompt>",
    }
    fields = REQUEST.fields()
    lm = scripted_lm(lambda prompted: replies[type(adapter)])
    with dspy.context(lm=lm, adapter=adapter):
        answer = dspy.Predict(Question("generate", style, fields).shown_signature)(**fields)
    assert answer.improved_prompt == "Better."
    asked = lm.engine.prompts[0]
    for text in fields.values():
        assert text.splitlines()[0] in asked.user
    assert style.instructions.splitlines()[0] in asked.system


def test_generate_and_edit_ask_for_different_things() -> None:
    assert "new prompt" in GeneratePrompt.instructions
    assert "edit the current prompt" in EditPrompt.instructions
    assert list(GeneratePrompt.fields) == list(EditPrompt.fields)


@pytest.mark.parametrize(
    ("score", "shown"), [(0.0, "0.0 of 100"), (0.625, "62.5 of 100"), (1.0, "100.0 of 100")]
)
def test_scores_are_read_in_percent(score: float, shown: str) -> None:
    assert percent(score) == shown


def test_shortening_keeps_both_ends() -> None:
    text = "begin" + "x" * 5 * LONGEST_VALUE + "end"
    short = shorten(text)
    assert short.startswith("begin")
    assert short.endswith("end")
    assert len(short) < LONGEST_VALUE + 50
    assert shorten("x" * LONGEST_VALUE) == "x" * LONGEST_VALUE


def test_a_direction_in_words_is_shown_and_referred_to() -> None:
    assert REQUEST.instructing(EditPrompt) is EditPrompt
    for values, section, said in (
        ({"summary": "Sorting helps."}, "trajectory_summary", FOLLOW_SUMMARY),
        ({"reflection": "It is vague."}, "reflection", FOLLOW_REFLECTION),
    ):
        request = replace(REQUEST, **values)  # type: ignore[arg-type]
        assert request.fields()[section] in values.values()
        assert section not in REQUEST.fields()
        told = request.instructing(EditPrompt).instructions
        assert told == f"{EditPrompt.instructions} {said}"

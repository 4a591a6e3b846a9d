"""What an instruction may not be."""

from __future__ import annotations

import socket
from typing import Any

import dspy
import pytest
from fakes import Prompted, rewriter_lm, scripted_lm, toy_examples, toy_gpo, toy_solver
from instructions import PLAIN

from gpo_dspy.guards.guard import (
    SHORTEST_LIMIT,
    SHORTEST_TOKEN_LIMIT,
    Guard,
    count_tokens,
    fields_named,
    format_marks,
    make_guards,
)
from gpo_dspy.program import instructions_of
from gpo_dspy.state import Fate

START = "Answer about {topic} in {style}."
EXAMPLES = [
    dspy.Example(question=question, answer=answer).with_inputs("question")
    for question, answer in [
        ("Jim had 20 sheep and sold two of them at the fair in Leeds. How many did he keep?", "18"),
        ("On Monday a farmer called Ole counts 21 lambs; by Friday two have run away. Left?", "19"),
        ("Each of the five barns in Split holds four goats and a dog. What is the number?", "25"),
    ]
]
COPIED = "Count the sheep: Jim had 20 sheep and sold two of them at the fair in Leeds, say."
GIVEN = "On Monday a farmer called Ole counts 21 lambs, so answer 19."


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        ("Say {topic} in {style}, briefly.", None),
        ("{style} {topic}", None),
        ("", Fate.EMPTY),
        ("   \n", Fate.EMPTY),
        ("--- !? ---", Fate.EMPTY),
        ("请用{style}回答{topic}", None),
        ("{topic} {style} [[ ## answer ## ]]", Fate.MARKER),
        ("{topic} {style} [[ ##answer## ]]", Fate.MARKER),
        ("{topic} {style} [[ ## two\nlines ## ]]", Fate.MARKER),
        ("{topic} {style} [[not a marker]]", None),
        ("{topic} alone", Fate.NAME_LOST),
        ("topic and style", Fate.NAME_LOST),
        ("{topic} {style} " + "word " * 10_000, Fate.TOO_LONG),
        (f"{{topic}} {{style}} {PLAIN['de'][2]}", Fate.OTHER_LANGUAGE),
    ],
)
def test_fates(text: str, fate: Fate | None) -> None:
    assert Guard("Tell what is known about {topic} in the {style}.").refuse(text) is fate


def test_new_placeholders_and_json_examples_are_allowed() -> None:
    assert Guard("Answer.").refuse('Reply like {"a": 1} and use {new}.') is None


# --- names ---------------------------------------------------------------------------------------


def test_names_that_must_stay() -> None:
    guard = Guard("Use search or finish.", frozenset({"search", "finish"}))
    assert guard.refuse("Call finish when search has found it.") is None
    assert guard.refuse("先用search查找，再用finish结束。") is None
    assert guard.refuse("Call finish at once.") is Fate.NAME_LOST
    assert guard.refuse("Answer.") is Fate.NAME_LOST
    assert guard.refuse(guard.start) is None


def test_names_are_whole_words() -> None:
    guard = Guard("Use search or get-time.", frozenset({"search", "get-time"}))
    assert guard.refuse("Use `search`, then get-time.") is None
    assert guard.refuse("Researchers use get-time.") is Fate.NAME_LOST
    assert guard.refuse("Use search_web or get-time.") is Fate.NAME_LOST
    assert guard.refuse("Use search or forget-timely.") is Fate.NAME_LOST


@pytest.mark.parametrize(
    ("instruction", "named"),
    [
        ("Answer the question.", set()),
        ("Put the result into `answer`.", {"answer"}),
        ('Fill "answer" from the question.', {"answer"}),
        ("Give the **answer** and final_score.", {"answer", "final_score"}),
        ("Give final_scores.", set()),
        ("Given the fields `question`, produce the fields `answer`, `final_score`.", set()),
        (
            "Given the fields `question`, produce the fields `answer`. Fill `answer` last.",
            {"question", "answer"},
        ),
        ("", set()),
    ],
)
def test_fields_are_named_as_such_or_not(instruction: str, named: set[str]) -> None:
    signature = dspy.Signature("question -> answer, final_score")
    assert fields_named(signature, instruction) == named


# --- the output format ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "marks"),
    [
        ("Put it in <answer></answer> tags.", {"<answer>", "</answer>"}),
        ("End with #### 42.", {"####"}),
        ("End with `###` and the number.", {"###"}),
        ("#### Rules\nBe brief.", set()),
        ("Finish with \\boxed{4}.", {"\\boxed"}),
        ('End with "Answer: X".', {"Answer:"}),
        ("Rate it as [[rating]].", {"[[rating]]"}),
        ("<role>You are careful.</role>\nAnswer.", set()),
        ("<rules>\nUse <b> for names.\n</rules>", {"<b>"}),
        ("a < b and c > d", set()),
        ("Note: be brief.", set()),
    ],
)
def test_marks_of_the_output_format(instruction: str, marks: set[str]) -> None:
    assert format_marks(instruction) == marks
    guard = Guard(instruction)
    assert guard.refuse(f"Think first. {instruction}") is None
    assert guard.refuse("Think first, then say it.") is (Fate.FORMAT_LOST if marks else None)


# --- length --------------------------------------------------------------------------------------


def test_the_length_limit_grows_with_the_students_own_instruction() -> None:
    assert Guard("short").length_limit == SHORTEST_LIMIT
    long = "x" * SHORTEST_LIMIT
    assert Guard(long).length_limit == 4 * SHORTEST_LIMIT
    assert Guard(long).refuse(long * 3) is None
    assert Guard(long).refuse(long * 5) is Fate.TOO_LONG


@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "x/llama-3-8b"])
def test_tokens_are_counted_without_a_network(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was opened")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    count_tokens.cache_clear()
    assert 5_000 <= (count_tokens(model, "Count the words, please. " * 1_000) or 0) <= 8_000


def test_the_limit_is_in_tokens_where_there_is_a_model() -> None:
    word = "counterrevolutionaries "  # few tokens for its many letters
    text = word * (SHORTEST_LIMIT // len(word) + 1)
    assert Guard("short").refuse(text) is Fate.TOO_LONG
    assert Guard("short", model="openai/gpt-4o").refuse(text) is None
    assert (count_tokens("openai/gpt-4o", text) or 0) < SHORTEST_TOKEN_LIMIT
    dense = "Ω≈ç√∫ " * 1_000
    assert len(dense) < SHORTEST_LIMIT
    assert Guard("short", model="openai/gpt-4o").refuse(dense) is Fate.TOO_LONG
    assert Guard(dense, model="openai/gpt-4o").refuse(f"{dense} and more") is None
    assert Guard("short", model="openai/gpt-4o").refuse("x " * 100_000) is Fate.TOO_LONG


def test_halves_of_surrogate_pairs_do_no_harm() -> None:
    assert Guard("short", model="openai/gpt-4o").refuse("word \ud800 " * 300) is None


def test_where_tokens_cannot_be_counted_letters_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpo_dspy.guards.guard.count_tokens", lambda model, text: None)
    guard = Guard("short", model="openai/gpt-4o")
    assert guard.refuse("word " * 1_500) is None
    assert guard.refuse("word " * 1_700) is Fate.TOO_LONG


# --- copies --------------------------------------------------------------------------------------


def _guard(**options: Any) -> Guard:
    student = dspy.Predict(dspy.Signature("question -> answer", "Answer the question about sheep."))
    return make_guards(student, instructions_of(student), EXAMPLES, **options)["self"]


def test_examples_are_not_copied_nor_their_answers_given() -> None:
    guard = _guard()
    assert guard.refuse("Count what is left after the sale, and give the number.") is None
    assert guard.refuse(COPIED) is Fate.EXAMPLE_COPIED
    assert guard.refuse(GIVEN) is Fate.ANSWER_GIVEN


def test_what_the_prompt_it_was_written_from_says_may_be_said_again() -> None:
    guard = _guard()
    assert guard.refuse(f"{COPIED} Be brief.", COPIED) is None
    assert guard.refuse(f"{COPIED} {GIVEN}", COPIED) is Fate.ANSWER_GIVEN
    own = Guard(COPIED, copies=guard.copies)
    assert own.refuse(f"{COPIED} Be brief.") is None


def test_examples_may_be_allowed() -> None:
    guard = _guard(allow_examples=True)
    assert guard.refuse(COPIED) is None
    assert guard.refuse(GIVEN) is None


# --- language ------------------------------------------------------------------------------------


def test_the_language_is_that_of_the_students_instruction() -> None:
    guard = _guard()
    assert guard.refuse(PLAIN["en"][5]) is None
    assert guard.refuse(PLAIN["fr"][2]) is Fate.OTHER_LANGUAGE


def test_the_language_may_be_asked_for() -> None:
    guard = _guard(language="German")
    assert guard.refuse(PLAIN["de"][2]) is None
    assert guard.refuse(PLAIN["en"][2]) is Fate.OTHER_LANGUAGE
    assert guard.refuse(guard.start) is None, "the student's own always passes"


def test_where_the_students_language_is_not_clear_every_language_passes() -> None:
    assert Guard("OK").refuse(PLAIN["fr"][2]) is None


# --- all together --------------------------------------------------------------------------------


def test_the_students_own_instruction_always_passes() -> None:
    for start in (START, "x" * 50_000, COPIED, *(texts[0] for texts in PLAIN.values())):
        assert Guard(start).refuse(start) is None


def test_each_predictor_has_its_guard() -> None:
    def lookup(query: str) -> str:
        return query

    program = dspy.ReAct("question -> answer", tools=[lookup])
    guards = make_guards(program, instructions_of(program), EXAMPLES)
    assert set(guards) == {"react", "extract.predict"}
    assert guards["react"].names >= {"lookup", "finish"}
    assert not guards["extract.predict"].names
    assert guards["react"].copies is guards["extract.predict"].copies


def test_only_texts_that_passed_are_usable() -> None:
    usable = {fate for fate in Fate if fate.usable}
    assert usable == {
        Fate.KEPT,
        Fate.SHORTENED,
        Fate.CLIPPED,
        Fate.OVER_BUDGET,
        Fate.RECALLED,
    }


def test_refusals_are_counted_and_what_was_refused_is_not_tried() -> None:
    train = toy_examples(24)
    copied = " ".join(f"{e.question} is {e.answer}." for e in train[:2])
    wrote = [PLAIN["it"][2], f"Note that {copied}", "Mind [[ ## x ## ]]", "Use alpha and beta."]

    def rewriter(prompted: Prompted) -> Any:
        number = int(prompted.fields["variation"].split()[3])
        return {"improved_prompt": wrote[number - 1]}

    student = dspy.Predict(dspy.Signature("question -> answer", "Say right and the item's number."))
    student.set_lm(scripted_lm(toy_solver))
    optimizer = toy_gpo(prompt_model=rewriter_lm(rewriter), max_metric_calls=70, on_excess="accept")
    result = optimizer.compile(student, trainset=train).detailed_results
    first = [candidate.rewrite.fate for candidate in result.records[0].candidates]
    assert first == [Fate.OTHER_LANGUAGE, Fate.ANSWER_GIVEN, Fate.MARKER, Fate.KEPT]
    assert result.fates["OTHER_LANGUAGE"] == result.fates["ANSWER_GIVEN"] == len(result.records)
    assert "gives away the answer of an example" in str(result)
    assert {prompt.text for prompt in result.trajectories["self"]} == {
        student.signature.instructions,
        wrote[3],
    }


def test_the_prompt_model_is_told_the_language() -> None:
    prompt_model = scripted_lm(lambda _: {"improved_prompt": PLAIN["de"][0]})
    student = dspy.Predict("question -> answer")
    student.set_lm(scripted_lm(toy_solver))
    optimizer = toy_gpo(
        prompt_model=prompt_model, language="de", on_excess="accept", max_metric_calls=60
    )
    result = optimizer.compile(student, trainset=toy_examples(24)).detailed_results
    assert all("- Write in German." in p.fields["rules"] for p in prompt_model.engine.prompts)
    assert "OTHER_LANGUAGE" not in result.fates

"""What the simulated rewriter reads, and what it writes."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import dspy
import pytest

from gpo_dspy.direction.reflection import ReflectOnFailures
from gpo_dspy.direction.summary import SummarizeTrajectory
from gpo_dspy.prompt_model import Question
from gpo_dspy.sandbox.provider import replies
from gpo_dspy.sandbox.reading import read
from gpo_dspy.sandbox.rewriting import is_meta
from gpo_dspy.sandbox.rewriting.credit import learn
from gpo_dspy.sandbox.rewriting.ideas import idea
from gpo_dspy.sandbox.rewriting.meta import Brief, understand
from gpo_dspy.sandbox.rewriting.phrases import topic
from gpo_dspy.sandbox.rewriting.reflection import read_reflection
from gpo_dspy.sandbox.rewriting.summary import read_summary
from gpo_dspy.sandbox.rewriting.symptoms import Case, symptom

SORT = "Sort the following words alphabetically: List: "
FAILURES = "\n\n".join(
    f"Failure {i}\nInput question: {SORT}fig pear fig kiwi\nOutput answer: fig kiwi pear\n"
    "Expected answer: fig fig kiwi pear"
    for i in (1, 2, 3)
)
FIELDS = {
    "task_description": "Answers questions.",
    "scored_prompts": "Prompt 1, score 30.0 of 100:\n<prompt>\nSort.\n</prompt>\n\n"
    "Prompt 2, score 41.7 of 100:\n<prompt>\nSort. Check the result.\n</prompt>",
    "current_prompt": "Sort the words.",
    "current_score": "53.1 of 100",
    "failures": FAILURES,
    "word_budget": "Change at most 20 words of the current prompt.",
}


def messages(fields: dict[str, str], variation: int = 0) -> list[dict[str, Any]]:
    values = {**fields, "variation": f"This is variation {variation} of 400."}
    signature = dspy.Signature(f"{', '.join(values)} -> improved_prompt", "Improve the prompt.")
    return list(dspy.ChatAdapter().format(signature, [], values))


def rewrites(fields: dict[str, str], count: int = 150) -> list[str]:
    signature = dspy.Signature("x -> improved_prompt")
    said = [replies("rewriter", messages(fields, i))[0] for i in range(count)]
    return [dspy.ChatAdapter().parse(signature, text)["improved_prompt"] for text in said]


def brief(prompt: str | list[dict[str, Any]]) -> Brief:
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    request = read(asked)
    assert is_meta(request)
    return understand(request)


def added(texts: list[str]) -> Counter[str]:
    lines = [line for text in texts for line in text.replace("Sort the words.", "").split(". ")]
    return Counter(topic(line) for line in lines)


def test_the_meta_prompt_of_gpo_is_read() -> None:
    found = brief(messages(FIELDS))
    assert found.current == "Sort the words."
    assert found.budget == 20
    assert dict(found.scored) == {
        "Sort.": 30.0,
        "Sort. Check the result.": 41.7,
        "Sort the words.": 53.1,
    }
    assert [symptom(case) for case in found.cases] == ["repeats missing"] * 3


def test_the_prompt_of_gepa_is_read() -> None:
    found = brief(
        "I provided an assistant with the following instructions to perform a task for me:\n"
        "```\nSort the words.\n```\n\nThe following are examples with feedback:\n```\n"
        "# Example 1\n## Inputs\n### question\nSort: b a\n\n## Generated Outputs\n### answer\nb\n\n"
        "## Feedback\nWrong. Expected 'a b' but got 'b'.\n\n```\n\n"
        "Provide the new instructions within ``` blocks."
    )
    assert found.current == "Sort the words."
    assert [(c.given, c.output, c.expected) for c in found.cases] == [
        ("### question\nSort: b a".removeprefix("### question\n"), "b", "a b")
    ]


def test_records_in_json_are_read() -> None:
    records = [{"Inputs": {"q": "x"}, "Generated Outputs": {"reasoning": "r", "answer": "8"},
                "Feedback": "The correct answer is '9'."}]  # fmt: skip
    fields = {"current_instruction": "Add.", "examples_with_feedback": json.dumps(records)}
    signature = dspy.Signature(f"{', '.join(fields)} -> new_instruction")
    found = brief(list(dspy.JSONAdapter().format(signature, [], fields)))
    assert (found.current, [(c.output, c.expected) for c in found.cases]) == ("Add.", [("8", "9")])


def test_attempts_of_copro_are_read() -> None:
    attempts = ["Instruction #1: Sort.", "Prefix #1: A:", "Resulting Score #1: 15.0",
                "Instruction #2: Sort words.", "Resulting Score #2: 40.0"]  # fmt: skip
    signature = dspy.Signature("attempted_instructions -> proposed_instruction")
    values = {"attempted_instructions": attempts}
    found = brief(list(dspy.ChatAdapter().format(signature, [], values)))
    assert dict(found.scored) == {"Sort.": 15.0, "Sort words.": 40.0}
    assert found.current == "Sort words."


@pytest.mark.parametrize(
    ("output", "expected", "name"),
    [
        ("b a", "a b", "order"),
        ("a b", "a a b", "repeats missing"),
        ("a b", "a b c", "missing"),
        ("a, b", "a b", "separators"),
        ("The list is: a b", "a b", "around"),
        ("4", "7", "too small"),
        ("9", "7", "too large"),
        ("seven", "7", "form"),
        ("True", "False", "opposite"),
        ("Yes", "True", "form"),
        ("03/02/2020", "02/03/2020", "parts swapped"),
        ("02/04/2020", "02/03/2020", "day off"),
        ("02/03/2020", "02/03/2021", "year off"),
    ],
)
def test_symptoms(output: str, expected: str, name: str) -> None:
    assert symptom(Case("", output, expected)) == name


def test_failures_direct_the_advice() -> None:
    seen = added(rewrites(FIELDS))
    hidden = added(rewrites({k: v for k, v in FIELDS.items() if k != "failures"}))
    assert seen["duplicates"] > 2 * max(1, hidden["duplicates"])


def test_feedback_raises_the_chance_of_the_right_guess() -> None:
    vague = "\n\n".join(
        "Failure 1\nInput question: not not True and ( False or True ) is\nOutput answer: False\n"
        f"Expected answer: True{comment}"
        for comment in ("", "")
    )
    hinted = vague.replace("answer: True", "answer: True\nFeedback: The parentheses were ignored.")
    plain, told = (added(rewrites({**FIELDS, "failures": f})) for f in (vague, hinted))
    assert told["parentheses"] > plain["parentheses"]


def test_most_rewrites_keep_to_a_small_budget() -> None:
    fields = {**FIELDS, "word_budget": "Change at most 8 words of the current prompt."}
    start = Counter(FIELDS["current_prompt"].split())
    changed = [sum((Counter(text.split()) - start).values()) for text in rewrites(fields)]
    assert 0.75 < sum(words <= 8 for words in changed) / len(changed) < 1
    warned = {**fields, "too_long": "This answer changed 40 words."}
    again = [sum((Counter(text.split()) - start).values()) for text in rewrites(warned)]
    assert sum(words <= 8 for words in again) > sum(words <= 8 for words in changed)


def test_examples_are_not_copied() -> None:
    assert not any("kiwi" in text for text in rewrites(FIELDS))


def test_silly_replies_are_rare_but_happen() -> None:
    texts = rewrites(FIELDS, 400)
    silly = [t for t in texts if not t or t[0] == '"' or t.startswith("Here is")]
    assert 0 < len(silly) < 20


def test_same_request_same_rewrite() -> None:
    assert rewrites(FIELDS, 20) == rewrites(FIELDS, 20)
    assert len(set(rewrites(FIELDS, 20))) > 10


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Be concise.", "Keep answers short and concise"),
        ("Ignore upper case", "Capital letters do not come first."),
        ("Make sure to use step-by-step reasoning.", "Think step by step."),
        ("Remove all duplicates", "List each unique word once."),
        ("Work from the innermost bracket", "Use a stack: last opened, first closed."),
    ],
)
def test_an_idea_is_recognised_in_other_words(one: str, other: str) -> None:
    assert idea(one) == idea(other) != one


def test_opposites_and_the_unknown_are_no_idea_of_the_stock() -> None:
    assert idea("Remove duplicates.") != idea("Do not remove duplicates.")
    assert idea("Sort the words.") == "Sort the words."


def test_ideas_get_credit_from_scores_however_they_are_worded() -> None:
    both = "A. Preserve every repetition of a word. Find a creative way to the solution."
    prompts = ("A.", "A. Keep duplicate words.", "A. Be creative.", both)
    lessons = learn(list(zip(prompts, (40.0, 60.0, 20.0, 40.0), strict=True)), "A.")
    assert lessons.credit["duplicates"] > 5
    assert lessons.credit["creative"] < -5
    assert abs(lessons.credit["A."]) < 1e-6
    assert lessons.vain == {"creative"}


def test_what_brought_nothing_was_tried_in_vain() -> None:
    scored = [("Be brief.", 20.0), ("A. Answer briefly, in one word.", 40.0), ("A.", 40.0)]
    assert learn(scored, "A.").vain == {idea("Be brief."), "brief"}


def test_equal_scores_teach_nothing() -> None:
    assert not learn([("A.", 40.0), ("A. Be creative.", 40.0)], "A.").any
    assert not learn([("A.", 40.0)], "A.").any


def test_sentences_with_bad_credit_go_and_good_ones_come() -> None:
    blocks = (("Sort.", 40.0), ("Sort. Keep duplicate words.", 60.0), ("Sort. Be creative.", 20.0))
    shown = "\n\n".join(
        f"Prompt {i}, score {score} of 100:\n<prompt>\n{text}\n</prompt>"
        for i, (text, score) in enumerate(blocks, 1)
    )
    fields = {"scored_prompts": shown, "current_prompt": "Sort. Be creative.",
              "current_score": "20.0 of 100"}  # fmt: skip
    texts = rewrites(fields)
    assert sum("Keep duplicate words." in t for t in texts) > 60
    assert sum("Be creative." in t for t in texts) < 60


def test_rewriting_is_fast() -> None:
    asked = messages(FIELDS)
    replies("rewriter", asked)
    started = time.perf_counter()
    for _ in range(50):
        replies("rewriter", asked)
    assert (time.perf_counter() - started) / 50 < 0.02


def test_attempts_of_copro_teach_what_helps() -> None:
    texts = ["Sort.", "Sort. Be creative.", "Sort. Find a creative way to the solution.",
             "Sort. Keep duplicate words."]  # fmt: skip

    def proposed(scores: list[float], key: str) -> int:
        lines = [f"Instruction #{i}: {t}\nPrefix #{i}: A:\nResulting Score #{i}: {s}"
                 for i, (t, s) in enumerate(zip(texts, scores, strict=True), 1)]  # fmt: skip
        fields = {"attempted_instructions": "\n".join(lines), "basic_instruction": "Sort."}
        return added(rewrites(fields, 100))[key]

    assert proposed([40.0, 20.0, 25.0, 60.0], "duplicates") > 70
    assert proposed([40.0, 20.0, 25.0, 60.0], "creative") <= proposed([40.0] * 4, "creative")
    assert proposed([40.0] * 4, "duplicates") < 30


# --- the direction in words -----------------------------------------------------------------------


def told(signature: type[dspy.Signature], fields: dict[str, str]) -> str:
    question = Question("", signature, fields)
    asked = dspy.ChatAdapter().format(question.shown_signature, [], fields)
    assert is_meta(read(asked))
    said = replies("rewriter", list(asked))[0]
    return str(dspy.ChatAdapter().parse(question.signature, said)[question.outputs[0]])


def scored(*prompts: tuple[str, float]) -> str:
    return "\n\n".join(
        f"Prompt {i}, score {score} of 100:\n<prompt>\n{text}\n</prompt>"
        for i, (text, score) in enumerate(prompts, 1)
    )


TRIED = {
    "scored_prompts": scored(
        ("Sort. Be creative.", 20.0),
        ("Sort. Verify the solution before answering.", 40.0),
        ("Sort. Keep duplicate words.", 60.0),
    ),
    "current_prompt": "Sort.",
    "current_score": "40.0 of 100",
    "length": "At most 200 words.",
}


def points(summary: str) -> dict[str, float]:
    return {name: found.points for name, found in read_summary(summary).items()}


def test_a_summary_says_what_scores_tell_about_single_sentences() -> None:
    found = points(told(SummarizeTrajectory, TRIED))
    assert found["duplicates"] > 5
    assert found["creative"] < -5
    assert found["verify"] == 0


def test_a_summary_is_carried_on_and_corrected() -> None:
    first = told(SummarizeTrajectory, TRIED)
    better, worse = "Sort. Give only the final answer.", "Sort. Keep duplicate words."
    news = scored((better, 70.0), (worse, 30.0))
    second = told(SummarizeTrajectory, {**TRIED, "scored_prompts": news, "former_summary": first})
    before, after = points(first), points(second)
    assert after["creative"] == before["creative"]
    assert after["bare"] > 5
    assert after["duplicates"] < before["duplicates"]


def test_a_summary_of_equal_scores_says_that_it_says_nothing() -> None:
    fields = {**TRIED, "scored_prompts": scored(("Sort. Be brief.", 40.0))}
    assert points(told(SummarizeTrajectory, fields)) == {}
    assert told(SummarizeTrajectory, fields)


def test_a_summary_does_not_grow_without_end() -> None:
    fields = TRIED
    for score in range(30):
        prompts = [(f"Sort. Mind the {n}th thing of {score}.", 40.0 + n + score) for n in range(8)]
        summary = told(SummarizeTrajectory, {**fields, "scored_prompts": scored(*prompts)})
        fields = {**fields, "former_summary": summary}
        assert len(summary.split()) <= 200


def test_a_rewrite_follows_a_summary() -> None:
    fields = {"current_prompt": "Sort. Be creative.", "current_score": "20.0 of 100"}
    texts = rewrites({**fields, "trajectory_summary": told(SummarizeTrajectory, TRIED)})
    plain = rewrites(fields)
    assert sum("Keep duplicate words." in t for t in texts) > 60
    assert sum("Be creative." in t for t in texts) < 60 < sum("Be creative." in t for t in plain)


def test_a_reflection_names_what_the_failures_suggest() -> None:
    fields = {"current_prompt": "Sort the words.", "length": "At most 200 words."}
    named: Counter[str] = Counter()
    for number in range(60):
        shown = {**fields, "failures": FAILURES, "current_score": f"{number}.0 of 100"}
        found = read_reflection(told(ReflectOnFailures, shown))
        assert 0 < found.total() <= 3, "one cause of each failure"
        named.update(found)
    assert named.most_common(1)[0][0] in ("duplicates", "complete")
    assert len(named) > 5, "it is wrong at times"


def test_a_rewrite_follows_a_reflection() -> None:
    fields = {k: v for k, v in FIELDS.items() if k != "failures"}
    judged = "- 3 of 3 failures: the prompt should say: Separate the parts by single spaces."
    with_it, without = added(rewrites({**fields, "reflection": judged})), added(rewrites(fields))
    assert with_it["spaces"] > 100 > 2 * without["spaces"]


@pytest.mark.parametrize("section", ["trajectory_summary", "reflection"])
def test_a_text_of_someone_else_is_passed_over(section: str) -> None:
    texts = rewrites({**FIELDS, section: "Someone thinks that it could be better."})
    assert added(texts).keys() & added(rewrites(FIELDS)).keys()
    assert not any("Someone thinks" in text for text in texts)

"""What a person is shown: the word diff, the result, the progress."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import dspy
import pytest
from fakes import (
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
from rich.console import Console

from gpo_dspy import GPO, GPOResult
from gpo_dspy.program_state import Demo
from gpo_dspy.report import diff_text, show_result
from gpo_dspy.report.progress import Progress
from gpo_dspy.report.summary import STYLES

SENTENCES = st.lists(
    st.sampled_from(["Sort.", "Keep all, too.", "Be brief.", "Say why."]), max_size=5
)


def without(style: str, before: str, after: str) -> str:
    text = diff_text(before, after)
    hidden = {i for s in text.spans if s.style == STYLES[style] for i in range(s.start, s.end)}
    return "".join(c for i, c in enumerate(text.plain) if i not in hidden)


@given(SENTENCES, SENTENCES)
def test_a_diff_shows_both_texts(one: list[str], other: list[str]) -> None:
    before, after = " ".join(one), " ".join(other)
    assert without("delete", before, after).split() == after.split()
    assert without("insert", before, after).split() == before.split()


def test_a_word_whose_punctuation_moved_is_not_shown_as_changed() -> None:
    assert (
        diff_text("Give `answer`.", "Give `answer`. Check it.").plain == "Give `answer`. Check it."
    )


@pytest.fixture(scope="module")
def result() -> GPOResult:
    with dspy.context(lm=scripted_lm(toy_solver)):
        compiled = toy_gpo(max_metric_calls=300).compile(
            dspy.Predict("question -> answer"), trainset=toy_examples(60)
        )
    return compiled.detailed_results


def test_a_result_shows_prompts_scores_and_the_claim(result: GPOResult) -> None:
    shown = io.StringIO()
    show_result(result, Console(file=shown, width=300))
    for wanted in (
        *(text for _, text in (*result.start, *result.best)),
        str(result.claim),
        f"{result.metric_calls} metric calls",
        "the best of many",
    ):
        assert wanted in shown.getvalue()


def test_a_saved_result_is_loaded_equal_and_shown(result: GPOResult, tmp_path: Path) -> None:
    loaded = GPOResult.load(result.save(tmp_path / "result.json"))
    assert loaded == result
    consoles = [Console(file=io.StringIO(), width=100) for _ in range(2)]
    for console, each in zip(consoles, (loaded, result), strict=True):
        show_result(each, console)
    texts = [console.file.getvalue() for console in consoles]  # type: ignore[attr-defined]
    assert texts[0] == texts[1] != ""


@pytest.mark.parametrize(
    "content", [b"a letter", b"[]", b"3", b"{}", b'{"start": 3}', b"\xff\xfe", b'{"plan": null}']
)
def test_another_file_is_no_result(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other.json' holds no result .* GPOResult.save wrote"):
        GPOResult.load(path)
    with pytest.raises(FileNotFoundError):
        GPOResult.load(tmp_path / "none.json")


def test_demos_are_shown_with_where_they_come_from(result: GPOResult) -> None:
    demos = (
        Demo(0, '{"question": "1 + 1", "answer": "2"}', bootstrapped=True),
        Demo(1, '{"question": "3 + 4", "answer": "7"}'),
    )
    shown = io.StringIO()
    with_demos = replace(result, best_demos=(("self", demos),))
    show_result(with_demos, Console(file=shown, width=300))
    text = shown.getvalue()
    assert "from a run that went right" in text.split("question: 1 + 1")[0]
    assert "from the training set" in text.split("question: 1 + 1")[1].split("question: 3 + 4")[0]
    assert "The student's own prompt is returned" in text, "the demos are not"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_tells_plan_steps_and_outcome(terminal: bool, result: GPOResult) -> None:
    written = io.StringIO()
    progress = Progress(Console(file=written, force_terminal=terminal, width=200))
    with dspy.context(lm=scripted_lm(toy_solver)):
        toy_gpo(max_metric_calls=300, callbacks=[progress]).compile(
            dspy.Predict("question -> answer"), trainset=toy_examples(60)
        )
    text = written.getvalue()
    assert "GPO plan: up to 300 metric calls" in text
    assert "a better prompt, up to" in text
    assert "stopped: " in text
    assert ("metric calls · best" in text) is terminal, "the bar is for terminals"


def test_the_best_new_prompt_is_not_called_better_unless_it_is() -> None:
    written = io.StringIO()
    progress = Progress(Console(file=written, force_terminal=False, width=200))
    with dspy.context(lm=scripted_lm(lambda _: {"answer": "wrong"})):
        optimizer = GPO.paper(
            toy_metric,
            prompt_model=rewriter_lm(toy_rewriter),
            callbacks=[progress],
            verbose=False,
            epochs=1,
        )
        optimizer.compile(dspy.Predict("question -> answer"), trainset=toy_examples(32))
    assert "step 2: goes on with another prompt" in written.getvalue()
    assert "better prompt" not in written.getvalue()

"""What an instruction may not be."""

from __future__ import annotations

import pytest

from gpo_dspy.guards import SHORTEST_LIMIT, Guard
from gpo_dspy.state import Fate

START = "Answer about {topic} in {style}."


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
    ],
)
def test_fates(text: str, fate: Fate | None) -> None:
    assert Guard(START).refuse(text) is fate


def test_new_placeholders_and_json_examples_are_allowed() -> None:
    assert Guard("Answer.").refuse('Reply like {"a": 1} and use {new}.') is None


def test_names_that_must_stay() -> None:
    guard = Guard("Use search or finish.", frozenset({"search", "finish"}))
    assert guard.refuse("Call finish when search has found it.") is None
    assert guard.refuse("Call finish at once.") is Fate.NAME_LOST
    assert guard.refuse("Answer.") is Fate.NAME_LOST
    assert guard.refuse(guard.start) is None


def test_the_length_limit_grows_with_the_students_own_instruction() -> None:
    assert Guard("short").length_limit == SHORTEST_LIMIT
    long = "x" * SHORTEST_LIMIT
    assert Guard(long).length_limit == 4 * SHORTEST_LIMIT
    assert Guard(long).refuse(long * 3) is None
    assert Guard(long).refuse(long * 5) is Fate.TOO_LONG


def test_the_students_own_instruction_always_passes() -> None:
    for start in (START, "x" * 50_000):
        assert Guard(start).refuse(start) is None


def test_only_texts_that_passed_are_usable() -> None:
    usable = {fate for fate in Fate if fate.usable}
    assert usable == {Fate.KEPT, Fate.SHORTENED, Fate.CLIPPED, Fate.OVER_BUDGET}

"""What an instruction may not be."""

from __future__ import annotations

import pytest

from gpo_dspy.guards import SHORTEST_LIMIT, length_limit, refuse
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
        ("{topic} alone", Fate.PLACEHOLDER_LOST),
        ("topic and style", Fate.PLACEHOLDER_LOST),
        ("{topic} {style} " + "word " * 10_000, Fate.TOO_LONG),
    ],
)
def test_fates(text: str, fate: Fate | None) -> None:
    assert refuse(text, start=START) is fate


def test_new_placeholders_and_json_examples_are_allowed() -> None:
    assert refuse('Reply like {"a": 1} and use {new}.', start="Answer.") is None


def test_the_length_limit_grows_with_the_students_own_instruction() -> None:
    assert length_limit("short") == SHORTEST_LIMIT
    long = "x" * SHORTEST_LIMIT
    assert length_limit(long) == 4 * SHORTEST_LIMIT
    assert refuse(long * 3, start=long) is None
    assert refuse(long * 5, start=long) is Fate.TOO_LONG


def test_the_students_own_instruction_always_passes() -> None:
    for start in (START, "x" * 50_000):
        assert refuse(start, start=start) is None


def test_only_texts_that_passed_are_usable() -> None:
    usable = {fate for fate in Fate if fate.usable}
    assert usable == {Fate.KEPT, Fate.SHORTENED, Fate.CLIPPED, Fate.OVER_BUDGET}

"""What the solver takes from an instruction."""

from __future__ import annotations

import pytest

from gpo_dspy.sandbox.dice import Dice
from gpo_dspy.sandbox.rewriting.phrases import ADVICE, word
from gpo_dspy.sandbox.solving.advice import attention_at, stances


@pytest.mark.parametrize(
    ("text", "concept", "sign"),
    [
        ("Remove duplicates.", "duplicates", -1),
        ("Do not remove duplicates.", "duplicates", 1),
        ("Never drop or merge repeated words.", "duplicates", 1),
        ("Keep duplicates.", "duplicates", 1),
        ("Don't keep duplicates.", "duplicates", -1),
        ("List words as often as they occur, without removing duplicates.", "duplicates", 1),
        ("Words that occur twice: write them twice.", "duplicates", 1),
        ("Sort by the first letter.", "all_letters", -1),
        ("Do not only compare the first letter.", "all_letters", 1),
        ("If first letters are equal, compare the second letter.", "all_letters", 1),
        ("Evaluate from left to right.", "precedence", -1),
        ("Do not just go from left to right.", "precedence", 1),
        ("Multiplication comes before addition.", "precedence", 1),
        ("Do not skip any word.", "complete", 1),
        ("Skip any word you find difficult.", "complete", -1),
        ("Answer with the number only.", "bare", 1),
        ("Do not add an explanation.", "bare", 1),
        ("Add an explanation to the answer.", "bare", -1),
        ("Sort case-insensitively: case must be ignored.", "ignore_case", 1),
        ("Do not ignore case.", "ignore_case", -1),
        ("Uppercase and lowercase are to be treated alike.", "ignore_case", 1),
    ],
)
def test_negation_is_understood(text: str, concept: str, sign: int) -> None:
    assert stances(text).get(concept) == sign


def test_a_contradiction_says_nothing() -> None:
    assert "duplicates" not in stances("Keep duplicates. Remove duplicates.")


def test_silence_says_nothing() -> None:
    assert dict(stances("Answer the question.")) == {}
    assert dict(stances("Given the fields `question`, produce the fields `answer`.")) == {}


def test_long_instructions_are_read_with_less_attention() -> None:
    filler = " The weather is nice today and the sea is calm and blue." * 20
    assert stances("Keep duplicates.")["duplicates"] == 1
    assert 0.4 <= stances("Keep duplicates." + filler)["duplicates"] < 0.9
    levels = [attention_at(words) for words in range(0, 1_000, 20)]
    assert levels == sorted(levels, reverse=True)
    assert attention_at(120) == 1


def test_most_wordings_of_the_rewriter_are_understood_but_not_all() -> None:
    said = [(key, text) for key, bank in ADVICE.items() for text in bank]
    understood = sum(stances(text).get(key, 0) > 0 for key, text in said)
    assert 0.8 < understood / len(said) < 0.98


def test_every_advice_has_a_wording_that_is_understood() -> None:
    for key in ADVICE:
        texts = {word(key, Dice(key, draw)) for draw in range(30)}
        assert len(texts) >= 4
        assert any(stances(text).get(key, 0) > 0 for text in texts), key

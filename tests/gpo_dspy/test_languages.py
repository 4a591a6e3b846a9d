"""The language of instructions: hardly ever a false alarm, hardly ever a miss."""

from __future__ import annotations

import pytest
from instructions import MIXED, PLAIN, TECHNICAL

from gpo_dspy.guards.languages import (
    LANGUAGES,
    as_code,
    in_another_language,
    language_name,
    language_of,
)

ALL = [
    (language, text)
    for texts in (PLAIN, TECHNICAL, MIXED)
    for language, own in texts.items()
    for text in own
]


def test_the_corpus_is_worth_its_name() -> None:
    assert len(ALL) >= 120
    assert len(PLAIN) >= 15


@pytest.mark.parametrize(("language", "text"), ALL)
def test_no_instruction_is_taken_for_another_language(language: str, text: str) -> None:
    assert language_of(text) in (None, language)
    assert not in_another_language(text, language)


@pytest.mark.parametrize("language", PLAIN)
def test_prose_is_told_from_every_other_language(language: str) -> None:
    others = [(own, text) for own, texts in PLAIN.items() for text in texts if own != language]
    missed = [own for own, text in others if not in_another_language(text, language)]
    assert len(missed) <= 1


@pytest.mark.parametrize("language", PLAIN)
def test_the_language_of_prose_is_known(language: str) -> None:
    assert {language_of(text) for text in PLAIN[language]} == {language}


@pytest.mark.parametrize(
    "text",
    ["", "A", "OK.", "1 + 2 = 3", "{question}", "`question` -> `answer`", "x" * 10_000, "🙂 🙃",
     "SELECT a FROM b;", "\ud800 lone surrogate", "答え", "foo_bar baz2 qux_1 quux_2 corge_3"],
)  # fmt: skip
def test_of_what_is_no_prose_nothing_is_said(text: str) -> None:
    assert language_of(text) is None
    assert not any(in_another_language(text, language) for language in ("en", "de", "zh"))


def test_a_text_that_changes_its_language_passes() -> None:
    both = f"{PLAIN['en'][2]} {PLAIN['de'][2]}"
    assert not in_another_language(both, "en")
    assert not in_another_language(both, "de")
    assert in_another_language(both, "fr")
    assert language_of(both) is None


def test_what_is_quoted_does_not_count() -> None:
    english, german = PLAIN["en"][2], PLAIN["de"][2]
    for quoted in (f'"{german}"', f"„{german}“", f"`{german}`", f"```\n{german}\n```"):
        assert language_of(f"{english} {quoted}") == "en"


@pytest.mark.parametrize(
    ("given", "code"),
    [("German", "de"), ("german ", "de"), ("de", "de"), ("DE", "de"), ("de-CH", "de"),
     ("pt_BR", "pt"), ("Chinese", "zh"), ("zh-Hans", "zh")],
)  # fmt: skip
def test_a_language_is_given_by_name_or_code(given: str, code: str) -> None:
    assert as_code(given) == code
    assert language_name(given) == LANGUAGES[code]


@pytest.mark.parametrize("given", ["Klingon", "", "deutsch", "x-de", "germanic"])
def test_an_unknown_language_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"language must be .*German.*found"):
        as_code(given)

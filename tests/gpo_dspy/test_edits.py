"""Words are counted in every script, and an edit never exceeds its budget."""

from __future__ import annotations

import doctest
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpo_dspy import edits as package
from gpo_dspy.edits import clip, word_diff, words, words_changed

PIECES = [
    *("sort", "Sort", "the", "words", "don't", "3.14", "snake_case", "a", "b", "(", ")", '"', "`"),
    *(". ", ".", "! ", ", ", "; ", ": ", " ", "\n", "\n\n", "- ", "_", "…", "'"),
    *("我们", "排序", "。", ",", "单词", "ひらがな", "カタカナ"),
    *("สวัสดี", "ครับ", "เรียง", "คำ", "ๆ", "ສະບາຍດີ", "ខ្ញុំ", "ကျွန်တော်"),
    *("👩‍👩‍👧‍👦", "👍🏽", "🇫🇷", "🇩🇪", "❤️", "1️⃣", "\u200d", "\u0301"),
    *("مرحبا", "؟ ", "، ", "שלום", "नमस्ते", "। ", "안녕하세요"),
]
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.text(max_size=40),
)
NAMES = ["red", "green", "blue", "one", "two", "three"]
sentences = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=6).map(
        lambda found: " ".join(found).capitalize() + ". "
    ),
    max_size=8,
).map("".join)


def slow_words_changed(before: list[str], after: list[str]) -> int:
    """The textbook recurrence of Wagner and Fischer."""
    table = [[i + j for j in range(len(after) + 1)] for i in range(len(before) + 1)]
    for i, old in enumerate(before, start=1):
        for j, new in enumerate(after, start=1):
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (old != new),
            )
    return table[-1][-1]


class TestWords:
    """Unicode words; punctuation and whitespace are none."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", []),
            (" \n\t .,;!? -- () ", []),
            ("Don't stop, ever!", ["Don't", "stop", "ever"]),
            ("well-known e-mail", ["well", "known", "e", "mail"]),
            ("pay 1,000.50 by 12:30", ["pay", "1,000.50", "by", "12", "30"]),
            ("return x.y_z(snake_case, camelCase)", ["return", "x.y_z", "snake_case", "camelCase"]),
            ("if a == b: c += 1", ["if", "a", "b", "c", "1"]),
            ("我们排序。", ["我", "们", "排", "序"]),
            ("カタカナとABC", ["カタカナ", "と", "ABC"]),
            ("안녕하세요 세계", ["안녕하세요", "세계"]),
            ("สวัสดีครับ ผมชื่อjohn", ["สวัสดี", "ครับ", "ผม", "ชื่อ", "john"]),
            ("จงสรุปข้อความให้สั้น", ["จง", "สรุป", "ข้อความ", "ให้", "สั้น"]),
            ("مرحبا بالعالم، كيف الحال؟", ["مرحبا", "بالعالم", "كيف", "الحال"]),
            ("שלום עולם", ["שלום", "עולם"]),
            ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
            ("👩‍👩‍👧‍👦👍🏽 ok ❤️", ["👩‍👩‍👧‍👦", "👍🏽", "ok", "❤️"]),
            ("🇫🇷🇩🇪 1️⃣", ["🇫🇷", "🇩🇪", "1️⃣"]),
        ],
    )
    def test_by_script(self, text: str, expected: list[str]) -> None:
        assert words(text) == expected

    @pytest.mark.parametrize("text", ["ខ្ញុំស្រលាញ់អ្នក", "ສະບາຍດີ", "ကျွန်တော်"])
    def test_scripts_without_a_model_count_syllables_and_lose_nothing(self, text: str) -> None:
        assert 1 < len(words(text)) <= len(text)
        assert "".join(words(text)) == text

    @given(text=texts)
    def test_are_parts_of_the_text_in_order(self, text: str) -> None:
        position = 0
        for word in words(text):
            position = text.index(word, position) + len(word)


class TestWordsChanged:
    """The word-level Levenshtein distance is a metric on the words."""

    @pytest.mark.parametrize(
        ("before", "after", "changed"),
        [
            ("", "", 0),
            ("", "one two", 2),
            ("Sort the words.", "Sort the words!", 0),
            ("Sort the words.", "sort the words.", 1),
            ("Sort the words.", "Sort all the words alphabetically.", 2),
            ("a b c", "c b a", 2),
            ("我们排序单词", "我们排列单词", 1),
            ("จงสรุปข้อความให้สั้น", "จงสรุปข้อความให้ยาว", 1),
            ("go 👩‍👩‍👧‍👦", "go 👩‍👩‍👧", 1),
        ],
    )
    def test_examples(self, before: str, after: str, changed: int) -> None:
        assert words_changed(before, after) == changed

    @given(before=texts, after=texts)
    def test_equals_the_textbook(self, before: str, after: str) -> None:
        assert words_changed(before, after) == slow_words_changed(words(before), words(after))

    @given(before=texts, after=texts)
    def test_is_symmetric_and_zero_exactly_for_equal_words(self, before: str, after: str) -> None:
        assert words_changed(before, after) == words_changed(after, before)
        assert (words_changed(before, after) == 0) == (words(before) == words(after))

    @given(a=texts, b=texts, c=texts)
    def test_keeps_the_triangle_inequality(self, a: str, b: str, c: str) -> None:
        assert words_changed(a, c) <= words_changed(a, b) + words_changed(b, c)


class TestWordDiff:
    """The hunks hold both texts, whole."""

    @given(before=texts, after=texts)
    def test_reassembles_both_texts(self, before: str, after: str) -> None:
        hunks = word_diff(before, after)
        assert "".join(hunk.before for hunk in hunks) == before
        assert "".join(hunk.after for hunk in hunks) == after

    @given(before=texts, after=texts)
    def test_counts_the_words_changed(self, before: str, after: str) -> None:
        hunks = word_diff(before, after)
        assert sum(hunk.words for hunk in hunks) == words_changed(before, after)

    @given(before=texts, after=texts)
    def test_kinds_say_what_they_hold_and_alternate(self, before: str, after: str) -> None:
        kinds = []
        for hunk in word_diff(before, after):
            assert (hunk.kind == "equal") == (hunk.before == hunk.after)
            assert (hunk.kind == "insert") == (hunk.before == "")
            assert (hunk.kind == "delete") == (hunk.after == "" and hunk.before != "")
            kinds.append(hunk.kind == "equal")
        assert all(one != two for one, two in pairwise(kinds))

    def test_shows_an_edit(self) -> None:
        found = word_diff("Sort the words (A to Z).", "Sort the terms (A to Z), twice.")
        assert [(hunk.kind, hunk.before, hunk.after, hunk.words) for hunk in found] == [
            ("equal", "Sort the ", "Sort the ", 0),
            ("replace", "words (", "terms (", 1),
            ("equal", "A to ", "A to ", 0),
            ("replace", "Z).", "Z), twice.", 1),
        ]


class TestClip:
    """As much of the edit as fits, as text that reads."""

    @given(before=texts, after=texts, budget=st.integers(0, 40))
    @example(before="ab", after="我们", budget=1)
    def test_never_exceeds_the_budget(self, before: str, after: str, budget: int) -> None:
        assert words_changed(before, clip(before, after, budget)) <= budget

    @given(before=sentences, after=sentences, budget=st.integers(0, 20))
    def test_never_exceeds_the_budget_with_sentences(
        self, before: str, after: str, budget: int
    ) -> None:
        assert words_changed(before, clip(before, after, budget)) <= budget

    @given(before=texts, after=texts)
    def test_is_the_identity_within_the_budget(self, before: str, after: str) -> None:
        assert clip(before, after, max(1, words_changed(before, after))) == after

    @given(before=texts, after=texts)
    def test_changes_nothing_without_a_budget(self, before: str, after: str) -> None:
        assert clip(before, after, 0) == before

    @given(before=sentences, after=sentences, budget=st.integers(1, 20))
    def test_invents_no_words(self, before: str, after: str, budget: int) -> None:
        clipped = clip(before, after, budget)
        assert set(words(clipped)) <= {*words(before), *words(after)}
        assert not clipped.startswith((".", " "))
        assert ".." not in clipped
        assert "  " not in clipped

    @pytest.mark.parametrize(
        ("budget", "expected"),
        [
            (1, "Sort the given words. Return the list."),
            (4, "Sort the given words. Return the list, one per line."),
            (5, "Sort the given words. Check the list twice. Return the list."),
            (8, "Sort the given words. Check the list twice. Return the list, one per line."),
        ],
    )
    def test_takes_whole_sentences_in_order_while_they_fit(
        self, budget: int, expected: str
    ) -> None:
        before = "Sort the words. Return the list."
        after = "Sort the given words. Check the list twice. Return the list, one per line."
        assert clip(before, after, budget) == expected

    def test_takes_the_first_sentences_of_a_long_insertion(self) -> None:
        after = "Answer.\n\nRules:\n- Be brief.\n- Be kind to the reader.\n- Show your work."
        assert clip("Answer.", after, 3) == "Answer.\n\nRules:\n- Be brief."
        assert clip("", "One two. Three four. Five six.", 5) == "One two. Three four."

    def test_takes_single_hunks_of_a_sentence_that_mostly_stays(self) -> None:
        before = "Read the text and return the longest word of the first line."
        after = "Read the whole text and return the shortest word of the very last line."
        assert clip(before, after, 2) == (
            "Read the whole text and return the shortest word of the first line."
        )

    def test_leaves_a_sentence_alone_that_would_become_a_mixture(self) -> None:
        before = "Sort the words."
        after = "You are given a list; put the words of it into alphabetical order."
        assert clip(before, after, 4) == before

    def test_never_tears_a_pair_of_brackets(self) -> None:
        before = "Sort the words in the given list by length and then return them to me."
        after = "Sort the words (all of them) in the given list (by length) and then return me."
        for budget in range(1, 6):
            clipped = clip(before, after, budget)
            assert clipped.count("(") == clipped.count(")")

    @pytest.mark.parametrize(
        ("before", "after", "budget", "expected"),
        [
            (
                "请把单词排序。",
                "请把单词排序。检查两遍。然后用一行写出答案。",
                4,
                "请把单词排序。检查两遍。",
            ),
            (
                "จงสรุปข้อความ",
                "จงสรุปข้อความ ใช้ภาษาสุภาพ อธิบายเหตุผลให้ละเอียดมาก",
                2,
                "จงสรุปข้อความ ใช้ภาษาสุภาพ",
            ),
            (
                "رتب الكلمات.",
                "رتب الكلمات. تحقق مرتين. ثم اكتب الجواب في سطر واحد.",
                2,
                "رتب الكلمات. تحقق مرتين.",
            ),
        ],
    )
    def test_reads_well_in_other_scripts(
        self, before: str, after: str, budget: int, expected: str
    ) -> None:
        assert clip(before, after, budget) == expected

    def test_refuses_a_negative_budget(self) -> None:
        with pytest.raises(ValueError, match=r"budget must be .* at least 0, found -1"):
            clip("a", "b", -1)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Sort the words, please, and check. ", "Count the terms. Say why! "),
        ("จงสรุปข้อความให้สั้น ", "จงสรุปข้อความให้ยาว "),
        ("请把单词排序。", "检查两遍。"),
    ],
)
def test_long_prompts_are_quick(one: str, two: str) -> None:
    before = (one * 9 + two) * (25_000 // len(one * 9 + two)) * 2
    after = (two * 3 + one * 8) * (25_000 // len(two * 3 + one * 8)) * 2
    started = time.process_time()  # other work on the machine does not count
    words_changed(before, after)
    word_diff(before, after)
    clip(before, after, 500)
    assert time.process_time() - started < 3.0  # measured 0.1 to 0.7 s


def test_examples_in_the_documentation_run() -> None:
    assert doctest.testmod(package).failed == 0

"""What is copied from examples is found; what is said of the task is not."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Sequence

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instructions import MIXED, PLAIN, TECHNICAL

from gpo_dspy import sandbox
from gpo_dspy.guards.copying import COPY, TRACE, Copies, tokens
from gpo_dspy.sandbox.rewriting.phrases import ADVICE

STORIES = [
    dspy.Example(
        question=f"{name} buys {n} {thing} at the market near the old {place} and gives two of "
        f"them to a friend who lives in {town}. How many {thing} are left in the end?",
        answer=str(n - 2),
        solution=f"{name} had {n} and gave away two, which leaves {n - 2} for the {place}.",
    ).with_inputs("question")
    for n, (name, thing, place, town) in enumerate(
        zip(
            ["Anna", "Boris", "Chloe", "Deniz", "Emeka", "Farah", "Goran", "Hana"],
            ["apples", "candles", "melons", "carpets", "drums", "lemons", "kites", "lanterns"],
            ["harbour", "mill", "bridge", "tower", "station", "chapel", "windmill", "castle"],
            ["Lisbon", "Gdansk", "Toulouse", "Ankara", "Lagos", "Amman", "Zadar", "Osaka"],
            strict=True,
        ),
        start=11,
    )
]
ANTONYMS = [
    dspy.Example(word=word, answer=answer).with_inputs("word")
    for word, answer in [("hot", "cold"), ("big", "small"), ("rise", "fall"), ("early", "late")]
]
GENERAL = [
    *(text for bank in ADVICE.values() for text in bank),
    *(text for texts in (PLAIN, TECHNICAL, MIXED) for own in texts.values() for text in own),
]


def _story(number: int) -> str:
    return str(STORIES[number].question)


# --- passages ------------------------------------------------------------------------------------


def test_a_run_of_twelve_words_is_a_copy_and_eleven_are_not() -> None:
    unique = dspy.Example(
        text=" ".join(f"word{chr(97 + i)}" for i in range(26)), label="x"
    ).with_inputs("text")
    copies = Copies([unique, *STORIES])
    for length in range(TRACE, 20):
        for start in range(26 - length):
            run = " ".join(unique.text.split()[start : start + length])
            assert copies.passage(f"Mind this: {run}, always.") is (length >= COPY)


def test_punctuation_case_and_line_breaks_do_not_hide_a_copy() -> None:
    unique = dspy.Example(text="One two, three four five six seven eight nine ten eleven twelve!")
    copies = Copies([unique.with_inputs("text"), *STORIES])
    assert copies.passage("one TWO three four\nfive six; seven (eight) nine ten eleven - twelve")


def test_every_field_is_watched() -> None:
    copies = Copies(STORIES)
    assert copies.passage(f"For instance: {STORIES[3].solution}")
    assert copies.passage(f"For instance: {_story(3)}")


def test_what_most_examples_have_in_common_may_be_said() -> None:
    same = "The following sentences describe three objects arranged in a fixed order on one shelf."
    examples = [
        dspy.Example(question=f"{same} Item {i}: {letter * 3}?", answer="A").with_inputs("question")
        for i, letter in enumerate(string.ascii_lowercase)
    ]
    assert not Copies(examples).passage(f"{same} Find out which is leftmost.")
    assert Copies(examples[:1]).passage(f"{same} Find out which is leftmost.")


def test_a_short_field_is_a_copy_as_a_whole() -> None:
    example = dspy.Example(title="The quick brown fox jumps over dogs", label="x")
    copies = Copies([example.with_inputs("title"), *STORIES])
    assert copies.passage("Think of the quick brown fox jumps over dogs.")
    assert not copies.passage("Think of the quick brown fox jumps.")


def test_the_names_of_classes_may_be_said() -> None:
    classes = [
        "the customer wants to cancel an order that was already sent out to the wrong address",
        "somebody else than the owner asks for the password of an account",
    ]
    examples = [
        dspy.Example(mail=f"{letter} wrote {i}", label=classes[i % 2]).with_inputs("mail")
        for i, letter in enumerate(string.ascii_lowercase[:4] * 10)
    ]
    copies = Copies(examples)
    assert not copies.passage(f"Choose between '{classes[0]}' and '{classes[1]}'.")
    assert Copies(examples[:2]).passage(f"Choose '{classes[0]}'."), "here it may be an answer"


def test_what_is_known_may_be_quoted() -> None:
    copies = Copies(STORIES)
    text = f"Work slowly. Example: {_story(2)}"
    assert copies.passage(text)
    assert not copies.passage(f"{text} Be brief.", [text])
    assert copies.passage(f"{text} {_story(4)}", [text])


def test_scripts_without_spaces_are_watched_too() -> None:
    question = "小明昨天在市场上买了十二个苹果，送给邻居三个，还剩几个苹果？"
    copies = Copies([dspy.Example(question=question, answer="9").with_inputs("question")])
    assert copies.passage(f"例如：{question}")
    assert copies.answer(f"例如：{question}答案是9。")
    assert not copies.passage("先读题目，再一步一步地计算剩下的数量，最后只写数字。")
    assert not copies.passage("题目问送给邻居三个，还剩几个苹果的时候，先列出数量。"), (
        "fifteen letters"
    )


@pytest.mark.parametrize("task", sandbox.TASK_NAMES)
def test_general_prompts_are_no_copies(task: str) -> None:
    copies = Copies(sandbox.make_dataset(task, n=60, seed=0))
    assert not [text for text in GENERAL if copies.passage(text) or copies.answer(text)]


_word = st.sampled_from(["ab", "cd", "ef", "gh", "ij", "kl"])


@given(
    texts=st.lists(st.lists(_word, max_size=30), min_size=1, max_size=4),
    prompt=st.lists(_word, max_size=40),
    known=st.lists(_word, max_size=15),
)
def test_passages_are_those_of_a_slow_twin(
    texts: Sequence[Sequence[str]], prompt: Sequence[str], known: Sequence[str]
) -> None:
    examples = [dspy.Example(text=" ".join(words)).with_inputs("text") for words in texts]
    found = Copies(examples).passage(" ".join(prompt), [" ".join(known)])
    assert found is _slow_passage(texts, prompt, known)


def _slow_passage(
    texts: Sequence[Sequence[str]], prompt: Sequence[str], known: Sequence[str]
) -> bool:
    """Look for long runs position by position; two or more examples make a run common."""
    distinct = list(dict.fromkeys(map(tuple, texts)))

    def runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
        return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]

    count = {
        run: sum(run in runs(words, TRACE) for words in distinct) for run in runs(prompt, TRACE)
    }
    owners, telling = set[int](), 0
    for run in runs(prompt, TRACE):
        here = {i for i, words in enumerate(distinct) if run in runs(words, TRACE)}
        if run in runs(known, TRACE):
            here = set()
        elif count[run] >= 2:
            here = {-1}
        if owners and not here & (owners | {-1}):
            owners, telling = set(), 0
        if here and -1 not in here:
            telling = telling + 1 if owners else 1
            owners = owners & here or here
        if telling > COPY - TRACE:
            return True
    return any(
        tuple(words) in runs(prompt, len(words)) and tuple(words) not in runs(known, len(words))
        for words in distinct
        if TRACE <= len(words) < COPY and distinct.count(words) < 2
    )


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "If the question is '{question}' answer {answer}.",
        "{question} -> {answer}",
        "Answer {answer} to this one: {question}",
        "When Deniz buys 14 carpets at the market near the old tower, say {answer}.",
    ],
)
def test_an_answer_beside_its_input_is_found(text: str) -> None:
    text = text.format(**STORIES[3])
    assert Copies(STORIES).answer(text)
    assert not Copies(STORIES[:3]).answer(text), "of another task it would be no answer"


def test_an_answer_alone_and_an_input_alone_give_nothing_away() -> None:
    copies = Copies(STORIES)
    assert not copies.answer("Answer 12 if nothing else is known, never 13.")
    assert not copies.answer(_story(3))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Give the opposite: hot -> cold, big -> small.", True),
        ("Say late for early and fall for rise.", True),
        ("For hot say cold.", False),  # one pair of common words may stand there by chance
        ("Give the opposite of the word in one word.", False),
        ("Take big steps; it is never too early to answer.", False),
    ],
)
def test_single_words_are_told_by_two_pairs(text: str, found: bool) -> None:
    assert Copies(ANTONYMS).answer(text) is found


def test_case_tells_an_option_from_an_article() -> None:
    example = dspy.Example(question="Which river runs through old Cairo", answer="A")
    copies = Copies([example.with_inputs("question"), *STORIES])
    assert copies.answer("which river runs through old cairo: A")
    assert not copies.answer("which river runs through old cairo is a question")


def test_expressions_are_inputs_too() -> None:
    sums = [
        dspy.Example(question=f"{a} + {b}", answer=str(a + b)).with_inputs("question")
        for a, b in [(17, 25), (38, 4), (12, 30)]
    ]
    copies = Copies(sums)
    assert copies.answer("Add the numbers: 17 + 25 is 42.")
    assert not copies.answer("Add the numbers: 17 - 25 is not 42.")
    assert not copies.answer("Add the numbers: 9 + 5 is 14.")


def test_values_of_any_type_are_read() -> None:
    example = dspy.Example(numbers=[12, 15, 18], answer=45).with_inputs("numbers")
    assert Copies([example, *STORIES]).answer("The sum of [12, 15, 18] is 45.")
    assert not Copies([]).passage("anything at all")


def test_ten_thousand_examples_are_read_in_seconds() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(5_000)]
    examples = [
        dspy.Example(text=" ".join(rng.choices(words, k=60)), label="yes").with_inputs("text")
        for _ in range(10_000)
    ]
    began = time.perf_counter()
    copies = Copies(examples)
    read = time.perf_counter() - began
    for example in examples[::500]:
        assert copies.answer(f"Say yes to: {example.text}")
    asked = time.perf_counter() - began - read
    assert (read < 10, asked < 2) == (True, True)


def test_words_are_compared_without_case_and_marks() -> None:
    assert tokens("The Straße, 3.5 km!") == ("the", "strasse", "3", "5", "km")

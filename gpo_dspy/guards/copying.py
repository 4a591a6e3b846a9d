"""What a prompt copies from examples: passages, and answers together with their inputs.

Honest prompts share short runs of words with examples: task names, turns of phrase, and longer ones
where all examples have a sentence in common. Runs that stand in several examples therefore do not
count. Of the rest, 308 general prompts share at most 6 words in a row with any item of 30 public
tasks (Big-Bench Hard, GSM8K, MMLU, Winograd, WebNLG), so 7 words are taken for a trace of an
example, and 12 for a copy.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import dspy
import numpy as np
from numpy.typing import NDArray

from gpo_dspy.guards.languages import SPACELESS, as_whole_word

TRACE = 7
"""Words in a row that tell an example."""

COPY = 12
"""Words in a row that are a copy of a passage."""

SHORT = 3
"""Words from which on a whole input tells its example; below, two examples must be told."""

NEAR, FAR = 8, 30
"""Words around an input among which its answer is looked for: a short one, and a trace."""

COMMON_SHARE, COMMON = 0.1, 3
"""Runs in so large a share, and so many, of the examples belong to the task."""

# A word, a letter of a script without spaces, or a sign that changes the sense of an expression.
TOKEN = re.compile(rf"{SPACELESS.pattern}|[^\W\d_]+|\d+|[+*/=<>^%&|~]|-(?=\s*\d)")

MANY = -1
"""Stands for the examples of a run that is common to many."""

Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an example, as words."""

    example: int
    tokens: Tokens
    is_input: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """Words of a text, from ``start`` to ``stop`` (excluded), that tell examples.

    Attributes:
        start: The first word.
        stop: The first word after.
        examples: The examples.
        telling: How many words in them are not common to many examples; two letters of a script
            without spaces count as a word.
    """

    start: int
    stop: int
    examples: frozenset[int]
    telling: float


class Copies:
    """Finds in a text what stands in some examples; made once, asked often.

    Args:
        examples: The examples; equal ones count once.
    """

    def __init__(self, examples: Iterable[dspy.Example]) -> None:
        read = list(dict.fromkeys(map(_texts, examples)))
        self._labels = [
            [label for text, is_input in fields if not is_input and (label := text.strip())]
            for fields in read
        ]
        given = Counter(text for texts in read for text, is_input in texts if not is_input)
        fields = [
            Field(number, tokens(text), is_input)
            for number, texts in enumerate(read)
            for text, is_input in texts
            if is_input or given[text] == 1  # an answer given twice is the name of a class
        ]
        # With few examples there is little to tell what they have in common.
        least = COMMON if len(read) >= 20 else 2
        self._common = max(least, COMMON_SHARE * len(read))
        self._whole = self._whole_fields(fields)
        self._runs, self._owners = self._index(fields)

    def passage(self, text: str, known: Sequence[str] = ()) -> bool:
        """Tell whether a text holds a passage of an example, or a whole field of some length.

        Args:
            text: The text.
            known: Texts that may be quoted, such as the prompt it was written from.
        """
        words = tokens(text)
        return any(trace.telling >= COPY for trace in self._runs_in(words, known)) or any(
            trace.telling >= TRACE for trace in self._fields_in(words, known)
        )

    def answer(self, text: str, known: Sequence[str] = ()) -> bool:
        """Tell whether a text gives the answer of an example beside what tells its input.

        Args:
            text: The text.
            known: Texts that may be quoted.
        """
        words = tokens(text)
        spans = [match.span() for match in TOKEN.finditer(text)]
        told: set[int] = set()
        runs = (trace for trace in self._runs_in(words, known) if trace.telling >= TRACE)
        for trace in (*runs, *self._fields_in(words, known)):
            around = _around(text, spans, trace)
            given = {example for example in trace.examples if self._label_in(example, around)}
            told |= given
            if given and (trace.telling >= SHORT or len(told) > 1):
                return True
        return False

    # --- helpers ------------------------------------------------------------------------------

    def _label_in(self, example: int, around: str) -> bool:
        return any(_label_pattern(label).search(around) for label in self._labels[example])

    def _whole_fields(self, fields: Iterable[Field]) -> dict[Tokens, frozenset[int]]:
        """Return the examples of inputs shorter than a copy, and of other fields of a length."""
        owners: defaultdict[Tokens, set[int]] = defaultdict(set)
        for field in fields:
            least = 1 if field.is_input else TRACE
            if least <= _size(field.tokens) < COPY and any(map(_tells, field.tokens)):
                owners[field.tokens].add(field.example)
        return {
            found: frozenset(examples)
            for found, examples in owners.items()
            if len(examples) < self._common
        }

    def _fields_in(self, words: Tokens, known: Iterable[str]) -> Iterator[Trace]:
        """Yield the short fields that stand in a text."""
        for length in {len(found) for found in self._whole}:
            for start in range(len(words) - length + 1):
                found = words[start : start + length]
                if found in self._whole and not _stands_in(found, known):
                    yield Trace(start, start + length, self._whole[found], _size(found))

    def _runs_in(self, words: Tokens, known: Iterable[str]) -> Iterator[Trace]:
        """Yield the runs of words that tell examples, with what is common to many between them."""
        own = _runs_of(known)
        hashes = _hashes(np.array([self._ids.get(word, -1) for word in words], np.int64))
        first = np.searchsorted(self._runs, hashes, "left").tolist()
        last = np.searchsorted(self._runs, hashes, "right").tolist()
        start, telling, examples = 0, TRACE - 1, frozenset[int]()

        def trace(stop: int) -> Trace:
            return Trace(start, stop, examples, telling * _size(words[start:stop]) / (stop - start))

        for position, (left, right) in enumerate(zip(first, last, strict=True)):
            here = frozenset(self._owners[left:right].tolist())
            if words[position : position + TRACE] in own:
                here = frozenset()
            if examples and not here & (examples | {MANY}):
                yield trace(position + TRACE - 1)
                telling, examples = TRACE - 1, frozenset()
            if here and MANY not in here:
                start = start if examples else position
                telling += 1
                examples = examples & here or here
        if examples:
            yield trace(len(words))

    def _index(self, fields: Sequence[Field]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Return the hashes of all runs of words, sorted, and the examples that they tell."""
        ids = defaultdict[str, int](count().__next__)
        words = np.array([ids[word] for field in fields for word in field.tokens], np.int64)
        self._ids = dict(ids)
        lengths = [len(field.tokens) for field in fields]
        field_of = np.repeat(np.arange(len(fields)), lengths)
        example_of = np.repeat(np.array([field.example for field in fields], np.int32), lengths)
        hashes = _hashes(words)
        inside = field_of[: len(hashes)] == field_of[TRACE - 1 :]
        hashes, owners = hashes[inside], example_of[: len(hashes)][inside]
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        again = (hashes[1:] == hashes[:-1]) & (owners[1:] == owners[:-1])
        once = np.concatenate([[True], ~again])[: len(hashes)]
        hashes, owners = hashes[once], owners[once]
        _, firsts, counts = np.unique(hashes, return_index=True, return_counts=True)
        common = counts >= self._common
        rare = np.repeat(~common, counts)
        # One entry for a run that is common, as many as there are examples for one that is not.
        kept = rare | np.isin(np.arange(len(hashes)), firsts[common])
        return hashes[kept], np.where(rare, owners, MANY)[kept]


def tokens(text: str) -> Tokens:
    """Return the words of a text, as they are compared."""
    return tuple(map(str.casefold, TOKEN.findall(text)))


def _size(words: Tokens) -> float:
    """Return how many words there are; two letters of a script without spaces are one."""
    return len(words) - 0.5 * sum(SPACELESS.match(word) is not None for word in words)


def _tells(word: str) -> bool:
    return len(word) > 1 or SPACELESS.match(word) is not None


def _texts(example: dspy.Example) -> tuple[tuple[str, bool], ...]:
    """Return the fields of an example as texts, and whether they are inputs."""
    inputs = set(example.inputs().keys())
    return tuple((_as_text(value), name in inputs) for name, value in example.items())


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _hashes(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a hash of each run of :data:`TRACE` ids; -1 stands for an unknown word."""
    length = max(len(ids) - TRACE + 1, 0)
    hashes = np.zeros(length, np.uint64)
    for offset in range(TRACE):
        # SplitMix64 of (word, offset): ids are small, and would collide otherwise.
        word = ids[offset : offset + length].astype(np.uint64)
        mixed = (word + _step(offset + 1)) * _step(1)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes += mixed ^ (mixed >> np.uint64(31))
    return hashes


def _step(number: int) -> np.uint64:
    return np.uint64(number * 0x9E3779B97F4A7C15 % 2**64)


def _runs_of(texts: Iterable[str]) -> set[Tokens]:
    found: set[Tokens] = set()
    for text in texts:
        words = tokens(text)
        found.update(words[i : i + TRACE] for i in range(len(words) - TRACE + 1))
    return found


def _stands_in(found: Tokens, texts: Iterable[str]) -> bool:
    return any(
        words[i : i + len(found)] == found
        for words in map(tokens, texts)
        for i in range(len(words) - len(found) + 1)
    )


def _around(text: str, spans: Sequence[tuple[int, int]], trace: Trace) -> str:
    """Return the text before and after some words, without them."""
    distance = FAR if trace.telling >= TRACE else NEAR
    ends = [0, *(end for _, end in spans)]  # of the word before each position
    starts = [*(start for start, _ in spans), len(text)]  # of the word at each position
    before = text[ends[max(trace.start - distance, 0)] : starts[trace.start]]
    after = text[ends[trace.stop] : starts[min(trace.stop + distance, len(spans))]]
    return f"{before}\n{after}"


@lru_cache(maxsize=10_000)
def _label_pattern(label: str) -> re.Pattern[str]:
    """Return what finds a label as whole words; in letters, case matters: "A" is not "a"."""
    words = r"\s+".join(map(re.escape, label.split()))
    return re.compile(as_whole_word(words), re.IGNORECASE if len(label) > 2 else 0)

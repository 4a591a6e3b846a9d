"""How far apart two prompts are, in words, and where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

from rapidfuzz.distance import Levenshtein

from gpo_dspy.edits._segment import Segments, segment

HunkKind: TypeAlias = Literal["equal", "insert", "delete", "replace"]


@dataclass(frozen=True, slots=True)
class Hunk:
    """A stretch of two texts that is the same in both, or differs.

    Attributes:
        kind: What happens to the stretch.
        before: The stretch in the first text, with its punctuation and whitespace.
        after: The stretch in the second text.
        words: Number of words changed; 0 if only punctuation or whitespace differs.
    """

    kind: HunkKind
    before: str
    after: str
    words: int


class Step(NamedTuple):
    """One step along an alignment: at most one word of each text.

    Attributes:
        i: First word of the step in the first text.
        j: First word of the step in the second text.
        i_end: Word after the step in the first text: ``i``, or ``i + 1``.
        j_end: Word after the step in the second text: ``j``, or ``j + 1``.
        changed: Whether the step inserts, deletes or replaces a word.
    """

    i: int
    j: int
    i_end: int
    j_end: int
    changed: bool


def words_changed(before: str, after: str) -> int:
    """Return the word-level Levenshtein distance.

    It is the least number of words to insert, delete or replace on the way from one text to the
    other. Punctuation and whitespace are free; upper and lower case differ.

    Args:
        before: The text to start from.
        after: The text to arrive at.
    """
    return Levenshtein.distance(segment(before).words, segment(after).words)


def word_diff(before: str, after: str) -> tuple[Hunk, ...]:
    """Return the difference of two texts as alternating equal and changed hunks.

    The ``before`` texts of the hunks join to ``before`` and the ``after`` texts to ``after``,
    exactly. Punctuation and whitespace belong to the word they follow.

    Args:
        before: The text to start from.
        after: The text to arrive at.
    """
    old, new = segment(before), segment(after)
    units = [(old.gaps[0], new.gaps[0], 0)]
    units += [
        (
            "".join(old.words[step.i : step.i_end] + old.gaps[step.i + 1 : step.i_end + 1]),
            "".join(new.words[step.j : step.j_end] + new.gaps[step.j + 1 : step.j_end + 1]),
            int(step.changed),
        )
        for step in align(old, new)
    ]
    hunks = []
    for _, group in groupby(units, key=lambda unit: unit[0] == unit[1]):
        olds, news, changes = zip(*group, strict=True)
        hunk = "".join(olds), "".join(news)
        if any(hunk):
            hunks.append(Hunk(_kind(*hunk), *hunk, words=sum(changes)))
    return tuple(hunks)


def align(old: Segments, new: Segments) -> list[Step]:
    """Return a shortest way from the words of ``old`` to those of ``new``, word by word."""
    steps = []
    for code in Levenshtein.opcodes(old.words, new.words):
        i, j = code.src_start, code.dest_start
        while (i, j) != (code.src_end, code.dest_end):
            i_end, j_end = min(i + 1, code.src_end), min(j + 1, code.dest_end)
            steps.append(Step(i, j, i_end, j_end, changed=code.tag != "equal"))
            i, j = i_end, j_end
    return steps


def _kind(before: str, after: str) -> HunkKind:
    if before == after:
        return "equal"
    if not before:
        return "insert"
    return "replace" if after else "delete"

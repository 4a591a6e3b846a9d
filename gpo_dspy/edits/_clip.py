"""Gradient clipping for text: as much of an edit as the budget allows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import regex

from gpo_dspy.edits._diff import Step, align, words_changed
from gpo_dspy.edits._segment import Segments, segment

_SENTENCE_END = regex.compile(r"""[.!?…]["'”’)\]]*(?:\s|$)|[。！？｡।॥۔؟։።៕]|\n""")
_CLAUSE_END = regex.compile(r"[,;:–—،؛、，；：·၊။]")
_UNSPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]$")  # a space ends a clause there
_BRACKETS = ("()", "[]", "{}", "<>", "“”", "«»", "「」", "『』", "（）")
_QUOTES = ('"', "`")
_LEAST_KEPT = 0.5  # a sentence rewritten beyond this share is taken whole or not at all


@dataclass(frozen=True, slots=True)
class _Part:
    """Steps ``start`` to ``stop`` of an alignment, from the new text or from the old one."""

    start: int
    stop: int
    taken: bool


def clip(before: str, after: str, budget: int) -> str:
    """Return ``before`` with as much of the edit to ``after`` as the budget allows.

    Whole sentences come first, in the order of the text. Of a sentence that alone exceeds what is
    left, whole clauses are taken, and then whole hunks if at least half of the sentence stays and
    no bracket or quotation mark loses its partner; otherwise it stays as it was.

    Args:
        before: The text to start from.
        after: The text to arrive at.
        budget: Largest number of words that may change, at least 0.

    Returns:
        A text at most ``budget`` words from ``before``: ``after`` itself if it is near enough,
        ``before`` itself if the budget is 0 or nothing fits.

    Raises:
        ValueError: If ``budget`` is negative.
    """
    if budget < 0:
        raise ValueError(f"budget must be a number of words of at least 0, found {budget!r}.")
    if budget == 0:
        return before
    if words_changed(before, after) <= budget:
        return after
    alignment = _Alignment(segment(before), segment(after))
    parts = alignment.choose(budget)
    while any(part.taken for part in parts):
        result = alignment.render(parts)
        # Counted again: where two texts meet, two words may have become one, or one two.
        if words_changed(before, result) <= budget and _paired(result, before, after):
            return result
        last = max(index for index, part in enumerate(parts) if part.taken)
        parts[last] = _Part(parts[last].start, parts[last].stop, taken=False)
    return before


class _Alignment:
    """Two texts, the way from one to the other, and where it may be cut."""

    def __init__(self, old: Segments, new: Segments) -> None:
        self.old = old
        self.new = new
        self.steps = align(old, new)
        self.costs = list(accumulate((step.changed for step in self.steps), initial=0))
        sentences = _ends(old, sentence=True), _ends(new, sentence=True)
        clauses = _ends(old, sentence=False), _ends(new, sentence=False)
        inner = list(enumerate(self.steps))[1:]
        self.sentence_cuts = [k for k, s in inner if sentences[0][s.i] and sentences[1][s.j]]
        self.clause_cuts = [k for k, s in inner if clauses[0][s.i] and clauses[1][s.j]]
        self.hunk_cuts = [k for k, s in inner if s.changed != self.steps[k - 1].changed]

    def cost(self, start: int, stop: int) -> int:
        """Return the number of words that steps ``start`` to ``stop`` change."""
        return self.costs[stop] - self.costs[start]

    def choose(self, budget: int) -> list[_Part]:
        """Return parts that cover the alignment, those taken costing ``budget`` at most."""
        parts = []
        pieces = self.take(0, len(self.steps), self.sentence_cuts, budget)
        left = budget - self.spent(pieces)
        for piece in pieces:
            refined = [piece] if self.settled(piece) else self.refine(piece, left)
            left -= 0 if self.settled(piece) else self.spent(refined)
            parts += refined
        return parts

    def take(self, start: int, stop: int, cuts: Sequence[int], budget: int) -> list[_Part]:
        """Return the pieces between the cuts, those that still fit taken, the first ones first."""
        inner = cuts[bisect_right(cuts, start) : bisect_left(cuts, stop)]
        parts = []
        for a, b in zip((start, *inner), (*inner, stop), strict=True):
            part = _Part(a, b, taken=self.cost(a, b) <= budget)
            budget -= self.spent([part])
            # Where the two texts agree, the part is the old one: it draws in no new gaps.
            same = self.body(part, taken=True) == self.body(part, taken=False)
            parts.append(_Part(a, b, taken=False) if same else part)
        return parts

    def refine(self, piece: _Part, budget: int) -> list[_Part]:
        """Return the parts of a sentence that does not fit, those taken costing ``budget``."""
        parts = []
        clauses = self.take(piece.start, piece.stop, self.clause_cuts, budget)
        left = budget - self.spent(clauses)
        for clause in clauses:
            kept = 1 - self.cost(clause.start, clause.stop) / (clause.stop - clause.start)
            hunks = [clause]
            if not self.settled(clause) and kept >= _LEAST_KEPT:
                hunks = self.take(clause.start, clause.stop, self.hunk_cuts, left)
                left -= self.spent(hunks)
            parts += hunks
        sound = _balance(self.inner(parts)) == _balance(self.inner([piece]))
        return parts if sound else [piece]

    def settled(self, part: _Part) -> bool:
        """Return whether there is nothing left to take from a part."""
        return part.taken or self.cost(part.start, part.stop) == 0

    def spent(self, parts: Sequence[_Part]) -> int:
        """Return the number of words that the parts taken change."""
        return sum(self.cost(part.start, part.stop) for part in parts if part.taken)

    def body(self, part: _Part, *, taken: bool) -> str:
        """Return the new or the old text of a part, without the gaps around it."""
        first, last = self.steps[part.start], self.steps[part.stop - 1]
        if taken:
            return self.new.text(first.j, last.j_end)
        return self.old.text(first.i, last.i_end)

    def render(self, parts: Sequence[_Part]) -> str:
        """Return the text of parts that cover the whole alignment."""
        # A part left out of the old text has no say in what stands at the two ends.
        shown = [part.taken for part in parts if part.taken or self.body(part, taken=False)]
        first, last = (self.new if taken else self.old for taken in (shown[0], shown[-1]))
        return first.gaps[0] + self.inner(parts) + last.gaps[-1]

    def inner(self, parts: Sequence[_Part]) -> str:
        """Return the text of consecutive parts, without the gaps before and after them.

        Next to a part that is taken, the gap is that of the new text, else that of the old one.
        """
        texts: list[str] = []
        after_taken = False
        for part in parts:
            body = self.body(part, taken=part.taken)
            if body and texts:
                step = self.steps[part.start]
                texts.append(self.gap(step, new=after_taken or part.taken))
            if body:
                texts.append(body)
            if body or part.taken:
                after_taken = part.taken
        return "".join(texts)

    def gap(self, step: Step, *, new: bool) -> str:
        """Return what separates the words of ``step`` from the words before them."""
        inside = 0 < step.j < len(self.new.words)
        return self.new.gaps[step.j] if new and inside else self.old.gaps[step.i]


def _ends(text: Segments, *, sentence: bool) -> list[bool]:
    """Return for each gap [n + 1] whether a sentence, or at least a clause, ends in it."""
    kinds = set(text.gaps)  # few, however long the text is
    sure = {gap for gap in kinds if _SENTENCE_END.search(gap)}
    spaced: set[str] = set()
    if not sentence:
        sure |= {gap for gap in kinds if _CLAUSE_END.search(gap)}
        spaced = {gap for gap in kinds - sure if any(map(str.isspace, gap))}
    ends = [gap in sure for gap in text.gaps]
    for k, word in enumerate(text.words, start=1):
        if text.gaps[k] in spaced and _UNSPACED.search(word):
            ends[k] = True
    ends[0] = ends[-1] = True
    return ends


def _balance(text: str) -> list[int]:
    """Return how many brackets of each kind are left open, and which quotes lack a partner."""
    brackets = [text.count(pair[0]) - text.count(pair[1]) for pair in _BRACKETS]
    return brackets + [text.count(quote) % 2 for quote in _QUOTES]


def _paired(text: str, *originals: str) -> bool:
    """Return whether brackets and quotes are as even as in one of the originals, each kind."""
    allowed = zip(*map(_balance, originals), strict=True)
    return all(count in counts for count, counts in zip(_balance(text), allowed, strict=True))

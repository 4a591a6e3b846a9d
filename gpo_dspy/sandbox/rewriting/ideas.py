"""A sentence -> the idea it expresses, however it is worded.

A reader of prompts sees that "be brief" and "keep it short" say the same. The simulated rewriter
sees it by the stems that a sentence shares with its own stock of advice.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from .phrases import ADVICE, FILLER, topic

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[a-z/]+")
_STEM = 5  # letters
_ALIKE = 0.5
_NO = re.compile(r"\b(?:not|never|no|nor|without|avoid|don't|ignore|skip|instead)\b")
_SAYING_LITTLE = """
the and are for any all you your with this that when what which make sure always remember not never
only just each every one its from into does has have been should must will
"""
_EMPTY = frozenset(_SAYING_LITTLE.split())


def sentences(prompt: str) -> list[str]:
    """Split a prompt into its sentences.

    Args:
        prompt: Free text.
    """
    return [part.strip() for part in _SENTENCE.split(prompt) if part.strip()]


def ideas(prompt: str) -> frozenset[str]:
    """Return the ideas of a prompt.

    Args:
        prompt: Free text.
    """
    return frozenset(map(idea, sentences(prompt)))


@lru_cache(maxsize=8192)
def idea(sentence: str) -> str:
    """Return the advice of the stock that a sentence gives; itself if it gives none.

    Args:
        sentence: A sentence of a prompt.
    """
    return topic(sentence) or _nearest(sentence) or sentence


def _nearest(sentence: str) -> str:
    """Return the advice most alike by the weight of the shared stems; rare stems tell more."""
    said = sorted(_stems(sentence))
    own = sum(map(_weight, said))
    shared: dict[int, float] = {}
    for stem in said:
        for place in _PLACES.get(stem, ()):
            shared[place] = shared.get(place, 0.0) + _weight(stem)
    alike = ((2 * w / (own + _WEIGHTS[place]), _STOCK[place][0]) for place, w in shared.items())
    best, key = max(alike, default=(0.0, ""))
    return key if best >= _ALIKE else ""


def _weight(stem: str) -> float:
    return 1 / (1 + _COMMON[stem])


def _stems(sentence: str) -> frozenset[str]:
    told = sentence.lower()
    words = (word.rstrip("s") for word in _WORD.findall(told) if word not in _EMPTY)
    stems = {word[:_STEM] for word in words if len(word) > 2}
    return frozenset(stems | {"~no"} if _NO.search(told) else stems)


_STOCK = tuple(
    (key, _stems(wording))
    for bank in (ADVICE, FILLER)
    for key, wordings in bank.items()
    for wording in wordings
)
_COMMON = Counter(stem for _, stem in {(key, stem) for key, told in _STOCK for stem in told})
_WEIGHTS = tuple(sum(map(_weight, sorted(told))) for _, told in _STOCK)
_PLACES = {
    stem: tuple(place for place, (_, told) in enumerate(_STOCK) if stem in told) for stem in _COMMON
}

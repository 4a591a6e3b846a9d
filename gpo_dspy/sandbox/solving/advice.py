"""An instruction -> which concepts it expresses, and how strongly.

The reading is forgiving (stems, any word order) and aware of negation; a contradiction cancels
out, and long instructions are read with less attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from .concepts import CONCEPTS

_CLAUSE = re.compile(r"[.;!?](?=\s|$)|\n|,\s*(?:but|so|yet)\b|\s[–—-]\s")
_NEGATION = re.compile(
    r"(?:\b(?:not|never|no|avoid|without|refrain|nor|cannot|nothing|none|neither|"
    r"instead of|rather than)\b|n't\b|n’t\b|\bdont\b)(?:\s+[\w'/-]+){0,4}?\s*$"
)
_FREE_WORDS = 120
_BLOCK = 15
_SIGNS = {"+": 1, "-": -1, "0": 0}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way to express a concept: all groups in one clause.

    Attributes:
        sign: +1; -1 if it expresses the opposite; 0 if it only looks like the concept.
        groups: The action first.
    """

    sign: int
    groups: tuple[re.Pattern[str], ...]

    def stance(self, clause: str) -> int | None:
        """Return the sign with which ``clause`` expresses the concept; None if it does not."""
        objects = [group.search(clause) for group in self.groups[1:]]
        places = [found.start() for found in objects if found]
        if len(places) < len(objects):
            return None
        actions = list(self.groups[0].finditer(clause))
        if not actions:
            return None
        # The verb that goes with the object is the one nearest to it.
        action = min(actions, key=lambda m: min((abs(m.start() - p) for p in places), default=0))
        before = re.split(r",|\bbut\b|:", clause[: action.start()])[-1]
        return -self.sign if _NEGATION.search(before) else self.sign


@lru_cache(maxsize=2048)
def stances(instruction: str) -> Mapping[str, float]:
    """Return what an instruction says about each concept, from -1 to 1; silence is left out.

    Args:
        instruction: Free text.
    """
    clauses = [part.strip().lower() for part in _CLAUSE.split(instruction) if part.strip()]
    attention = attention_at(len(instruction.split()))
    said = set(chain.from_iterable(map(_signs, clauses)))
    totals = {name: ((name, 1) in said) - ((name, -1) in said) for name in _PATTERNS}
    return {name: total * attention for name, total in totals.items() if total}


def attention_at(words: int) -> float:
    """Return how much of each piece of advice is heeded, from 0.4 to 1.

    Args:
        words: Length of the instruction.
    """
    blocks = max(0, words - _FREE_WORDS) / _BLOCK
    return float(max(0.4, 0.96**blocks))


@lru_cache(maxsize=8192)
def _signs(clause: str) -> tuple[tuple[str, int], ...]:
    """Return the concepts a clause is about, with its sign; prompts share most of their clauses."""
    signs = ((name, _first(patterns, clause)) for name, patterns in _PATTERNS.items())
    return tuple((name, sign) for name, sign in signs if sign)


def _first(patterns: tuple[Pattern, ...], clause: str) -> int:
    return next((sign for p in patterns if (sign := p.stance(clause)) is not None), 0)


def _compile(text: str) -> tuple[Pattern, ...]:
    lines = re.split(r"(?:^|\s)([-+0])\s", " ".join(text.split()))
    pairs = zip(lines[1::2], lines[2::2], strict=True)
    return tuple(Pattern(_SIGNS[sign], _groups(rest)) for sign, rest in pairs)


def _groups(rest: str) -> tuple[re.Pattern[str], ...]:
    return tuple(_group(part.split()) for part in rest.split("|") if part.strip())


def _group(stems: list[str]) -> re.Pattern[str]:
    options = "|".join(re.escape(stem).replace("_", r"\s+") for stem in stems)
    return re.compile(rf"(?<![\w])(?:{options})")


_PATTERNS = {name: _compile(text) for name, text in CONCEPTS.items()}

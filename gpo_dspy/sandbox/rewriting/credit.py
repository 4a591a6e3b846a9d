"""What the scores of whole prompts say about their sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_DOUBT = 0.2
_PROMPTS_READ = 12


def sentences(prompt: str) -> list[str]:
    """Split a prompt into its sentences.

    Args:
        prompt: Free text.
    """
    return [part.strip() for part in _SENTENCE.split(prompt) if part.strip()]


def credits_of(scored: Sequence[tuple[str, float]]) -> Mapping[str, float]:
    """Return what each sentence seems to bring, in points, shrunk to 0.

    Every pair of prompts shares the difference of its scores among the sentences that only one of
    the two has; pairs that differ in little say most.

    Args:
        scored: Prompts with their scores; with fewer than two there is nothing to compare.
    """
    split = [(frozenset(sentences(prompt)), score) for prompt, score in scored[-_PROMPTS_READ:]]
    gains: dict[str, float] = {}
    trust: dict[str, float] = {}
    for (one, high), (other, low) in combinations(split, 2):
        apart = one ^ other
        for line in apart:
            sign = 1 if line in one else -1
            gains[line] = gains.get(line, 0.0) + sign * (high - low) / len(apart) ** 2
            trust[line] = trust.get(line, 0.0) + 1 / len(apart)
    return {line: gains[line] / (trust[line] + _DOUBT) for line in sorted(gains)}

"""What the scores of whole prompts say about their sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_DOUBT = 1.0


def sentences(prompt: str) -> list[str]:
    """Split a prompt into its sentences.

    Args:
        prompt: Free text.
    """
    return [part.strip() for part in _SENTENCE.split(prompt) if part.strip()]


def credits_of(scored: Sequence[tuple[str, float]]) -> Mapping[str, float]:
    """Return for every sentence how much better prompts with it did, in points, shrunk to 0.

    Args:
        scored: Prompts with their scores; with fewer than two there is nothing to compare.
    """
    split = [(set(sentences(prompt)), score) for prompt, score in scored]
    known = dict.fromkeys(line for prompt, _ in scored for line in sentences(prompt))
    found = {}
    for line in known:
        having = [score for lines, score in split if line in lines]
        lacking = [score for lines, score in split if line not in lines]
        if having and lacking:
            gain = sum(having) / len(having) - sum(lacking) / len(lacking)
            fewest = min(len(having), len(lacking))
            found[line] = gain * fewest / (fewest + _DOUBT)
    return found

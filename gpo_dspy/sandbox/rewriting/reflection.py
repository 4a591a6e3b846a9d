"""A judgement of what is wrong with a prompt: written from failures, and read again."""

from __future__ import annotations

import re
from collections import Counter

from gpo_dspy.sandbox.dice import Dice

from .ideas import idea
from .phrases import ADVICE, FILLER, word

_LINE = re.compile(r"^- (\d+) of \d+ failures: the prompt should say: (.+)$", re.M)
_CAUSES = 3


def write_reflection(votes: Counter[str], dice: Dice) -> str:
    """Write what seems to cause failures.

    Args:
        votes: Suspected causes, as keys of the stock of advice, with the failures they explain.
        dice: Source of chance.
    """
    total = votes.total()
    causes = sorted(votes.items(), key=lambda pair: -pair[1])[:_CAUSES]
    lines = [
        f"- {count} of {total} failures: the prompt should say: {word(key, dice)}"
        for key, count in causes
    ]
    return "\n".join(lines) or "The failures do not show what is wrong."


def read_reflection(text: str) -> Counter[str]:
    """Find the causes that a reflection names, with the failures they explain.

    Args:
        text: A reflection; whatever else is in it is passed over.
    """
    found: Counter[str] = Counter()
    for count, advice in _LINE.findall(text):
        key = idea(advice)
        if key in ADVICE or key in FILLER:
            found[key] += int(count)
    return found

"""What an instruction may not be, whoever wrote it."""

from __future__ import annotations

import re

from gpo_dspy.state import Fate

# What DSPy's chat format puts between fields; inside an instruction it breaks the parsing.
FIELD_MARKER = re.compile(r"\[\[\s*##.*?##\s*\]\]", re.DOTALL)
PLACEHOLDER = re.compile(r"\{[^\W\d]\w*\}")
WORD = re.compile(r"\w")

SHORTEST_LIMIT = 8_000
"""Characters that an instruction may always have; about 2,000 tokens."""


def length_limit(start: str) -> int:
    """Return the most characters an instruction may have: four times the student's own, or more."""
    return max(SHORTEST_LIMIT, 4 * len(start))


def refuse(text: str, *, start: str) -> Fate | None:
    """Return why a text cannot be an instruction, or None if it can.

    Args:
        text: The rewrite.
        start: The student's own instruction, whose placeholders such as ``{name}`` must stay.
    """
    if not WORD.search(text):
        return Fate.EMPTY
    if len(text) > length_limit(start):
        return Fate.TOO_LONG
    if FIELD_MARKER.search(text):
        return Fate.MARKER
    if not set(PLACEHOLDER.findall(start)) <= set(PLACEHOLDER.findall(text)):
        return Fate.PLACEHOLDER_LOST
    return None

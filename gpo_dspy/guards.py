"""What an instruction may not be, whoever wrote it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpo_dspy.state import Fate

# What DSPy's chat format puts between fields; inside an instruction it breaks the parsing.
FIELD_MARKER = re.compile(r"\[\[\s*##.*?##\s*\]\]", re.DOTALL)
PLACEHOLDER = re.compile(r"\{[^\W\d]\w*\}")
WORD = re.compile(r"\w")

SHORTEST_LIMIT = 8_000
"""Characters that an instruction may always have; about 2,000 tokens."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What every rewrite of one predictor's instruction must pass.

    Attributes:
        start: The student's own instruction; its placeholders such as ``{name}`` must stay.
        names: Words that must stay, such as the names of an agent's tools.
    """

    start: str
    names: frozenset[str] = frozenset()

    @property
    def length_limit(self) -> int:
        """The most characters an instruction may have: four times the student's own, or more."""
        return max(SHORTEST_LIMIT, 4 * len(self.start))

    def refuse(self, text: str) -> Fate | None:
        """Return why a text cannot be the instruction, or None if it can."""
        if not WORD.search(text):
            return Fate.EMPTY
        if len(text) > self.length_limit:
            return Fate.TOO_LONG
        if FIELD_MARKER.search(text):
            return Fate.MARKER
        placeholders = set(PLACEHOLDER.findall(self.start)) <= set(PLACEHOLDER.findall(text))
        if not placeholders or not all(name in text for name in self.names):
            return Fate.NAME_LOST
        return None

"""How an output differs from what was expected, found mechanically."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_NUMBER = re.compile(r"-?\d+")
_DATE = re.compile(r"\d\d/\d\d/\d{4}")
_OPPOSITES = ({"true", "false"}, {"yes", "no"})


@dataclass(frozen=True, slots=True)
class Case:
    """One attempt that someone shows.

    Attributes:
        given: The inputs.
        output: What came out.
        expected: What should have come out; empty if not told.
        feedback: A comment; may be empty.
    """

    given: str
    output: str
    expected: str = ""
    feedback: str = ""

    @property
    def failed(self) -> bool:
        """Whether the output is known to be wrong."""
        return bool(self.expected) and self.output.strip() != self.expected.strip()


def symptom(case: Case) -> str:
    """Name the difference between output and expectation; ``""`` if it has no name.

    Args:
        case: A failed attempt.
    """
    output, expected = case.output.strip(), case.expected.strip()
    said, meant = output.split(), expected.split()
    if re.sub(r"[\s,;]+", "", output) == re.sub(r"[\s,;]+", "", expected):
        return "separators"
    if {output.lower(), expected.lower()} in _OPPOSITES:
        return "opposite"
    if _DATE.fullmatch(expected):
        return _dates(output, expected)
    if _NUMBER.fullmatch(expected):
        return _numbers(output, expected)
    if expected in output:
        return "around"
    if len(meant) == 1 and expected.lower() in ("true", "false", "yes", "no"):
        return "around" if expected.lower() in output.lower().split(",")[0] else "form"
    return _tokens(said, meant)


def _tokens(said: list[str], meant: list[str]) -> str:
    more, less = Counter(said) - Counter(meant), Counter(meant) - Counter(said)
    if not more and not less:
        capitals = any(token[0].isupper() for token in meant)
        return "capitals" if capitals and said[:1] != meant[:1] else "order"
    if less and not more:
        return (
            "repeats missing" if set(less) <= set(said) and set(said) == set(meant) else "missing"
        )
    return "added" if not less else "other"


def _dates(output: str, expected: str) -> str:
    if not _DATE.fullmatch(output):
        return "around" if expected in output else "form"
    said, meant = output.split("/"), expected.split("/")
    if said[:2] == meant[1::-1]:
        return "parts swapped"
    if said[:2] == meant[:2]:
        return "year off"
    if said[0] == meant[0] and said[2] == meant[2]:
        return "day off" if abs(int(said[1]) - int(meant[1])) == 1 else "off"
    return "off"


def _numbers(output: str, expected: str) -> str:
    if not _NUMBER.fullmatch(output):
        if expected in _NUMBER.findall(output):
            return "around" if re.search("[a-z]", output) else "form"
        return "form" if not _NUMBER.search(output) else "off"
    return "too small" if int(output) < int(expected) else "too large"

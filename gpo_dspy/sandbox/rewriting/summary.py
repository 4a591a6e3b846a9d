"""A summary of prompts with scores: written, carried on, and read again.

It holds what the scores say about single sentences, and nothing else of the prompts. So whoever
reads it knows less than from the prompts themselves: neither what stood together, nor by how much
single prompts differed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .credit import NOTICEABLE, Lessons, learn
from .ideas import idea, ideas, sentences
from .meta import Brief

_LINE = re.compile(
    r"^- (?:(Raised|Lowered) the score by about (\d+)|Made no difference): (.+)$", re.M
)
_FORMER = 0.5  # weight of what was known before, where new prompts tell too
_LENGTH = 200  # words


@dataclass(frozen=True, slots=True)
class Finding:
    """What a summary says about one idea.

    Attributes:
        sentence: A sentence that expresses it.
        points: What it brought, about.
    """

    sentence: str
    points: float


def read_summary(text: str) -> dict[str, Finding]:
    """Find what a summary says, by idea.

    Args:
        text: A summary; whatever else is in it is passed over.
    """
    found = {}
    for way, points, sentence in _LINE.findall(text):
        sign = {"Raised": 1.0, "Lowered": -1.0}.get(way, 0.0)
        found[idea(sentence)] = Finding(sentence, sign * float(points or 0))
    return found


def with_summary(lessons: Lessons, findings: Mapping[str, Finding], current: str) -> Lessons:
    """Add what a summary says to what scores say; where both tell, the scores count.

    Args:
        lessons: From scored prompts.
        findings: From the summary.
        current: The prompt to improve.
    """
    credit = {name: found.points for name, found in findings.items()}
    vain = {name for name, points in credit.items() if abs(points) <= NOTICEABLE} - ideas(current)
    return Lessons({**credit, **lessons.credit}, lessons.vain | vain)


def summarize(brief: Brief) -> str:
    """Write a summary of scored prompts.

    Args:
        brief: What is known: the new prompts, the current one, and the summary so far.
    """
    findings = read_summary(brief.summary)
    findings.update(_news(brief, findings))
    lines = [_line(found) for found in sorted(findings.values(), key=_importance)]
    return "\n".join(_first_words(lines)) or "Nothing can be told from the scores yet."


def _news(brief: Brief, former: Mapping[str, Finding]) -> dict[str, Finding]:
    lessons = learn(brief.scored, brief.current)
    told = {idea(line): line for prompt, _ in brief.scored for line in sentences(prompt)}
    news = {}
    for name, credit in lessons.credit.items():
        if abs(credit) <= NOTICEABLE and name not in lessons.vain and name not in former:
            continue
        known = former.get(name)
        points = credit if known is None else _FORMER * known.points + (1 - _FORMER) * credit
        news[name] = Finding(told[name], points)
    return news


def _line(found: Finding) -> str:
    if abs(found.points) <= NOTICEABLE:
        return f"- Made no difference: {found.sentence}"
    way = "Raised" if found.points > 0 else "Lowered"
    return f"- {way} the score by about {abs(found.points):.0f}: {found.sentence}"


def _importance(found: Finding) -> tuple[float, str]:
    return -abs(found.points), found.sentence


def _first_words(lines: list[str]) -> list[str]:
    kept, spent = [], 0
    for line in lines:
        spent += len(line.split())
        if spent > _LENGTH:
            break
        kept.append(line)
    return kept

"""Texts that show attempts -> `Case` values, by their labels and headings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .symptoms import Case

_NEW = re.compile(r"^\s*(?:#+\s*)?(?:Failure|Example|Case|Item|Attempt)\s*#?\s*\d+\b", re.I)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*:?\s*$")
_LABEL = re.compile(
    r"^((?:Input|Output|Expected|Correct|Gold|Target|Reference|Feedback|Got|Actual|Prediction|"
    r"Response|Given|Question|Answer|Plan|Reasoning)\b[^:\n]{0,30}):[ \t]*(.*)$"
)
_ROLES = (
    ("expected", re.compile(r"expected|correct|gold|target|reference", re.I)),
    ("feedback", re.compile(r"feedback|comment", re.I)),
    ("thought", re.compile(r"reasoning|thought|rationale", re.I)),
    ("output", re.compile(r"output|answer|response|got|actual|prediction", re.I)),
    ("given", re.compile(r"input|question|given|plan", re.I)),
)
_TOLD = re.compile(
    r"(?:expected|correct answer|right answer|should (?:be|have been))\W*?(?:is|was|:)?\s*"
    r"[`'\"“](.*?)[`'\"”](?=\s|[.,;]|$)",
    re.I | re.S,
)


def find_cases(text: str) -> list[Case]:
    """Find the attempts that ``text`` shows.

    Args:
        text: Records, each a heading with a number and labelled values.
    """
    records: list[dict[str, list[str]]] = [{}]
    role = ""
    for line in text.splitlines():
        if _NEW.match(line):
            records.append({})
            role = ""
            continue
        label, rest, nested = _label(line, role)
        if label and not nested:
            role = _role(label)
            if role == "given" and "output" in records[-1]:
                records.append({})
        if not label or rest:
            records[-1].setdefault(role, []).append(rest if label else line)
    return [case for record in records if (case := _case(record))]


def _label(line: str, role: str) -> tuple[str, str, bool]:
    heading = _HEADING.match(line)
    if heading:
        deep = line.startswith("###") and bool(role)
        return heading[1], "", deep
    label = _LABEL.match(line)
    return (label[1], label[2], False) if label else ("", "", False)


def _role(label: str) -> str:
    first = label.split()[0]
    for part in (first, label):
        for role, pattern in _ROLES:
            if pattern.search(part):
                return role
    return ""


def _case(record: Mapping[str, list[str]]) -> Case | None:
    values = {role: "\n".join(lines).strip() for role, lines in record.items()}
    output, feedback = values.get("output", ""), values.get("feedback", "")
    told = _TOLD.search(feedback)
    expected = values.get("expected") or (told[1] if told else "")
    if not (output or expected) or not values.get("given"):
        return None
    return Case(values["given"], output, expected, feedback)


def from_json(sections: Mapping[str, str], module: str) -> list[Case]:
    """Find the attempt that a pair of trajectories, given as JSON, shows.

    Args:
        sections: Name of a section -> its text.
        module: Whose output to look at.
    """

    def load(*words: str) -> Any:
        for name, text in sections.items():
            if all(word in name for word in words):
                try:
                    return json.loads(text)
                except ValueError:
                    return None
        return None

    labels, better = load("metadata"), load("better", "outputs")
    steps = [s for s in load("worse", "trajectory") or [] if s.get("module_name") == module]
    said = steps[-1]["outputs"] if steps else load("worse", "outputs")
    given = steps[-1]["inputs"] if steps else load("program_inputs")
    meant = labels or better
    if not (isinstance(said, dict) and isinstance(meant, dict) and said and meant and given):
        return []
    feedback = json.dumps(load("worse", "info") or "")
    texts = [str(list(part.values())[-1]) for part in (said, meant)]
    shown = "\n".join(map(str, given.values() if isinstance(given, dict) else [given]))
    return [Case(shown, texts[0], texts[1], feedback)]

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
    ("thought", re.compile(r"reasoning|thought|rationale", re.IGNORECASE)),
    ("expected", re.compile(r"expected|correct|gold|target|reference", re.IGNORECASE)),
    ("feedback", re.compile(r"feedback|comment", re.IGNORECASE)),
    ("output", re.compile(r"output|answer|response|got|actual|prediction", re.IGNORECASE)),
    ("given", re.compile(r"input|question|given|plan", re.IGNORECASE)),
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
    if _ROLES[0][1].search(label):
        return "thought"
    for part in (label.split()[0], label):
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


def from_records(text: str) -> list[Case]:
    """Find the attempts in a JSON list of records.

    Args:
        text: JSON, or anything else, in which there is none.
    """
    try:
        loaded = json.loads(text) if text.lstrip().startswith("[") else []
    except ValueError:
        return []
    records = [entry for entry in loaded if isinstance(entry, dict)]
    named = [{_role(str(key)): [_flat(value)] for key, value in r.items()} for r in records]
    return [case for record in named if (case := _case(record))]


def from_trajectories(sections: Mapping[str, str], module: str) -> list[Case]:
    """Find the attempt that a worse and a better trajectory, given as JSON, show.

    Args:
        sections: Name of a section -> its text.
        module: Whose output to look at.
    """
    labels = _load(sections, "metadata") or _load(sections, "better", "outputs")
    steps = _load(sections, "worse", "trajectory")
    own = [s for s in steps if s.get("module_name") == module] if isinstance(steps, list) else []
    said = own[-1]["outputs"] if own else _load(sections, "worse", "outputs")
    given = own[-1]["inputs"] if own else _load(sections, "program_inputs")
    if not (said and labels and given):
        return []
    feedback = _flat(_load(sections, "worse", "info") or "")
    return [Case(_flat(given), _flat(said), _flat(labels), feedback)]


def _load(sections: Mapping[str, str], *words: str) -> Any:
    for name, text in sections.items():
        if all(word in name for word in words):
            try:
                return json.loads(text)
            except ValueError:
                return None
    return None


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        told = [_flat(part) for key, part in value.items() if _role(str(key)) != "thought"]
        return "\n".join(told)
    return value if isinstance(value, str) else json.dumps(value)

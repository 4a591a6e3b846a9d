"""One failed attempt -> what may have caused it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .cues import POINTERS, material, suspicions
from .symptoms import Case, symptom

_HINTED = 2.5


def suspected(case: Case, writer: bool) -> Mapping[str, float]:
    """Return suspected causes, as keys of the stock of advice, with weights.

    Args:
        case: A failed attempt.
        writer: Whether its output is a plan for someone else.
    """
    kind, sign = material(case.given), symptom(case)
    if writer:
        kind, sign = "plan", _plan_symptom(case)
    elif kind == "story" and re.search(r"^step 1", case.given, re.IGNORECASE | re.MULTILINE):
        kind = "answer"
    weights = dict(suspicions(kind, sign))
    if "not not" not in case.given:
        weights.pop("double_negation", None)
    if "around" not in case.given.lower():
        weights.pop("around", None)
    for key, pattern in POINTERS.items():
        if pattern.search(case.feedback):
            weights[key] = _HINTED * weights.get(key, 0.5)
    return weights or {"verify": 1.0}


def _plan_symptom(case: Case) -> str:
    given, said = (set(re.findall(r"\d+", text)) for text in (case.given, case.output))
    return "numbers missing" if len(given - said) > 1 else "plausible"

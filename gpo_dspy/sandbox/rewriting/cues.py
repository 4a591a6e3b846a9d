"""What kind of material a text is, and what could be wrong: general knowledge, no more.

The tables say what a reader who sees a symptom in material of a kind would suspect. Several
suspicions fit one symptom, and some of them are wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_CUES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("brackets", re.compile(r"(?:[\[\](){}<>] ){3}|parenthes\w+ are closed", re.I)),
    ("walk", re.compile(r"\b[Tt]ake \d+ steps?\b|starting point")),
    ("dates", re.compile(r"\bdays?\b.*\b(?:from today|ago)\b|MM/DD|\bToday is\b", re.S)),
    ("truth", re.compile(r"\b(?:True|False)\b.*\bis\b|\bnot True\b|\bnot False\b|boolean", re.I)),
    ("sums", re.compile(r"\d\s*[-+*]\s*[-(]?\d.*=|arithmetic expression")),
    ("story", re.compile(r"starts with \d+|How many \w+ does \w+ have now")),
    ("amounts", re.compile(r"How many [\w ]+ do I have|\bcount\w* (?:the )?(?:objects|things)")),
    ("words", re.compile(r"\b[Ss]ort\w*\b|alphabetical")),
)

# (material, symptom) -> suspicion -> weight; "" is any material or any symptom.
SUSPICIONS: dict[tuple[str, str], Mapping[str, float]] = {
    ("words", "order"): {"all_letters": 5, "ignore_case": 1.5, "by_length": 1, "verify": 1},
    ("words", "capitals"): {"ignore_case": 6, "all_letters": 2, "verify": 1},
    ("words", "repeats missing"): {"duplicates": 6, "complete": 2.5, "group": 0.7},
    ("words", "missing"): {"complete": 7, "duplicates": 1.5, "verify": 1},
    ("amounts", "too small"): {"quantities": 4, "articles": 2.5, "complete": 2.5, "group": 1},
    ("amounts", "too large"): {"only_asked": 6, "dedup": 1.5, "verify": 1},
    ("dates", "day off"): {"start_day": 5, "month_lengths": 4, "inclusive": 1.5, "verify": 1},
    ("dates", "off"): {"month_lengths": 5, "direction": 2.5, "carry_year": 1, "verify": 1},
    ("dates", "year off"): {"carry_year": 6, "month_lengths": 2, "direction": 1},
    ("dates", "parts swapped"): {"date_form": 7, "direction": 1},
    ("dates", "form"): {"date_form": 6, "bare": 2},
    ("truth", "opposite"): {
        "precedence": 3, "double_negation": 3, "parentheses": 2.5, "complete": 2,
        "left_to_right": 1.5, "simplify": 1, "verify": 1,
    },
    ("truth", "form"): {"true_false": 6, "bare": 2},
    ("sums", "off"): {
        "precedence": 3, "signs": 3, "parentheses": 2, "complete": 2, "step_by_step": 1.5,
        "left_to_right": 1, "estimate": 0.6, "verify": 1,
    },
    ("brackets", "order"): {"reverse": 6, "matching": 2, "left_to_right": 1},
    ("brackets", "missing"): {"complete": 6, "reverse": 1, "matching": 1},
    ("brackets", "added"): {"skip_closed": 5, "only_rest": 2, "verify": 1, "bare": 0.7},
    ("brackets", "other"): {"matching": 5, "reverse": 2, "simplify": 1},
    ("brackets", "around"): {"only_rest": 5, "skip_closed": 2, "bare": 2},
    ("walk", "opposite"): {
        "heading": 3, "around": 2.5, "position": 3, "complete": 2, "verify": 1.5, "simplify": 1,
    },
    ("walk", "form"): {"yes_no": 6, "bare": 2},
    ("plan", "numbers missing"): {"quantities": 4, "complete": 4, "concise": 0.7, "simplify": 0.7},
    ("plan", "plausible"): {"in_order": 4, "irrelevant": 3, "complete": 2, "creative": 0.7},
    ("answer", "off"): {"calculate": 4, "follow_plan": 2.5, "verify": 1.5, "estimate": 0.8},
    ("story", "off"): {
        "calculate": 3, "complete": 2, "irrelevant": 2, "in_order": 2, "quantities": 1.5,
        "step_by_step": 1, "estimate": 0.6,
    },
    ("", "separators"): {"spaces": 6, "bare": 1.5, "concise": 1},
    ("", "around"): {"bare": 7, "digits": 1, "explain": 0.7},
    ("", "form"): {"digits": 5, "bare": 3, "brief": 1},
    ("", ""): {"verify": 2, "step_by_step": 2, "complete": 2, "attention": 2, "expert": 1},
}  # fmt: skip

# Words of a comment that point to a suspicion.
POINTERS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.I)
    for name, pattern in {
        "all_letters": "first letter",
        "ignore_case": "capital|upper",
        "duplicates": "repeated word|duplicat",
        "complete": "missing|left out|leaves? out|only a part|last (?:move|step|thing)|not counted",
        "bare": "text around",
        "spaces": "separator",
        "quantities": "how many there are|quantit",
        "only_asked": "another category",
        "articles": r"\(a, an\)",
        "digits": "in words|decimals|notation",
        "precedence": "operators bind|before addition",
        "parentheses": "parentheses",
        "double_negation": "negation",
        "signs": r"\bsign\b",
        "calculate": "calculation",
        "month_lengths": "30 days",
        "start_day": "one day",
        "carry_year": "year was not",
        "direction": "wrong side",
        "date_form": "day and month|not in the expected form",
        "reverse": "order is not",
        "skip_closed": "closed already",
        "matching": "wrong type",
        "only_rest": "was repeated",
        "heading": "direction faced",
        "around": "turning around",
        "position": "number of steps",
        "yes_no": "notation",
        "true_false": "notation",
        "in_order": "wrong order",
        "irrelevant": "nothing to do",
        "follow_plan": "not carried out",
    }.items()
}


@lru_cache(maxsize=256)
def material(text: str) -> str:
    """Return what kind of material ``text`` is; ``""`` if nothing tells.

    Args:
        text: An input, or a description of inputs.
    """
    return next((name for name, cue in _CUES if cue.search(text)), "")


def suspicions(kind: str, symptom: str) -> Mapping[str, float]:
    """Return what one would suspect, with weights.

    Args:
        kind: The material.
        symptom: How an output differs from what was expected.
    """
    vague = "off" if symptom.startswith("too ") else symptom
    for key in ((kind, symptom), (kind, vague), ("", symptom)):
        if key in SUSPICIONS:
            return SUSPICIONS[key]
    return SUSPICIONS["", ""]


def pitfalls(kind: str) -> list[str]:
    """Return everything one could suspect in material of a kind, failures unseen.

    Args:
        kind: The material.
    """
    found = {name for (k, _), weights in SUSPICIONS.items() if k == kind for name in weights}
    return sorted(found | set(SUSPICIONS["", ""]))

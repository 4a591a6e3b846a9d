"""From a brief to a new prompt: keep, drop, bring in, add."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from gpo_dspy.sandbox.dice import Dice

from .credit import credits_of, sentences
from .cues import POINTERS, material, pitfalls, suspicions
from .meta import Brief
from .phrases import ADVICE, FILLER, word
from .symptoms import Case, symptom

_CASES_READ = 8
_FREE_BUDGET = 60


def compose(brief: Brief, dice: Dice, skill: float = 1.0) -> str:
    """Write an improved prompt.

    Args:
        brief: What is known.
        dice: Source of chance.
        skill: 1 for the rewriter; less makes more of the guesses wild.
    """
    credit = credits_of(brief.scored)
    budget = _words_to_change(brief, dice)
    kept, spent = _weeded(sentences(brief.current), credit, dice)
    for line in _additions(brief, kept, credit, dice, skill, budget - spent):
        length = len(line.split())
        if spent + length <= budget:
            kept.append(line)
            spent += length
    return " ".join(kept) or brief.current


def _words_to_change(brief: Brief, dice: Dice) -> int:
    asked = _FREE_BUDGET if brief.budget is None else brief.budget
    overshoots = dice.chance(0.04 if brief.too_long else 0.15)
    return int(asked * (1.2 + dice.random())) + 4 if overshoots else asked


def _weeded(lines: Sequence[str], credit: Mapping[str, float], dice: Dice) -> tuple[list[str], int]:
    kept, spent = [], 0
    for line in lines:
        harm = -credit.get(line, 0.0)
        # Where scores say nothing, a rewriter still leaves something out now and then.
        if dice.chance(0.85 if harm > 1.5 else 0.05 if harm >= 0 else 0.02):
            spent += len(line.split())
        else:
            kept.append(line)
    return kept, spent


def _additions(
    brief: Brief,
    kept: Sequence[str],
    credit: Mapping[str, float],
    dice: Dice,
    skill: float,
    room: int,
) -> list[str]:
    chosen = _from_others(brief, kept, credit, dice)
    failed = [case for case in brief.cases if case.failed]
    if failed:
        chosen += _from_failures(brief, failed, [*kept, *chosen], dice, skill, room)
    else:
        chosen += _from_guesses(brief, dice, room)
    if dice.chance(0.22 if failed else 0.6):
        chosen.insert(dice.integer(0, len(chosen)), word(dice.choice(list(FILLER)), dice, room))
    return [line for line in dict.fromkeys(chosen) if line not in kept]


def _from_others(
    brief: Brief, kept: Sequence[str], credit: Mapping[str, float], dice: Dice
) -> list[str]:
    others = [line for prompt, _ in brief.scored for line in sentences(prompt)]
    missing = [line for line in dict.fromkeys(others) if line not in kept]
    if not credit:
        return [line for line in missing if dice.chance(0.25)]
    good = sorted(missing, key=lambda line: -credit.get(line, 0.0))
    return [line for line in good if credit.get(line, 0.0) > 0.5 and dice.chance(0.5)][:2]


def _from_failures(
    brief: Brief,
    failed: Sequence[Case],
    present: Sequence[str],
    dice: Dice,
    skill: float,
    room: int,
) -> list[str]:
    votes: Counter[str] = Counter()
    for case in dice.sample(failed, min(len(failed), _CASES_READ)):
        votes[dice.weighted(_suspected(case, brief))] += 1
    wanted = {}
    for key, count in votes.items():
        wanted[key] = count**1.5 * (0.2 if _says(present, key) else 1.0)
    chosen = []
    for _ in range(2 if dice.chance(0.5) else 1):
        if not dice.chance(skill):
            chosen.append(word(dice.choice(list(ADVICE)), dice, room))
        elif wanted:
            key = dice.weighted(wanted)
            del wanted[key]
            chosen.append(word(key, dice, room))
    return chosen


def _suspected(case: Case, brief: Brief) -> Mapping[str, float]:
    kind, sign = material(case.given), symptom(case)
    if brief.writer:
        kind, sign = "plan", _plan_symptom(case)
    elif kind == "story" and re.search(r"^step 1", case.given, re.I | re.M):
        kind = "answer"
    weights = dict(suspicions(kind, sign))
    if "not not" not in case.given:
        weights.pop("double_negation", None)
    if "around" not in case.given.lower():
        weights.pop("around", None)
    for key, pattern in POINTERS.items():
        if pattern.search(case.feedback):
            weights[key] = 4 * weights.get(key, 0.5)
    return weights or {"verify": 1.0}


def _plan_symptom(case: Case) -> str:
    given, said = (set(re.findall(r"\d+", text)) for text in (case.given, case.output))
    return "numbers missing" if len(given - said) > 1 else "plausible"


def _says(lines: Sequence[str], key: str) -> bool:
    told = " ".join(lines).lower()
    bank = ADVICE.get(key) or FILLER[key]
    return any(wording.rstrip(".").lower() in told for wording in bank)


def _from_guesses(brief: Brief, dice: Dice, room: int) -> list[str]:
    kind = material(brief.text)
    known = pitfalls(kind)
    chance = 0.35 if kind and brief.cases else 0.2 if kind else 0.1
    count = 2 if dice.chance(0.4) else 1
    guesses = [dice.choice(known) for _ in range(count) if dice.chance(chance)]
    return [word(key, dice, room) for key in guesses]

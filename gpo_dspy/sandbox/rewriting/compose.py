"""From a brief to a new prompt: keep, drop, bring in, add."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gpo_dspy.sandbox.dice import Dice

from .credit import credits_of, sentences
from .cues import material, pitfalls
from .diagnosis import suspected
from .meta import Brief
from .phrases import FILLER, topic, word

# What sounds good anywhere, right or wrong.
_PLAUSIBLE = (*FILLER, "complete", "bare", "calculate", "in_order", "quantities", "digits")
_CASES_READ = 8
_FREE_BUDGET = 60
_NOTICEABLE = 1.0  # points
_TRUST = 2.0  # points


def compose(brief: Brief, dice: Dice, skill: float = 1.0) -> str:
    """Write an improved prompt.

    Args:
        brief: What is known.
        dice: Source of chance.
        skill: Share of the guesses that follow from what was seen; the others are wild.
    """
    credit = credits_of(brief.scored)
    budget = _words_to_change(brief, dice)
    kept, spent = _weeded(sentences(brief.current), credit, dice, budget)
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


def _weeded(
    lines: Sequence[str], credit: Mapping[str, float], dice: Dice, budget: int
) -> tuple[list[str], int]:
    kept, spent = [], 0
    for line in lines:
        length = len(line.split())
        if dice.chance(_doubt(credit.get(line, 0.0))) and spent + length <= budget:
            spent += length
        else:
            kept.append(line)
    return kept, spent


def _doubt(credit: float) -> float:
    """Return how likely a sentence is left out; one of unknown worth is, now and then."""
    if credit < -_NOTICEABLE:
        return 0.8
    return 0.03 if credit > _NOTICEABLE else 0.15


def _additions(
    brief: Brief,
    kept: Sequence[str],
    credit: Mapping[str, float],
    dice: Dice,
    skill: float,
    room: int,
) -> list[str]:
    chosen = _from_others(brief, kept, credit, dice)
    seen = any(case.failed for case in brief.cases)
    keys = _from_failures(brief, [*kept, *chosen], credit, dice, skill) if seen else []
    keys = keys or _from_guesses(brief, credit, dice)
    if not (keys or chosen) or dice.chance(0.3 if seen else 0.6):
        keys.insert(dice.integer(0, len(keys)), dice.weighted(_trusted(FILLER, credit)))
    chosen += [word(key, dice, room) for key in keys]
    return [line for line in dict.fromkeys(chosen) if line not in kept]


def _from_others(
    brief: Brief, kept: Sequence[str], credit: Mapping[str, float], dice: Dice
) -> list[str]:
    others = dict.fromkeys(line for prompt, _ in brief.scored for line in sentences(prompt))
    told = {topic(line) for line in kept} - {""}
    missing = [line for line in others if line not in kept and topic(line) not in told]
    if not credit:
        return [line for line in missing if dice.chance(0.25)]
    good = sorted(missing, key=lambda line: -credit.get(line, 0.0))
    return [line for line in good if credit.get(line, 0.0) > _NOTICEABLE and dice.chance(0.6)][:2]


def _from_failures(
    brief: Brief, present: Sequence[str], credit: Mapping[str, float], dice: Dice, skill: float
) -> list[str]:
    failed = [case for case in brief.cases if case.failed]
    votes: Counter[str] = Counter()
    for case in dice.sample(failed, min(len(failed), _CASES_READ)):
        votes[dice.weighted(suspected(case, brief.writer))] += 1
    told = {topic(line) for line in present}
    trust = _trusted(votes, credit)
    wanted = {
        key: trust[key] * count**1.5 * (0.2 if key in told else 1) for key, count in votes.items()
    }
    count = min(2 if dice.chance(0.3) else 1, len(wanted))
    keys = []
    for _ in range(count):
        key = dice.weighted(wanted)
        del wanted[key]
        keys.append(key if dice.chance(skill) else _wild(brief, credit, dice))
    return keys


def _from_guesses(brief: Brief, credit: Mapping[str, float], dice: Dice) -> list[str]:
    chance = 0.35 if material(brief.text) else 0.2
    count = 2 if dice.chance(0.3) else 1
    return [_wild(brief, credit, dice) for _ in range(count) if dice.chance(chance)]


def _wild(brief: Brief, credit: Mapping[str, float], dice: Dice) -> str:
    """Guess from the kind of material alone, or take what sounds good anywhere."""
    bank = pitfalls(material(brief.text)) if dice.chance(0.5) else _PLAUSIBLE
    return dice.weighted(_trusted(bank, credit))


def _trusted(keys: Iterable[str], credit: Mapping[str, float]) -> dict[str, float]:
    """Weigh advice by how prompts did that gave it already."""
    weights = dict.fromkeys(keys, 1.0)
    for line, points in credit.items():
        key = topic(line)
        if key in weights:
            weights[key] *= min(3.0, max(0.1, math.exp(points / _TRUST)))
    return weights

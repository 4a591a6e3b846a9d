"""From a brief to a new prompt: keep, drop, bring in, add."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from gpo_dspy.sandbox.dice import Dice, share

from .credit import learn
from .cues import material, pitfalls
from .diagnosis import suspected
from .ideas import idea, sentences
from .meta import Brief
from .phrases import FILLER, word
from .reflection import read_reflection, write_reflection
from .summary import read_summary, with_summary

# What sounds good anywhere, right or wrong.
_PLAUSIBLE = (*FILLER, "complete", "bare", "calculate", "in_order", "quantities", "digits")
_CASES_READ = 8
_FREE_BUDGET = 60
_TRUST = 2.0  # points of credit that make advice e times as likely
_IN_VAIN = 0.1  # as likely as advice that was not tried
_SAID_ALREADY = 0.2  # likewise
_STUBBORN = 3.0


def compose(brief: Brief, dice: Dice, skill: float = 1.0) -> str:
    """Write an improved prompt.

    Args:
        brief: What is known.
        dice: Source of chance.
        skill: Share of the guesses that follow from what was seen; the others are wild.
    """
    return _Draft(brief, dice, skill).text()


def reflect(brief: Brief, dice: Dice, skill: float = 1.0) -> str:
    """Say what is wrong with a prompt.

    Args:
        brief: What is known.
        dice: Source of chance.
        skill: Share of the guesses that follow from what was seen; the others are wild.
    """
    return _Draft(brief, dice, skill).reflection()


class _Draft:
    """One rewrite in the making."""

    def __init__(self, brief: Brief, dice: Dice, skill: float) -> None:
        self._brief, self._dice, self._skill = brief, dice, skill
        self._named = read_reflection(brief.reflection)
        self._findings = read_summary(brief.summary)
        lessons = learn(brief.scored, brief.current)
        self._lessons = with_summary(lessons, self._findings, brief.current)

    def text(self) -> str:
        budget = self._words_to_change()
        kept, spent = self._weeded(budget)
        for line in self._additions(kept, budget - spent):
            length = len(line.split())
            if spent + length <= budget:
                kept.append(line)
                spent += length
        return " ".join(kept) or self._brief.current

    def _words_to_change(self) -> int:
        asked = _FREE_BUDGET if self._brief.budget is None else self._brief.budget
        overshoots = self._dice.chance(0.04 if self._brief.too_long else 0.15)
        return int(asked * (1.2 + self._dice.random())) + 4 if overshoots else asked

    def _weeded(self, budget: int) -> tuple[list[str], int]:
        kept, spent = [], 0
        for line in sentences(self._brief.current):
            length = len(line.split())
            if self._dice.chance(self._doubt(line)) and spent + length <= budget:
                spent += length
            else:
                kept.append(line)
        return kept, spent

    def _doubt(self, line: str) -> float:
        """Return how likely a sentence is left out; one of unknown worth is, now and then."""
        if self._lessons.hurts(idea(line)):
            return 0.85
        if self._lessons.helps(idea(line)):
            return 0.02
        return 0.08 if self._lessons.any else 0.15

    def _additions(self, kept: Sequence[str], room: int) -> list[str]:
        dice = self._dice
        chosen = self._from_others(kept)
        seen = bool(self._named) or any(case.failed for case in self._brief.cases)
        keys = self._from_failures([*kept, *chosen]) if seen else []
        keys = keys or self._from_guesses()
        if not (keys or chosen) or dice.chance(0.3 if seen else 0.6):
            keys.insert(dice.integer(0, len(keys)), dice.weighted(self._weighed(tuple(FILLER))))
        chosen += [word(key, dice, room) for key in keys]
        return [line for line in dict.fromkeys(chosen) if line not in kept]

    def _from_others(self, kept: Sequence[str]) -> list[str]:
        """Take over what seems to have helped other prompts."""
        lines = {name: found.sentence for name, found in self._findings.items()}
        lines |= {idea(x): x for prompt, _ in self._brief.scored for x in sentences(prompt)}
        told = {idea(line) for line in kept}
        good = [name for name in lines if name not in told and self._lessons.helps(name)]
        good.sort(key=lambda name: -self._lessons.credit[name])
        return [lines[name] for name in good if self._dice.chance(0.9)][:3]

    def reflection(self) -> str:
        """Write what is wrong with the current prompt, as far as the failures tell."""
        votes: Counter[str] = Counter()
        for key, count in self._votes(sentences(self._brief.current)).items():
            votes[key if self._dice.chance(self._skill) else self._wild()] += count
        return write_reflection(votes, self._dice)

    def _votes(self, present: Sequence[str]) -> Counter[str]:
        """Suspect one cause of each failure."""
        dice, brief = self._dice, self._brief
        failed = [case for case in brief.cases if case.failed]
        told = {idea(line) for line in present}
        votes: Counter[str] = Counter()
        for case in dice.sample(failed, min(len(failed), _CASES_READ)):
            weights = self._weighed(suspected(case, brief.writer))
            news = {key: w * (_SAID_ALREADY if key in told else 1) for key, w in weights.items()}
            votes[dice.weighted(news)] += 1
        return votes

    def _from_failures(self, present: Sequence[str]) -> list[str]:
        dice, told = self._dice, {idea(line) for line in present}
        votes = self._votes(present)
        named = {key: count for key, count in self._named.items() if key not in told}
        votes.update(named)
        keys: list[str] = []
        for _ in range(min(2 if dice.chance(0.3) else 1, len(votes))):
            key = dice.weighted({key: count**1.5 for key, count in votes.items()})
            del votes[key]
            # Whoever reflected has guessed already, right or wrong.
            keys.append(key if key in named or dice.chance(self._skill) else self._wild())
        return keys

    def _from_guesses(self) -> list[str]:
        chance = 0.6 if material(self._brief.text) else 0.3
        count = 2 if self._dice.chance(0.3) else 1
        return [self._wild() for _ in range(count) if self._dice.chance(chance)]

    def _wild(self) -> str:
        """Guess from the kind of material alone, or take what sounds good anywhere."""
        bank = pitfalls(material(self._brief.text)) if self._dice.chance(0.5) else _PLAUSIBLE
        return self._dice.weighted(self._weighed(bank))

    def _weighed(self, keys: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
        """Weigh advice by hunch, and by how prompts did that gave it already.

        Hunches belong to the kind of task and to the prompt that is read: asked again, the
        rewriter comes up with the same ideas again, unless it sees that they were tried.
        """
        weights = dict(keys) if isinstance(keys, Mapping) else dict.fromkeys(keys, 1.0)
        kind = material(self._brief.text)
        for key in weights:
            hunch = share("hunch", kind, key) + share("hunch", self._brief.current, key) - 1
            weights[key] *= math.exp(_STUBBORN * hunch)
            points = self._lessons.credit.get(key, 0.0)
            weights[key] *= min(3.0, max(0.05, math.exp(points / _TRUST)))
            if key in self._lessons.vain:
                weights[key] *= _IN_VAIN
        return weights

"""What the scores of whole prompts say about the ideas in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .ideas import ideas

_DOUBT = 0.5
_PROMPTS_READ = 12
NOTICEABLE = 2.0  # points


@dataclass(frozen=True, slots=True)
class Lessons:
    """What scored prompts teach.

    Attributes:
        credit: Idea -> what it seems to bring, in points, shrunk to 0.
        vain: Ideas which prompts had that were no better for it than the current one.
    """

    credit: Mapping[str, float] = field(default_factory=dict)
    vain: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        """Whether there were scores to learn from."""
        return bool(self.credit)

    def helps(self, idea: str) -> bool:
        """Tell whether an idea clearly helps."""
        return self.credit.get(idea, 0.0) > NOTICEABLE

    def hurts(self, idea: str) -> bool:
        """Tell whether an idea clearly hurts."""
        return self.credit.get(idea, 0.0) < -NOTICEABLE


def learn(scored: Sequence[tuple[str, float]], current: str) -> Lessons:
    """Learn from scored prompts; from equal scores there is nothing to learn.

    Args:
        scored: Prompts with their scores.
        current: The prompt to improve; its score is among them, or else the best is its standard.
    """
    read = list(dict(scored).items())[-_PROMPTS_READ:]
    scores = [score for _, score in read]
    if not read or max(scores) == min(scores):
        return Lessons()
    own, told = dict(read).get(current, max(scores)), ideas(current)
    parts = [ideas(prompt) for prompt, _ in read]
    credit = _effects(parts, scores)
    tried = {i for part, score in zip(parts, scores, strict=True) if score <= own for i in part}
    vain = frozenset(i for i in tried - told if credit[i] <= NOTICEABLE)
    return Lessons(credit, vain)


def _effects(parts: Sequence[frozenset[str]], scores: Sequence[float]) -> dict[str, float]:
    """Estimate the effect of each idea by ridge regression of the scores on the ideas.

    In its dual form, which is small and needs nothing but exact sums in a fixed order: with the
    Gram matrix K of the centred rows, (K + doubt) a = scores - mean; an idea's effect is the sum
    of a over the prompts that have it.
    """
    count = len(parts)
    shared = [[float(len(one & other)) for other in parts] for one in parts]
    rows = [sum(row) / count for row in shared]
    mean, level = sum(rows) / count, sum(scores) / count
    gram = [
        [shared[i][j] - rows[i] - rows[j] + mean + _DOUBT * (i == j) for j in range(count)]
        for i in range(count)
    ]
    weights = _solve(gram, [score - level for score in scores])
    every = sorted(frozenset().union(*parts))
    return {i: sum(w for w, part in zip(weights, parts, strict=True) if i in part) for i in every}


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve a positive definite system by elimination."""
    count = len(right)
    for i in range(count):
        for j in range(i + 1, count):
            factor = matrix[j][i] / matrix[i][i]
            matrix[j] = [b - factor * a for a, b in zip(matrix[i], matrix[j], strict=True)]
            right[j] -= factor * right[i]
    solved = [0.0] * count
    for i in reversed(range(count)):
        known = sum(matrix[i][j] * solved[j] for j in range(i + 1, count))
        solved[i] = (right[i] - known) / matrix[i][i]
    return solved

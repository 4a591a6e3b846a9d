"""Directions that choose earlier prompts from the trajectory: the momentum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpo_dspy.direction.base import at_least_one
from gpo_dspy.state import ScoredPrompt

if TYPE_CHECKING:
    from gpo_dspy.trajectory import Trajectory

DEFAULT_K = 4
"""Prompts shown. The paper shows 3, which ``GPO.paper`` keeps; trial runs did better with 4, and
no better with 8."""


@dataclass(frozen=True)
class _UpToK:
    k: int = DEFAULT_K

    def __post_init__(self) -> None:
        at_least_one(self, "k")

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        raise NotImplementedError


@dataclass(frozen=True)
class Relevance(_UpToK):
    """The prompts nearest to the current one in embedding space.

    Attributes:
        k: Most prompts to show.
    """

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        """Return the ``k`` nearest."""
        nearest = trajectory.nearest(current.text, self.k + 1)
        return _ascending(trajectory, current, (prompt for prompt, _ in nearest), self.k)


@dataclass(frozen=True)
class Recency(_UpToK):
    """The newest prompts.

    Attributes:
        k: Most prompts to show.
    """

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        """Return the ``k`` newest."""
        return _ascending(trajectory, current, trajectory.latest(self.k + 1), self.k)


@dataclass(frozen=True)
class Importance(_UpToK):
    """The prompts with the highest scores.

    Attributes:
        k: Most prompts to show.
    """

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        """Return the ``k`` best."""
        return _ascending(trajectory, current, trajectory.best(self.k + 1), self.k)


@dataclass(frozen=True)
class RelevanceAndScore(_UpToK):
    r"""Prompts that are both near and good.

    Among the ``pool`` nearest, those with the largest

    .. math::
        (1 - w) \, \hat r + w \, \hat s

    are taken, where :math:`\hat r` and :math:`\hat s` are similarity and score, each stretched
    over the pool to [0, 1] (0 if all are equal). Without the stretching one would drown the other:
    prompts of one task are all similar, and their scores often differ by more. Equal sums go to
    the nearer prompt, then to the older.

    Attributes:
        k: Most prompts to show.
        weight: Weight :math:`w` of the score in [0, 1]; 0 is :class:`Relevance`.
        pool: Number of nearest prompts that compete, at least ``k``.
    """

    weight: float = 0.5
    pool: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be in [0, 1], found {self.weight!r}.")
        if self.pool < self.k:
            raise ValueError(f"pool must be at least k={self.k}, found {self.pool!r}.")

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        """Return the ``k`` with the largest weighted sum."""
        nearest = trajectory.nearest(current.text, self.pool + 1)
        others = [found for found in nearest if found[0].text != current.text][: self.pool]
        relevance = _stretched([similarity for _, similarity in others])
        score = _stretched([prompt.score for prompt, _ in others])
        values = [
            (1 - self.weight) * r + self.weight * s for r, s in zip(relevance, score, strict=True)
        ]
        ranked = sorted(range(len(others)), key=lambda i: -values[i])  # stable: nearer, then older
        return _ascending(trajectory, current, (others[i][0] for i in ranked), self.k)


@dataclass(frozen=True)
class NoDirection:
    """No earlier prompts at all, to measure what the direction is worth."""

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()


def _ascending(
    trajectory: Trajectory, current: ScoredPrompt, ranked: Iterable[ScoredPrompt], k: int
) -> tuple[ScoredPrompt, ...]:
    """Return the first ``k`` that are not the current prompt, in ascending order of score."""
    chosen = [prompt for prompt in ranked if prompt.text != current.text][:k]
    return tuple(sorted(chosen, key=lambda prompt: (prompt.score, trajectory.age(prompt.text))))


def _stretched(values: list[float]) -> list[float]:
    """Return the values scaled to [0, 1], or zeros if all are equal."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]

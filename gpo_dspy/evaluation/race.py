"""Race candidates against the incumbent: many look at few examples, few at many.

Successive halving (Jamieson and Talwalkar, 2016, https://arxiv.org/abs/1502.07943) over blocks
of shared examples. Sharing them makes the comparison paired, so that the difficulty of the
examples cancels; the incumbent's results are known from earlier races and cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.program import Instructions

BLOCKS = (4, 12, 36)
"""Examples seen by the end of each round; measured in the study behind DESIGN section 4."""

CAUTION = 4.0
"""Examples' worth of belief that a new candidate is as good as the incumbent."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a candidate stands against the incumbent.

    Attributes:
        state: The candidate's instructions.
        difference: Mean paired difference of the scores, candidate minus incumbent.
        score: The incumbent's mean score plus the difference, in [0, 1]; the difference of a
            candidate that left early is shrunk, for it rests on few examples.
        evaluations: Shared examples seen.
        finished: Whether it saw the last block.
    """

    state: Instructions
    difference: float
    score: float
    evaluations: int
    finished: bool = False


def race(
    board: Scoreboard,
    incumbent: Instructions,
    candidates: Sequence[Instructions],
    order: Sequence[int],
    *,
    blocks: Sequence[int] = BLOCKS,
    reserve: int = 0,
) -> list[Standing]:
    """Score candidates on growing blocks of examples, and drop the weaker half after each.

    After the first block only candidates that do better than the incumbent go on.

    Args:
        board: Makes the metric calls.
        incumbent: The current instructions.
        candidates: Different from each other and from the incumbent.
        order: Example indices; block ``n`` is the first ``n`` of them.
        blocks: Examples seen by the end of each round, ascending.
        reserve: Metric calls that must be left afterwards.

    Returns:
        One standing per candidate that was scored, the best first: the one that went
        furthest, then the one with the greater difference.
    """
    standings: dict[Instructions, Standing] = {}
    alive = list(candidates)
    blocks = sorted({min(block, len(order)) for block in blocks})
    for number, block in enumerate(blocks, start=1):
        indices = order[: _affordable(board, [incumbent, *alive], order[:block], reserve)]
        seen = standings[alive[0]].evaluations if alive[0] in standings else 0
        if len(indices) <= seen:
            break
        board.evaluate((state, index) for index in indices for state in (incumbent, *alive))
        finished = number == len(blocks)
        for state in alive:
            standings[state] = standing(board, incumbent, state, indices, finished=finished)
        alive.sort(key=lambda state: -standings[state].difference)  # stable: ties by position
        half = alive[: (len(alive) + 1) // 2]
        alive = [state for state in half if standings[state].difference > 0]
        if not alive or len(indices) < block:
            break
    return sorted(standings.values(), key=lambda s: (-s.evaluations, -s.difference))


def standing(
    board: Scoreboard,
    incumbent: Instructions,
    state: Instructions,
    indices: Sequence[int],
    *,
    finished: bool,
) -> Standing:
    """Compare a candidate with the incumbent on examples that both have seen."""
    difference = fmean(board.scores(state, indices)) - fmean(board.scores(incumbent, indices))
    known = board.results(incumbent)
    level = fmean(evaluation.score for evaluation in known.values())
    trust = 1.0 if finished else len(indices) / (len(indices) + CAUTION)
    score = min(max(level + trust * difference, 0.0), 1.0)
    return Standing(state, difference, score, len(indices), finished)


def _affordable(
    board: Scoreboard, states: Sequence[Instructions], indices: Sequence[int], reserve: int
) -> int:
    """Return how many of the examples can be paid for, for all states alike."""
    left = board.remaining - reserve
    for number, index in enumerate(indices):
        left -= len(board.missing((state, index) for state in states))
        if left < 0:
            return number
    return len(indices)

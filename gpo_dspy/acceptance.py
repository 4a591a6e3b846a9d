"""Which candidate is accepted, and which program the next step starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from gpo_dspy.evaluation.race import Standing
from gpo_dspy.program_state import ProgramState

Acceptance = Literal["improvement", "best_new"]

STEP_PENALTY = 0.05
"""Score that a program loses in the choice of the next parent for each step taken from it."""


def choose(
    acceptance: Acceptance, standings: Mapping[ProgramState, Standing]
) -> ProgramState | None:
    """Return the candidate that becomes current, or None to stay.

    Args:
        acceptance: "improvement" wants a race to its end and a difference above 0; "best_new" (the
            paper's) takes the best candidate even if it is worse.
        standings: The candidates that were scored, the best first; for "best_new" without those
            that were current before.
    """
    if acceptance == "best_new":
        return max(standings, key=lambda s: standings[s].difference, default=None)
    best = next(iter(standings), None)
    if best is None or standings[best].difference <= 0 or not standings[best].complete:
        return None
    return best


def next_parent(
    parents: Mapping[ProgramState, float], taken: Sequence[ProgramState]
) -> ProgramState:
    """Return the program that the next step starts from: good, and not yet exhausted.

    A prompt can be good and yet a dead end, for instance if it bears a sentence that spoils
    whatever is added. Each step taken from a program counts against it, so that the search goes
    back to an earlier one in time; what that one brings forth is measured against it alone.

    Args:
        parents: Scores in [0, 1] of the programs accepted so far, the oldest first.
        taken: The program that each step so far started from.
    """
    return max(parents, key=lambda p: parents[p] - STEP_PENALTY * taken.count(p))

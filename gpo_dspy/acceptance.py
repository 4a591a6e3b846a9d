"""Which candidate becomes the current program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gpo_dspy.evaluation.race import BLOCKS, Standing
from gpo_dspy.program import Instructions

Acceptance = Literal["improvement", "best_new"]


def choose(
    acceptance: Acceptance, standings: Mapping[Instructions, Standing], pool: int
) -> Instructions | None:
    """Return the candidate that becomes current, or None to stay.

    Args:
        acceptance: "improvement" wants a better mean than the current program's on shared
            examples; "best_new" (the paper's) takes the best candidate even if it is worse.
        standings: The candidates that were scored, the best first; for "best_new" without those
            that were current before.
        pool: Number of examples that the search may use.
    """
    if acceptance == "best_new":
        return max(standings, key=lambda s: standings[s].score, default=None)
    enough = min(BLOCKS[0], pool)
    best = next(iter(standings), None)
    if best is None or standings[best].difference <= 0 or standings[best].evaluations < enough:
        return None
    return best

"""When a run ends, and what it says then."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence

WINDOW = 10
"""Steps over which the training loss is averaged to tell divergence."""


class StopReason(enum.Enum):
    """Why a run ended; the value says it, and what to do where something went wrong."""

    MAX_STEPS = "all steps were taken"
    NO_IMPROVEMENT = "the validation score did not improve any more"
    NOT_FINITE = (
        "a loss or gradient became NaN or infinite; the last good state is kept. Lower the "
        "learning rate, or load the model in bfloat16 or float32 if it runs in float16"
    )
    NO_GRADIENT = (
        "no objective has a gradient; the last good state is kept. Check that the objectives are "
        "computed from the logits they are given, or lower the learning rate if steps were taken"
    )
    DIVERGED = (
        "the training loss rose far above its lowest value; the last good state is kept. Lower "
        "the learning rate"
    )

    @property
    def went_wrong(self) -> bool:
        """Whether the run was broken off."""
        return self not in (StopReason.MAX_STEPS, StopReason.NO_IMPROVEMENT)


def recent_loss(losses: Sequence[float]) -> float:
    """Mean of the last 10 training losses of the first objective, or of all if there are fewer.

    Args:
        losses: One value per step.

    Returns:
        The mean.
    """
    return statistics.fmean(losses[-WINDOW:])


def has_diverged(recent: float, lowest: float) -> bool:
    """Whether the first objective left the region it had reached.

    Args:
        recent: Its recent mean (:func:`recent_loss`).
        lowest: The lowest recent mean so far.

    Returns:
        Whether the recent mean is above twice the lowest plus 2.
    """
    return recent > 2 * abs(lowest) + 2

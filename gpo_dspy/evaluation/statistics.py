"""Intervals for the final claim: means of scores in [0, 1], alone and as a paired difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with a 95 % confidence interval, all in the units of the score.

    Attributes:
        value: The plain mean of what was measured.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of examples behind it.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def mean_estimate(scores: Sequence[float]) -> Estimate:
    """Estimate a mean score; Agresti and Coull (1998): two failures and two successes are added.

    Args:
        scores: In [0, 1], at least one.
    """
    low, high = _wald([*scores, 0.0, 0.0, 1.0, 1.0])
    return Estimate(fmean(scores), max(low, 0.0), min(high, 1.0), len(scores))


def paired_difference(base: Sequence[float], new: Sequence[float]) -> Estimate:
    """Estimate the mean of ``new - base`` over the same examples.

    Bonett and Price (2012), Journal of Educational and Behavioral Statistics 37(4): one
    difference of each sign is added before the normal interval is taken, which keeps the
    coverage near 95 % for 0/1 scores and few discordant pairs. Their size is 1 for 0/1 scores
    and the largest difference seen for others, so that fine-grained metrics are not blurred. If
    none was seen it is 1 too: a rare large difference may have been missed.

    Args:
        base: Scores in [0, 1].
        new: Scores in [0, 1] on the same examples in the same order.
    """
    differences = [after - before for before, after in zip(base, new, strict=True)]
    binary = {*base, *new} <= {0.0, 1.0}
    size = 1.0 if binary else max(map(abs, differences)) or 1.0
    low, high = _wald([*differences, size, -size])
    return Estimate(fmean(differences), max(low, -1.0), min(high, 1.0), len(differences))


def _wald(values: Sequence[float]) -> tuple[float, float]:
    mean, half = fmean(values), Z95 * pstdev(values) / math.sqrt(len(values))
    return mean - half, mean + half

"""Examples sorted by how the current program does on them: wrong or right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from gpo_dspy.evaluation.runner import Evaluation


def wrong(results: Mapping[int, Evaluation]) -> list[int]:
    """Return the examples that went wrong: below full score, and not above the mean.

    Args:
        results: What is known of a program, by example index.
    """
    scores = [result.score for result in results.values()]
    # The mean of equal scores may be rounded to just below them.
    level = max(fmean(scores), min(scores)) if scores else 0.0
    return [i for i, result in results.items() if result.score < 1.0 and result.score <= level]


def right(results: Mapping[int, Evaluation]) -> list[int]:
    """Return the examples that went right: all but the :func:`wrong` ones."""
    failed = set(wrong(results))
    return [index for index in results if index not in failed]


def stratified_difference(
    candidate: Mapping[int, Evaluation],
    incumbent: Mapping[int, Evaluation],
    indices: Sequence[int],
) -> float:
    """Estimate how much higher the candidate's mean score is, from some of the examples.

    A trial holds more failures than the pool does, so its plain mean would flatter: what got
    better among the incumbent's failures, and worse among its successes, is weighted by how many
    of each the incumbent has (post-stratification).

    Args:
        candidate: The candidate's results, by example index.
        incumbent: All that is known of the incumbent.
        indices: Examples that both were scored on; others do not count.
    """
    total = 0.0
    for stratum in (set(wrong(incumbent)), set(right(incumbent))):
        seen = [index for index in indices if index in stratum]
        if seen:
            change = fmean(candidate[i].score - incumbent[i].score for i in seen)
            total += change * len(stratum) / len(incumbent)
    return total

"""Mean scores of programs that were scored on different examples, made comparable."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from gpo_dspy.evaluation.race import CAUTION

Key = TypeVar("Key", bound=Hashable)

DIGITS = 9
"""Decimals of an estimate: what rounding leaves of equal ones must not look like a difference."""


def adjusted_means(
    scores: Mapping[Key, Mapping[int, Sequence[float]]], pool: int, caution: float = CAUTION
) -> dict[Key, tuple[float, ...]]:
    """Estimate each program's mean scores on all examples that any of them was scored on.

    Plain means would favour the program that met easier examples, and a candidate met the failures
    of its parent first. Comparing each two on the examples that both have is fair to the pair, but
    such verdicts may run in a circle, and then every program is beaten by another. So a score is
    taken as the sum of an effect of the program and one of the example, fitted by least squares to
    all that is known (adjusted means of an unbalanced two-way layout): where all programs were
    scored on the same examples these are the plain means, elsewhere hard examples cancel as they
    do in a pair, and one number per program and objective keeps "better" free of circles.

    Effects of programs that saw only some of the examples are shrunk to the average program, for
    the highest of many means over few examples is mostly luck: by ``caution`` times the share of
    examples not seen.

    Args:
        scores: Of each program by example index, one in [0, 1] per objective; at least one
            example each.
        pool: Number of examples that a program could be scored on.
        caution: Examples' worth of belief that a program is like the average one.

    Returns:
        Estimates in [0, 1] of each program, one per objective.
    """
    if not scores:
        return {}
    examples = {index: i for i, index in enumerate(sorted({i for s in scores.values() for i in s}))}
    seen = np.zeros((len(scores), len(examples)))
    objectives = len(next(iter(next(iter(scores.values())).values())))
    values = np.zeros((len(scores), len(examples), objectives))
    for row, known in enumerate(scores.values()):
        for index, given in known.items():
            seen[row, examples[index]] = 1.0
            values[row, examples[index]] = given
    counts = seen.sum(axis=1)  # [programs]
    belief = caution * np.clip(1.0 - counts / pool, 0.0, 1.0)  # [programs]
    # Takes effects to their distances from the mean.
    off_average = np.eye(len(scores)) - 1.0 / len(scores)
    shrinking = off_average.T @ (belief[:, None] * off_average)  # [programs, programs]
    # Eliminating the examples' effects leaves one equation per program (Schur complement).
    programs = seen.sum(axis=0)  # [examples]; each was seen by one program at least
    totals = values.sum(axis=0)  # [examples, objectives]
    share = seen / programs  # [programs, examples]
    normal = np.diag(counts) + shrinking - share @ seen.T  # [programs, programs]
    sums = values.sum(axis=1) - share @ totals  # [programs, objectives]
    # Of least norm: a constant may go from all programs to all examples.
    of_programs = np.linalg.lstsq(normal, sums, rcond=None)[0]
    of_examples = (totals - seen.T @ of_programs) / programs[:, None]
    means = of_programs + of_examples.mean(axis=0)
    rounded = np.clip(means, 0.0, 1.0).round(DIGITS).tolist()
    return {key: tuple(row) for key, row in zip(scores, rounded, strict=True)}

"""Several scores of one metric as one objective: weighed, or at changing weights for a front."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite
from statistics import fmean
from typing import Any, TypeAlias

from gpo_dspy.evaluation.runner import Evaluation

Weights: TypeAlias = tuple[tuple[str, float], ...]
"""(name, weight above 0) pairs, sorted by name, of sum 1; none at all are equal weights."""

EQUAL: Weights = ()

FORMS = "None, {'accuracy': 0.7, 'brevity': 0.3} with weights above 0, or 'pareto'"


@dataclass(frozen=True, slots=True)
class Objective:
    """What the search maximises of a metric's named scores.

    With "pareto" each step is taken under weights of its own, so that the programs found spread
    over the trade-offs (random scalarisation, as in ParEGO, Knowles 2006,
    https://doi.org/10.1109/TEVC.2005.851274). The scalar is a weighted mean and not ParEGO's
    augmented Tchebycheff function: only a linear one may be taken on each example and averaged
    afterwards, which races and paired comparisons rest on. It leads to the convex part of a
    front; programs on the rest of it are found on the way.

    Attributes:
        weights: Of the scores in :attr:`gpo_dspy.evaluation.runner.Evaluation.score`, wherever
            programs are compared outside of a step; None is the metric's own ``score``.
        pareto: Whether each step has weights of its own.
    """

    weights: Weights | None = None
    pareto: bool = False

    @classmethod
    def of(cls, value: Any) -> Objective:
        """Return the objective of an argument: None, weights by name, or "pareto".

        Weights that differ by a common factor are the same.

        Raises:
            ValueError: It is none of these.
        """
        if value is None:
            return cls()
        if isinstance(value, str) and value == "pareto":
            return cls(EQUAL, pareto=True)
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"objective must be {FORMS}; found {value!r}.")
        for name, weight in value.items():
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not isinstance(name, str) or not is_number or not (isfinite(weight) and weight > 0):
                raise ValueError(
                    f"objective must be {FORMS}; found the weight {weight!r} for {name!r}. "
                    "A score without a weight does not count."
                )
        return cls(_normalised(value))

    def misses(self, names: Sequence[str]) -> str:
        """Say what keeps a metric's named scores from being weighed; empty if nothing does.

        Args:
            names: Of the scores; none if the metric gives a single one.
        """
        if self.weights is None:
            return ""
        lacking = [name for name, _ in self.weights if name not in names]
        if names and not lacking:
            return ""
        wanted = "'pareto'" if self.pareto else f"weights for {_listed(lacking)}"
        given = f"the scores {_listed(names)}" if names else "a single score"
        return (
            f"objective: it has {wanted}, but the metric returned {given}. Have the metric return "
            "its scores by name, such as {'accuracy': 1.0, 'brevity': 0.4}, and weigh those."
        )

    def drawn(self, names: Sequence[str], seed: int, step: int) -> Weights | None:
        """Return the weights of a step, for "pareto" drawn evenly from all that sum to 1.

        Args:
            names: Of the metric's scores.
            seed: The run's seed.
            step: The step, from 1.
        """
        if not self.pareto:
            return self.weights
        rng = random.Random(f"{seed}/{step}/weights")
        # Exponential variates, divided by their sum, are a flat Dirichlet distribution.
        return _normalised({name: rng.expovariate(1.0) for name in sorted(names)})


def weigh(evaluation: Evaluation, weights: Weights | None) -> Evaluation:
    """Return an evaluation with the score it has under some weights.

    Args:
        evaluation: Keeps its score if it has no named ones: it failed, and 0 is 0 in each.
        weights: The weights; None leaves the metric's own score.
    """
    if weights is None or not evaluation.scores:
        return evaluation
    given = dict(evaluation.scores)
    if weights == EQUAL:
        score = fmean(given.values())
    else:
        # Rounding leaves a sum of weights beside 1; full scores must be 1 exactly.
        total = fsum(weight for _, weight in weights)
        score = fsum(weight * given[name] for name, weight in weights) / total
    return evaluation if score == evaluation.score else replace(evaluation, score=score)


def names_differ(expected: Sequence[str], found: Sequence[str]) -> str:
    """Say how the names of two calls' scores differ; empty if they do not.

    Args:
        expected: Names in the first call.
        found: Names in a later one.
    """
    missing = [name for name in expected if name not in found]
    new = [name for name in found if name not in expected]
    if not missing and not new:
        return ""
    changes = [f"without {_listed(missing)}"] if missing else []
    changes += [f"with {_listed(new)}, new"] if new else []
    before = f"the scores {_listed(expected)}" if expected else "a single score"
    return (
        f"metric: it returned {before} at first, and now scores {' and '.join(changes)}. The "
        "names must be the same in every call."
    )


def _normalised(weights: Mapping[str, float]) -> Weights:
    """Divide by the sum; to twelve digits, so that a common factor leaves no trace."""
    total = fsum(weights.values())
    return tuple((name, float(f"{weights[name] / total:.12g}")) for name in sorted(weights))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))

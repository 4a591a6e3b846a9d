"""Pareto fronts, and the estimates that they are made of, against slow obvious twins."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.evaluation.adjusted import adjusted_means
from gpo_dspy.evaluation.race import CAUTION
from gpo_dspy.front import dominates, non_dominated

SCORES = st.integers(0, 4).map(lambda quarter: quarter / 4)


def _vectors(objectives: int) -> st.SearchStrategy[dict[int, tuple[float, ...]]]:
    vector = st.tuples(*[SCORES] * objectives)
    return st.lists(vector, max_size=12).map(lambda found: dict(enumerate(found)))


VECTORS = st.integers(1, 3).flatmap(_vectors)


def slow_dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    worse = better = 0
    for i in range(len(one)):
        worse += one[i] < other[i]
        better += one[i] > other[i]
    return worse == 0 and better > 0


@given(VECTORS)
def test_a_front_is_what_none_other_dominates(vectors: dict[int, tuple[float, ...]]) -> None:
    members = non_dominated(vectors)
    expected = []
    for key, own in vectors.items():
        beaten = False
        for other in vectors.values():
            beaten = beaten or slow_dominates(other, own)
        if not beaten:
            expected.append(key)
    assert members == expected
    assert bool(members) is bool(vectors), "there is always one"


@given(VECTORS)
def test_every_one_left_out_is_dominated_by_a_member(
    vectors: dict[int, tuple[float, ...]],
) -> None:
    members = non_dominated(vectors)
    for key, own in vectors.items():
        by_member = any(dominates(vectors[member], own) for member in members)
        assert by_member is (key not in members)


# --- estimates ------------------------------------------------------------------------------------

Scores = dict[str, dict[int, tuple[float, float]]]


@st.composite
def _scored(draw: st.DrawFn, *, all_seen: bool = False) -> tuple[Scores, int]:
    """Draw programs that share their first two examples, or all, and the size of the pool."""
    programs, examples = draw(st.integers(1, 5)), draw(st.integers(2, 7))
    scores: Scores = {}
    for program in range(programs):
        last = st.integers(2, examples)
        count = examples if all_seen else draw(last)
        scores[f"program {program}"] = {i: draw(st.tuples(SCORES, SCORES)) for i in range(count)}
    return scores, examples


@given(_scored(all_seen=True))
def test_on_the_same_examples_the_estimates_are_the_plain_means(case: tuple[Scores, int]) -> None:
    scores, pool = case
    for program, means in adjusted_means(scores, pool).items():
        plain = [fmean(column) for column in zip(*scores[program].values(), strict=True)]
        assert means == pytest.approx(plain, abs=1e-8)


def slow_means(scores: Scores, pool: int, objective: int) -> dict[str, float]:
    """Write down one equation per score and one per belief, and solve them all at once."""
    programs = list(scores)
    examples = sorted({index for known in scores.values() for index in known})
    equations, right_sides = [], []
    for program, known in scores.items():
        for index, values in known.items():
            effects = [float(p == program) for p in programs]
            equations.append(effects + [float(i == index) for i in examples])
            right_sides.append(values[objective])
        weight = (CAUTION * (1 - len(known) / pool)) ** 0.5
        average = [float(p == program) - 1 / len(programs) for p in programs]
        equations.append([weight * x for x in average] + [0.0] * len(examples))
        right_sides.append(0.0)
    solved = np.linalg.lstsq(np.array(equations), np.array(right_sides), rcond=None)[0].tolist()
    level = fmean(solved[len(programs) :])
    means = (min(max(effect + level, 0.0), 1.0) for effect in solved)
    return dict(zip(programs, means, strict=False))


@given(_scored())
def test_the_estimates_are_a_least_squares_fit(case: tuple[Scores, int]) -> None:
    scores, pool = case
    found = adjusted_means(scores, pool)
    for objective in (0, 1):
        expected = slow_means(scores, pool, objective)
        assert {p: means[objective] for p, means in found.items()} == pytest.approx(
            expected, abs=1e-6
        )


def test_hard_examples_do_not_count_against_the_program_that_met_them() -> None:
    hard, easy = range(20), range(20, 40)
    both = dict.fromkeys(hard, (0.0,)) | dict.fromkeys(easy, (1.0,))
    scores = {"all": both, "as good": {i: both[i] for i in (*hard, 20)}}
    found = adjusted_means(scores, 40)
    assert found["as good"] == pytest.approx(found["all"])
    assert fmean(s for (s,) in scores["as good"].values()) < 0.1


def test_luck_on_few_examples_is_shrunk() -> None:
    start = {i: (float(i % 2),) for i in range(40)}
    lucky = dict.fromkeys(range(4), (1.0,))
    much = dict.fromkeys(range(40), (1.0,))
    found = adjusted_means({"start": start, "lucky": lucky, "much": much}, 40)
    assert found["start"][0] < found["lucky"][0] < found["much"][0] == 1.0


def test_nothing_scored_is_no_front() -> None:
    assert adjusted_means({}, 10) == {}
    assert non_dominated({}) == []

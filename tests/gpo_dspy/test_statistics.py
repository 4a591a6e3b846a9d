"""The 95 % intervals cover the truth as often as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.evaluation.statistics import Estimate, mean_estimate, paired_difference

RUNS = 600  # the standard error of a coverage of 95 % is then 0.9 points
LEAST_COVERAGE = 0.92

Scores = list[float]
Generator = np.random.Generator


def _binary(p: float) -> Callable[[Generator, int], Scores]:
    return lambda rng, n: list((rng.random(n) < p).astype(float))


def _beta(a: float, b: float) -> Callable[[Generator, int], Scores]:
    return lambda rng, n: list(rng.beta(a, b, n))


def _switching(
    base: float, up: float, down: float
) -> Callable[[Generator, int], tuple[Scores, Scores]]:
    """Right answers in ``base`` of the cases; wrong ones mended, right ones broken, at random."""

    def draw(rng: Generator, n: int) -> tuple[Scores, Scores]:
        old, luck = rng.random(n) < base, rng.random(n)
        new = np.where(old, luck >= down, luck < up)
        return list(old.astype(float)), list(new.astype(float))

    return draw


def _shifted(gain: float) -> Callable[[Generator, int], tuple[Scores, Scores]]:
    def draw(rng: Generator, n: int) -> tuple[Scores, Scores]:
        old = 0.8 * rng.beta(2, 2, n)
        return list(old), list(old + gain + rng.uniform(-0.05, 0.05, n))

    return draw


def _rare_gains(p: float, gain: float) -> Callable[[Generator, int], tuple[Scores, Scores]]:
    def draw(rng: Generator, n: int) -> tuple[Scores, Scores]:
        old = 0.5 * rng.random(n)
        return list(old), list(old + gain * (rng.random(n) < p))

    return draw


def _coverage(truth: float, estimate: Callable[[Generator], Estimate]) -> float:
    rng = np.random.default_rng(7)
    found = (estimate(rng) for _ in range(RUNS))
    return sum(e.low <= truth <= e.high for e in found) / RUNS


@pytest.mark.parametrize("n", [8, 20, 100])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (_binary(0.1), 0.1),
        (_binary(0.5), 0.5),
        (_binary(0.9), 0.9),
        (_beta(2, 2), 0.5),
        (_beta(5, 0.5), 10 / 11),
    ],
)
def test_coverage_of_a_mean(n: int, draw: Callable[[Generator, int], Scores], truth: float) -> None:
    assert _coverage(truth, lambda rng: mean_estimate(draw(rng, n))) >= LEAST_COVERAGE


@pytest.mark.parametrize("n", [8, 20, 100])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (_switching(0.5, 0.0, 0.0), 0.0),
        (_switching(0.5, 0.2, 0.1), 0.05),
        (_switching(0.4, 0.5, 0.02), 0.292),
        (_switching(0.1, 0.05, 0.3), 0.015),
        (_shifted(0.0), 0.0),
        (_shifted(0.1), 0.1),
        (_rare_gains(0.2, 0.5), 0.1),
        (_rare_gains(0.1, 0.5), 0.05),
    ],
)
def test_coverage_of_a_paired_difference(
    n: int, draw: Callable[[Generator, int], tuple[Scores, Scores]], truth: float
) -> None:
    assert _coverage(truth, lambda rng: paired_difference(*draw(rng, n))) >= LEAST_COVERAGE


@pytest.mark.parametrize(
    ("draw", "width"), [(_switching(0.4, 0.5, 0.02), 0.25), (_shifted(0.1), 0.03)]
)
def test_intervals_are_narrow_enough_to_say_something(
    draw: Callable[[Generator, int], tuple[Scores, Scores]], width: float
) -> None:
    found = paired_difference(*draw(np.random.default_rng(0), 100))
    assert found.high - found.low < width
    assert found.low > 0


def test_pairing_pays() -> None:
    rng = np.random.default_rng(3)
    old = list(rng.random(50))
    new = [min(score + 0.1, 1.0) for score in old]
    paired = paired_difference(old, new)
    shuffled = paired_difference(old, list(rng.permutation(new)))
    assert paired.low > 0 > shuffled.low
    assert paired.value == pytest.approx(shuffled.value)


_score = st.floats(0, 1, allow_nan=False)


@given(scores=st.lists(_score, min_size=1, max_size=60))
def test_a_mean_lies_in_its_interval_and_that_in_0_1(scores: Scores) -> None:
    found = mean_estimate(scores)
    assert 0 <= found.low <= found.high <= 1
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    assert found.n == len(scores)


@given(pairs=st.lists(st.tuples(_score, _score), min_size=1, max_size=60))
def test_a_difference_is_antisymmetric(pairs: list[tuple[float, float]]) -> None:
    base, new = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = paired_difference(base, new), paired_difference(new, base)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)
    assert -1 <= there.low <= there.high <= 1


def test_no_difference_seen_is_no_proof_of_none() -> None:
    for base in ([1.0] * 10, [0.3] * 10):
        found = paired_difference(base, base)
        assert found.value == 0
        assert found.low < 0 < found.high

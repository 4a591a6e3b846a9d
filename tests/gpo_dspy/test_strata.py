"""Wrong and right, and a difference that an uneven choice of examples does not flatter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean, stdev

import pytest
from fakes import slow_difference
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.evaluation.runner import Evaluation, Outcome
from gpo_dspy.evaluation.strata import right, stratified_difference, wrong


def results(scores: Sequence[float], indices: Sequence[int] | None = None) -> dict[int, Evaluation]:
    """Return results by index; those of ``indices`` only, in their order."""
    chosen = range(len(scores)) if indices is None else indices
    return {index: Evaluation(scores[index], Outcome.SCORED) for index in chosen}


# --- strata --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], []),
        ([1.0, 1.0], []),
        ([0.0, 0.0], [0, 1]),
        ([1.0, 0.0, 1.0, 0.0], [1, 3]),
        ([0.2, 0.3, 0.8, 0.9, 1.0], [0, 1]),
        ([0.5, 0.5, 0.5], [0, 1, 2]),
        ([0.9, 1.0], [0]),
        ([0.99, 1.0, 1.0, 0.0], [3]),
        ([0.7] * 12, list(range(12))),  # their mean is rounded to 0.6999999999999998
    ],
)
def test_wrong_is_below_full_score_and_not_above_the_mean(
    scores: list[float], expected: list[int]
) -> None:
    assert wrong(results(scores)) == expected
    assert right(results(scores)) == [i for i in range(len(scores)) if i not in expected]


@given(scores=st.lists(st.floats(0, 1), max_size=20), order=st.randoms(use_true_random=False))
def test_every_example_is_in_one_stratum_whatever_the_scores(
    scores: list[float], order: random.Random
) -> None:
    indices = order.sample(range(len(scores)), len(scores))
    known = results(scores, indices)
    assert [i for i in indices if i in wrong(known)] == wrong(known), "in the order of the results"
    assert sorted(wrong(known) + right(known)) == list(range(len(scores)))
    assert bool(wrong(known)) == (min(scores, default=1.0) < 1.0), (
        "what can be better, is looked at"
    )
    best_wrong = max((scores[i] for i in wrong(known)), default=0.0)
    assert all(scores[i] > best_wrong or scores[i] == 1.0 for i in right(known))


# --- the difference ------------------------------------------------------------------------------

_cases = st.integers(2, 20).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=n, max_size=n),) * 2,
        st.lists(st.integers(0, n - 1), unique=True),
        st.integers(1, n),
    )
)


@given(case=_cases)
def test_against_a_slow_twin(case: tuple[list[float], list[float], list[int], int]) -> None:
    candidate, incumbent, wanted, count = case
    known = list(range(count))
    seen = [index for index in wanted if index < count]
    found = stratified_difference(results(candidate), results(incumbent, known), seen)
    assert found == pytest.approx(slow_difference(candidate, incumbent, seen, known))
    assert -1 <= found <= 1


@given(case=_cases)
def test_on_all_known_examples_it_is_the_plain_difference_of_the_means(
    case: tuple[list[float], list[float], list[int], int],
) -> None:
    candidate, incumbent, *_ = case
    everything = range(len(incumbent))
    found = stratified_difference(results(candidate), results(incumbent), everything)
    assert found == pytest.approx(fmean(candidate) - fmean(incumbent))


def test_a_trial_counts_what_got_better_by_how_often_it_goes_wrong() -> None:
    incumbent = [0.0] * 3 + [1.0] * 9
    mends_all = [1.0] * 12
    trial = [0, 1, 2, 5]
    assert stratified_difference(results(mends_all), results(incumbent), trial) == 0.25
    breaks_it = [1.0] * 3 + [0.0] * 9
    assert stratified_difference(results(breaks_it), results(incumbent), trial) == -0.5
    assert stratified_difference(results(incumbent), results(incumbent), trial) == 0.0
    assert stratified_difference(results(mends_all), results(incumbent), []) == 0.0


def _trial(rng: random.Random, gain: float, known: int) -> tuple[float, float]:
    """Try a candidate on three failures and a success; return the estimate and the plain mean.

    Both programs answer by chance, each example with a probability of its own; the candidate's is
    higher by ``gain``. What the incumbent got wrong, it got wrong partly by bad luck.
    """
    chances = [rng.choice([0.1, 0.4, 0.7]) for _ in range(known)]
    incumbent = [float(rng.random() < chance) for chance in chances]
    candidate = [float(rng.random() < chance + gain) for chance in chances]
    failed, fine = wrong(results(incumbent)), right(results(incumbent))
    trial = rng.sample(failed, min(3, len(failed))) + rng.sample(fine, min(1, len(fine)))
    estimate = stratified_difference(results(candidate), results(incumbent), trial)
    return estimate, fmean(candidate[i] - incumbent[i] for i in trial)


@pytest.mark.parametrize("gain", [0.0, 0.2])
def test_a_trial_of_failures_is_unbiased(gain: float) -> None:
    rng = random.Random(f"trial/{gain}")
    trials = [_trial(rng, gain, known=12) for _ in range(6_000)]
    estimates, plain = ([trial[k] for trial in trials] for k in (0, 1))
    error = stdev(estimates) / len(estimates) ** 0.5
    assert error < 0.01
    assert fmean(estimates) == pytest.approx(gain, abs=4 * error)
    if not gain:
        assert fmean(plain) > 0.1, "the plain mean of a trial takes bad luck for room to improve"

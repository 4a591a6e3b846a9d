"""The run in numbers, before it begins."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import toy_examples
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.data import assign_roles
from gpo_dspy.plan import (
    AUTO_METRIC_CALLS,
    HOLDOUT_BUDGET,
    LARGEST_HOLDOUT,
    Plan,
    auto_metric_calls,
    candidates_per_step,
    holdout_size,
    make_plan,
    steps_at_once,
    trial_failures,
)


def _plan(train: int = 20, val: int = 20, holdout: int = 5, **arguments: Any) -> Plan:
    data = assign_roles(toy_examples(train), toy_examples(val, 100), None, holdout=holdout, seed=0)
    defaults = {
        "max_metric_calls": 400,
        "max_steps": None,
        "candidates": 4,
        "evaluation": "race",
        "trial": 3,
    }
    return make_plan(data, **(defaults | arguments))


@pytest.mark.parametrize("evaluation", ["race", "full"])
@given(
    train=st.integers(1, 60),
    val=st.integers(1, 60),
    holdout=st.integers(0, 30),
    calls=st.integers(1, 3000),
    candidates=st.integers(1, 12),
    max_steps=st.none() | st.integers(1, 20),
)
def test_a_plan_pays_for_a_step_and_the_claim_or_is_refused(
    evaluation: str,
    train: int,
    val: int,
    holdout: int,
    calls: int,
    candidates: int,
    max_steps: int | None,
) -> None:
    try:
        plan = _plan(
            train,
            val,
            holdout,
            max_metric_calls=calls,
            candidates=candidates,
            max_steps=max_steps,
            evaluation=evaluation,
        )
    except ValueError as error:
        assert f"max_metric_calls={calls}" in str(error)  # noqa: PT017 - either way is right
        return
    assert plan.reserve == 2 * plan.holdout < calls
    assert plan.steps >= 1
    if max_steps is not None:
        assert plan.steps <= max_steps


def test_the_least_budget_that_is_named_is_enough() -> None:
    with pytest.raises(ValueError, match=r"(\d+) in all") as raised:
        _plan(max_metric_calls=1)
    least = int(str(raised.value).split(" in all")[0].split()[-1])
    assert _plan(max_metric_calls=least).steps >= 1
    with pytest.raises(ValueError, match="does not pay"):
        _plan(max_metric_calls=least - 1)


@given(candidates=st.integers(1, 20), left=st.integers(0, 500))
def test_a_step_is_as_wide_as_its_trials_and_one_race_can_be_paid(
    candidates: int, left: int
) -> None:
    plan = _plan(candidates=candidates)
    width = plan.width(left)
    assert 1 <= width <= candidates
    if left >= plan.least_step:
        assert width * 3 + 12 <= left
        assert width == candidates or (width + 1) * 3 + 12 > left


@pytest.mark.parametrize(
    ("train", "val", "trial", "calls"),
    [(20, 20, 3, 15), (20, 20, 0, 12), (4, 4, 3, 8), (1, 1, 3, 3)],
)
def test_the_least_step_is_one_candidate_to_the_end(
    train: int, val: int, trial: int, calls: int
) -> None:
    assert _plan(train, val, holdout=0, trial=trial).least_step == calls


def test_the_plan_of_a_small_run_says_how_narrow_its_steps_are() -> None:
    assert "about 1 step of 1 candidate;" in str(_plan(holdout=0, max_metric_calls=28))


def test_full_scoring_has_no_narrow_steps() -> None:
    plan = _plan(evaluation="full", val=25, candidates=8)
    assert plan.width(0) == 8
    assert plan.least_step == 8 * 20


def test_more_money_never_plans_fewer_steps() -> None:
    steps = [_plan(max_metric_calls=calls).steps for calls in range(100, 3000, 100)]
    assert steps == sorted(steps)


def test_auto_grows_by_half_with_each_further_predictor() -> None:
    for name, calls in AUTO_METRIC_CALLS.items():
        assert [auto_metric_calls(name, n) for n in (1, 2, 3)] == [  # type: ignore[arg-type]
            calls,
            calls * 3 // 2,
            calls * 2,
        ]
    assert list(AUTO_METRIC_CALLS.values()) == sorted(AUTO_METRIC_CALLS.values())


@pytest.mark.parametrize("predictors", [1, 2, 5])
def test_steps_of_a_larger_run_are_wider_however_many_predictors(predictors: int) -> None:
    runs = (auto_metric_calls(name, predictors) for name in AUTO_METRIC_CALLS)  # type: ignore[arg-type]
    assert [candidates_per_step(calls, predictors) for calls in runs] == [9, 12, 16]


@pytest.mark.parametrize("predictors", [1, 2, 5])
def test_a_larger_run_has_more_steps_under_way(predictors: int) -> None:
    runs = (auto_metric_calls(name, predictors) for name in AUTO_METRIC_CALLS)  # type: ignore[arg-type]
    assert [steps_at_once(calls, predictors) for calls in runs] == [1, 4, 12]
    assert steps_at_once(1, predictors) == steps_at_once(799, 1) == 1
    assert steps_at_once(100_000, predictors) == 12


@pytest.mark.parametrize(("calls", "trial"), [(30, 1), (399, 1), (400, 2), (600, 3), (9_000, 3)])
def test_trials_are_short_where_money_is(calls: int, trial: int) -> None:
    assert trial_failures(calls, 1) == trial
    assert trial_failures(2 * calls, 3) == trial


@given(calls=st.integers(1, 100_000))
def test_the_claim_takes_its_share_of_the_calls_at_most(calls: int) -> None:
    size = holdout_size(calls)
    assert 0 <= size <= LARGEST_HOLDOUT
    assert 2 * size <= HOLDOUT_BUDGET * calls


def test_the_plan_says_what_will_happen() -> None:
    text = str(_plan(max_metric_calls=1_234))
    assert "up to 1,234 metric calls" in text
    assert "20 training and 15 validation examples" in text
    assert "5 kept for the final claim (10 calls)" in text
    assert "at once" not in text
    assert "of 4 candidates, up to 3 at once;" in str(_plan(steps_at_once=3))

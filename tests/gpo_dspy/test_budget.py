"""Limits on dollars, tokens and seconds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import dspy
import pytest
from fakes import scripted_lm, toy_examples, toy_gpo, toy_metric, toy_solver

from gpo_dspy import PriceUnknown, StopReason, sandbox
from gpo_dspy.budget import SEARCH_SHARE, BudgetSpent, Limits, Meter
from gpo_dspy.ledger import Ledger

PRICED = {"usage": {"prompt_tokens": 60, "completion_tokens": 40}, "cost": 0.125, "model": "m"}


def ledger(calls: int, entry: dict[str, Any] = PRICED) -> Ledger:
    used = Ledger()
    for _ in range(calls):
        used.enter(entry)
    return used


@pytest.mark.parametrize(
    ("limits", "calls_until_spent", "reason"),
    [
        (Limits(max_cost=1.25), 8, StopReason.COST),
        (Limits(max_tokens=1_000), 8, StopReason.TOKENS),
        (Limits(max_cost=1.25, max_tokens=500), 4, StopReason.TOKENS),
    ],
)
def test_the_search_stops_at_its_share_of_the_limit_met_first(
    limits: Limits, calls_until_spent: int, reason: StopReason
) -> None:
    assert SEARCH_SHARE == 0.8
    Meter(limits, (ledger(calls_until_spent - 1),)).gate()
    with pytest.raises(BudgetSpent) as stopped:
        Meter(limits, (ledger(calls_until_spent),)).gate()
    assert stopped.value.reason is reason


def test_both_ledgers_count() -> None:
    with pytest.raises(BudgetSpent):
        Meter(Limits(max_cost=1.25), (ledger(5), ledger(4))).gate()


def test_the_claim_may_use_the_rest() -> None:
    meter = Meter(Limits(max_cost=1.25), (ledger(9),))
    meter.share = 1.0
    meter.gate()


def test_time_is_limited_too() -> None:
    ticks = count(0.0, 1.0)
    meter = Meter(Limits(max_seconds=5.0), (Ledger(),), clock=lambda: next(ticks))
    for _ in range(3):
        meter.gate()
    with pytest.raises(BudgetSpent, match="max_seconds"):
        meter.gate()


def test_a_limit_on_dollars_needs_prices() -> None:
    free = PRICED | {"cost": None, "model": "ollama/thing"}
    with pytest.raises(PriceUnknown, match=r"price of ollama/thing .*register_model"):
        Meter(Limits(max_cost=1.0), (ledger(1, free),)).gate()
    Meter(Limits(max_tokens=10_000), (ledger(1, free),)).gate()


# --- whole runs --------------------------------------------------------------------------------


@pytest.fixture
def sandbox_lms() -> Iterator[dspy.LM]:
    sandbox.register()
    with dspy.context(lm=sandbox.solver(cache=False)):
        yield sandbox.rewriter(cache=False)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"max_cost": 0.05}, StopReason.COST), ({"max_tokens": 20_000}, StopReason.TOKENS)],
)
def test_a_run_keeps_to_its_limit_up_to_the_calls_under_way(
    sandbox_lms: dspy.LM, limit: dict[str, Any], reason: StopReason, threads: int
) -> None:
    examples = sandbox.make_dataset("word_sorting", n=60, seed=0)
    optimizer = toy_gpo(
        sandbox.exact_match, prompt_model=sandbox_lms, max_metric_calls=None, num_threads=threads,
        **limit,
    )  # fmt: skip
    compiled = optimizer.compile(
        dspy.Predict("question -> answer"), trainset=examples[:30], valset=examples[30:]
    )
    result = compiled.detailed_results
    used = result.task_usage + result.prompt_usage
    dearest = 0.02 if "max_cost" in limit else 3_000  # of one call, measured generously
    spent = used.cost if "max_cost" in limit else used.input_tokens + used.output_tokens
    (most,) = limit.values()
    assert result.stop_reason is reason
    assert spent <= most + threads * dearest
    assert spent >= 0.5 * most, "the limit was hardly used"


def test_dollars_without_prices_are_refused_at_the_first_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lm = scripted_lm(toy_solver)
    with dspy.context(lm=lm), pytest.raises(PriceUnknown, match="register_model"):
        toy_gpo(toy_metric, max_metric_calls=None, max_cost=1.0, num_threads=1).compile(
            dspy.Predict("question -> answer"), trainset=toy_examples(20)
        )
    assert len(lm.engine.prompts) == 1
    assert "max_cost=1.0: the price of scripted/" in caplog.text


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("max_cost", 0, "max_cost must be a number above 0; found 0"),
        ("max_seconds", "10", "max_seconds must be a number above 0; found '10'"),
        ("max_tokens", 1.5, "max_tokens must be an integer of at least 1; found 1.5"),
    ],
)
def test_bad_limits_are_refused(argument: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy_gpo(toy_metric, **{argument: value})

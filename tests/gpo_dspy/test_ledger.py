"""LM calls, tokens and dollars, counted in every thread."""

from __future__ import annotations

from types import SimpleNamespace

import dspy
import litellm
import pytest
from dspy import lm15
from fakes import scripted_lm, toy_solver
from http_api import ENGINES, lm_at, serve

from gpo_dspy.execution.parallel import ordered_map
from gpo_dspy.ledger import Ledger, LMCall, Usage

ASK = dspy.Predict("question -> answer")


@pytest.mark.parametrize("threads", [1, 4])
def test_every_call_in_every_thread_is_counted(threads: int) -> None:
    ledger, lm = Ledger(), scripted_lm(toy_solver)
    with dspy.context(lm=lm), ledger.watch():
        list(ordered_map(lambda i: ASK(question=f"item {i} alpha"), range(20), num_threads=threads))
    assert ledger.usage == Usage(20, 2_000, 200, 0.0, unpriced_calls=20)


def test_a_price_that_litellm_was_told_counts_whatever_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    price = {"input_cost_per_token": 1e-5, "output_cost_per_token": 3e-5}
    monkeypatch.setitem(litellm.model_cost, "openai/mine", price)
    ledger = Ledger()
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    ledger.enter({"usage": usage, "cost": None, "model": "openai/mine"})
    assert ledger.usage == Usage(1, 100, 10, pytest.approx(0.0013), 0)


def test_nothing_is_counted_outside_the_block() -> None:
    ledger, other, lm = Ledger(), Ledger(), scripted_lm(toy_solver)
    with dspy.context(lm=lm):
        ASK(question="item 1 alpha")
        with ledger.watch():
            ASK(question="item 2 alpha")
        with other.watch():
            ASK(question="item 3 alpha")
        ASK(question="item 4 alpha")
    assert (ledger.usage.lm_calls, other.usage.lm_calls) == (1, 1)


def test_answers_from_the_cache_cost_nothing() -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    ledger, lm = Ledger(), scripted_lm(toy_solver, cache=True)
    with dspy.context(lm=lm), ledger.watch():
        for _ in range(3):
            ASK(question="item 1 alpha")
    assert len(lm.engine.prompts) == 1
    assert ledger.usage.lm_calls == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_tokens_that_a_backend_does_not_tell_are_estimated(engine: str) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    with serve(lambda _: 200, text="[[ ## answer ## ]]\nyes", tells_usage=False) as api_base:
        ledger = Ledger()
        with dspy.context(lm=lm_at(api_base, engine)), ledger.watch():
            ASK(question="item " * 400)
            ASK(question="item " * 400)
    assert ledger.usage.lm_calls == ledger.usage.unpriced_calls == 2
    assert 500 < ledger.usage.input_tokens / 2 < 800
    assert 4 < ledger.usage.output_tokens / 2 < 12


@pytest.mark.parametrize("engine", ENGINES)
def test_over_http_answers_from_the_cache_cost_nothing(engine: str) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    with serve(lambda _: 200, text="[[ ## answer ## ]]\nyes") as api_base:
        ledger = Ledger()
        with dspy.context(lm=lm_at(api_base, engine, cache=True)), ledger.watch():
            ASK(question="item 1")
            ASK(question="item 1")
    assert ledger.usage == Usage(1, 5, 2, 0.0, unpriced_calls=1)


def test_answers_from_the_cache_cost_nothing_where_no_tokens_are_reported() -> None:
    kept = lm15.Usage(input_tokens=0, output_tokens=0, total_tokens=0)
    reply = SimpleNamespace(usage=kept, finish_reason="stop")
    ledger = Ledger()
    with ledger.watch() as watch:
        for entry in (
            {"usage": {}, "response": [reply], "model": "a/b"},
            {"usage": {}, "response": {"text": "yes"}, "model": "a/b", "cache_hit": True},
        ):
            watch.history.append(entry)
    assert ledger.usage == Usage()


def test_a_price_that_is_told_without_tokens_counts() -> None:
    entry = {"usage": {}, "cost": 0.25, "model": "a/b", "prompt": "four", "outputs": ["more"]}
    assert Usage().plus(entry) == Usage(1, 1, 2, 0.25, unpriced_calls=0)


def test_known_prices_add_up() -> None:
    entry = {"usage": {"prompt_tokens": 10, "completion_tokens": 2}, "cost": 0.25}
    twice = Usage().plus(entry).plus(entry)
    assert twice == Usage(2, 20, 4, 0.5, unpriced_calls=0)
    assert twice + Usage(1, 1, 1, 0.5, 1) == Usage(3, 21, 5, 1.0, 1)
    unpriced = Usage().plus({"usage": {"input_tokens": 3, "output_tokens": 4}, "cost": None})
    assert unpriced == Usage(1, 3, 4, 0.0, unpriced_calls=1)


def test_litellm_prices_are_taken() -> None:
    model = next(name for name in litellm.model_cost if name.startswith("gpt-4o-mini"))
    lm = dspy.LM(f"openai/{model}", engine="litellm", mock_response="x", cache=False)
    ledger = Ledger()
    with ledger.watch():
        lm("hello")
    assert ledger.usage.lm_calls == 1
    assert ledger.usage.cost > 0


def test_a_user_of_dspys_own_history_is_not_disturbed() -> None:
    lm, program = scripted_lm(toy_solver), dspy.Predict("question -> answer")
    with dspy.context(lm=lm), Ledger().watch():
        program(question="item 1 alpha")
    assert len(program.history) == 1
    assert len(lm.history) == 1


def test_calls_of_other_processes_are_counted_alike() -> None:
    there, told = Ledger(on_call=lambda call: told.append(call)), list[LMCall]()
    for cost in (0.5, None):
        there.enter({"model": "m", "cost": cost, "usage": {"prompt_tokens": 3, "total_tokens": 4}})
    here = Ledger()
    for call in told:
        here.count(call)
    assert here.usage == there.usage == Usage(2, 6, 0, 0.5, unpriced_calls=1)
    assert here.unpriced_models == there.unpriced_models == {"m"}

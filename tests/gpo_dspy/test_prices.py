"""The dollars in the plan."""

from __future__ import annotations

from dataclasses import replace

import dspy
import pytest
from fakes import scripted_lm, toy_examples, toy_gpo, toy_solver

from gpo_dspy.data import assign_roles
from gpo_dspy.plan import make_plan
from gpo_dspy.prices import REQUEST_TOKENS, REWRITE_TOKENS, expected_cost, price_of

EXAMPLES = toy_examples(60)
PLAN = make_plan(
    assign_roles(EXAMPLES, None, None, holdout=10, seed=0),
    max_metric_calls=400,
    max_steps=None,
    candidates=4,
    evaluation="race",
    trial=3,
)
CHEAP, DEAR = (dspy.LM(f"openai/{name}", api_key="none") for name in ("gpt-4o-mini", "gpt-4o"))


def cost(task: dspy.LM, prompt: dspy.LM, calls: int = 400) -> float:
    program = dspy.ChainOfThought("question -> answer")
    program.set_lm(task)
    found = expected_cost(program, EXAMPLES, prompt, replace(PLAN, max_metric_calls=calls))
    assert found is not None
    return found


def test_it_grows_with_prices_and_calls() -> None:
    assert 0 < cost(CHEAP, CHEAP) < cost(CHEAP, DEAR) < cost(DEAR, DEAR)
    assert cost(CHEAP, CHEAP, 800) > cost(CHEAP, CHEAP, 400)


def test_requests_to_the_prompt_model_are_part_of_it() -> None:
    program = dspy.Predict("question -> answer")
    program.set_lm(CHEAP)

    def priced(**requests: int) -> float:
        return expected_cost(program, EXAMPLES, DEAR, replace(PLAN, **requests)) or 0.0

    (read, written), calls = price_of(DEAR) or (0.0, 0.0), priced(candidates=0)
    one = PLAN.steps * (REQUEST_TOKENS * read + PLAN.candidates * REWRITE_TOKENS * written)
    more = PLAN.steps * (REQUEST_TOKENS * read + REWRITE_TOKENS * written)
    assert priced(rewrite_requests=1) == pytest.approx(calls + one)
    assert priced(rewrite_requests=1, direction_requests=1) == pytest.approx(calls + one + more)
    assert priced(rewrite_requests=1, rewritten=3) == pytest.approx(calls + 3 * one)


def test_it_is_of_the_right_order() -> None:
    # 400 calls of some 200 tokens read and 100 written, and a few rewrites
    dollars = 400 * (200 * 0.15e-6 + 100 * 0.6e-6)
    assert dollars / 3 < cost(CHEAP, CHEAP) < 3 * dollars


def test_a_price_nobody_knows_gives_no_estimate() -> None:
    assert price_of(scripted_lm(toy_solver)) is None
    program = dspy.Predict("question -> answer")
    program.set_lm(CHEAP)
    assert expected_cost(program, EXAMPLES, scripted_lm(toy_solver), PLAN) is None


def test_it_stands_in_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert "roughly $0.05" in str(replace(PLAN, expected_cost=0.0512))
    with dspy.context(lm=scripted_lm(toy_solver)):
        program = dspy.Predict("question -> answer")
        compiled = toy_gpo(verbose=True).compile(program, trainset=EXAMPLES)
    assert compiled.detailed_results.plan.expected_cost is None
    assert "roughly" not in capsys.readouterr().err


def test_other_inputs_and_adapters_do_not_break_it() -> None:
    class Odd(dspy.ChatAdapter):
        def format(self, *arguments: object, **more: object) -> list[dict[str, object]]:
            raise RuntimeError("not before the first call")

    with dspy.context(adapter=Odd()):
        assert cost(CHEAP, CHEAP) > 0

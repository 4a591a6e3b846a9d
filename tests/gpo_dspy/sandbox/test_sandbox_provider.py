"""The LiteLLM provider: registered once, priced, quiet."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import dspy
import litellm
import pytest

from gpo_dspy import sandbox
from gpo_dspy.sandbox.provider import count_tokens, replies

SORT = "Sort the following words alphabetically: List: pear fig apple"


def test_registering_twice_adds_one_entry_and_keeps_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = {"provider": "mine", "custom_handler": litellm.CustomLLM()}
    providers: list[Any] = [mine]
    monkeypatch.setattr(litellm, "custom_provider_map", providers)
    sandbox.register()
    sandbox.register()
    assert litellm.custom_provider_map is providers
    assert [entry["provider"] for entry in providers] == ["mine", "sandbox"]


def test_nothing_is_logged_or_printed() -> None:
    code = "from gpo_dspy import sandbox; sandbox.register()"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_importing_brings_in_neither_litellm_nor_torch() -> None:
    code = (
        "import sys, gpo_dspy.sandbox as s; s.make_dataset('navigation', 3);"
        "print([m for m in ('litellm', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_usage_and_cost_are_counted() -> None:
    for lm, given, said in ((sandbox.solver, 0.1, 0.4), (sandbox.rewriter, 3.0, 15.0)):
        model = lm(cache=False)
        with dspy.context(lm=model):
            dspy.Predict("question -> answer")(question=SORT)
        entry = model.history[-1]
        usage = entry["usage"]
        assert usage["prompt_tokens"] > usage["completion_tokens"] > 0
        price = (usage["prompt_tokens"] * given + usage["completion_tokens"] * said) / 1e6
        assert entry["cost"] == pytest.approx(price)


def test_a_name_with_a_latency_has_the_same_price() -> None:
    slow = dspy.LM("sandbox/solver-5ms", engine="litellm", cache=False)
    costs = []
    for model in (sandbox.solver(cache=False), slow):
        with dspy.context(lm=model):
            dspy.Predict("question -> answer")(question=SORT)
        costs.append(model.history[-1]["cost"])
    assert costs[0] == costs[1] > 0


def test_tokens_are_word_pieces() -> None:
    assert count_tokens("a boolean, you see") == 6


def test_several_replies_to_one_request_differ_for_the_rewriter() -> None:
    signature = dspy.Signature("basic_instruction -> proposed_instruction")
    messages = dspy.ChatAdapter().format(signature, [], {"basic_instruction": "Sort the words."})
    assert len(set(replies("rewriter", messages, 8))) > 3


def test_latency_does_not_block_the_event_loop() -> None:
    sandbox.register()
    request = {"model": "sandbox/solver-200ms", "messages": [{"role": "user", "content": SORT}]}

    async def several() -> list[Any]:
        return await asyncio.gather(*(litellm.acompletion(**request) for _ in range(5)))

    started = time.perf_counter()
    answers = asyncio.run(several())
    elapsed = time.perf_counter() - started
    assert 0.2 <= elapsed < 0.9
    assert {a.choices[0].message.content for a in answers} == set(
        replies("solver", request["messages"])
    )


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ValueError, match="model is 'poet'; the simulated models are solver, rew"):
        replies("poet", [])


def test_configure_makes_the_solver_the_default() -> None:
    code = (
        "import dspy; from gpo_dspy import sandbox; solver, rewriter = sandbox.configure();"
        "print(dspy.settings.lm is solver, solver.model, rewriter.model)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "True sandbox/solver sandbox/rewriter\n"

"""What a run will cost, roughly, told before its first call."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dspy

from gpo_dspy.program import optimizable_predictors

if TYPE_CHECKING:
    from gpo_dspy.plan import Plan

CHARACTERS_PER_TOKEN = 4.0
"""A rule of thumb for English; other scripts have fewer, so that they cost more."""

OUTPUT_TOKENS = 100
"""Tokens a predictor is taken to write; who reasons at length writes more."""

REQUEST_TOKENS = 1_700
"""Tokens that a request to the prompt model is taken to have; those of our sandbox runs, with short
examples, had 1,600 to 2,000."""

REWRITE_TOKENS = 80
"""Tokens that a rewrite is taken to have; longer prompts have more."""


def expected_cost(
    student: dspy.Module, examples: Sequence[dspy.Example], prompt_model: Any, plan: Plan
) -> float | None:
    """Return US dollars that a run will cost, within a factor of about two or three.

    Args:
        student: The program; each predictor is taken to be called once a metric call.
        examples: The first few show how long the inputs are.
        prompt_model: Writes the rewrites.
        plan: The run in numbers.

    Returns:
        None if the price of a model is not known.
    """
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    per_call = 0.0
    for predictor in optimizable_predictors(student).values():
        price = price_of(predictor.lm or dspy.settings.lm)
        if price is None:
            return None
        lengths = [_prompt_length(adapter, predictor, example) for example in examples[:5]]
        tokens = sum(lengths) / len(lengths) / CHARACTERS_PER_TOKEN
        per_call += tokens * price[0] + OUTPUT_TOKENS * price[1]
    price = price_of(prompt_model)
    if price is None:
        return None
    read = plan.requests * REQUEST_TOKENS
    written = plan.rewritten * (plan.candidates + plan.direction_requests) * REWRITE_TOKENS
    per_step = read * price[0] + written * price[1]
    return plan.max_metric_calls * per_call + plan.steps * per_step


def unpriced_models(student: dspy.Module, prompt_model: Any) -> list[str]:
    """Return the models of a run whose price is not known, by name, each once."""
    own = [p.lm or dspy.settings.lm for p in optimizable_predictors(student).values()]
    unpriced = (str(lm.model) for lm in (*own, prompt_model) if price_of(lm) is None)
    return list(dict.fromkeys(unpriced))


def price_of(lm: Any) -> tuple[float, float] | None:
    """Return US dollars per token read and written by an LM, if DSPy or LiteLLM knows them."""
    return price_of_model(str(getattr(lm, "model", "")))


def price_of_model(name: str) -> tuple[float, float] | None:
    """Return US dollars per token read and written by a model, by its LiteLLM name."""
    provider, _, model = name.partition("/")
    found = [_known_to_dspy(provider, model)]
    if litellm := sys.modules.get(
        "litellm"
    ):  # prices that the user registered; not worth an import
        found += [litellm.model_cost.get(known) or {} for known in (name, model)]
    for entry in found:
        read, written = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
        if read is not None and written is not None:
            return float(read), float(written)
    return None


@lru_cache(maxsize=256)  # the list does not change; each look reads through it
def _known_to_dspy(provider: str, model: str) -> Mapping[str, Any]:
    from dspy.clients.model_metadata import model_info

    return model_info(provider, model) or {}


def _prompt_length(adapter: Any, predictor: Any, example: dspy.Example) -> int:
    """Return the characters of a request; inputs made by other predictors are left out."""
    inputs = {name: example.get(name, "") for name in predictor.signature.input_fields}
    try:
        messages = adapter.format(predictor.signature, predictor.demos, inputs)
    except Exception:  # noqa: BLE001 - an input of a type that "" does not fit, an adapter of the user
        return len(str(inputs)) + len(str(predictor.signature.instructions))
    return sum(len(str(message.get("content"))) for message in messages)

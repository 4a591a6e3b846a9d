"""The LiteLLM provider named ``sandbox``."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from .front import reply

PROVIDER = "sandbox"
_LOCK = threading.Lock()
_PIECE = re.compile(r"\w{1,6}|[^\w\s]")
_LATENCY = re.compile(r"-(\d+)ms$")
# US dollars per token, as (input, output); small numbers, so that cost budgets have work to do.
_PRICES = {"solver": (0.1e-6, 0.4e-6), "rewriter": (3e-6, 15e-6)}


def register() -> None:
    """Make the models ``sandbox/solver`` and ``sandbox/rewriter`` known to LiteLLM.

    Both are simulated. May be called any number of times. A suffix gives them a latency:
    ``sandbox/solver-50ms``.
    """
    import litellm  # here and not above: it takes seconds

    with _LOCK:
        providers = litellm.custom_provider_map
        if any(entry["provider"] == PROVIDER for entry in providers):
            return
        providers.append({"provider": PROVIDER, "custom_handler": _handler()})
        for name in _PRICES:
            _price(name)


@cache
def _price(name: str) -> None:
    import litellm

    given, said = _PRICES[_LATENCY.sub("", name)]
    # The cache prices keep register_model from warning that they are unknown.
    litellm.register_model({
        f"{PROVIDER}/{name}": {
            "litellm_provider": PROVIDER,
            "mode": "chat",
            "max_input_tokens": 128_000,
            "max_output_tokens": 8_192,
            "input_cost_per_token": given,
            "output_cost_per_token": said,
            "cache_read_input_token_cost": given,
            "cache_creation_input_token_cost": given,
        }
    })  # fmt: skip


def count_tokens(text: str) -> int:
    """Return the number of simple word pieces: up to six letters or digits, or one sign.

    Args:
        text: Any text.
    """
    return len(_PIECE.findall(text))


@cache
def _handler() -> Any:
    import litellm
    from litellm import CustomLLM

    class SandboxLLM(CustomLLM):  # type: ignore[misc, unused-ignore]
        """Answers chat requests with the simulated models."""

        def completion(self, *_: Any, **request: Any) -> Any:
            time.sleep(_latency(request["model"]))
            return respond(request)

        async def acompletion(self, *_: Any, **request: Any) -> Any:
            await asyncio.sleep(_latency(request["model"]))
            return respond(request)

    def respond(request: Mapping[str, Any]) -> Any:
        model, messages = request["model"], request["messages"]
        options = request.get("optional_params") or {}
        texts = replies(model, messages, int(options.get("n") or 1))
        _price(model)  # a name with a latency is known to LiteLLM from its first use on
        return _response(litellm, model, messages, texts)

    return SandboxLLM()


def replies(model: str, messages: Sequence[Mapping[str, Any]], count: int = 1) -> list[str]:
    """Answer a request, without LiteLLM.

    Args:
        model: ``solver`` or ``rewriter``, with or without a latency.
        messages: OpenAI-style chat messages.
        count: Number of replies; the rewriter's differ.

    Raises:
        ValueError: There is no such model.
    """
    name = _LATENCY.sub("", model.removeprefix(f"{PROVIDER}/"))
    if name not in _PRICES:
        raise ValueError(f"model is {model!r}; the simulated models are {', '.join(_PRICES)}")
    return [reply(name, messages, draw) for draw in range(count)]


def _latency(model: str) -> float:
    found = _LATENCY.search(model)
    return int(found[1]) / 1000 if found else 0.0


def _response(
    litellm: Any, model: str, messages: Sequence[Mapping[str, Any]], texts: list[str]
) -> Any:
    given = sum(count_tokens(str(message.get("content") or "")) for message in messages)
    said = sum(map(count_tokens, texts))
    return litellm.ModelResponse(
        model=f"{PROVIDER}/{model}",
        choices=[
            {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for i, text in enumerate(texts)
        ],
        usage={
            "prompt_tokens": given,
            "completion_tokens": said,
            "total_tokens": given + said,
        },
    )

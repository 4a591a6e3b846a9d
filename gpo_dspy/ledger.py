"""Counts LM calls, tokens and dollars in every thread, without touching DSPy's globals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import dspy

from gpo_dspy.prices import price_of_model

BYTES_PER_TOKEN = 4
"""A rule of thumb, for backends that report no tokens; about right in scripts of two or three bytes
a character too, which have more tokens."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What LM calls cost.

    Attributes:
        lm_calls: Requests that reached a model; answers from DSPy's cache are not counted.
        input_tokens: Tokens read, as the provider reports them; if it does not, one for every
            ``BYTES_PER_TOKEN`` of the text.
        output_tokens: Tokens written, likewise.
        cost: US dollars; calls to models without a known price count 0.
        unpriced_calls: Calls whose price is not known.
    """

    lm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced_calls: int = 0

    @property
    def dollars(self) -> str:
        """The cost, as people read it."""
        if self.unpriced_calls and self.unpriced_calls == self.lm_calls:
            return "price unknown"
        unpriced = f" and {self.unpriced_calls:,} calls of unknown price"
        return f"${self.cost:.4f}{unpriced if self.unpriced_calls else ''}"

    def plus(self, entry: Mapping[str, Any]) -> Usage:
        """Add one entry of DSPy's LM history; tokens that it does not tell are estimated."""
        read, written = _tokens(entry.get("usage"))
        cost = entry.get("cost")
        if not read + written:
            asked = [m.get("content") for m in entry.get("messages") or ()] or entry.get("prompt")
            read, written = _estimated(asked), _estimated(entry.get("outputs"))
            cost = cost or None  # 0 is the price of no tokens
        if cost is None:  # not every engine of DSPy asks LiteLLM, where the user may have told it
            price = price_of_model(str(entry.get("model")))
            cost = None if price is None else read * price[0] + written * price[1]
        return self + Usage(1, read, written, float(cost or 0.0), int(cost is None))

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.lm_calls + other.lm_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
            self.unpriced_calls + other.unpriced_calls,
        )


@dataclass(frozen=True, slots=True)
class LMCall:
    """One request that reached a model.

    Attributes:
        role: "task" for the program's LMs (and those of the metric), "prompt" for the prompt model.
        model: The model's name.
        input_tokens: Tokens read.
        output_tokens: Tokens written.
        cost: US dollars, or None if the price is not known.
        at: When it was answered, in seconds since 1970.
    """

    role: str
    model: str
    input_tokens: int
    output_tokens: int
    cost: float | None
    at: float


class Ledger:
    """Sees every LM call made inside :meth:`watch`, in whatever thread.

    DSPy appends each call to the history of every module in ``settings.caller_modules``; the
    ledger joins that list for the time of the context. ``dspy.track_usage`` would lose what
    worker threads use.

    Args:
        role: Whose calls these are: "task" or "prompt".
        on_call: Told each call, in the thread that made it.
    """

    def __init__(self, role: str = "task", on_call: Callable[[LMCall], None] | None = None) -> None:
        self.usage = Usage()
        self.unpriced_models: set[str] = set()
        self.role = role
        self._on_call = on_call
        self._lock = threading.Lock()

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Count the calls made inside the block; the value counts those of this block alone."""
        watch = Watch(self)
        callers = [*(dspy.settings.caller_modules or []), watch]
        with dspy.context(caller_modules=callers):
            yield watch

    def add(self, usage: Usage) -> None:
        """Count what was used earlier, in a run that is carried on."""
        with self._lock:
            self.usage = self.usage + usage

    def enter(self, entry: Mapping[str, Any]) -> None:
        """Count one entry of DSPy's LM history that reached a model."""
        used = Usage().plus(entry)
        cost = None if used.unpriced_calls else used.cost
        tokens = (used.input_tokens, used.output_tokens)
        self.count(LMCall(self.role, str(entry.get("model")), *tokens, cost, time.time()))

    def count(self, call: LMCall) -> None:
        """Count a call that was made here or in another process."""
        unpriced = call.cost is None
        self.add(Usage(1, call.input_tokens, call.output_tokens, call.cost or 0.0, int(unpriced)))
        if unpriced:
            with self._lock:
                self.unpriced_models.add(call.model)
        if self._on_call is not None:
            self._on_call(call)


class Watch:
    """What the LM calls inside one block used.

    Attributes:
        usage: The sum so far.
        cut_off: Whether the last reply, one from DSPy's cache included, ended at a limit of tokens.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.usage = Usage()
        self.cut_off = False
        self.history = _Sink(self._add)
        self._ledger = ledger
        self._lock = threading.Lock()

    def _add(self, entry: Mapping[str, Any]) -> None:
        self.cut_off = _cut_off(entry.get("response"))
        if _from_cache(entry):  # it has a price, but cost nothing
            return
        with self._lock:
            self.usage = self.usage.plus(entry)
        self._ledger.enter(entry)


class _Sink:
    """The part of a list that DSPy's history needs; keeps nothing."""

    def __init__(self, add: Any) -> None:
        self.append = add

    def __len__(self) -> int:
        return 0


def _cut_off(response: Any) -> bool:
    """Tell whether a reply ended at a limit of tokens, from what DSPy's history holds of it."""
    replies = _replies(getattr(response, "choices", response))
    return any(getattr(reply, "finish_reason", None) == "length" for reply in replies)


def _from_cache(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry of DSPy's history is an answer from its cache.

    Such an entry says so, or its reply does; or it has no usage, though its reply has that of the
    time when it was kept. Of a backend that reports none at all nobody can tell: its answers count.
    """
    if entry.get("cache_hit"):
        return True
    return not entry.get("usage") and any(
        getattr(reply, "cache_hit", False)
        or getattr(getattr(reply, "usage", None), "total_tokens", None) is not None
        or any(_tokens(getattr(reply, "usage", None)))
        for reply in _replies(entry.get("response"))
    )


def _replies(response: Any) -> Sequence[Any]:
    """Return the one or several replies that DSPy's history holds as the response."""
    return response if isinstance(response, Sequence) else [response]


def _tokens(usage: Any) -> tuple[int, int]:
    """Return the tokens read and written as a provider, LiteLLM or DSPy reports them, or zeros."""
    told = usage.get if isinstance(usage, Mapping) else partial(getattr, usage)
    read = told("prompt_tokens", 0) or told("input_tokens", 0) or 0
    written = told("completion_tokens", 0) or told("output_tokens", 0) or 0
    return int(read), int(written)


def _estimated(texts: Any) -> int:
    return -(-len(str(texts or "").encode("utf-8", "replace")) // BYTES_PER_TOKEN)

"""Counts LM calls, tokens and dollars in every thread, without touching DSPy's globals."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dspy


@dataclass(frozen=True, slots=True)
class Usage:
    """What LM calls cost.

    Attributes:
        lm_calls: Requests that reached a model; answers from DSPy's cache are not counted.
        input_tokens: Tokens read, as the provider reports them.
        output_tokens: Tokens written.
        cost: US dollars; calls to models without a known price count 0.
        unpriced_calls: Calls whose price is not known.
    """

    lm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced_calls: int = 0

    def plus(self, entry: Mapping[str, Any]) -> Usage:
        """Add one entry of DSPy's LM history."""
        usage, cost = entry.get("usage") or {}, entry.get("cost")
        return Usage(
            self.lm_calls + 1,
            self.input_tokens + int(usage.get("prompt_tokens") or usage.get("input_tokens") or 0),
            self.output_tokens
            + int(usage.get("completion_tokens") or usage.get("output_tokens") or 0),
            self.cost + float(cost or 0.0),
            self.unpriced_calls + (cost is None),
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.lm_calls + other.lm_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
            self.unpriced_calls + other.unpriced_calls,
        )


class Ledger:
    """Sees every LM call made inside :meth:`watch`, in whatever thread.

    DSPy appends each call to the history of every module in ``settings.caller_modules``; the
    ledger joins that list for the time of the context. ``dspy.track_usage`` would lose what
    worker threads use.
    """

    def __init__(self) -> None:
        self.history = _Sink(self._add)
        self.usage = Usage()
        self.unpriced_models: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count the calls made inside the block."""
        callers = [*(dspy.settings.caller_modules or []), self]
        with dspy.context(caller_modules=callers):
            yield

    def _add(self, entry: Mapping[str, Any]) -> None:
        if not entry.get("usage"):  # an answer from the cache: it has a price, but cost nothing
            return
        with self._lock:
            self.usage = self.usage.plus(entry)
            if entry.get("cost") is None:
                self.unpriced_models.add(str(entry.get("model")))


class _Sink:
    """The part of a list that DSPy's history needs; keeps nothing."""

    def __init__(self, add: Any) -> None:
        self.append = add

    def __len__(self) -> int:
        return 0

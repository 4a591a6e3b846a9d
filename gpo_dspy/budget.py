"""Limits on dollars, tokens and seconds, watched from every thread.

Metric calls are counted exactly and never exceeded (see :mod:`gpo_dspy.evaluation.scoreboard`).
What a call costs is known only after it: once a limit is reached no further call begins, so the
excess is at most that of the calls then under way, ``num_threads`` of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gpo_dspy.errors import PriceUnknown
from gpo_dspy.journal import Journal
from gpo_dspy.ledger import Ledger
from gpo_dspy.state import StopReason

SEARCH_SHARE = 0.8
"""Share of each limit that the search may use; the rest is for the final claim."""


class BudgetSpent(Exception):
    """A limit is reached; raised instead of making the next call.

    Attributes:
        reason: Which limit.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a run; None is no limit.

    Attributes:
        max_cost: US dollars, program and prompt model together.
        max_tokens: Tokens read and written, together.
        max_seconds: Wall time.
    """

    max_cost: float | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None

    def __str__(self) -> str:
        dollars = [] if self.max_cost is None else [f"${self.max_cost:,.6g}"]
        tokens = [] if self.max_tokens is None else [f"{self.max_tokens:,} tokens"]
        seconds = [] if self.max_seconds is None else [f"{self.max_seconds:,.6g} s"]
        return " or ".join([*dollars, *tokens, *seconds])


class Meter:
    """How much of its limits a run has spent.

    Args:
        limits: The limits.
        ledgers: Count what all LMs use.
        journal: Knows what was spent before, if the run is carried on.
        clock: Seconds, from any start.
    """

    def __init__(
        self,
        limits: Limits,
        ledgers: tuple[Ledger, ...],
        journal: Journal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.share = SEARCH_SHARE
        self._journal = journal or Journal()
        self._limits = limits
        self._ledgers = ledgers
        self._clock = clock
        self._began = clock() - self._journal.seconds_before

    @property
    def seconds(self) -> float:
        """Wall time so far, that of earlier sessions included."""
        return self._clock() - self._began

    def gate(self) -> None:
        """Let the next call pass, or stop it.

        Raises:
            BudgetSpent: A limit's present share is used up.
            PriceUnknown: There is a limit on dollars, and a call had no known price.
        """
        fraction, reason = self.spent()
        if fraction >= 1.0:
            raise BudgetSpent(reason)

    def spent_by(self, step: int) -> float:
        """Return the spent part of the limits as it was after a step, when it was first asked."""
        return self._journal.reading(f"spent by step {step}", lambda: self.spent()[0])

    def spent(self) -> tuple[float, StopReason]:
        """Return the spent part of the present share of the limit nearest to its end."""
        used = self._ledgers[0].usage
        for ledger in self._ledgers[1:]:
            used = used + ledger.usage
        limits = self._limits
        if limits.max_cost is not None and used.unpriced_calls:
            models = sorted(set().union(*(ledger.unpriced_models for ledger in self._ledgers)))
            raise PriceUnknown(
                f"max_cost={limits.max_cost} cannot be kept: the price of {', '.join(models)} is "
                "not known. Tell LiteLLM with litellm.register_model({model: "
                "{'input_cost_per_token': ..., 'output_cost_per_token': ..., 'litellm_provider': "
                "..., 'mode': 'chat'}}), or limit max_tokens or max_metric_calls instead."
            )
        fractions = [
            (used.cost, limits.max_cost, StopReason.COST),
            (used.input_tokens + used.output_tokens, limits.max_tokens, StopReason.TOKENS),
            (self.seconds, limits.max_seconds, StopReason.SECONDS),
        ]
        return max(
            (
                (amount / (limit * self.share), reason)
                for amount, limit, reason in fractions
                if limit is not None
            ),
            key=lambda spent: spent[0],
            default=(0.0, StopReason.COST),
        )

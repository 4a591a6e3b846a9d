"""What a run learns from outside, kept as it happens and handed back when the run is replayed.

A run depends on nothing but its arguments, the results of its metric calls, the answers of the
prompt model, and how far its limits were used up. Kept one by one, these make a run that was
killed at any moment one that can be run again from its beginning, for nothing, up to that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.ledger import Ledger, LMCall, Usage
from gpo_dspy.program_state import ProgramState
from gpo_dspy.state import Fate, RunState

if TYPE_CHECKING:
    from gpo_dspy.result import GPOResult
    from gpo_dspy.trajectory import Trajectory

Pair = tuple[ProgramState, int]
"""A program's state and the index of an example."""


class Journal:
    """The journal of a run without a storage: nothing is kept, nothing known.

    :class:`gpo_dspy.journal.stored.StoredJournal` is the other one.

    Attributes:
        metric_calls_before: Metric calls to be counted that the replay does not repeat.
        usage_before: What its LMs had used for them, by role ("task", "prompt").
        seconds_before: Wall time of earlier sessions.
        finished: The result, if the run was finished before.
        notice: What the user should know of it at the beginning; empty if nothing.
        programs: Those accepted by the run that this one carries on although something changed,
            each with examples (by index) whose results are known.
        start: Examples on which those of the student's own program are known likewise.
        prompts: (predictor, prompt) pairs of that run, to be tried first; the best first.
    """

    metric_calls_before: int = 0
    usage_before: Mapping[str, Usage] = MappingProxyType({})
    seconds_before: float = 0.0
    finished: GPOResult | None = None
    notice: str = ""
    programs: Sequence[tuple[ProgramState, tuple[int, ...]]] = ()
    start: Sequence[int] = ()
    prompts: Sequence[tuple[str, str]] = ()

    def recall(self, pairs: Iterable[Pair]) -> dict[Pair, tuple[Evaluation, bool]]:
        """Return what this run knew of some pairs, and whether it had paid for it."""
        return {}

    def acquire(
        self, pairs: Sequence[Pair]
    ) -> tuple[dict[Pair, Evaluation], list[Pair], list[Pair]]:
        """Return results of other runs, the pairs to evaluate now, and those others work on."""
        return {}, list(pairs), []

    def keep(self, pair: Pair, evaluation: Evaluation) -> None:
        """Keep a result that was just paid for."""

    def release(self, pairs: Iterable[Pair]) -> None:
        """Leave pairs that were to be evaluated to others."""

    def answer(self, request: str, ask: Callable[[], str | Fate], ledger: Ledger) -> str | Fate:
        """Return the prompt model's answer to a request, asking only if it is not known.

        Args:
            request: The request, as text.
            ask: Asks the prompt model; gives its texts as a JSON list, or why there are none.
            ledger: Counts its LM calls, or those it took when it was asked.
        """
        with ledger.watch():
            return ask()

    def reading(self, name: str, measure: Callable[[], float]) -> float:
        """Return what a clock or a meter showed when this was first asked."""
        return measure()

    def recollect(self, predictor: str, instruction: str, limit: int) -> list[tuple[str, str]]:
        """Return prompts of earlier runs that a predictor may start from.

        Args:
            predictor: The predictor.
            instruction: Its present instruction.
            limit: How many to return at most.

        Returns:
            (prompt, where it comes from) pairs, the most promising first.
        """
        return []

    def lm_call(self, call: LMCall) -> None:
        """Keep what one LM call used."""

    def step(self, state: RunState, trajectories: Mapping[str, Trajectory]) -> None:
        """Keep a step, and the prompts as they now stand."""

    @property
    def unrecalled(self) -> int:
        """Metric calls paid for in earlier sessions that the replay has not asked for."""
        return 0

    def close(
        self, result: GPOResult | None, *, finished: bool, failed: bool = False
    ) -> str | None:
        """End the session; a second time does nothing.

        Args:
            result: The result so far, if there is one.
            finished: Whether it is final; if not, the run may be carried on.
            failed: Whether the run ended in an error that a replay would only repeat, so that
                the next call begins anew, with what other runs may share.

        Returns:
            What could not be kept and why, or None.
        """
        return None

"""The metric calls of a run by (program state, example): made once, whoever asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import dspy

from gpo_dspy.evaluation.runner import FAILURE_SCORE, Evaluation, Job, Outcome, Runner
from gpo_dspy.evaluation.tracing import without_history
from gpo_dspy.journal import Journal, Pair
from gpo_dspy.objective import Objective, names_differ
from gpo_dspy.program import with_state

LOOK_AGAIN = 0.2
"""Seconds between two looks for results that another process is working on."""


class BudgetExceeded(Exception):
    """More metric calls were asked for than are left; none of them was made."""


class MetricCalls:
    """Makes metric calls within a hard limit, and remembers every result.

    What it knows may change whenever somebody waits; what a step may know of it, so that luck
    decides nothing, is in its :class:`~gpo_dspy.evaluation.scoreboard.Scoreboard`.

    Args:
        student: The program whose state varies.
        examples: All examples of the run; pairs name them by index.
        runner: Makes the calls.
        limit: Hard limit on their number.
        journal: Keeps the results, and knows those of an earlier session or another run.
        on_result: Called after each metric call, in the calling thread.
        objective: What counts of several named scores.

    Attributes:
        count: Metric calls that the run paid for, those before a resume included.
        reused: Results that another run had paid for.
        outcomes: How the metric calls ended.
    """

    def __init__(
        self,
        student: dspy.Module,
        examples: Sequence[dspy.Example],
        runner: Runner,
        limit: int,
        journal: Journal | None = None,
        on_result: Callable[[], None] = lambda: None,
        objective: Objective = Objective(),  # noqa: B008 - frozen
    ) -> None:
        self.examples, self.limit, self.objective = examples, limit, objective
        self.runner = runner
        self._journal = journal or Journal()
        self._on_result = on_result
        self._results: dict[Pair, tuple[Evaluation, bool]] = {}
        self._under_way: set[Pair] = set()
        self._names: tuple[str, ...] | None = None
        self.count = self._journal.metric_calls_before
        self.reused = 0
        self.outcomes: Counter[Outcome] = Counter()
        # Steps come back to the same few programs.
        self._program = lru_cache(maxsize=64)(
            lambda state: without_history(with_state(student, state))
        )

    def knows(self, pair: Pair) -> bool:
        """Tell whether a result was obtained."""
        return pair in self._results

    def result(self, pair: Pair) -> tuple[Evaluation, bool]:
        """Return a result that was obtained, and whether this run paid for it."""
        return self._results[pair]

    async def obtain(self, pairs: Iterable[Pair]) -> None:
        """Have the results of pairs: those nobody is at are evaluated together.

        What an earlier session of the run paid for is taken from the journal and counts as it
        did then; what another run paid for costs nothing.

        Raises:
            BudgetExceeded: They are more than is left; none was made.
            BackendUnavailable: A backend stayed away; results so far are kept.
        """
        wanted = list(pairs)
        while missing := [pair for pair in wanted if pair not in self._results]:
            free = [pair for pair in missing if pair not in self._under_way]
            if free:
                await self._evaluate(free)
            else:  # another step is at them
                await self.runner.scheduler.progress()

    def reasons(self) -> dict[Outcome, str]:
        """Return the commonest feedback of each way to fail; of equals the first by alphabet."""
        said: dict[Outcome, Counter[str]] = {}
        for evaluation, _ in self._results.values():
            if evaluation.outcome is not Outcome.SCORED and evaluation.feedback:
                said.setdefault(evaluation.outcome, Counter())[evaluation.feedback] += 1
        ranked = sorted(said.items(), key=lambda item: item[0].name)
        return {outcome: min(c, key=lambda text: (-c[text], text)) for outcome, c in ranked}

    # --- helpers ------------------------------------------------------------------------------

    async def _evaluate(self, pairs: Sequence[Pair]) -> None:
        """Have the results of pairs that nobody is at; until then, nobody else is to be."""
        recalled = self._journal.recall(pairs)
        paid = len(pairs) - sum(not paid for _, paid in recalled.values())
        left = self.limit - self.count - len(self._under_way)
        if paid > left:
            raise BudgetExceeded(f"{paid} metric calls asked for, {left} left")
        self._under_way.update(pairs)
        try:
            await self._take_or_make(pairs, recalled)
        finally:
            self._under_way.difference_update(pairs)

    async def _take_or_make(
        self, pairs: Sequence[Pair], recalled: Mapping[Pair, tuple[Evaluation, bool]]
    ) -> None:
        """Take results from the journal, and make the metric calls that it knows nothing of."""
        for pair, (evaluation, was_paid) in recalled.items():
            if was_paid:
                self.runner.ledger.add(evaluation.usage)
            self._note(pair, evaluation, paid=was_paid)
        waiting = [pair for pair in pairs if pair not in recalled]
        while waiting:
            found, granted, waiting = self._journal.acquire(waiting)
            for pair, evaluation in found.items():
                self._note(pair, evaluation, paid=False)
            await self._make(granted)
            if waiting:  # other processes are at them
                await self.runner.scheduler.aside(partial(time.sleep, LOOK_AGAIN))

    async def _make(self, pairs: Sequence[Pair]) -> None:
        """Make metric calls; those that fail for want of a backend are given up to others."""
        left = dict.fromkeys(pairs)

        def keep(position: int, evaluation: Evaluation) -> None:
            self._journal.keep(pairs[position], evaluation)

        def note(position: int, evaluation: Evaluation) -> None:
            pair = pairs[position]
            left.pop(pair)
            self._note(pair, evaluation, paid=True)

        try:
            jobs = [Job(self._program(state), self.examples[index]) for state, index in pairs]
            await self.runner.run(jobs, note, keep)
        finally:
            self._journal.release(left)

    def _note(self, pair: Pair, evaluation: Evaluation, *, paid: bool) -> None:
        evaluation = self._checked(evaluation)
        self._results[pair] = (evaluation, paid)
        self._under_way.discard(pair)
        if not paid:
            self.reused += 1
            return
        self.count += 1
        self.outcomes[evaluation.outcome] += 1
        self._on_result()

    def _checked(self, evaluation: Evaluation) -> Evaluation:
        """Count named scores as invalid that are others than before, or cannot be weighed.

        Here and not in the metric, which may be called in several processes.
        """
        if evaluation.outcome is not Outcome.SCORED:
            return evaluation
        names = tuple(name for name, _ in evaluation.scores)
        if self._names is None:
            problem = self.objective.misses(names)
        else:
            problem = names_differ(self._names, names)
        if problem:
            return replace(
                evaluation,
                score=FAILURE_SCORE,
                scores=(),
                outcome=Outcome.METRIC_INVALID,
                feedback=problem,
            )
        self._names = names
        return evaluation

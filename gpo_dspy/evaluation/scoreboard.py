"""Every metric call of a run by (program state, example): nothing is ever paid twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import dspy

from gpo_dspy.evaluation.runner import FAILURE_SCORE, Evaluation, Job, Outcome, Runner
from gpo_dspy.evaluation.tracing import without_history
from gpo_dspy.journal import Journal, Pair
from gpo_dspy.objective import Objective, Weights, names_differ, weigh
from gpo_dspy.program import with_state
from gpo_dspy.program_state import ProgramState

LOOK_AGAIN = 0.2
"""Seconds between two looks for results that another process is working on."""


class BudgetExceeded(Exception):
    """More metric calls were asked for than are left; none of them was made."""


class Scoreboard:
    """Evaluates pairs of program states and examples, and remembers every result.

    Args:
        student: The program whose state varies.
        examples: All examples of the run; pairs name them by index.
        runner: Makes the metric calls.
        max_metric_calls: Hard limit on metric calls.
        journal: Keeps the results, and knows those of an earlier session or another run.
        on_result: Called after each metric call, in the calling thread.
        objective: What counts of several named scores.

    Attributes:
        names: Of the metric's named scores, sorted; none before the first call that did not
            fail, nor with a metric that gives a single score.
        metric_calls: Metric calls that the run paid for, those before a resume included.
        reused: Results that another run had paid for.
        outcomes: How the metric calls ended.
    """

    def __init__(
        self,
        student: dspy.Module,
        examples: Sequence[dspy.Example],
        runner: Runner,
        max_metric_calls: int,
        journal: Journal | None = None,
        on_result: Callable[[], None] = lambda: None,
        objective: Objective = Objective(),  # noqa: B008 - frozen
    ) -> None:
        self.examples = examples
        self.max_metric_calls = max_metric_calls
        self._runner = runner
        self._journal = journal or Journal()
        self._on_result = on_result
        self._results: dict[ProgramState, dict[int, Evaluation]] = {}
        self._objective, self._weights = objective, objective.weights
        self._weighed: dict[ProgramState, dict[int, Evaluation]] = {}
        self._names: tuple[str, ...] | None = None
        self.metric_calls = self._journal.metric_calls_before
        self.reused = 0
        self.outcomes: Counter[Outcome] = Counter()
        # Blocks of one step come back to the same few programs.
        self._program = lru_cache(maxsize=32)(
            lambda state: without_history(with_state(student, state))
        )

    @property
    def remaining(self) -> int:
        """Metric calls that may still be made."""
        return self.max_metric_calls - self.metric_calls

    @property
    def states(self) -> tuple[ProgramState, ...]:
        """All programs of which something is known, in order of their first metric call."""
        return tuple(self._results)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metric's scores."""
        return self._names or ()

    def missing(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Return the pairs that are not evaluated yet, each once, in order."""
        return [
            pair for pair in dict.fromkeys(pairs) if pair[1] not in self._results.get(pair[0], {})
        ]

    def evaluate(self, pairs: Iterable[Pair]) -> None:
        """Make the metric calls that are missing, all together.

        What an earlier session of the run paid for is taken from the journal and counts as it
        did then; what another run paid for costs nothing.

        Raises:
            BudgetExceeded: They are more than :attr:`remaining`; none was made.
            BackendUnavailable: A backend stayed away; results so far are kept.
        """
        missing = self.missing(pairs)
        recalled = self._journal.recall(missing)
        free = sum(not paid for _, paid in recalled.values())
        if len(missing) - free > self.remaining:
            raise BudgetExceeded(
                f"{len(missing) - free} metric calls asked for, {self.remaining} left"
            )
        for pair, (evaluation, paid) in recalled.items():
            if paid:
                self._runner.ledger.add(evaluation.usage)
            self._note(pair, evaluation, paid=paid)
        waiting = [pair for pair in missing if pair not in recalled]
        while waiting:
            found, granted, waiting = self._journal.acquire(waiting)
            for pair, evaluation in found.items():
                self._note(pair, evaluation, paid=False)
            self._run(granted)
            if waiting:  # other processes are at them
                self._runner.gate()
                time.sleep(LOOK_AGAIN)

    def reasons(self) -> dict[Outcome, str]:
        """Return the commonest feedback of each way to fail; of equals the first by alphabet."""
        said: dict[Outcome, Counter[str]] = {}
        for results in self._results.values():
            for evaluation in results.values():
                if evaluation.outcome is not Outcome.SCORED and evaluation.feedback:
                    said.setdefault(evaluation.outcome, Counter())[evaluation.feedback] += 1
        ranked = sorted(said.items(), key=lambda item: item[0].name)
        return {outcome: min(c, key=lambda text: (-c[text], text)) for outcome, c in ranked}

    def results(self, state: ProgramState) -> Mapping[int, Evaluation]:
        """Return what is known of a program: evaluations by example index, in that order.

        Nothing may depend on what finished first. They are scored under the objective's weights,
        or those of :meth:`weighing`.
        """
        known = self._results.get(state, {})
        if self._weights is None:
            return MappingProxyType(dict(sorted(known.items())))
        weighed = self._weighed.setdefault(state, {})
        for index, evaluation in known.items():
            if index not in weighed:
                weighed[index] = weigh(evaluation, self._weights)
        return MappingProxyType(dict(sorted(weighed.items())))

    @contextmanager
    def weighing(self, weights: Weights | None) -> Iterator[None]:
        """Have all results scored under other weights for a while."""
        before = self._weights, self._weighed
        if weights != self._weights:
            self._weights, self._weighed = weights, {}
        try:
            yield
        finally:
            self._weights, self._weighed = before

    def own_weights(self) -> AbstractContextManager[None]:
        """Have all results scored under the objective's own weights for a while."""
        return self.weighing(self._objective.weights)

    def named_scores(self, state: ProgramState) -> dict[int, tuple[float, ...]]:
        """Return a program's scores by example index, each in the order of :attr:`names`."""
        failed = (FAILURE_SCORE,) * len(self.names)
        return {
            index: tuple(score for _, score in evaluation.scores) or failed
            for index, evaluation in sorted(self._results.get(state, {}).items())
        }

    def scores(self, state: ProgramState, indices: Iterable[int]) -> list[float]:
        """Return the scores in [0, 1] on the given examples, all of them evaluated before."""
        results = self.results(state)
        return [results[index].score for index in indices]

    def _run(self, pairs: Sequence[Pair]) -> None:
        """Make metric calls; those that fail for want of a backend are given up to others."""
        jobs = [Job(self._program(state), self.examples[index]) for state, index in pairs]
        left = set(pairs)

        def keep(position: int, evaluation: Evaluation) -> None:
            self._journal.keep(pairs[position], evaluation)

        try:
            for position, evaluation in self._runner.run(jobs, keep):
                left.discard(pairs[position])
                self._note(pairs[position], evaluation, paid=True)
        finally:
            self._journal.release(left)

    def _note(self, pair: Pair, evaluation: Evaluation, *, paid: bool) -> None:
        state, index = pair
        evaluation = self._checked(evaluation)
        self._results.setdefault(state, {})[index] = evaluation
        if not paid:
            self.reused += 1
            return
        self.metric_calls += 1
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
            problem = self._objective.misses(names)
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

"""Every metric call of a run by (program state, example): nothing is ever paid twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import dspy

from gpo_dspy.evaluation.runner import Evaluation, Job, Outcome, Runner
from gpo_dspy.ledger import Ledger
from gpo_dspy.program import with_state
from gpo_dspy.program_state import ProgramState

Pair = tuple[ProgramState, int]
"""A program's state and the index of an example."""


class BudgetExceeded(Exception):
    """More metric calls were asked for than are left; none of them was made."""


class Scoreboard:
    """Evaluates pairs of program states and examples, and remembers every result.

    Args:
        student: The program whose state varies.
        examples: All examples of the run; pairs name them by index.
        runner: Makes the metric calls.
        max_metric_calls: Hard limit on metric calls.
        ledger: Counts the LM calls.
        on_result: Called after each metric call, in the calling thread.
    """

    def __init__(
        self,
        student: dspy.Module,
        examples: Sequence[dspy.Example],
        runner: Runner,
        max_metric_calls: int,
        ledger: Ledger,
        on_result: Callable[[], None] = lambda: None,
    ) -> None:
        self.examples = examples
        self.max_metric_calls = max_metric_calls
        self._runner = runner
        self._ledger = ledger
        self._on_result = on_result
        self._results: dict[ProgramState, dict[int, Evaluation]] = {}
        self.metric_calls = 0
        self.outcomes: Counter[Outcome] = Counter()
        # Blocks of one step come back to the same few programs.
        self._program = lru_cache(maxsize=32)(lambda state: with_state(student, state))

    @property
    def remaining(self) -> int:
        """Metric calls that may still be made."""
        return self.max_metric_calls - self.metric_calls

    def missing(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Return the pairs that are not evaluated yet, each once, in order."""
        return [
            pair for pair in dict.fromkeys(pairs) if pair[1] not in self._results.get(pair[0], {})
        ]

    def evaluate(self, pairs: Iterable[Pair]) -> None:
        """Make the metric calls that are missing, all together.

        Raises:
            BudgetExceeded: They are more than :attr:`remaining`; none was made.
            BackendUnavailable: A backend stayed away; results so far are kept.
        """
        missing = self.missing(pairs)
        if len(missing) > self.remaining:
            raise BudgetExceeded(f"{len(missing)} metric calls asked for, {self.remaining} left")
        jobs = [Job(self._program(state), self.examples[index]) for state, index in missing]
        with self._ledger.watch():
            for position, evaluation in self._runner.run(jobs):
                state, index = missing[position]
                self._results.setdefault(state, {})[index] = evaluation
                self.metric_calls += 1
                self.outcomes[evaluation.outcome] += 1
                self._on_result()

    def results(self, state: ProgramState) -> Mapping[int, Evaluation]:
        """Return what is known of a program: evaluations by example index."""
        return MappingProxyType(self._results.get(state, {}))

    def scores(self, state: ProgramState, indices: Iterable[int]) -> list[float]:
        """Return the scores in [0, 1] on the given examples, all of them evaluated before."""
        results = self._results[state]
        return [results[index].score for index in indices]

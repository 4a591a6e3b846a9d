"""What is known of programs at one place in a run, and how many metric calls it may still make.

Steps run side by side, and what one of them may know of the others' results must not depend on
which is quicker. So each has a scoreboard of its own: it begins with what was known when the step
began, and gains what the step itself asks for. When the step is done the run's own scoreboard
takes it in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType

from gpo_dspy.evaluation.metric_calls import MetricCalls
from gpo_dspy.evaluation.runner import FAILURE_SCORE, Evaluation
from gpo_dspy.journal import Pair
from gpo_dspy.objective import Weights, weigh
from gpo_dspy.program_state import ProgramState


class Scoreboard:
    """Results by program state and example; nothing is ever paid twice.

    Attributes:
        calls: Makes the metric calls.
        names: Of the metric's scores, sorted; none with a metric that gives a single one, nor
            before a call that it knows of did not fail.
        limit: Metric calls of the run that may have been made when this scoreboard is full.
        metric_calls: Those that it knows to have been made.
    """

    def __init__(self, calls: MetricCalls) -> None:
        self.limit, self.metric_calls = calls.limit, calls.count
        self.calls = calls
        self.names: tuple[str, ...] = ()
        self._results: dict[ProgramState, dict[int, Evaluation]] = {}
        self._copied: set[ProgramState] = set()  # the other results are shared: not to be changed
        self._own: list[Pair] = []
        self._weights = calls.objective.weights
        self._weighed: dict[ProgramState, dict[int, Evaluation]] = {}

    @property
    def remaining(self) -> int:
        """Metric calls that may still be made."""
        return self.limit - self.metric_calls

    @property
    def states(self) -> tuple[ProgramState, ...]:
        """All programs of which something is known, in order of their first metric call."""
        return tuple(self._results)

    def begin(self, metric_calls: int, weights: Weights | None) -> Scoreboard:
        """Return a scoreboard for a step: what is known now.

        Args:
            metric_calls: Those that the step may make, and that it must leave for the claim.
            weights: What counts of several named scores.
        """
        begun = Scoreboard(self.calls)
        begun.names = self.names
        begun._results, self._copied = dict(self._results), set()
        begun.metric_calls = self.metric_calls
        begun.limit = self.metric_calls + metric_calls
        begun._weights = weights
        return begun

    def take_in(self, step: Scoreboard) -> None:
        """Learn what a step has asked for."""
        for pair in self.missing(step._own):
            self._learn(pair)

    def missing(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Return the pairs that are not known yet, each once, in order."""
        return [
            pair for pair in dict.fromkeys(pairs) if pair[1] not in self._results.get(pair[0], {})
        ]

    async def evaluate(self, pairs: Iterable[Pair]) -> None:
        """Have the results of pairs; the metric calls that are missing are made together.

        Raises:
            BudgetExceeded: They are more than the run has left; none was made.
            BackendUnavailable: A backend stayed away; results so far are kept.
        """
        missing = self.missing(pairs)
        try:
            await self.calls.obtain(missing)
        finally:  # an error leaves some of them
            for pair in missing:
                if self.calls.knows(pair):
                    self._learn(pair)

    def results(self, state: ProgramState) -> Mapping[int, Evaluation]:
        """Return what is known of a program: evaluations by example index, in that order.

        Nothing may depend on what finished first. They are scored under the scoreboard's weights,
        or those of :meth:`own_weights`.
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
        return self.weighing(self.calls.objective.weights)

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

    def scores_by_example(self) -> dict[int, list[float]]:
        """Return the scores in [0, 1] of all programs that were scored on each example."""
        scores: dict[int, list[float]] = {}
        for state in self._results:
            for index, result in self.results(state).items():
                scores.setdefault(index, []).append(result.score)
        return scores

    def _learn(self, pair: Pair) -> None:
        """Know a result that was obtained."""
        state, index = pair
        evaluation, paid = self.calls.result(pair)
        if state not in self._copied:
            self._results[state] = dict(self._results.get(state, {}))
            self._copied.add(state)
        self._results[state][index] = evaluation
        self.names = self.names or tuple(name for name, _ in evaluation.scores)
        self._own.append(pair)
        self.metric_calls += paid

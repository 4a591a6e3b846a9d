"""The examples that a search scores programs on, and what is known of programs there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from gpo_dspy.evaluation.adjusted import adjusted_means
from gpo_dspy.evaluation.metric import NamedScores
from gpo_dspy.evaluation.race import BLOCKS, FIRST_BLOCK
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.front import FrontMember, non_dominated
from gpo_dspy.plan import Plan
from gpo_dspy.program_state import ProgramState


class Pool:
    """Examples in the order in which programs are scored on them.

    Args:
        board: Makes and remembers the metric calls.
        indices: The examples.
        copies: The examples equal to one that may become a demo, by index; that one included.
        plan: Says what must be left of the metric calls.
    """

    def __init__(
        self,
        board: Scoreboard,
        indices: Sequence[int],
        copies: Mapping[int, frozenset[int]],
        plan: Plan,
    ) -> None:
        self.indices = tuple(indices)
        self._board, self._copies, self._plan = board, copies, plan

    def __len__(self) -> int:
        return len(self.indices)

    def common(self, *programs: ProgramState) -> tuple[int, ...]:
        """Return the examples that programs can be compared on: those that none has as a demo."""
        shown = {index for program in programs for index in program.shown}
        if not shown:
            return self.indices
        out = frozenset().union(*(self._copies[index] for index in shown))
        return tuple(index for index in self.indices if index not in out)

    def results(self, program: ProgramState) -> dict[int, Evaluation]:
        """Return what is known of a program, in the order of the pool."""
        known = self._board.results(program)
        return {index: known[index] for index in self.indices if index in known}

    def mean(self, program: ProgramState, among: Sequence[int] | None = None) -> float:
        """Return the mean score of a program on the examples it was scored on; 0 if on none.

        Args:
            program: The program.
            among: Only these examples count.
        """
        known = self._board.results(program)
        wanted = self.indices if among is None else among
        scores = [known[index].score for index in wanted if index in known]
        return fmean(scores) if scores else 0.0

    def named_means(self, program: ProgramState) -> NamedScores:
        """Return the means of a program's named scores on the examples it was scored on."""
        known = self._board.named_scores(program)
        rows = [known[index] for index in self.indices if index in known]
        means = map(fmean, zip(*rows, strict=True))
        return tuple(zip(self._board.names, means, strict=True)) if rows else ()

    def beats(self, one: ProgramState, other: ProgramState) -> bool:
        """Tell whether a program's mean is above another's, on examples neither has as a demo."""
        common = self.common(one, other)
        return self.mean(one, common) > self.mean(other, common)

    def front(self) -> tuple[FrontMember, ...]:
        """Return the Pareto front of the programs that were scored on enough examples.

        Enough is as many as acceptance asks for. The best in the first of the scores comes first.
        """
        scored = {}
        for state in self._board.states:
            known, common = self._board.named_scores(state), self.common(state)
            on_pool = {index: known[index] for index in common if index in known}
            if len(on_pool) >= max(min(BLOCKS[0], len(common)), 1):
                scored[state] = on_pool
        means = adjusted_means(scored, len(self))
        members = (
            FrontMember(
                state,
                tuple(zip(self._board.names, means[state], strict=True)),
                len(scored[state]),
            )
            for state in non_dominated(means)
        )
        return tuple(sorted(members, key=lambda m: [-score for _, score in m.scores]))

    def score_first(self, program: ProgramState, count: int) -> None:
        """Score a program on the first ``count`` examples, as far as the budget goes."""
        missing = self._board.missing((program, index) for index in self.common(program)[:count])
        self._board.evaluate(missing[: max(self._board.remaining - self._plan.reserve, 0)])

    def seek_failures(self, program: ProgramState) -> None:
        """Score a program on more examples until one fails, as long as a step can follow."""
        while self.mean(program) >= 1.0:
            known = len(self.results(program))
            left = self._board.remaining - self._plan.reserve - self._plan.first_round
            if known >= len(self.common(program)) or left < FIRST_BLOCK:
                return
            self.score_first(program, known + FIRST_BLOCK)

"""The examples that a search scores programs on, and what is known of programs there."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import chain, zip_longest
from statistics import fmean
from typing import TypeVar

from gpo_dspy.data import Data
from gpo_dspy.evaluation.adjusted import adjusted_means
from gpo_dspy.evaluation.metric import NamedScores
from gpo_dspy.evaluation.race import CAUTION, NEW_EXAMPLES, SHARED_BLOCK
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.strata import right, wrong
from gpo_dspy.front import FrontMember, non_dominated
from gpo_dspy.plan import MOST_TRIAL_FAILURES, Plan
from gpo_dspy.program_state import ProgramState
from gpo_dspy.settings import Settings

T = TypeVar("T")


class Pool:
    """Examples in the order in which programs are scored on them.

    Args:
        board: Makes and remembers the metric calls.
        indices: The examples.
        copies: The examples equal to one that may become a demo, by index; that one included.
        plan: Says what must be left of the metric calls for the claim, and for a further step.
    """

    def __init__(
        self,
        board: Scoreboard,
        indices: Sequence[int],
        copies: Mapping[int, frozenset[int]],
        plan: Plan,
    ) -> None:
        self.indices = tuple(indices)
        self._board, self._copies = board, copies
        self._reserve, self._further_step = plan.reserve, plan.least_step

    @classmethod
    def of(cls, board: Scoreboard, data: Data, plan: Plan, settings: Settings) -> Pool:
        """Return the examples that a run scores programs on.

        Args:
            board: Makes and remembers the metric calls.
            data: The examples and their roles.
            plan: Says what must be left of the metric calls.
            settings: Say how candidates are scored, and whether examples may become demos.
        """
        raced = settings.evaluation == "race"
        indices = data.shuffled_pool(settings.seed) if raced else data.validation
        with_demos = settings.max_bootstrapped_demos or settings.max_labeled_demos
        return cls(board, indices, data.copies() if with_demos else {}, plan)

    def on(self, board: Scoreboard, further_step: int) -> Pool:
        """Return the same examples, with what another scoreboard knows of them.

        Args:
            board: The scoreboard.
            further_step: Its metric calls that are to be left for a further step.
        """
        other = copy(self)
        other._board, other._further_step = board, further_step
        return other

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
        return self._of(program, self._board.results(program))

    def mean(self, program: ProgramState) -> float:
        """Return the mean score of a program on the examples it was scored on; 0 if on none."""
        scores = [result.score for result in self.results(program).values()]
        return fmean(scores) if scores else 0.0

    def estimates(
        self, programs: Iterable[ProgramState], caution: float = CAUTION
    ) -> dict[ProgramState, float]:
        """Estimate the mean scores of programs on all examples that any of them was scored on.

        Their plain means do not compare: a program meets many examples on which its parent failed.

        Args:
            programs: Those that were not scored at all get 0.
            caution: See :func:`~gpo_dspy.evaluation.adjusted.adjusted_means`.
        """
        wanted = list(programs)
        known = {p: {i: (e.score,) for i, e in self.results(p).items()} for p in wanted}
        means = self._adjusted(known, caution)
        return {program: means.get(program, (0.0,))[0] for program in wanted}

    def level(self, program: ProgramState, among: Iterable[ProgramState]) -> float:
        """Estimate a program's mean score by the objective's own weights, as trajectories hold it.

        Args:
            program: The program.
            among: Those that it is compared with, itself included.
        """
        with self._board.own_weights():
            return self.estimates(among)[program]

    def named_estimates(self, programs: Iterable[ProgramState]) -> dict[ProgramState, NamedScores]:
        """Estimate the named scores of programs, without caution; none of those not scored."""
        wanted, names = list(programs), self._board.names
        if not names:
            return dict.fromkeys(wanted, ())
        known = {p: self._of(p, self._board.named_scores(p)) for p in wanted}
        means = self._adjusted(known, caution=0.0)
        return {p: tuple(zip(names, means.get(p, ()), strict=False)) for p in wanted}

    def for_race(
        self, incumbent: ProgramState, rivals: Iterable[ProgramState], random_state: random.Random
    ) -> tuple[int, ...]:
        """Return the examples of a race in the order in which it uses them.

        First, in turn, a failure and a success of the incumbent: results that are paid for, drawn
        anew for each race, so that no few examples decide all of them; then the rest.

        Args:
            incumbent: The program that the others must beat.
            rivals: The others; what is a demo of one of them is left out.
            random_state: Draws.
        """
        common = self.common(incumbent, *rivals)
        results = self._board.results(incumbent)
        known = {index: results[index] for index in common if index in results}
        strata = (wrong(known), right(known))
        drawn = [random_state.sample(stratum, len(stratum)) for stratum in strata]
        in_turn = [i for i in chain.from_iterable(zip_longest(*drawn)) if i is not None]
        return (*in_turn, *(index for index in common if index not in known))

    def front(self) -> tuple[FrontMember, ...]:
        """Return the Pareto front of the programs that were scored on enough examples.

        Enough is as many as acceptance asks for. The best in the first of the scores comes first.
        """
        scored = {}
        for state in self._board.states:
            known = self._of(state, self._board.named_scores(state))
            if len(known) >= max(min(SHARED_BLOCK, len(self.common(state))), 1):
                scored[state] = known
        means = adjusted_means(scored, len(self))
        members = (
            FrontMember(
                state,
                tuple(zip(self._board.names, means[state], strict=True)),
                len(scored[state]),
            )
            for state in non_dominated(means)
        )
        # Programs are known in the order in which their results came in: not for ties.
        return tuple(
            sorted(members, key=lambda m: ([-score for _, score in m.scores], m.state.key))
        )

    async def score_first(self, program: ProgramState, count: int) -> None:
        """Score a program on the first ``count`` examples, as far as the budget goes."""
        missing = self._board.missing((program, index) for index in self.common(program)[:count])
        await self._board.evaluate(missing[: max(self._board.remaining - self._reserve, 0)])

    async def explore(self, program: ProgramState) -> None:
        """Score an accepted program on examples new to it, as long as a step can follow.

        Its race showed it what its parent had seen: without new ones, all would be judged by the
        examples that the search began with.
        """
        await self._score_new(program, NEW_EXAMPLES)
        await self.seek_failures(program)

    async def seek_more(self, program: ProgramState) -> None:
        """Score a program on examples new to it, if it has fewer failures than the longest trial.

        A step that came to nothing may have tried to mend what cannot be mended.
        """
        if len(wrong(self.results(program))) < MOST_TRIAL_FAILURES:
            await self._score_new(program, NEW_EXAMPLES)

    async def seek_failures(self, program: ProgramState) -> None:
        """Score a program on more examples until one fails, as long as a step can follow.

        As many at a time as it had right so far: what fails once in n is likely among n more.
        """
        while self.mean(program) >= 1.0:
            if not await self._score_new(program, len(self.results(program))):
                return

    async def _score_new(self, program: ProgramState, count: int) -> bool:
        """Score a program on up to ``count`` examples new to it; tell whether there were any."""
        known = self._board.results(program)
        left = self._board.remaining - self._reserve - self._further_step
        new = [index for index in self.common(program) if index not in known]
        new = new[: max(min(count, left), 0)]
        await self._board.evaluate((program, index) for index in new)
        return bool(new)

    def _adjusted(
        self, known: Mapping[ProgramState, Mapping[int, Sequence[float]]], caution: float
    ) -> dict[ProgramState, tuple[float, ...]]:
        """Return the adjusted means of the programs that were scored at all."""
        scored = {program: scores for program, scores in known.items() if scores}
        return adjusted_means(scored, len(self), caution)

    def _of(self, program: ProgramState, known: Mapping[int, T]) -> dict[int, T]:
        """Return what counts of a program: nothing that it has as a demo."""
        return {index: known[index] for index in self.common(program) if index in known}

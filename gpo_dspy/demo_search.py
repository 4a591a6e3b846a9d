"""When a search draws demos, and where it finds the runs to make them of."""

from __future__ import annotations

from copy import copy

import dspy

from gpo_dspy.data import Data
from gpo_dspy.demos import DemoSource
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.race import FIRST_BLOCK, SHARED_BLOCK
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.strata import right, wrong
from gpo_dspy.plan import Plan
from gpo_dspy.settings import Settings
from gpo_dspy.state import Candidate, RunState

DEMO_EVERY = 8
"""Steps from one drawing of demos to the next; the first step is one."""

DEMO_SETS = 3
"""Demo sets that are raced against the current one."""

RACE_CALLS = DEMO_SETS * FIRST_BLOCK + SHARED_BLOCK - FIRST_BLOCK
"""Metric calls that a race of demo sets must have, and leave enough for a step with rewrites."""

BOOTSTRAP_CALLS = 12
"""Further metric calls on training examples for demos, at most, each time they are drawn."""


class DemoSearch:
    """Proposes demo sets for the current program, made of its own runs that went right.

    Args:
        student: The program to optimise.
        data: The examples and their roles.
        board: Makes and remembers the metric calls.
        pool: What the search scores programs on.
        plan: Says what must be left of the metric calls.
        settings: How many demos are allowed.
    """

    def __init__(
        self,
        student: dspy.Module,
        data: Data,
        board: Scoreboard,
        pool: Pool,
        plan: Plan,
        settings: Settings,
    ) -> None:
        self._source = DemoSource(
            student,
            data,
            settings.max_bootstrapped_demos,
            settings.max_labeled_demos,
            settings.seed,
        )
        self._train, self._is_train = data.train, frozenset(data.train)
        self._board, self._pool, self._plan = board, pool, plan
        self._wanted = settings.max_bootstrapped_demos

    def on(self, board: Scoreboard, pool: Pool) -> DemoSearch:
        """Return the same with what another scoreboard knows."""
        other = copy(self)
        other._board, other._pool = board, pool
        return other

    def is_due(self, step: int) -> bool:
        """Tell whether a step, counted from 1, draws demos."""
        return self._source.is_used and step % DEMO_EVERY == 1

    async def propose(self, state: RunState) -> list[Candidate]:
        """Return demo sets to race in the step to come; none in most steps."""
        left = self._board.remaining - self._plan.reserve - self._plan.least_step
        if not self.is_due(state.next_step) or left < RACE_CALLS:
            return []
        await self._seek_successes(state)
        known = self._pool.results(state.current)
        sets = self._source.propose(
            state.next_step,
            DEMO_SETS,
            self._succeeded(state),
            [index for index in wrong(known) if index in self._is_train],
        )
        candidates = [Candidate((), demos) for demos in sets]
        return [c for c in candidates if not self._board.results(c.of(state.current))]

    def _succeeded(self, state: RunState) -> dict[int, Evaluation]:
        """Return runs on training examples that went right, full scores first.

        Those of the current program come before those of the other accepted ones, the newest
        first.
        """
        found: dict[int, Evaluation] = {}
        for program in dict.fromkeys((state.current, *reversed(state.accepted))):
            known = self._board.results(program)
            for index in right(known):
                if index in self._is_train and known[index].score > 0:
                    found.setdefault(index, known[index])
        return dict(sorted(found.items(), key=lambda item: -item[1].score))

    async def _seek_successes(self, state: RunState) -> None:
        """Score the current program on more training examples, if too few went right so far."""
        left = [index for index in self._pool.common(state.current) if index in self._is_train]
        left = left or list(self._train)  # a race has training examples in its pool, others do not
        missing = [index for _, index in self._board.missing((state.current, i) for i in left)]
        for begin in range(0, min(len(missing), BOOTSTRAP_CALLS), FIRST_BLOCK):
            spare = self._board.remaining - self._plan.reserve - self._plan.least_step
            if len(self._succeeded(state)) >= self._wanted or spare < FIRST_BLOCK:
                return
            batch = missing[begin : begin + FIRST_BLOCK]
            await self._board.evaluate((state.current, index) for index in batch)

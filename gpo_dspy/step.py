"""The parts of one step, named as in :mod:`gpo_dspy.loop`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpo_dspy.acceptance import choose
from gpo_dspy.budget import BudgetSpent
from gpo_dspy.demo_search import DemoSearch
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.race import FIRST_BLOCK, SHARED_BLOCK, Race, Standing
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.plan import Plan
from gpo_dspy.program_state import ProgramState
from gpo_dspy.proposing import Proposer
from gpo_dspy.selector import chosen
from gpo_dspy.settings import Settings
from gpo_dspy.showing import failing_shares
from gpo_dspy.state import Candidate, RunState, UpdateDirection
from gpo_dspy.user_functions import blamed_on


@dataclass(frozen=True, slots=True)
class StepDone:
    """What a step found.

    Attributes:
        parent: The program that it started from.
        words: The word budget.
        directions: The update directions, by predictor.
        candidates: The changes.
        standings: Those that were scored, the best first.
        winner: The one that is accepted, if there is one.
        stopped_by: What kept its last calls from being made, if anything did.
    """

    parent: ProgramState
    words: int
    directions: Mapping[str, UpdateDirection]
    candidates: Sequence[Candidate]
    standings: Mapping[ProgramState, Standing]
    winner: ProgramState | None
    stopped_by: BackendUnavailable | KeyboardInterrupt | None = None


class Step:
    """What a step does, with what is known when it begins and what it asks for itself.

    Args:
        state: Where the run stands when it begins; its ``current`` program is the step's parent.
        steps: How many steps the run is expected to have.
        board: Makes and remembers the step's metric calls.
        pool: What is known of programs from them.
        proposer: Proposes new instructions.
        demos: Proposes new demos.
        plan: The run in numbers.
        settings: How to go about it.

    Attributes:
        predictors: Those that it rewrites, as soon as they are chosen.
    """

    def __init__(
        self,
        state: RunState,
        steps: int,
        board: Scoreboard,
        pool: Pool,
        proposer: Proposer,
        demos: DemoSearch,
        plan: Plan,
        settings: Settings,
    ) -> None:
        self.state = state
        self.board = board
        self.pool = pool
        self.proposer = proposer
        self.demos = demos
        self.plan = plan
        self.settings = settings
        self.predictors: tuple[str, ...] = ()
        self._steps = steps

    async def new_demos(self) -> list[Candidate]:
        """Draw demo sets for the parent, in the steps that are for that."""
        return await self.demos.propose(self.state)

    def select_predictors(self) -> tuple[str, ...]:
        """Choose the predictors that each candidate rewrites."""
        names = [name for name, _ in self.state.current.instructions]
        failing = failing_shares(self.pool.results(self.state.current), names)
        with blamed_on("selector"):
            self.predictors = chosen(self.settings.selector, self.state, failing)
        return self.predictors

    def word_budget(self) -> int:
        """Return how many words a rewrite may change: the learning rate of the step."""
        best_scores = [record.score for record in self.state.records]
        with blamed_on("schedule"):
            return self.settings.schedule(self.state.next_step, self._steps, best_scores)

    def retrieve(self, predictors: Sequence[str]) -> dict[str, UpdateDirection]:
        """Return the update direction: earlier prompts in ascending order of score."""
        with blamed_on("direction"):
            return self.proposer.retrieve(self.state, predictors)

    def recalled(self, predictors: Sequence[str]) -> list[Candidate]:
        """Return what the memory of earlier runs has where a predictor is rewritten first."""
        return self.proposer.recalled(self.state, predictors)

    async def put_into_words(
        self, directions: Mapping[str, UpdateDirection]
    ) -> dict[str, UpdateDirection]:
        """Return the update direction with what the prompt model writes of it, if it is to."""
        return await self.proposer.put_into_words(self.state, directions)

    async def rewrite(
        self, words: int, directions: Mapping[str, UpdateDirection]
    ) -> list[Candidate]:
        """Let the prompt model write the candidates."""
        return await self.proposer.rewrite(self.state, words, directions)

    async def score(self, candidates: Sequence[Candidate]) -> dict[ProgramState, Standing]:
        """Score the usable candidates against the parent, the best standing first."""
        state, trial = self.state, self.plan.trial
        rivals = {c.of(state.current): c.trial(trial) for c in candidates if c.usable}
        blocks: tuple[int, ...] = (FIRST_BLOCK, SHARED_BLOCK)
        if self.settings.evaluation == "full":
            blocks = (len(self.pool),)
        elif any(rivals.values()):  # the trial stands in for the first block
            blocks = (SHARED_BLOCK,)
        rng = random.Random(f"{self.settings.seed}/{state.next_step}/race")
        pool = self.pool.for_race(state.current, rivals, rng)
        level = self.pool.level(state.current, state.accepted)
        race = Race(self.board, state.current, pool, level, blocks, self.plan.reserve)
        ranking = await race.run(rivals)
        return {rival: race.standings[rival] for rival in ranking}

    async def settle(
        self,
        words: int,
        directions: Mapping[str, UpdateDirection],
        candidates: Sequence[Candidate],
        standings: Mapping[ProgramState, Standing],
    ) -> StepDone:
        """Accept a candidate or none, look at new examples, and return what the step found."""
        winner = choose(self.settings.acceptance, standings)
        return StepDone(
            self.state.current,
            words,
            directions,
            candidates,
            standings,
            winner,
            await self._look_further(winner),
        )

    async def _look_further(
        self, winner: ProgramState | None
    ) -> BackendUnavailable | KeyboardInterrupt | None:
        """Score on new examples; if a call cannot be made, what the race found counts already."""
        try:
            if winner:
                await self.pool.explore(winner)
            else:
                await self.pool.seek_more(self.state.current)
        except BudgetSpent:
            pass  # the next call ends the run
        except (BackendUnavailable, KeyboardInterrupt) as error:
            return error
        return None

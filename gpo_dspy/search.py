"""The parts of one optimisation step, named as in :mod:`gpo_dspy.loop`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from gpo_dspy.acceptance import choose, next_parent
from gpo_dspy.budget import BudgetSpent, Meter
from gpo_dspy.demo_search import DemoSearch
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.race import FIRST_BLOCK, SHARED_BLOCK, Race, Standing
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.verify import verify_first
from gpo_dspy.front import FrontMember
from gpo_dspy.plan import Plan
from gpo_dspy.program_state import ProgramState
from gpo_dspy.proposing import Proposer
from gpo_dspy.selector import chosen
from gpo_dspy.settings import Settings
from gpo_dspy.showing import failing_shares
from gpo_dspy.state import (
    Candidate,
    RunState,
    ScoredPrompt,
    StepRecord,
    StopReason,
    UpdateDirection,
)
from gpo_dspy.stopping import stop_reason
from gpo_dspy.trajectory import Trajectory


class Search:
    """What a step does, with one run's programs, scores and trajectories.

    Args:
        start: The state that the student is in.
        board: Makes and remembers the metric calls.
        pool: What is known of programs from them.
        proposer: Proposes new instructions.
        demos: Proposes new demos.
        trajectories: One per predictor, empty.
        plan: The run in numbers.
        settings: How to go about it.
        meter: Knows how much of the limits is spent.
    """

    def __init__(
        self,
        start: ProgramState,
        board: Scoreboard,
        pool: Pool,
        proposer: Proposer,
        demos: DemoSearch,
        trajectories: Mapping[str, Trajectory],
        plan: Plan,
        settings: Settings,
        meter: Meter,
    ) -> None:
        self.first = start
        self.board = board
        self.pool = pool
        self.proposer = proposer
        self.demos = demos
        self.trajectories = trajectories
        self.plan = plan
        self.settings = settings
        self.meter = meter
        self._stopped_by: BackendUnavailable | KeyboardInterrupt | None = None

    def start(self) -> RunState:
        """Score the student's own instructions and begin the trajectories with them.

        Raises:
            MetricError: The metric's value is unusable, or it raises on every example.
            ProgramError: The program raises on every example.
            BackendUnavailable: The LM refuses every request.
        """
        start = self.first
        self.pool.score_first(start, 1)  # one call tells a broken metric
        verify_first(self.pool.results(start))
        self.pool.score_first(
            start, SHARED_BLOCK if self.settings.evaluation == "race" else len(self.pool)
        )
        verify_first(self.pool.results(start))
        self.pool.seek_failures(start)
        score = self.pool.mean(start)
        self._rescore(start, score, step=0)
        return RunState(start, start, score, (start,), self.board.metric_calls)

    def take_up(
        self, state: RunState, programs: Sequence[tuple[ProgramState, Sequence[int]]]
    ) -> RunState:
        """Return the state with what an earlier run found that this one carries on with changes.

        Results of that run cost nothing; so this one never knows less, and begins with the best.

        Args:
            state: The state at the start.
            programs: What the run had accepted, the student's own program first, each with the
                examples (by index) on which it is known.
        """
        self.board.evaluate((program, index) for program, indices in programs for index in indices)
        accepted = tuple(program for program, _ in programs)
        means = self.pool.estimates(accepted)
        best = max(reversed(accepted), key=lambda program: means[program])
        for program in accepted:
            count = len(self.pool.results(program))
            for predictor, text in program.instructions:
                better = self.trajectories[predictor].get(text)
                if better is None or better.score <= means[program] or program == accepted[0]:
                    prompt = ScoredPrompt(text, means[program], count, step=0)
                    self.trajectories[predictor].append(prompt)
        score = self.pool.estimates(accepted, caution=0.0)[best]
        return replace(state, current=best, best=best, best_score=score, accepted=accepted)

    def stop_reason(self, state: RunState) -> StopReason | None:
        """Return why no further step can or need be made, or None.

        Raises:
            BackendUnavailable: The last step met it after its race; the step itself counts.
            KeyboardInterrupt: Likewise.
        """
        known = self.pool.results(state.best)
        complete = len(known) == len(self.pool.common(state.best))
        perfect = complete and self.pool.mean(state.best) >= 1.0
        left = self.board.remaining - self.plan.reserve
        reason = stop_reason(
            state,
            self.plan,
            metric_calls_left=left,
            perfect=perfect,
            stop_after=self.settings.stop_after,
        )
        met = self._stopped_by
        if met is not None and (reason is None or isinstance(met, KeyboardInterrupt)):
            raise met
        return reason

    def aim(self, state: RunState) -> AbstractContextManager[None]:
        """Score under the weights of the step to come, while the context lasts."""
        return self.board.weighing(self.settings.weights(self.board.names, state.step + 1))

    def new_demos(self, state: RunState) -> list[Candidate]:
        """Draw demo sets for the current program, in the steps that are for that."""
        return self.demos.propose(state)

    def select_predictors(self, state: RunState) -> tuple[str, ...]:
        """Choose the predictors that each candidate of the step rewrites."""
        failing = failing_shares(
            self.pool.results(state.current), [name for name, _ in state.current.instructions]
        )
        return chosen(self.settings.selector, state, failing)

    def word_budget(self, state: RunState) -> int:
        """Return how many words a rewrite may change: the learning rate of the step to come."""
        best_scores = [record.score for record in state.records]
        return self.settings.schedule(state.step + 1, self._steps_expected(state), best_scores)

    def score(
        self, state: RunState, candidates: Sequence[Candidate]
    ) -> dict[ProgramState, Standing]:
        """Score the usable candidates against the current program, the best standing first."""
        trial = self.plan.trial
        rivals = {c.of(state.current): c.trial(trial) for c in candidates if c.usable}
        blocks: tuple[int, ...] = (FIRST_BLOCK, SHARED_BLOCK)
        if self.settings.evaluation == "full":
            blocks = (len(self.pool),)
        elif any(rivals.values()):  # the trial stands in for the first block
            blocks = (SHARED_BLOCK,)
        rng = random.Random(f"{self.settings.seed}/{state.step + 1}/race")
        pool = self.pool.for_race(state.current, rivals, rng)
        level = self.pool.level(state.current, state.accepted)
        race = Race(self.board, state.current, pool, level, blocks, self.plan.reserve)
        ranking = race.run(rivals)
        return {rival: race.standings[rival] for rival in ranking}

    def record(
        self,
        state: RunState,
        words: int,
        directions: Mapping[str, UpdateDirection],
        candidates: Sequence[Candidate],
        standings: Mapping[ProgramState, Standing],
    ) -> RunState:
        """Append the candidates to the trajectory, choose the next program, return the state."""
        step = state.step + 1
        candidates = [_scored(c, standings.get(c.of(state.current))) for c in candidates]
        for name in directions:
            self.trajectories[name].extend(
                ScoredPrompt(rewrite.text, c.score, c.evaluations, step, rewrite.origin)
                for c in candidates
                if c.score is not None
                for rewrite in c.rewrites
                if rewrite.predictor == name and rewrite.fate.usable
            )
        winner = choose(self.settings.acceptance, standings)
        accepted = (*state.accepted, winner) if winner else state.accepted
        self._look_further(state.current, winner)
        means = self.pool.estimates(accepted)
        for program in means:
            self._rescore(program, means[program], step)
        # Of equals the newest, which won a race: estimates end at 1.
        best = max(reversed(accepted), key=lambda program: means[program])
        record = StepRecord(
            step=step,
            parent=state.current,
            predictors=tuple(directions),
            words_allowed=words,
            retrieved=tuple(prompt for each in directions.values() for prompt in each.prompts),
            candidates=tuple(candidates),
            accepted=_position(candidates, state.current, winner) if winner else None,
            score=self.pool.estimates(accepted, caution=0.0)[best],
            metric_calls=self.board.metric_calls,
            texts=tuple(text for each in directions.values() for text in each.texts),
        )
        records = (*state.records, record)
        return replace(
            state,
            current=self._next_parent(accepted, records),
            best=best,
            best_score=record.score,
            accepted=accepted,
            records=records,
        )

    def front(self) -> tuple[FrontMember, ...]:
        """Return the Pareto front of what was scored, if the objective keeps one."""
        kept = self.settings.objective.pareto and self.board.names
        return self.pool.front() if kept else ()

    # --- helpers ------------------------------------------------------------------------------

    def _look_further(self, current: ProgramState, winner: ProgramState | None) -> None:
        """Score on new examples; if a call cannot be made, what the race found counts already."""
        try:
            if winner:
                self.pool.explore(winner)
            else:
                self.pool.seek_more(current)
        except BudgetSpent:
            pass  # the next call ends the run
        except (BackendUnavailable, KeyboardInterrupt) as error:
            self._stopped_by = error

    def _next_parent(
        self, accepted: tuple[ProgramState, ...], records: Sequence[StepRecord]
    ) -> ProgramState:
        if self.settings.acceptance == "best_new":
            return accepted[-1]
        with self.board.weighing(self.settings.weights(self.board.names, len(records) + 1)):
            scores = self.pool.estimates(accepted)
        return next_parent(scores, [record.parent for record in records if record.predictors])

    def _steps_expected(self, state: RunState) -> int:
        """Return how many steps the run will have had, as its spending so far lets expect."""
        if self.settings.evaluation == "full" or not state.step:
            return self.plan.steps
        calls = self.board.metric_calls - state.calls_at_start
        left = max(self.board.remaining - self.plan.reserve, 0)
        spent = max(calls / max(calls + left, 1), self.meter.spent_by(state.step), 1e-6)
        steps = max(round(state.step / spent), state.step + 1)
        return steps if self.plan.max_steps is None else min(steps, self.plan.max_steps)

    def _rescore(self, program: ProgramState, score: float, step: int) -> None:
        """Bring the score of a program's prompts up to date in their trajectories."""
        evaluations = len(self.pool.results(program))
        for predictor, text in program.instructions:
            known = self.trajectories[predictor].get(text)
            prompt = replace(
                known or ScoredPrompt(text, 0.0, 0, step), score=score, evaluations=evaluations
            )
            self.trajectories[predictor].append(prompt)


def _scored(candidate: Candidate, standing: Standing | None) -> Candidate:
    if standing is None or not candidate.usable:
        return candidate
    return replace(
        candidate,
        score=standing.score,
        evaluations=standing.evaluations,
        gain=standing.difference,
    )


def _position(
    candidates: Sequence[Candidate], parent: ProgramState, chosen: ProgramState
) -> int | None:
    """Return which candidate made the chosen program."""
    places = (i for i, c in enumerate(candidates) if c.usable and c.of(parent) == chosen)
    return next(places, None)

"""A run's search: what it knows, when it begins a step, and what it makes of a step's result."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpo_dspy.acceptance import next_parent
from gpo_dspy.budget import Meter
from gpo_dspy.demo_search import DemoSearch
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.race import SHARED_BLOCK, Standing
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.strata import wrong
from gpo_dspy.evaluation.verify import verify_first
from gpo_dspy.execution.scheduler import Scheduler, Task
from gpo_dspy.front import FrontMember
from gpo_dspy.plan import Plan
from gpo_dspy.program_state import ProgramState
from gpo_dspy.proposing import Proposer
from gpo_dspy.settings import Settings
from gpo_dspy.state import Candidate, RunState, ScoredPrompt, StepBegun, StepRecord, StopReason
from gpo_dspy.step import Step, StepDone
from gpo_dspy.stopping import fruitless_steps, stop_reason
from gpo_dspy.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class StepUnderWay:
    """A step that was begun.

    Attributes:
        parts: The step.
        task: Takes it.
        metric_calls: Those that it may make.
    """

    parts: Step
    task: Task[StepDone]
    metric_calls: int


class Search:
    """Begins steps and takes in what they find, with one run's scores and trajectories.

    Args:
        start: The state that the student is in.
        board: What is known from the steps that are done.
        pool: The examples that programs are scored on.
        proposer: Proposes new instructions.
        demos: Proposes new demos.
        trajectories: One per predictor, empty.
        plan: The run in numbers.
        settings: How to go about it.
        meter: Knows how much of the limits is spent.
        scheduler: Runs steps side by side.
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
        scheduler: Scheduler,
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
        self.scheduler = scheduler

    async def start(self) -> RunState:
        """Score the student's own instructions and begin the trajectories with them.

        Raises:
            MetricError: The metric's value is unusable, or it raises on every example.
            ProgramError: The program raises on every example.
            BackendUnavailable: The LM refuses every request.
        """
        start = self.first
        await self.pool.score_first(start, 1)  # one call tells a broken metric
        verify_first(self.pool.results(start))
        await self.pool.score_first(
            start, SHARED_BLOCK if self.settings.evaluation == "race" else len(self.pool)
        )
        verify_first(self.pool.results(start))
        await self.pool.seek_failures(start)
        score = self.pool.mean(start)
        self._rescore(start, score, step=0)
        return RunState(start, start, score, (start,), self.board.metric_calls)

    async def take_up(
        self, state: RunState, programs: Sequence[tuple[ProgramState, Sequence[int]]]
    ) -> RunState:
        """Return the state with what an earlier run found that this one carries on with changes.

        Results of that run cost nothing; so this one never knows less, and begins with the best.

        Args:
            state: The state at the start.
            programs: What the run had accepted, the student's own program first, each with the
                examples (by index) on which it is known.
        """
        await self.board.evaluate(
            (program, index) for program, indices in programs for index in indices
        )
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

    def stop_reason(
        self, state: RunState, under_way: Sequence[StepUnderWay] = ()
    ) -> StopReason | None:
        """Return why no further step can or need be begun now, or None."""
        known = self.pool.results(state.best)
        complete = len(known) == len(self.pool.common(state.best))
        return stop_reason(
            state,
            self.plan,
            under_way=len(under_way),
            metric_calls_left=self._left(under_way),
            perfect=complete and self.pool.mean(state.best) >= 1.0,
            stop_after=self.settings.stop_after,
        )

    def begin(
        self,
        take: Callable[[Step], Coroutine[Any, Any, StepDone]],
        state: RunState,
        under_way: Sequence[StepUnderWay],
    ) -> StepUnderWay | None:
        """Begin a step with what is known now, or return None to wait for those under way.

        Args:
            take: Takes a step with its parts.
            state: Where the run stands.
            under_way: The steps that were begun before and are not done.
        """
        if under_way:
            begun = (StepBegun(s.parts.state.current, s.parts.predictors) for s in under_way)
            state = replace(state, under_way=tuple(begun))
            if len(under_way) >= self._at_once(state):
                return None
            state = replace(state, current=self._next_parent(state))
        left, most = self._left(under_way), self._most_calls(state)
        if under_way and left < most:
            return None
        calls = int(min(left, most))
        weights = self.settings.weights(self.board.names, state.next_step)
        board = self.board.begin(calls + self.plan.reserve, weights)
        # It leaves a further step what it needs, as far as what is not promised does not do that.
        pool = self.pool.on(board, max(self.plan.least_step - (left - calls), 0))
        parts = Step(
            state,
            self._steps_expected(state),
            board,
            pool,
            self.proposer.on(board, pool),
            self.demos.on(board, pool),
            self.plan,
            self.settings,
        )
        return StepUnderWay(parts, self.scheduler.begin(take(parts)), calls)

    def finish(self, step: StepUnderWay) -> StepDone:
        """Wait for a step; what it learned is known from then on, whatever came of it.

        Raises:
            BudgetSpent: A limit was reached before the step was done.
            BackendUnavailable: An LM refused, or stayed away.
        """
        try:
            return self.scheduler.finish(step.task)
        finally:
            self.board.take_in(step.parts.board)

    def stop(self, error: BaseException) -> None:
        """Let the steps under way begin no more calls."""
        self.scheduler.stop(error)

    def record(self, state: RunState, done: StepDone) -> RunState:
        """Append the candidates to the trajectory, choose the next program, return the state."""
        step, standings, winner = state.step + 1, done.standings, done.winner
        candidates = [_scored(c, standings.get(c.of(done.parent))) for c in done.candidates]
        for name in done.directions:
            self.trajectories[name].extend(
                ScoredPrompt(rewrite.text, c.score, c.evaluations, step, rewrite.origin)
                for c in candidates
                if c.score is not None
                for rewrite in c.rewrites
                if rewrite.predictor == name and rewrite.fate.usable
            )
        accepted = state.accepted
        if winner and winner not in accepted:  # a step beside it may have found the same
            accepted = (*accepted, winner)
        means = self.pool.estimates(accepted)
        for program in means:
            self._rescore(program, means[program], step)
        # Of equals the newest, which won a race: estimates end at 1.
        best = max(reversed(accepted), key=lambda program: means[program])
        record = StepRecord(
            step=step,
            parent=done.parent,
            predictors=tuple(done.directions),
            words_allowed=done.words,
            retrieved=tuple(p for each in done.directions.values() for p in each.prompts),
            candidates=tuple(candidates),
            accepted=_position(candidates, done.parent, winner) if winner else None,
            score=self.pool.estimates(accepted, caution=0.0)[best],
            metric_calls=self.board.metric_calls,
            texts=tuple(text for each in done.directions.values() for text in each.texts),
        )
        state = replace(
            state,
            best=best,
            best_score=record.score,
            accepted=accepted,
            records=(*state.records, record),
        )
        return replace(state, current=self._next_parent(state))

    def front(self) -> tuple[FrontMember, ...]:
        """Return the Pareto front of what was scored, if the objective keeps one."""
        kept = self.settings.objective.pareto and self.board.names
        return self.pool.front() if kept else ()

    # --- helpers ------------------------------------------------------------------------------

    def _at_once(self, state: RunState) -> int:
        """Return how many steps may be under way at the same time, the next one among them.

        What a step begins from is old once one before it finds something better, and what it then
        finds is measured against the old. So there are the more at once the longer none has found
        anything. Demos are drawn alone: all steps after them are to have them.
        """
        steps = range(state.step + 1, state.next_step + 1)
        if any(map(self.demos.is_due, steps)):
            return 1
        return min(self.plan.steps_at_once, 1 + fruitless_steps(state))

    def _most_calls(self, state: RunState) -> float:
        """Return how many metric calls the next step may make: alone as many as there are."""
        if self._at_once(state) == 1:
            return math.inf
        return self.plan.full_step(len(wrong(self.pool.results(state.current))))

    def _left(self, under_way: Sequence[StepUnderWay]) -> int:
        """Return the metric calls that the search has left for further steps."""
        promised = sum(step.metric_calls for step in under_way)
        return self.board.remaining - self.plan.reserve - promised

    def _next_parent(self, state: RunState) -> ProgramState:
        if self.settings.acceptance == "best_new":
            return state.accepted[-1]
        with self.board.weighing(self.settings.weights(self.board.names, state.next_step)):
            scores = self.pool.estimates(state.accepted)
        return next_parent(scores, state.parents)

    def _steps_expected(self, state: RunState) -> int:
        """Return how many steps the run will have had, as its spending so far lets expect."""
        if self.settings.evaluation == "full" or not state.step:
            return self.plan.steps
        calls = self.board.metric_calls - state.calls_at_start
        left = max(self.board.remaining - self.plan.reserve, 0)
        spent = max(calls / max(calls + left, 1), self.meter.spent_by(state.step), 1e-6)
        steps = max(round(state.step / spent), state.next_step)
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

"""The parts of one optimisation step, named as in :mod:`gpo_dspy.loop`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import zip_longest

import dspy

from gpo_dspy.acceptance import choose, next_parent
from gpo_dspy.asking import Asking
from gpo_dspy.budget import BudgetSpent, Meter
from gpo_dspy.data import Data
from gpo_dspy.demo_search import DemoSearch
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.race import FIRST_BLOCK, SHARED_BLOCK, Race, Standing
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.strata import stratified_difference
from gpo_dspy.evaluation.verify import verify_first, verify_rewrites
from gpo_dspy.front import FrontMember
from gpo_dspy.guards import make_guards
from gpo_dspy.meta_prompt import percent, rules
from gpo_dspy.objective import Weights
from gpo_dspy.plan import Plan
from gpo_dspy.program_state import ProgramState
from gpo_dspy.rewriter import Rewriter
from gpo_dspy.selector import chosen
from gpo_dspy.settings import Settings
from gpo_dspy.showing import failing_shares, failures_through
from gpo_dspy.state import (
    Candidate,
    Fate,
    Rewrite,
    RunState,
    ScoredPrompt,
    StepRecord,
    StopReason,
    UpdateDirection,
)
from gpo_dspy.stopping import stop_reason
from gpo_dspy.trajectory import Trajectory
from gpo_dspy.wording import put_into_words

CHANCES = 3
"""Races that a program may take part in where each is at a trade-off of its own."""

Recall = Callable[[str, str], Sequence[tuple[str, str]]]
"""Predictor and instruction to (prompt, where it comes from) pairs, the most promising first."""


class Search:
    """One run's student, examples, trajectories and scores, and what a step does with them.

    Args:
        student: The program to optimise.
        start: The state it is in.
        data: The examples and their roles.
        board: Makes and remembers the metric calls.
        rewriter: Writes the rewrites.
        trajectories: One per predictor, empty.
        plan: The run in numbers.
        settings: How to go about it.
        meter: Knows how much of the limits is spent.
        recall: Finds prompts of earlier runs for a predictor with an instruction, if any.
    """

    def __init__(
        self,
        student: dspy.Module,
        start: ProgramState,
        data: Data,
        board: Scoreboard,
        rewriter: Rewriter,
        trajectories: dict[str, Trajectory],
        plan: Plan,
        settings: Settings,
        meter: Meter,
        recall: Recall | None = None,
    ) -> None:
        self.recall = recall
        self._away: BackendUnavailable | None = None
        self.first = start
        self.board = board
        self.rewriter = rewriter
        self.trajectories = trajectories
        self.plan = plan
        self.guards = make_guards(
            student,
            start.instructions,
            data.examples,
            language=settings.language,
            allow_examples=settings.allow_examples,
        )
        self.settings = settings
        self.meter = meter
        self.asking = Asking(
            student,
            data,
            settings.failures,
            settings.task_examples,
            settings.batch_size,
            settings.seed,
            rules(settings.language, allow_examples=settings.allow_examples),
        )
        raced = settings.evaluation == "race"
        indices = data.shuffled_pool(settings.seed) if raced else data.validation
        with_demos = settings.max_bootstrapped_demos or settings.max_labeled_demos
        self.pool = Pool(board, indices, data.copies() if with_demos else {}, plan)
        self.demos = DemoSearch(student, data, board, self.pool, plan, settings)

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

    def stop_reason(self, state: RunState) -> StopReason | None:
        """Return why no further step can or need be made, or None.

        Raises:
            BackendUnavailable: The last step met it after its race; the step itself counts.
        """
        if self._away is not None:
            raise self._away
        known = self.pool.results(state.best)
        complete = len(known) == len(self.pool.common(state.best))
        perfect = complete and self.pool.mean(state.best) >= 1.0
        left = self.board.remaining - self.plan.reserve
        return stop_reason(state, self.plan, metric_calls_left=left, perfect=perfect)

    def aim(self, state: RunState) -> AbstractContextManager[None]:
        """Score under the weights of the step to come, while the context lasts."""
        return self.board.weighing(self._weights(state.step + 1))

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

    def retrieve(self, state: RunState, predictors: Sequence[str]) -> dict[str, UpdateDirection]:
        """Return the update direction: earlier prompts in ascending order of score."""
        choose_from, trajectories = self.settings.direction, self.trajectories
        return {
            name: UpdateDirection(choose_from(trajectories[name], self._current(state, name)))
            for name in predictors
        }

    def recalled(self, state: RunState, predictors: Sequence[str]) -> list[Candidate]:
        """Ask the memory of earlier runs where a predictor is rewritten for the first time.

        Its prompts stand in for rewrites, as candidates like any other.
        """
        return self._mark_repeats(state, self._recalled(state, predictors))

    def put_into_words(
        self, state: RunState, directions: Mapping[str, UpdateDirection]
    ) -> dict[str, UpdateDirection]:
        """Return the update direction with what the prompt model writes of it, if it is to."""
        views = self.asking.views(
            state,
            {name: self._current(state, name) for name in directions},
            self.trajectories,
            self.pool.results(state.current),
            self._objective(state),
        )
        texts = put_into_words(self.settings.direction, views, self.rewriter.prompt_model)
        return {name: replace(known, texts=texts[name]) for name, known in directions.items()}

    def rewrite(
        self, state: RunState, words: int, directions: Mapping[str, UpdateDirection]
    ) -> list[Candidate]:
        """Let the prompt model write the candidates, and mark those that were tried before."""
        requests = self.asking.requests(
            state.step + 1,
            self.plan.width(self.board.remaining - self.plan.reserve),
            {name: self._current(state, name) for name in directions},
            directions,
            words,
            self.pool.results(state.current),
            self._objective(state),
        )
        asked = [(name, request) for name in directions for request in requests[name]]
        written = self.rewriter.write([(r.meta_prompt, self.guards[name]) for name, r in asked])
        if not any(_asked_for(record) for record in state.records):
            verify_rewrites(written, self.rewriter.prompt_model.lm.model)
        by_predictor: dict[str, list[Rewrite]] = {}
        for rewrite, (name, request) in zip(written, asked, strict=True):
            by_predictor.setdefault(name, []).append(
                replace(rewrite, predictor=name, failures_shown=request.failures_shown)
            )
        candidates = [Candidate(rewrites) for rewrites in zip(*by_predictor.values(), strict=True)]
        return self._mark_repeats(state, candidates)

    def score(
        self, state: RunState, candidates: Sequence[Candidate]
    ) -> dict[ProgramState, Standing]:
        """Score the usable candidates against the current program, the best standing first."""
        trial = self.settings.trial
        rivals = {c.of(state.current): c.failures_shown[:trial] for c in candidates if c.usable}
        blocks: tuple[int, ...] = (FIRST_BLOCK, SHARED_BLOCK)
        if self.settings.evaluation == "full":
            blocks = (len(self.pool),)
        elif any(rivals.values()):  # the trial stands in for the first block
            blocks = (SHARED_BLOCK,)
        rng = random.Random(f"{self.settings.seed}/{state.step + 1}/race")
        pool = self.pool.for_race(state.current, rivals, rng)
        level = self._level(state)
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
        except BackendUnavailable as error:
            self._away = error

    def _weights(self, step: int) -> Weights | None:
        return self.settings.objective.drawn(self.board.names, self.settings.seed, step)

    def _objective(self, state: RunState) -> str:
        """Say what the score is made of in the step to come, if of several scores."""
        weights = self._weights(state.step + 1)
        if weights is None or not self.board.names:
            return ""
        means = dict(self.pool.named_estimates(state.accepted)[state.current])
        parts = (
            f"{name} (weight {weight:.2f}; the current prompt has {percent(means[name])})"
            for name, weight in weights
        )
        return "What counts now is the weighted mean of " + ", ".join(parts)

    def _next_parent(
        self, accepted: tuple[ProgramState, ...], records: Sequence[StepRecord]
    ) -> ProgramState:
        if self.settings.acceptance == "best_new":
            return accepted[-1]
        with self.board.weighing(self._weights(len(records) + 1)):
            scores = self.pool.estimates(accepted)
        return next_parent(scores, [record.parent for record in records if record.predictors])

    def _recalled(self, state: RunState, predictors: Iterable[str]) -> list[Candidate]:
        """Return prompts of earlier runs, to be tried first on a few failures of the current."""
        if self.recall is None:
            return []
        rewritten = {name for record in state.records for name in record.predictors}
        new = [name for name in predictors if name not in rewritten]
        failed = failures_through(self.pool.results(state.current), new)
        rng = random.Random(f"{self.settings.seed}/{state.step + 1}/memory")
        trial = tuple(rng.sample(failed, min(self.settings.trial, len(failed))))
        found = [
            [
                Rewrite(
                    text,
                    self.guards[name].refuse(text) or Fate.RECALLED,
                    words_allowed=0,
                    failures_shown=trial,
                    origin=origin,
                    predictor=name,
                )
                for text, origin in self.recall(name, state.current.instruction(name))
            ]
            for name in new
        ]
        rows = zip_longest(*found)  # the best of each predictor together, then the second best
        return [Candidate(tuple(r for r in row if r is not None)) for row in rows]

    def _mark_repeats(self, state: RunState, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Mark what was tried before, or stands twice in this step.

        In a race a prompt gets one chance, and another where a changed trade-off makes it lead.
        The paper's rule bars only what was current before; scoring the rest again costs nothing,
        since every result is remembered.
        """
        marked, seen = [], set(state.accepted)
        for candidate in candidates:
            program = candidate.of(state.current)
            tried = self.settings.acceptance == "improvement" and self.board.results(program)
            done = program in seen or (tried and not self._leads_now(state, program))
            if candidate.usable and done:
                rewrites = tuple(
                    replace(r, fate=Fate.REPEATED) if r.fate.usable else r
                    for r in candidate.rewrites
                )
                candidate = replace(candidate, rewrites=rewrites)
            seen.add(program)
            marked.append(candidate)
        return marked

    def _leads_now(self, state: RunState, program: ProgramState) -> bool:
        """Tell whether a program that lost at another trade-off would win at that of the step."""
        races = sum(
            candidate.score is not None and candidate.of(record.parent) == program
            for record in state.records
            for candidate in record.candidates
        )
        if not self.settings.objective.pareto or races >= CHANCES:
            return False
        known, current = self.board.results(program), self.pool.results(state.current)
        shared = [index for index in current if index in known]
        return stratified_difference(known, current, shared) > 0

    def _steps_expected(self, state: RunState) -> int:
        """Return how many steps the run will have had, as its spending so far lets expect."""
        if self.settings.evaluation == "full" or not state.step:
            return self.plan.steps
        calls = self.board.metric_calls - state.calls_at_start
        left = max(self.board.remaining - self.plan.reserve, 0)
        spent = max(calls / max(calls + left, 1), self.meter.spent_by(state.step), 1e-6)
        steps = max(round(state.step / spent), state.step + 1)
        return steps if self.plan.max_steps is None else min(steps, self.plan.max_steps)

    def _current(self, state: RunState, predictor: str) -> ScoredPrompt:
        """Return a predictor's present prompt with the score of the program it stands in."""
        prompt = self.trajectories[predictor].get(state.current.instruction(predictor))
        if prompt is None:
            raise LookupError(f"the current prompt of {predictor} is not in its trajectory")
        # Another program may have the same text, and have been scored since.
        known = len(self.pool.results(state.current))
        return replace(prompt, score=self._level(state), evaluations=known)

    def _level(self, state: RunState) -> float:
        """Return the current program's score by the objective's own weights, as in trajectories."""
        with self.board.own_weights():
            return self.pool.estimates(state.accepted)[state.current]

    def _rescore(self, program: ProgramState, score: float, step: int) -> None:
        """Bring the score of a program's prompts up to date in their trajectories."""
        evaluations = len(self.pool.results(program))
        for predictor, text in program.instructions:
            known = self.trajectories[predictor].get(text)
            prompt = replace(
                known or ScoredPrompt(text, 0.0, 0, step), score=score, evaluations=evaluations
            )
            self.trajectories[predictor].append(prompt)


def _asked_for(record: StepRecord) -> bool:
    """Tell whether the prompt model wrote the candidates of a step."""
    return any(not rewrite.origin for c in record.candidates for rewrite in c.rewrites)


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

"""The parts of one optimisation step, named as in :mod:`gpo_dspy.loop`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import dspy

from gpo_dspy.acceptance import choose, next_parent
from gpo_dspy.asking import Asking
from gpo_dspy.budget import Meter
from gpo_dspy.data import Data
from gpo_dspy.evaluation.race import BLOCKS, FIRST_BLOCK, TRIAL_SUCCESSES, Race, Standing
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.strata import right
from gpo_dspy.evaluation.verify import verify_first, verify_rewrites
from gpo_dspy.guards import make_guards
from gpo_dspy.meta_prompt import rules
from gpo_dspy.plan import Plan
from gpo_dspy.program import Instructions, replace_instruction
from gpo_dspy.rewriter import Rewriter
from gpo_dspy.settings import Settings
from gpo_dspy.showing import failures_through
from gpo_dspy.state import (
    Candidate,
    Fate,
    Rewrite,
    RunState,
    ScoredPrompt,
    StepRecord,
    StopReason,
)
from gpo_dspy.stopping import stop_reason
from gpo_dspy.trajectory import Trajectory

Recall = Callable[[str, str], Sequence[tuple[str, str]]]
"""Predictor and instruction to (prompt, where it comes from) pairs, the most promising first."""


class Search:
    """One run's student, examples, trajectories and scores, and what a step does with them.

    Args:
        student: The program to optimise.
        instructions: Its instructions.
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
        instructions: Instructions,
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
        self.instructions = instructions
        self.board = board
        self.rewriter = rewriter
        self.trajectories = trajectories
        self.plan = plan
        self.guards = make_guards(
            student,
            instructions,
            data.examples,
            language=settings.language,
            allow_examples=settings.allow_examples,
        )
        self.settings = settings
        self.meter = meter
        self.asking = Asking(
            student,
            data,
            settings.candidates_per_step,
            settings.failures,
            settings.task_examples,
            settings.batch_size,
            settings.seed,
            rules(settings.language, allow_examples=settings.allow_examples),
        )
        self.pool = data.validation
        if settings.evaluation == "race":
            self.pool = data.shuffled_pool(settings.seed)
        self.blocks = settings.blocks or (len(self.pool),)

    def start(self) -> RunState:
        """Score the student's own instructions and begin the trajectories with them.

        Raises:
            MetricError: The metric's value is unusable, or it raises on every example.
            ProgramError: The program raises on every example.
            BackendUnavailable: The LM refuses every request.
        """
        start = self.instructions
        self._score_on(start, 1)  # one call tells a broken metric
        verify_first(self._results(start))
        self._score_on(start, BLOCKS[0] if self.settings.evaluation == "race" else len(self.pool))
        verify_first(self._results(start))
        self._seek_failures(start)
        score = self._rescore(start, step=0)
        return RunState(start, start, score, (start,), self.board.metric_calls)

    def stop_reason(self, state: RunState) -> StopReason | None:
        """Return why no further step can or need be made, or None."""
        known = self._results(state.best)
        perfect = len(known) == len(self.pool) and self.mean_score(state.best) >= 1.0
        left = self.board.remaining - self.plan.reserve
        return stop_reason(state, self.plan, metric_calls_left=left, perfect=perfect)

    def select_predictor(self, state: RunState) -> str:
        """Choose the predictor to rewrite: each in turn."""
        return state.current[state.step % len(state.current)][0]

    def word_budget(self, state: RunState) -> int:
        """Return how many words a rewrite may change: the learning rate of the step to come."""
        best_scores = [record.score for record in state.records]
        return self.settings.schedule(state.step + 1, self._steps_expected(state), best_scores)

    def retrieve(self, state: RunState, predictor: str) -> tuple[ScoredPrompt, ...]:
        """Return the update direction: earlier prompts in ascending order of score."""
        return self.settings.direction(
            self.trajectories[predictor], self._current(state, predictor)
        )

    def rewrite(
        self, state: RunState, predictor: str, words: int, retrieved: tuple[ScoredPrompt, ...]
    ) -> list[Rewrite]:
        """Let the prompt model write the candidates, and mark those that were tried before.

        When a predictor is rewritten for the first time, the memory of earlier runs is asked
        instead; its prompts are candidates like any other.
        """
        if all(record.predictor != predictor for record in state.records):
            recalled = self._recalled(state, predictor)
            if recalled:
                return self._mark_repeats(state, predictor, recalled)
        requests = self.asking.requests(
            state.step + 1,
            predictor,
            self._current(state, predictor),
            retrieved,
            words,
            self._results(state.current),
        )
        written = self.rewriter.write(
            [request.meta_prompt for request in requests], guard=self.guards[predictor]
        )
        if not any(_asked_for(record) for record in state.records):
            verify_rewrites(written, self.rewriter.lm.model)
        rewrites = [
            replace(rewrite, failures_shown=request.failures_shown)
            for rewrite, request in zip(written, requests, strict=True)
        ]
        return self._mark_repeats(state, predictor, rewrites)

    def score(
        self, state: RunState, predictor: str, rewrites: Sequence[Rewrite]
    ) -> dict[Instructions, Standing]:
        """Score the usable rewrites against the current program, the best standing first."""
        race = Race(self.board, state.current, self.pool, self.blocks, self.plan.reserve)
        with_trial = self.settings.evaluation == "race"
        candidates = {
            self._with(state, predictor, rewrite): rewrite.failures_shown if with_trial else ()
            for rewrite in rewrites
            if rewrite.fate.usable
        }
        ranking = race.run(candidates, self._some_right(state) if with_trial else ())
        return {instructions: race.standings[instructions] for instructions in ranking}

    def record(
        self,
        state: RunState,
        predictor: str,
        words: int,
        retrieved: tuple[ScoredPrompt, ...],
        rewrites: Sequence[Rewrite],
        standings: Mapping[Instructions, Standing],
    ) -> RunState:
        """Append the candidates to the trajectory, choose the next program, return the state."""
        step = state.step + 1
        candidates = [
            _candidate(rewrite, standings.get(self._with(state, predictor, rewrite)))
            for rewrite in rewrites
        ]
        self.trajectories[predictor].extend(
            ScoredPrompt(c.rewrite.text, c.score, c.evaluations, step, c.rewrite.origin)
            for c in candidates
            if c.score is not None
        )
        chosen = choose(self.settings.acceptance, standings, len(self.pool))
        accepted, best = state.accepted, state.best
        if chosen:
            accepted = (*accepted, chosen)
            self._seek_failures(chosen)
            self._rescore(chosen, step)
        self._rescore(state.current, step)  # a race may have scored it on more examples
        if chosen and self.mean_score(chosen) > self.mean_score(best):
            best = chosen
        record = StepRecord(
            step=step,
            parent=state.current,
            predictor=predictor,
            words_allowed=words,
            retrieved=retrieved,
            candidates=tuple(candidates),
            accepted=_position(rewrites, dict(chosen)[predictor]) if chosen else None,
            score=self.mean_score(best),
            metric_calls=self.board.metric_calls,
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

    def mean_score(self, instructions: Instructions) -> float:
        """Return the mean score of a program on the search's examples it was scored on."""
        scores = [evaluation.score for evaluation in self._results(instructions).values()]
        return fmean(scores) if scores else 0.0

    # --- helpers ------------------------------------------------------------------------------

    def _next_parent(
        self, accepted: tuple[Instructions, ...], records: Sequence[StepRecord]
    ) -> Instructions:
        if self.settings.acceptance == "best_new":
            return accepted[-1]
        scores = {program: self.mean_score(program) for program in accepted}
        return next_parent(scores, [record.parent for record in records])

    def _with(self, state: RunState, predictor: str, rewrite: Rewrite) -> Instructions:
        return replace_instruction(state.current, {predictor: rewrite.text})

    def _recalled(self, state: RunState, predictor: str) -> list[Rewrite]:
        """Return prompts of earlier runs, to be tried first on a few failures of the current."""
        failed = failures_through(self._results(state.current), predictor)
        rng = random.Random(f"{self.settings.seed}/{state.step + 1}/memory")
        trial = tuple(rng.sample(failed, min(self.settings.failures, len(failed))))
        guard = self.guards[predictor]
        found = self.recall(predictor, self._current(state, predictor).text) if self.recall else ()
        return [
            Rewrite(text, guard.refuse(text) or Fate.RECALLED, 0, 0, 0, trial, origin)
            for text, origin in found
        ]

    def _some_right(self, state: RunState) -> list[int]:
        """Draw a few examples that the current program gets right."""
        known = right(self._results(state.current))
        rng = random.Random(f"{self.settings.seed}/{state.step + 1}/trial")
        return rng.sample(known, min(TRIAL_SUCCESSES, len(known)))

    def _mark_repeats(
        self, state: RunState, predictor: str, rewrites: Sequence[Rewrite]
    ) -> list[Rewrite]:
        """Mark what was tried before, or stands twice in this step.

        In a race a prompt gets one chance. The paper's rule bars only what was current before;
        scoring the rest again costs nothing, since every result is remembered.
        """
        marked, seen = [], set(state.accepted)
        for rewrite in rewrites:
            instructions = self._with(state, predictor, rewrite)
            tried = self.settings.acceptance == "improvement" and self.board.results(instructions)
            if rewrite.fate.usable and (instructions in seen or tried):
                rewrite = replace(rewrite, fate=Fate.REPEATED)
            seen.add(instructions)
            marked.append(rewrite)
        return marked

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
        prompt = self.trajectories[predictor].get(dict(state.current)[predictor])
        if prompt is None:
            raise LookupError(f"the current prompt of {predictor} is not in its trajectory")
        return prompt

    def _results(self, instructions: Instructions) -> dict[int, Evaluation]:
        """Return what is known of a program on the search's examples, in their order."""
        known = self.board.results(instructions)
        return {index: known[index] for index in self.pool if index in known}

    def _rescore(self, current: Instructions, step: int) -> float:
        """Bring the score of the current prompts up to date in their trajectories."""
        score, evaluations = self.mean_score(current), len(self._results(current))
        for predictor, text in current:
            known = self.trajectories[predictor].get(text)
            prompt = replace(
                known or ScoredPrompt(text, 0.0, 0, step), score=score, evaluations=evaluations
            )
            self.trajectories[predictor].append(prompt)
        return score

    def _seek_failures(self, instructions: Instructions) -> None:
        """Score a program on more examples until one fails, as long as a step can follow."""
        while self.mean_score(instructions) >= 1.0:
            known = len(self._results(instructions))
            left = self.board.remaining - self.plan.reserve - self.plan.first_round
            if known >= len(self.pool) or left < FIRST_BLOCK:
                return
            self._score_on(instructions, known + FIRST_BLOCK)

    def _score_on(self, instructions: Instructions, count: int) -> None:
        """Score a program on the first ``count`` examples, as far as the budget goes."""
        missing = self.board.missing((instructions, index) for index in self.pool[:count])
        self.board.evaluate(missing[: max(self.board.remaining - self.plan.reserve, 0)])


def _asked_for(record: StepRecord) -> bool:
    """Tell whether the prompt model wrote the candidates of a step."""
    return any(not candidate.rewrite.origin for candidate in record.candidates)


def _candidate(rewrite: Rewrite, standing: Standing | None) -> Candidate:
    if standing is None or not rewrite.fate.usable:
        return Candidate(rewrite)
    return Candidate(rewrite, standing.score, standing.evaluations)


def _position(rewrites: Sequence[Rewrite], text: str) -> int:
    """Return which rewrite has the text."""
    return [rewrite.text for rewrite in rewrites].index(text)

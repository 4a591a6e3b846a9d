"""The parts of one optimisation step, named as in :mod:`gpo_dspy.loop`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import dspy

from gpo_dspy.data import Data
from gpo_dspy.direction import Direction
from gpo_dspy.errors import MetricError, ProgramError
from gpo_dspy.evaluation.race import (
    BLOCKS,
    FIRST_BLOCK,
    TRIAL_SUCCESSES,
    Race,
    Standing,
)
from gpo_dspy.evaluation.runner import Evaluation, Outcome
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.failures import deal, failed_examples, show_example, show_failure, successes
from gpo_dspy.meta_prompt import MetaPrompt
from gpo_dspy.plan import EvaluationMode, Plan
from gpo_dspy.program import Instructions, describe_predictor, replace_instruction
from gpo_dspy.rewriter import Rewriter
from gpo_dspy.schedule import Schedule
from gpo_dspy.state import (
    Candidate,
    Fate,
    Rewrite,
    RunState,
    ScoredPrompt,
    StepRecord,
    StopReason,
)
from gpo_dspy.trajectory import Trajectory

Acceptance = Literal["improvement", "best_new"]

STALLED_AFTER = 5
"""Steps in a row without a new candidate after which a run gives up."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a search goes about it; the fields are arguments of :class:`~gpo_dspy.GPO`."""

    direction: Direction
    schedule: Schedule
    evaluation: EvaluationMode
    acceptance: Acceptance
    candidates_per_step: int
    failures: int
    task_examples: int
    batch_size: int
    seed: int


class Search:
    """One run's student, examples, trajectories and scores, and what a step does with them.

    Args:
        student: The program to optimise.
        data: The examples and their roles.
        board: Makes and remembers the metric calls.
        rewriter: Writes the rewrites.
        trajectories: One per predictor, empty.
        plan: The run in numbers.
        settings: How to go about it.
    """

    def __init__(
        self,
        student: dspy.Module,
        data: Data,
        board: Scoreboard,
        rewriter: Rewriter,
        trajectories: dict[str, Trajectory],
        plan: Plan,
        settings: Settings,
    ) -> None:
        self.student = student
        self.data = data
        self.board = board
        self.rewriter = rewriter
        self.trajectories = trajectories
        self.plan = plan
        self.settings = settings
        pool = data.validation
        if settings.evaluation == "race":
            pool = (*data.train, *data.validation)
            self._random(0, "order").shuffle(shuffled := list(pool))
            pool = tuple(shuffled)
        self.order = pool
        self.blocks: tuple[int, ...] = (len(pool),)
        if settings.evaluation == "race":
            self.blocks = BLOCKS if settings.failures else (FIRST_BLOCK, *BLOCKS)

    # --- the beginning ------------------------------------------------------------------------

    def start(self, instructions: Instructions) -> RunState:
        """Score the student's own instructions and begin the trajectories with them.

        Raises:
            MetricError: The metric's value is unusable, or it raises on every example.
            ProgramError: The program raises on every example.
        """
        self._instructions = instructions
        self.board.evaluate([(instructions, self.order[0])])  # one call tells a broken metric
        self._check_first(instructions)
        self._extend(instructions, BLOCKS[0] if self.settings.evaluation == "race" else None)
        self._check_first(instructions)
        self._find_failures(instructions)
        self._calls_at_start = self.board.metric_calls
        score = self._note_current(instructions, step=0)
        return RunState(instructions, instructions, score, visited=(instructions,))

    def _check_first(self, instructions: Instructions) -> None:
        results = list(self.board.results(instructions).values())
        for evaluation in results:
            if evaluation.outcome is Outcome.METRIC_INVALID:
                raise MetricError(evaluation.feedback)
        first = results[0]
        if len(results) < min(2, len(self.order)):
            return
        if all(evaluation.outcome is Outcome.METRIC_ERROR for evaluation in results):
            raise MetricError(
                f"metric: it failed on all of {len(results)} examples. {first.feedback}"
            )
        if all(evaluation.outcome is Outcome.PROGRAM_ERROR for evaluation in results):
            raise ProgramError(
                f"student: it failed on all of {len(results)} examples. {first.feedback}"
            )

    # --- one step -----------------------------------------------------------------------------

    def stop_reason(self, state: RunState) -> StopReason | None:
        """Return why no further step can or need be made, or None."""
        if self.plan.max_steps is not None and state.step >= self.plan.max_steps:
            return StopReason.EPOCHS
        recent = state.records[-STALLED_AFTER:]
        if len(recent) == STALLED_AFTER and not any(
            candidate.score is not None for record in recent for candidate in record.candidates
        ):
            return StopReason.STALLED
        known = self.board.results(state.current)
        if len(known) >= len(self.order) and not self._failures(state.current):
            return StopReason.PERFECT
        if self.plan.first_round > self.board.remaining - self.plan.reserve:
            return StopReason.METRIC_CALLS
        return None

    def select_predictor(self, state: RunState) -> str:
        """Choose the predictor to rewrite: each in turn."""
        return state.current[state.step % len(state.current)][0]

    def word_budget(self, state: RunState) -> int:
        """Return how many words a rewrite may change: the learning rate of the step to come."""
        best_scores = [record.score for record in state.records]
        return self.settings.schedule(state.step + 1, self._steps_expected(state), best_scores)

    def retrieve(self, state: RunState, predictor: str) -> tuple[ScoredPrompt, ...]:
        """Return the update direction: earlier prompts in ascending order of score."""
        trajectory = self.trajectories[predictor]
        return self.settings.direction(trajectory, self._current(state, predictor))

    def rewrite(
        self, state: RunState, predictor: str, words: int, retrieved: tuple[ScoredPrompt, ...]
    ) -> list[Rewrite]:
        """Let the prompt model write the candidates, and mark those that were tried before."""
        count = self.settings.candidates_per_step
        rng = self._random(state.step + 1, "shown")
        failures = failed_examples(self._results(state.current), predictor)
        hands = deal(failures, hands=count, size=self.settings.failures, random_state=rng)
        batch = self._batch(state.step)
        examples = rng.sample(batch, min(self.settings.task_examples, len(batch)))
        requests = [
            MetaPrompt(
                task_description=describe_predictor(self.student, predictor),
                retrieved=retrieved,
                current=self._current(state, predictor),
                examples=tuple(show_example(self.data.examples[index]) for index in examples),
                failures=tuple(self._show_failure(state, index, predictor) for index in hand),
                words=words,
                variation=(number, count),
            )
            for number, hand in enumerate(hands, start=1)
        ]
        start = dict(self._instructions)[predictor]
        rewrites = [
            replace(rewrite, failures_shown=tuple(hand))
            for rewrite, hand in zip(self.rewriter.write(requests, start=start), hands, strict=True)
        ]
        return self._mark_repeats(state, predictor, rewrites)

    def score(
        self, state: RunState, predictor: str, rewrites: Sequence[Rewrite]
    ) -> dict[Instructions, Standing]:
        """Score the usable rewrites against the current program, the best standing first."""
        race = Race(self.board, state.current, self.order, self.blocks, self.plan.reserve)
        rng = self._random(state.step + 1, "trial")
        right = successes(self._results(state.current))
        kept = rng.sample(right, min(TRIAL_SUCCESSES, len(right)))
        ranking = race.run(
            {
                self._with(state, predictor, rewrite): self._trial(rewrite, kept)
                for rewrite in rewrites
                if rewrite.fate.usable
            }
        )
        return {instructions: race.standings[instructions] for instructions in ranking}

    def record(
        self,
        state: RunState,
        predictor: str,
        words: int,
        retrieved: tuple[ScoredPrompt, ...],
        rewrites: Sequence[Rewrite],
        standings: dict[Instructions, Standing],
    ) -> RunState:
        """Append the candidates to the trajectory, choose the next program, return the state."""
        step = state.step + 1
        chosen = self._choose(standings)
        candidates = [
            self._candidate(rewrite, standings.get(self._with(state, predictor, rewrite)))
            for rewrite in rewrites
        ]
        self.trajectories[predictor].extend(
            ScoredPrompt(c.rewrite.text, c.score, c.evaluations, step)
            for c in candidates
            if c.score is not None
        )
        current, position = state.current, None
        if chosen is not None:
            current = chosen
            texts = [rewrite.text for rewrite in rewrites]
            position = texts.index(dict(current)[predictor])
            self._find_failures(current)
        score = self._note_current(current, step)
        best, best_score = (current, score)
        if self.settings.acceptance == "best_new" and score <= state.best_score:
            best, best_score = state.best, state.best_score
        record = StepRecord(
            step=step,
            predictor=predictor,
            words_allowed=words,
            retrieved=retrieved,
            candidates=tuple(candidates),
            accepted=position,
            score=best_score,
            metric_calls=self.board.metric_calls,
        )
        visited = state.visited if chosen is None else (*state.visited, current)
        return RunState(current, best, best_score, visited, (*state.records, record))

    def mean_score(self, instructions: Instructions) -> float:
        """Return the mean score of a program on the search's examples it was scored on."""
        scores = [evaluation.score for evaluation in self._results(instructions).values()]
        return fmean(scores) if scores else 0.0

    # --- helpers ------------------------------------------------------------------------------

    def _choose(self, standings: Mapping[Instructions, Standing]) -> Instructions | None:
        """Choose the candidate that becomes current, or None to stay.

        "improvement" wants a better mean than the current program's on shared examples;
        "best_new" (the paper's) takes the best candidate even if it is worse.
        """
        if self.settings.acceptance == "best_new":
            return max(standings, key=lambda s: standings[s].score, default=None)
        first = next(iter(standings), None)
        if first is None or standings[first].difference <= 0:
            return None
        enough = min(BLOCKS[0], len(self.order))
        return first if standings[first].evaluations >= enough else None

    def _trial(self, rewrite: Rewrite, kept: Sequence[int]) -> tuple[int, ...]:
        """Return what a rewrite is tried on first: the failures its author saw, and successes."""
        if self.settings.evaluation == "full" or not rewrite.failures_shown:
            return ()
        return (*rewrite.failures_shown, *kept)

    def _steps_expected(self, state: RunState) -> int:
        """Return how many steps the run will have had, as its spending so far lets expect."""
        if self.settings.evaluation == "full" or not state.step:
            return self.plan.steps
        spent = max(self.board.metric_calls - self._calls_at_start, 1)
        left = self.board.remaining - self.plan.reserve
        steps = max(round(state.step * (1 + left / spent)), state.step + 1)
        return steps if self.plan.max_steps is None else min(steps, self.plan.max_steps)

    def _results(self, instructions: Instructions) -> dict[int, Evaluation]:
        """Return what is known of a program on the search's examples, in their order."""
        known = self.board.results(instructions)
        return {index: known[index] for index in self.order if index in known}

    def _candidate(self, rewrite: Rewrite, standing: Standing | None) -> Candidate:
        if standing is None or not rewrite.fate.usable:
            return Candidate(rewrite)
        return Candidate(rewrite, standing.score, standing.evaluations)

    def _with(self, state: RunState, predictor: str, rewrite: Rewrite) -> Instructions:
        return replace_instruction(state.current, {predictor: rewrite.text})

    def _mark_repeats(
        self, state: RunState, predictor: str, rewrites: Sequence[Rewrite]
    ) -> list[Rewrite]:
        """Mark what was tried before, or stands twice in this step.

        In a race a prompt gets one chance. The paper's rule bars only what was current before;
        scoring the rest again costs nothing, since every result is remembered.
        """
        marked, seen = [], set(state.visited)
        for rewrite in rewrites:
            instructions = self._with(state, predictor, rewrite)
            tried = self.settings.acceptance == "improvement" and self.board.results(instructions)
            if rewrite.fate.usable and (instructions in seen or tried):
                rewrite = replace(rewrite, fate=Fate.REPEATED)
            seen.add(instructions)
            marked.append(rewrite)
        return marked

    def _current(self, state: RunState, predictor: str) -> ScoredPrompt:
        prompt = self.trajectories[predictor].get(dict(state.current)[predictor])
        if prompt is None:
            raise LookupError(f"the current prompt of {predictor} is not in its trajectory")
        return prompt

    def _note_current(self, current: Instructions, step: int) -> float:
        """Bring the score of the current prompts up to date in their trajectories."""
        results, score = self.board.results(current), self.mean_score(current)
        for predictor, text in current:
            known = self.trajectories[predictor].get(text)
            born = known.step if known else step
            self.trajectories[predictor].append(ScoredPrompt(text, score, len(results), born))
        return score

    def _show_failure(self, state: RunState, index: int, predictor: str) -> str:
        evaluation = self.board.results(state.current)[index]
        return show_failure(self.data.examples[index], evaluation, predictor)

    def _failures(self, instructions: Instructions) -> list[int]:
        known = self._results(instructions)
        return [index for index, evaluation in known.items() if evaluation.score < 1.0]

    def _find_failures(self, instructions: Instructions) -> None:
        """Score a program on more examples until something is left to improve."""
        while not self._failures(instructions):
            known = len(self.board.results(instructions))
            if known >= len(self.order) or self.board.remaining <= self.plan.reserve:
                return
            self._extend(instructions, known + FIRST_BLOCK)

    def _extend(self, instructions: Instructions, count: int | None) -> None:
        """Score a program on the first ``count`` (all) examples, as far as the budget goes."""
        pairs = [(instructions, index) for index in self.order[:count]]
        affordable = max(self.board.remaining - self.plan.reserve, 0)
        self.board.evaluate(self.board.missing(pairs)[:affordable])

    def _batch(self, step: int) -> list[int]:
        """Return the batch of training examples of a step: a reshuffled pass per epoch."""
        train, size = list(self.data.train), self.settings.batch_size
        per_epoch = -(-len(train) // size)
        epoch, number = divmod(step, per_epoch)
        self._random(epoch, "epoch").shuffle(train)
        return train[number * size : (number + 1) * size]

    def _random(self, step: int, purpose: str) -> random.Random:
        """Return a generator that depends on the seed, the step and the purpose alone."""
        return random.Random(f"{self.settings.seed}/{step}/{purpose}")

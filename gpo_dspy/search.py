"""The parts of one optimisation step, named as in :mod:`gpo_dspy.loop`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import dspy

from gpo_dspy.data import Data
from gpo_dspy.direction import Direction
from gpo_dspy.errors import MetricError, ProgramError
from gpo_dspy.evaluation.race import BLOCKS, Standing, race
from gpo_dspy.evaluation.runner import Outcome
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.failures import deal, failed_examples, show_example, show_failure
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
        self.blocks = BLOCKS if settings.evaluation == "race" else (len(pool),)

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
        self._extend(instructions, self.blocks[min(1, len(self.blocks) - 1)])
        self._check_first(instructions)
        self._find_failures(instructions)
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
        step_cost = self.settings.candidates_per_step * min(self.blocks[0], len(self.order))
        if step_cost > self.board.remaining - self.plan.reserve:
            return StopReason.METRIC_CALLS
        return None

    def select_predictor(self, state: RunState) -> str:
        """Choose the predictor to rewrite: each in turn."""
        return state.current[state.step % len(state.current)][0]

    def word_budget(self, state: RunState) -> int:
        """Return how many words a rewrite may change: the learning rate of the step to come."""
        best_scores = [record.score for record in state.records]
        return self.settings.schedule(state.step + 1, self.plan.steps, best_scores)

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
        failures = failed_examples(self.board.results(state.current), predictor)
        hands = deal(failures, hands=count, size=self.settings.failures, random_state=rng)
        batch = self._batch(state.step)
        examples = rng.sample(batch, min(self.settings.task_examples, len(batch)))
        requests = [
            MetaPrompt(
                task_description=describe_predictor(self.student, predictor),
                retrieved=retrieved,
                current=self._current(state, predictor),
                examples=tuple(show_example(self.data.examples[index]) for index in examples),
                failures=tuple(
                    self._show_failure(state, index, predictor) for index in hands[number]
                )
                if hands
                else (),
                words=words,
                variation=(number + 1, count),
            )
            for number in range(count)
        ]
        start = dict(self._instructions)[predictor]
        return self._mark_repeats(state, predictor, self.rewriter.write(requests, start=start))

    def score(
        self, state: RunState, predictor: str, rewrites: Sequence[Rewrite]
    ) -> dict[Instructions, Standing]:
        """Score the usable rewrites against the current program, the best standing first."""
        candidates = [
            self._with(state, predictor, rewrite) for rewrite in rewrites if rewrite.fate.usable
        ]
        if not candidates:
            return {}
        standings = race(
            self.board,
            state.current,
            candidates,
            self.order,
            blocks=self.blocks,
            reserve=self.plan.reserve,
        )
        return {standing.state: standing for standing in standings}

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
        candidates = []
        accepted = self._accept(standings)
        for rewrite in rewrites:
            standing = standings.get(self._with(state, predictor, rewrite))
            if not rewrite.fate.usable or standing is None:
                candidates.append(Candidate(rewrite))
                continue
            prompt = ScoredPrompt(rewrite.text, standing.score, standing.evaluations, step)
            self.trajectories[predictor].append(prompt)
            candidates.append(Candidate(rewrite, standing.score, standing.evaluations))
        current, position = state.current, None
        if accepted is not None:
            current = accepted.state
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
        visited = state.visited if accepted is None else (*state.visited, current)
        return RunState(current, best, best_score, visited, (*state.records, record))

    def mean_score(self, instructions: Instructions) -> float:
        """Return the mean score of a program on the search's examples it was scored on."""
        results = self.board.results(instructions)
        scores = [results[index].score for index in self.order if index in results]
        return fmean(scores) if scores else 0.0

    # --- helpers ------------------------------------------------------------------------------

    def _accept(self, standings: dict[Instructions, Standing]) -> Standing | None:
        """Choose the candidate that becomes current, or None to stay.

        "improvement" wants a better mean than the current program's on the same examples, enough
        of them; "best_new" (the paper's) takes the best candidate even if it is worse.
        """
        if self.settings.acceptance == "best_new":
            return max(standings.values(), key=lambda s: s.score, default=None)
        enough = self.blocks[min(1, len(self.blocks) - 1)]
        winners = [
            standing
            for standing in standings.values()
            if standing.difference > 0 and standing.evaluations >= min(enough, len(self.order))
        ]
        return winners[0] if winners else None

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
        known = self.board.results(instructions)
        return [index for index, evaluation in known.items() if evaluation.score < 1.0]

    def _find_failures(self, instructions: Instructions) -> None:
        """Score a program on more examples until something is left to improve."""
        while not self._failures(instructions):
            known = len(self.board.results(instructions))
            if known >= len(self.order) or self.board.remaining <= self.plan.reserve:
                return
            self._extend(instructions, known + self.blocks[0])

    def _extend(self, instructions: Instructions, count: int) -> None:
        """Score a program on the first ``count`` examples of the order, as far as money goes."""
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

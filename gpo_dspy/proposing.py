"""Where a step's rewrites come from: the direction, earlier runs, the prompt model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise, zip_longest

import dspy

from gpo_dspy.asking import Asking, request_sizes, rewrites_per_request
from gpo_dspy.data import Data
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.strata import stratified_difference
from gpo_dspy.evaluation.verify import verify_rewrites
from gpo_dspy.execution.scheduler import Scheduler
from gpo_dspy.guards import make_guards
from gpo_dspy.meta_prompt import percent
from gpo_dspy.plan import COSTLY_CANDIDATES, MOST_TRIAL_FAILURES, Plan
from gpo_dspy.program_state import ProgramState
from gpo_dspy.prompt_model import max_tokens_of
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
    UpdateDirection,
)
from gpo_dspy.trajectory import Trajectory
from gpo_dspy.wording import answers, questions

CHANCES = 3
"""Races that a program may take part in where each is at a trade-off of its own."""

Recall = Callable[[str, str], Sequence[tuple[str, str]]]
"""Predictor and instruction to (prompt, where it comes from) pairs, the most promising first."""


class Proposer:
    """Proposes new instructions for the predictors of the current program.

    Args:
        student: The program to optimise.
        start: The state it is in.
        data: The examples and their roles.
        board: Remembers the metric calls.
        pool: What is known of programs from them.
        rewriter: Writes the rewrites.
        trajectories: What was tried, by predictor.
        plan: The run in numbers.
        settings: How to go about it.
        recall: Finds prompts of earlier runs for a predictor with an instruction, if any.
        scheduler: Lets other steps go on while the prompt model writes.
    """

    def __init__(
        self,
        student: dspy.Module,
        start: ProgramState,
        data: Data,
        board: Scoreboard,
        pool: Pool,
        rewriter: Rewriter,
        trajectories: Mapping[str, Trajectory],
        plan: Plan,
        settings: Settings,
        recall: Recall | None,
        scheduler: Scheduler,
    ) -> None:
        self.board = board
        self.pool = pool
        self.rewriter = rewriter
        self.trajectories = trajectories
        self.plan = plan
        self.settings = settings
        self.recall = recall
        self.scheduler = scheduler
        self.guards = make_guards(
            student,
            start.instructions,
            data.examples,
            language=settings.language,
            allow_examples=settings.allow_examples,
        )
        self.asking = Asking(student, data, settings, plan.trial)

    def on(self, board: Scoreboard, pool: Pool) -> Proposer:
        """Return the same with what another scoreboard knows."""
        other = copy(self)
        other.board, other.pool = board, pool
        return other

    def retrieve(self, state: RunState, predictors: Sequence[str]) -> dict[str, UpdateDirection]:
        """Return the update direction: earlier prompts in ascending order of score."""
        choose_from, trajectories = self.settings.direction, self.trajectories
        current = {name: self._current(state, name) for name in predictors}
        return {
            name: UpdateDirection(prompt, tuple(choose_from(trajectories[name], prompt)))
            for name, prompt in current.items()
        }

    def recalled(self, state: RunState, predictors: Sequence[str]) -> list[Candidate]:
        """Ask the memory of earlier runs where a predictor is rewritten for the first time.

        Its prompts stand in for rewrites, as candidates like any other.
        """
        width = self._width(self.plan.trial_of_recalled)
        return self._mark_repeats(state, self._from_memory(state, predictors)[:width])

    async def put_into_words(
        self, state: RunState, directions: Mapping[str, UpdateDirection]
    ) -> dict[str, UpdateDirection]:
        """Return the update direction with what the prompt model writes of it, if it is to."""
        views = self.asking.views(
            state,
            directions,
            self.trajectories,
            self.pool.results(state.current),
            self._objective(state),
        )
        asked = questions(self.settings.direction, views)
        if not asked:
            return dict(directions)
        prompt_model = self.rewriter.during(state.next_step).prompt_model
        texts = await self.scheduler.aside(partial(answers, asked, state.next_step, prompt_model))
        return {
            name: replace(known, texts=tuple(text for text in texts if text.predictor == name))
            for name, known in directions.items()
        }

    async def rewrite(
        self, state: RunState, words: int, directions: Mapping[str, UpdateDirection]
    ) -> list[Candidate]:
        """Let the prompt model write the candidates, and mark those that were tried before."""
        current = [direction.current for direction in directions.values()]
        requests = self.asking.requests(
            state.next_step,
            self._request_sizes(state, current, words),
            directions,
            words,
            self.pool.results(state.current),
            self.board.scores_by_example(),
            self._objective(state),
        )
        asked = [(name, request) for name in directions for request in requests[name]]
        guarded = [(request.meta_prompt, self.guards[name]) for name, request in asked]
        rewriter = self.rewriter.during(state.next_step)
        written = await self.scheduler.aside(partial(rewriter.write, guarded))
        if not any(_asked_for(record) for record in state.records):
            verify_rewrites(list(chain.from_iterable(written)), self.rewriter.prompt_model.lm.model)
        by_predictor: dict[str, list[Rewrite]] = {}
        for rewrites, (name, request) in zip(written, asked, strict=True):
            by_predictor.setdefault(name, []).extend(
                replace(rewrite, predictor=name, failures_shown=shown)
                for rewrite, shown in zip(rewrites, request.failures_shown, strict=True)
            )
        candidates = [Candidate(rewrites) for rewrites in zip(*by_predictor.values(), strict=True)]
        return self._mark_repeats(state, candidates)

    # --- helpers ------------------------------------------------------------------------------

    def _request_sizes(
        self, state: RunState, current: Iterable[ScoredPrompt], words: int
    ) -> list[int]:
        """Return for how many candidates each request of a step is."""
        limit = max_tokens_of(self.rewriter.prompt_model.lm)
        most = rewrites_per_request(self.settings, [p.text for p in current], words, limit)
        width = self._width()
        if _writes_one_only(state.records):
            most = 1
            width = min(width, self.settings.candidates_per_step or COSTLY_CANDIDATES)
        return request_sizes(width, most)

    def _width(self, trial: int | None = None) -> int:
        """Return how many candidates the money allows for, with a trial of their own if given."""
        return self.plan.width(self.board.remaining - self.plan.reserve, trial)

    def _current(self, state: RunState, predictor: str) -> ScoredPrompt:
        """Return a predictor's present prompt with the score of the program it stands in."""
        prompt = self.trajectories[predictor].get(state.current.instruction(predictor))
        if prompt is None:
            raise LookupError(f"the current prompt of {predictor} is not in its trajectory")
        # Another program may have the same text, and have been scored since.
        known = len(self.pool.results(state.current))
        return replace(
            prompt, score=self.pool.level(state.current, state.accepted), evaluations=known
        )

    def _objective(self, state: RunState) -> str:
        """Say what the score is made of in the step to come, if of several scores."""
        weights = self.settings.weights(self.board.names, state.next_step)
        if weights is None or not self.board.names:
            return ""
        means = dict(self.pool.named_estimates(state.accepted)[state.current])
        parts = (
            f"{name} (weight {weight:.2f}; the current prompt has {percent(means[name])})"
            for name, weight in weights
        )
        return "What counts now is the weighted mean of " + ", ".join(parts)

    def _from_memory(self, state: RunState, predictors: Iterable[str]) -> list[Candidate]:
        """Return prompts of earlier runs, to be tried first on a few failures of the current."""
        if self.recall is None:
            return []
        new = [name for name in predictors if name not in state.rewritten]
        failed = failures_through(self.pool.results(state.current), new)
        rng = random.Random(f"{self.settings.seed}/{state.next_step}/memory")
        trial = tuple(rng.sample(failed, min(self.plan.trial_of_recalled, len(failed))))
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

        In a race a prompt gets one chance, another where a changed trade-off makes it lead, and
        more where it is written again after a trial on few failures.
        The paper's rule bars only what was current before; scoring the rest again costs nothing,
        since every result is remembered.
        """
        marked, seen = [], set(state.accepted)
        for candidate in candidates:
            program = candidate.of(state.current)
            tried = self.settings.acceptance == "improvement" and self._tried(program, candidate)
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

    def _tried(self, program: ProgramState, candidate: Candidate) -> bool:
        """Tell whether a program was scored on enough, or on all that it would be tried on now."""
        known = self.board.results(program)
        new = set(candidate.trial(self.plan.trial)) - set(known)
        return bool(known) and (len(known) >= MOST_TRIAL_FAILURES or not new)

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


def _writes_one_only(records: Sequence[StepRecord]) -> bool:
    """Tell whether two steps in a row had to ask again for most of what replies were to hold."""
    steps = [
        [r for c in record.candidates if not c.recalled for r in c.rewrites] for record in records
    ]
    in_vain = [2 * sum(r.asked_alone for r in step) > len(step) for step in steps if step]
    return any(first and second for first, second in pairwise(in_vain))


def _asked_for(record: StepRecord) -> bool:
    """Tell whether the prompt model wrote the candidates of a step."""
    return any(c.rewrites and not c.recalled for c in record.candidates)

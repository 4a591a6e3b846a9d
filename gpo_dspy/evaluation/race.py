"""Race candidates against the incumbent: many look at few examples, few at many.

Successive halving (Jamieson and Talwalkar, 2016, https://arxiv.org/abs/1502.07943) over blocks
of shared examples. Sharing them makes the comparison paired, so that the difficulty of the
examples cancels; the incumbent's results there are known and cost nothing.

Before the shared blocks comes a trial: each candidate is tried on failures that its author was
shown. A rewrite that mends none of what it was written to mend is not worth more calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.strata import stratified_difference
from gpo_dspy.journal import Pair
from gpo_dspy.program_state import ProgramState

FIRST_BLOCK = 4
"""Shared examples of the first round where there were no failures to show."""

SHARED_BLOCK = 12
"""Shared examples that decide between the last candidates and the incumbent.

More would make surer of each step, and leave money for fewer of them: a false step is found out by
what follows, for a program's results are kept and its successors are measured against it.
"""

TRIAL_SURVIVORS = 2
"""Candidates that go on from trials to shared blocks at most, or a quarter, if that is more."""

NEW_EXAMPLES = 6
"""Examples new to a program that it is scored on when it is accepted."""

CAUTION = 4.0
"""Examples' worth of belief that a candidate which left early is as good as the incumbent."""


def survivors(candidates: int) -> int:
    """Return how many candidates go on from trials to shared blocks at most."""
    return max(TRIAL_SURVIVORS, candidates // 4)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a candidate stands against the incumbent.

    Attributes:
        difference: Estimated difference of the mean scores, candidate minus incumbent, from all
            examples that the race showed it; it decides the race.
        score: The incumbent's level plus the difference, in [0, 1]; the difference of a candidate
            that left early is shrunk, for it rests on few examples. Of several named scores it has
            the objective's own weights, and so compares with that of other steps.
        evaluations: Examples that the race showed it.
        rounds: Rounds it took part in.
        complete: Whether it was scored on all examples of the last block.
    """

    difference: float
    score: float
    evaluations: int
    rounds: int
    complete: bool


@dataclass(slots=True)
class Race:
    """One race; :meth:`run` holds it.

    Attributes:
        board: Makes the metric calls.
        incumbent: The current program.
        pool: Example indices; a shared block of ``n`` is the first ``n`` of them.
        level: Estimated mean score of the incumbent in [0, 1], by the objective's own weights.
        blocks: Shared examples seen by the end of each round, ascending.
        reserve: Metric calls that must be left afterwards.
        standings: How each candidate stood when it was last scored.
    """

    board: Scoreboard
    incumbent: ProgramState
    pool: Sequence[int]
    level: float
    blocks: Sequence[int] = (SHARED_BLOCK,)
    reserve: int = 0
    standings: dict[ProgramState, Standing] = field(default_factory=dict)
    _seen: dict[ProgramState, dict[int, None]] = field(default_factory=dict)

    async def run(self, candidates: Mapping[ProgramState, Sequence[int]]) -> list[ProgramState]:
        """Race candidates to the end, or as far as the metric calls go.

        After each round those that do not beat the incumbent leave, and the weaker half; after the
        trials all but the best two, or the best quarter.

        Args:
            candidates: Programs that differ from each other and from the incumbent, each with
                the failures of its trial; either all have a trial or none.

        Returns:
            Those that were scored, the best first: the one that went furthest, then the one with
            the greater difference.
        """
        alive = list(candidates)
        if any(candidates.values()):
            if not await self._score(candidates):
                return []
            alive = self._best(alive, survivors(len(alive)))
        for block in sorted({min(block, len(self.pool)) for block in self.blocks}):
            while len(alive) > 1 and not self._can_pay(alive, block):
                alive.pop()  # better fewer to the end than all of them halfway
            indices = self.pool[: self._affordable(alive, self.pool[:block])]
            if not (alive and indices and await self._score(dict.fromkeys(alive, indices))):
                break
            alive = self._best(alive, (len(alive) + 1) // 2)
            if len(indices) < block:
                break
        return self._ranking()

    def _ranking(self) -> list[ProgramState]:
        standings = self.standings
        return sorted(standings, key=lambda s: (-standings[s].rounds, -standings[s].difference))

    async def _score(self, examples: Mapping[ProgramState, Sequence[int]]) -> bool:
        """Score candidates and incumbent on the given examples, unless that costs too much."""
        pairs = list(self._pairs(examples))
        if len(self.board.missing(pairs)) > self.board.remaining - self.reserve:
            return False
        await self.board.evaluate(pairs)
        for state, indices in examples.items():
            before = self.standings.get(state)
            rounds = 1 + (before.rounds if before else 0)
            seen = self._seen.setdefault(state, {})
            seen.update(dict.fromkeys(indices))
            self.standings[state] = self._standing(state, list(seen), rounds)
        return True

    def _pairs(self, examples: Mapping[ProgramState, Sequence[int]]) -> Iterable[Pair]:
        for state, indices in examples.items():
            for index in indices:
                yield (self.incumbent, index)
                yield (state, index)

    def _standing(self, state: ProgramState, indices: Sequence[int], rounds: int) -> Standing:
        """Compare a candidate with the incumbent on examples that both have seen."""
        complete = set(self.pool[: self.blocks[-1]]) <= set(indices)
        trust = 1.0 if complete else len(indices) / (len(indices) + CAUTION)
        difference = self._difference(state, indices)
        with self.board.own_weights():
            gain = trust * self._difference(state, indices)
        score = min(max(self.level + gain, 0.0), 1.0)
        return Standing(difference, score, len(indices), rounds, complete)

    def _difference(self, state: ProgramState, indices: Sequence[int]) -> float:
        return stratified_difference(self.board.results(state), self._known(), indices)

    def _known(self) -> dict[int, Evaluation]:
        """Return the incumbent's results on the pool."""
        results = self.board.results(self.incumbent)
        return {index: results[index] for index in self.pool if index in results}

    def _best(self, states: Sequence[ProgramState], count: int) -> list[ProgramState]:
        """Return up to ``count`` candidates that beat the incumbent, the best first."""
        ranked = sorted(states, key=lambda state: -self.standings[state].difference)
        return [state for state in ranked[:count] if self.standings[state].difference > 0]

    def _can_pay(self, states: Sequence[ProgramState], block: int) -> bool:
        """Tell whether all states can be scored on a block, and then one of them to the end."""
        here, later = self.pool[:block], self.pool[block : self.blocks[-1]]
        pairs = [(state, index) for index in here for state in (self.incumbent, *states)]
        pairs += [(state, index) for index in later for state in (self.incumbent, states[0])]
        return len(self.board.missing(pairs)) <= self.board.remaining - self.reserve

    def _affordable(self, states: Sequence[ProgramState], indices: Sequence[int]) -> int:
        """Return how many of the examples can be paid for, for all states alike."""
        left = self.board.remaining - self.reserve
        for number, index in enumerate(indices):
            left -= len(self.board.missing((s, index) for s in (self.incumbent, *states)))
            if left < 0:
                return number
        return len(indices)

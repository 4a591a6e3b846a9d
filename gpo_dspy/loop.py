"""GPO, as the paper tells it (arXiv 2402.17564): a prompt is optimised like a parameter.

    | gradient optimiser      | here                                               |
    |-------------------------|----------------------------------------------------|
    | parameter               | the instruction of one predictor                   |
    | momentum                | earlier prompts with their scores, by relevance    |
    | learning rate           | how many words the rewrite may change              |
    | update                  | a rewrite by the prompt model                      |
    | step                    | candidates are scored, the best becomes current    |

Everything random is drawn from (seed, step), so that a step can be replayed from its state.
"""

from __future__ import annotations

from collections.abc import Callable

from gpo_dspy.budget import BudgetSpent
from gpo_dspy.search import Search
from gpo_dspy.state import RunState, StopReason


def optimize(
    search: Search, state: RunState, on_step: Callable[[RunState], None]
) -> tuple[RunState, StopReason]:
    """Take steps from a state until something ends the run.

    Args:
        search: The parts: predictors, schedule, direction, rewriter, scoring.
        state: Where to begin.
        on_step: Told the state after each step.

    Returns:
        The last state, and why the run ended.
    """
    while (reason := search.stop_reason(state)) is None:
        try:
            state = step(search, state)
        except BudgetSpent as spent:
            return state, spent.reason
        on_step(state)
    return state, reason


def step(search: Search, state: RunState) -> RunState:
    """Take one step: the next state, with the best candidate as its current program."""
    words, directions = 0, {}
    with search.aim(state):  # of several objectives: at one trade-off
        candidates = search.new_demos(state)
        if not candidates:  # the step is for instructions, as most are
            predictors = search.select_predictors(state)
            words = search.word_budget(state)
            directions = search.proposer.retrieve(state, predictors)
            candidates = search.proposer.recalled(state, predictors)
            if not candidates:  # no earlier run knows better
                directions = search.proposer.put_into_words(state, directions)
                candidates = search.proposer.rewrite(state, words, directions)
        standings = search.score(state, candidates)
    return search.record(state, words, directions, candidates, standings)

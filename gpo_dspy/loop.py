"""GPO, as the paper tells it (arXiv 2402.17564): a prompt is optimised like a parameter.

    | gradient optimiser      | here                                               |
    |-------------------------|----------------------------------------------------|
    | parameter               | the instruction of one predictor                   |
    | momentum                | earlier prompts with their scores, by relevance    |
    | learning rate           | how many words the rewrite may change              |
    | update                  | a rewrite by the prompt model                      |
    | step                    | candidates are scored, the best becomes current    |

A large run has several steps under way, as gradient descent with several workers has: each begins
from what was known then, and they count in the order in which they began (stale synchronous
parallel, Ho et al. 2013). Everything random is drawn from (seed, step), so that the same call takes
the same steps however long its calls last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from gpo_dspy.budget import BudgetSpent
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.search import Search, StepUnderWay
from gpo_dspy.state import RunState, StopReason
from gpo_dspy.step import Step, StepDone


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
    under_way: deque[StepUnderWay] = deque()
    begun = state.step

    def take_in_the_oldest() -> None:
        nonlocal state
        done = search.finish(under_way.popleft())
        state = search.record(state, done)
        on_step(state)
        if done.stopped_by is not None:
            raise done.stopped_by

    def wind_up(error: BaseException) -> BaseException:
        """Take in what the steps under way have found, and return what ends the run."""
        search.stop(error)
        while under_way:
            try:
                with suppress(Exception):  # the first error is the one that counts
                    take_in_the_oldest()
            except KeyboardInterrupt as interrupt:  # but for this one
                search.stop(interrupt)
                error = interrupt
        return error

    while True:
        reason = search.stop_reason(state, under_way)
        try:
            step_under_way = search.begin(step, state, under_way) if reason is None else None
            if step_under_way is not None:
                under_way.append(step_under_way)
                begun += 1
            elif under_way:
                take_in_the_oldest()
            elif reason is not None:
                return state, reason
        except BaseException as error:
            end = wind_up(error)
            if isinstance(end, BudgetSpent):
                return state, end.reason
            reason = search.stop_reason(state)
            if isinstance(end, BackendUnavailable) and state.step == begun and reason is not None:
                return state, reason  # no step is lost, and none was to follow
            if end is error:
                raise
            raise end  # noqa: B904 - it came of itself


async def step(parts: Step) -> StepDone:
    """Take one step: what became of the candidates."""
    words, directions = 0, {}
    candidates = await parts.new_demos()
    if not candidates:  # the step is for instructions, as most are
        predictors = parts.select_predictors()
        words = parts.word_budget()
        directions = parts.retrieve(predictors)
        candidates = parts.recalled(predictors)
        if not candidates:  # no earlier run knows better
            directions = await parts.put_into_words(directions)
            candidates = await parts.rewrite(words, directions)
    standings = await parts.score(candidates)
    return await parts.settle(words, directions, candidates, standings)

"""What a search knows of programs, and on which examples it compares them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import dspy
import pytest
from fakes import TableRunner, evaluate, now
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.evaluation.metric_calls import MetricCalls
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.race import NEW_EXAMPLES, SHARED_BLOCK, Race
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.plan import Plan
from gpo_dspy.program_state import Demo, ProgramState

N = 40
EXAMPLES = [dspy.Example(number=i).with_inputs("number") for i in range(N)]
PLAN = Plan(10_000, 10, None, 4, N, 0, holdout=0, first_round=4, last_round=12)
OLD, NEW = (ProgramState((("self", name),)) for name in ("old", "new"))


def _pool(
    limit: int = 10_000, plan: Plan = PLAN, **scores: Sequence[float]
) -> tuple[Pool, Scoreboard]:
    student = dspy.Predict("number -> answer")
    runner: Any = TableRunner(scores)
    board = Scoreboard(MetricCalls(student, EXAMPLES, runner, limit))
    order = random.Random(0).sample(range(N), N)
    return Pool(board, order, {i: frozenset({i}) for i in range(N)}, plan), board


def _binary(right: set[int]) -> list[float]:
    return [float(i in right) for i in range(N)]


# --- the examples of a race -----------------------------------------------------------------------


@given(
    right=st.sets(st.integers(0, N - 1)),
    known=st.sets(st.integers(0, N - 1), min_size=1),
    shown=st.sets(st.integers(0, N - 1), max_size=3),
    seed=st.integers(0, 5),
)
def test_a_race_begins_with_what_is_known_of_the_incumbent_failures_and_successes_in_turn(
    right: set[int], known: set[int], shown: set[int], seed: int
) -> None:
    pool, board = _pool(old=_binary(right))
    evaluate(board, ((OLD, i) for i in known))
    rival = NEW.with_demos((("self", tuple(Demo(i, "{}") for i in sorted(shown))),))
    order = pool.for_race(OLD, [rival], random.Random(seed))

    assert sorted(order) == sorted(set(range(N)) - shown), "each once, none that is a demo"
    paid = known - shown
    assert set(order[: len(paid)]) == paid
    if right & paid and paid - right:  # else all are wrong, or all right, and in any order
        fewer = min(len(right & paid), len(paid - right))
        for a, b in zip(order[: 2 * fewer : 2], order[1 : 2 * fewer : 2], strict=True):
            assert (a in right, b in right) == (False, True)


def test_each_race_draws_its_examples_anew() -> None:
    pool, board = _pool(old=_binary(set(range(0, N, 2))))
    evaluate(board, ((OLD, i) for i in range(N)))
    blocks = {pool.for_race(OLD, [NEW], random.Random(i))[:SHARED_BLOCK] for i in range(20)}
    assert len(blocks) == 20
    assert set().union(*blocks) == set(range(N))


def test_a_better_program_wins_though_the_first_examples_are_all_right() -> None:
    pool, board = _pool(old=[0.0] * N, new=[1.0] * N)
    first = set(pool.indices[:SHARED_BLOCK])
    pool, board = _pool(old=_binary(first), new=[1.0] * N)
    now(board, pool.score_first(OLD, SHARED_BLOCK))
    now(board, pool.seek_failures(OLD))
    failed = [i for i in pool.results(OLD) if i not in first]
    order = pool.for_race(OLD, [NEW], random.Random(0))
    race = Race(board, OLD, order, pool.mean(OLD))
    assert now(board, race.run({NEW: failed[:1]})) == [NEW]
    assert race.standings[NEW].evaluations >= SHARED_BLOCK
    assert race.standings[NEW].difference > 0


# --- scores that compare --------------------------------------------------------------------------


def test_a_program_that_met_the_failures_of_its_parent_is_not_the_worse_for_it() -> None:
    """The new program mends half of what the old one got wrong, and breaks nothing."""
    right = set(range(20))
    pool, board = _pool(old=_binary(right), new=_binary(right | set(range(20, 30))))
    evaluate(board, ((OLD, i) for i in range(N)))
    evaluate(board, ((NEW, i) for i in (*range(18, 20), *range(20, 40))))
    assert pool.mean(NEW) < 0.6 < 0.75, "its plain mean is far below the truth"
    found = pool.estimates([OLD, NEW], caution=0.0)
    assert found[OLD] < found[NEW]
    assert found[NEW] - found[OLD] == pytest.approx(10 / 22, abs=1e-6)
    cautious = pool.estimates([OLD, NEW])
    assert found[OLD] <= cautious[OLD] < cautious[NEW] < found[NEW]


def test_what_was_not_scored_counts_as_nothing() -> None:
    pool, board = _pool(old=[1.0] * N)
    assert pool.estimates([OLD, NEW]) == {OLD: 0.0, NEW: 0.0}
    evaluate(board, [(OLD, 0)])
    assert pool.estimates([OLD, NEW]) == {OLD: 1.0, NEW: 0.0}
    assert pool.named_estimates([OLD, NEW]) == {OLD: (), NEW: ()}, "one score has no name"


# --- new examples ---------------------------------------------------------------------------------


@given(known=st.sets(st.integers(0, N - 1)), money=st.integers(0, 60))
def test_an_accepted_program_meets_new_examples_if_a_step_can_follow(
    known: set[int], money: int
) -> None:
    pool, board = _pool(len(known) + money, new=[0.0] * N)
    evaluate(board, ((NEW, i) for i in known))
    now(board, pool.explore(NEW))
    new = list(set(pool.results(NEW)) - known)
    assert len(new) == max(min(NEW_EXAMPLES, N - len(known), money - PLAN.least_step), 0)
    in_order = [i for i in pool.indices if i not in known]
    assert set(new) == set(in_order[: len(new)])


@pytest.mark.parametrize(("wrong_at", "expected"), [(0, 6), (5, 6), (6, 12), (12, 24), (30, 40)])
def test_failures_are_sought_in_few_rounds(wrong_at: int, expected: int) -> None:
    order = _pool(new=[0.0] * N)[0].indices
    pool, board = _pool(new=_binary(set(range(N)) - {order[wrong_at]}))
    now(board, pool.explore(NEW))
    assert len(pool.results(NEW)) == expected, "6, then as many again until one fails"
    assert fmean(r.score for r in pool.results(NEW).values()) < 1.0


def test_what_is_left_of_the_money_seeks_failures_too() -> None:
    pool, board = _pool(6 + 4 + 5 + PLAN.least_step, new=[1.0] * N)
    now(board, pool.explore(NEW))
    assert board.remaining == PLAN.least_step


@pytest.mark.parametrize("trial", [0, 1, 3])  # few may be such as cannot be mended
@pytest.mark.parametrize(("failures", "new"), [(1, NEW_EXAMPLES), (2, NEW_EXAMPLES), (3, 0)])
def test_more_is_scored_where_few_failures_are_known(trial: int, failures: int, new: int) -> None:
    pool, board = _pool(plan=replace(PLAN, trial=trial), new=_binary(set(range(failures, N))))
    evaluate(board, ((NEW, i) for i in range(12)))
    now(board, pool.seek_more(NEW))
    assert len(pool.results(NEW)) == 12 + new


def test_a_program_is_not_known_by_its_demos() -> None:
    pool, board = _pool(old=[0.0] * N)
    taught = OLD.with_demos((("self", (Demo(3, "{}"), Demo(5, "{}"))),))
    evaluate(board, ((program, i) for program in (OLD, taught) for i in range(8)))
    assert set(pool.results(OLD)) - set(pool.results(taught)) == {3, 5}


def test_a_program_without_failures_is_scored_on_everything() -> None:
    pool, board = _pool(new=[1.0] * N)
    now(board, pool.explore(NEW))
    assert board.metric_calls == N
    now(board, pool.explore(NEW))
    assert board.metric_calls == N
